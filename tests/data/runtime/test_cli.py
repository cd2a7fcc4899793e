import pytest

from data.runtime import cli


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0, 0), (1, 1)])
def test_the_exit_code_is_that_of_the_command(value: int | None, code: int) -> None:
    assert cli.run(lambda: value) == code


def test_a_mistake_of_the_user_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(lambda: _raise(KeyError("x")), OSError, KeyError) == 2
    assert cli.run(lambda: _raise(OSError("no disk")), OSError) == 2
    assert capsys.readouterr() == ("", "error: 'x'\nerror: no disk\n")


def test_an_interrupted_command_returns_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(lambda: _raise(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ValueError, match="bug"):
        cli.run(lambda: _raise(ValueError("bug")), OSError)


def test_escape_sequences_and_bytes_of_names_are_spelt_out(capsys):
    def fail():
        raise ValueError("läufe/[bold]x\x1b[31m\udcff: no such folder")

    assert cli.run(fail, ValueError) == 2
    assert capsys.readouterr().err == "error: läufe/[bold]x\\x1b[31m\\udcff: no such folder\n"
