import io

import pytest

from data.runtime import cli
from data.runtime.flags import parse_whole


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


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_break_between_words_on_a_terminal_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "/data/my-set: masks 0/255; 2,000 triplets by column split\n" + "/long" * 20
    assert cli.fit_width(text) == text
    monkeypatch.setattr("sys.stdout", _Terminal())
    lines = cli.fit_width(text).split("\n")
    assert lines == ["/data/my-set: masks 0/255; 2,000", "triplets by column split", "/long" * 20]


def test_error_on_a_terminal_does_not_break_in_mid_word(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("sys.stderr", terminal := _Terminal())
    assert cli.run(lambda: _raise(ValueError("a sentence of a good many words in a line")), ValueError) == 2
    assert terminal.getvalue() == "error: a sentence of a good many words\nin a line\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--px", "x"], "argument --px: 'x' is not a whole number, at least 1"),
        (["--pix=3"], "there is no option '--pix'; the nearest is '--px'"),
        (["--bogus"], "there is no option '--bogus'; --help lists all"),
        (["photo.jpg"], "unexpected argument 'photo.jpg'; --help lists all"),
    ],
)
def test_wrong_argument_is_one_line_without_the_usage(arguments, said, capsys):
    parser = cli.Parser("one", "A command.")
    parser.add_argument("--px", type=parse_whole(1))
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(arguments)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def test_path_has_no_parent_references(tmp_path, monkeypatch):
    (tmp_path / "deep" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "a")
    monkeypatch.chdir(tmp_path)
    assert cli.parse_path("deep/../my run") == tmp_path / "my run"
    assert cli.parse_path("link/../b") == tmp_path / "deep" / "b"  # as the system reads it
    assert cli.parse_path("link") == tmp_path / "link"
