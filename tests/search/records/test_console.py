import io
import shlex
import time
from pathlib import Path

import pytest
from rich.console import Console

from data.runtime.progress import add_bar, build_bars
from search.records.console import RunConsole, describe_trial, list_dashboards, list_results
from tests.trials import make_record
from tests.waiting import wait_until


def record(number, status="", score=0.5):
    metrics = {"score": score, "iou": 0.25, "rmse_depth": 0.125, "params": 1234}
    config = {"model/arch": "unet", "model/width": 8}
    return make_record(f"e{number}", config=config, status=status, metrics=metrics)


@pytest.fixture(autouse=True)
def still(clock):
    """Let the time that is left be the same whenever it is shown."""


def shown(terminal, events):
    screen = io.StringIO()
    console = RunConsole(Console(file=screen, force_terminal=terminal, width=120))
    console.begin("explore", "a search", time.monotonic() + 90, time.monotonic() + 300)
    for event in events:
        console.update(event)
    console.console.print(console.build_block())
    console.finish()
    return screen.getvalue()


def test_block_shows_stage_time_counts_and_best():
    text = shown(True, [record(1, score=0.25), record(2), record(1, "stopped", 0.25), record(3, "failed", 0.75)])
    assert "explore" in text and "1:30 in this stage, 5:00 in all" in text
    assert "1 running" in text and "1 stopped" in text and "1 failed" in text
    assert "e2 score 0.500" in text and "unet of width 8" in text and "1,234 parameters" in text


@pytest.mark.parametrize(
    ("metrics", "told"), [({"iou": 0.25}, "(IoU 0.250)"), ({"rmse_depth": 0.125}, "(depth RMSE 0.125)")]
)
def test_trial_is_told_by_the_figures_that_it_has(metrics, told):
    one = record(1)
    one.metrics = {"score": 0.5, **metrics}
    assert f"score 0.500 {told}, unet" in describe_trial(one)


def test_of_many_trials_the_best_and_those_that_run_are_compared_with_the_next():
    console = RunConsole(Console(file=io.StringIO(), width=120))
    console.begin("explore", "a search", 0.0, 0.0)
    for number in range(50):
        for status in ("", "completed"):
            console.update(record(number, status, (number * 7 % 50) / 50))
    console.update(record(99, score=0.1))
    assert console.best.keys() == {"e7", "e99"}  # 49 of 50
    console.update(record(99, "completed", score=0.1))
    assert console.best.keys() == {"e7"}


def test_name_of_a_plugin_s_network_is_shown_and_not_obeyed():
    one = record(1)
    one.config["model/arch"] = "[blink]tiny\x1b[2J"
    assert "[blink]tiny\\x1b[2J of width 8" in shown(True, [one]).replace("\n", "")


def test_best_of_the_earlier_stage_is_shown_until_the_stage_has_a_score_of_its_own():
    console = RunConsole(Console(file=io.StringIO(), width=120))
    console.begin("explore", "a search", 0.0, 0.0)
    console.update(record(1, "completed", 0.25))
    console.begin("final", "promoted", 0.0, 0.0)
    assert console._describe_best().startswith("none yet; in explore e1 score 0.250")
    console.update(record(2, "completed", 0.125))
    assert console._describe_best().startswith("e2 score 0.125")


def test_stage_is_announced_with_its_seconds():
    assert "explore  a search, for 90 s\n" in shown(False, [])


def test_failed_trial_is_never_the_best():
    assert "e3" not in shown(True, [record(2), record(3, "failed", 0.75)])


@pytest.mark.parametrize("folder", ["runs/[old]/x", "runs/[/tmp]", "runs/[red]"])
def test_folders_are_shown_as_they_are_named(folder):
    screen = io.StringIO()
    RunConsole(Console(file=screen, force_terminal=False, width=120)).print(f"run folder {folder}")
    assert screen.getvalue() == f"run folder {folder}\n"


def test_plain_lines_have_no_control_codes():
    text = shown(False, [record(1), record(1, "completed")])
    assert "\x1b" not in text and "1 completed" in text


def test_work_has_a_bar_below_the_block_while_it_goes_on():
    screen = io.StringIO()
    with RunConsole(Console(file=screen, force_terminal=True, width=120)) as console:
        with console.show_progress("packing train") as progress:
            progress(30, 40)
            wait_until(lambda: "packing train" in screen.getvalue() and "30/40" in screen.getvalue())
        wait_until(lambda: "packing" not in screen.getvalue().rpartition("stage")[2])
    shown = screen.getvalue()
    with RunConsole(Console(file=screen)).show_progress("packing") as progress:
        progress(1, 2)
    assert screen.getvalue() == shown


def test_commands_that_show_a_run_are_those_that_it_has_something_for():
    run = Path("runs/one")
    tensorboard, optuna, ray = list_dashboards(run, searches=True, ray="http://127.0.0.1:8265")
    assert tensorboard.endswith(" tensorboard --logdir runs/one/tensorboard")
    assert optuna.endswith(" optuna-dashboard runs/one/study.journal --artifact-dir runs/one/artifacts")
    assert "ray get-auth-token" in ray and "http://127.0.0.1:8265" in ray
    assert list_dashboards(run, searches=False) == [tensorboard]


def test_commands_can_be_pasted_whatever_the_folder_is_called():
    curves, search = list_dashboards(Path("my runs/[1]"), searches=True)
    assert shlex.split(curves)[-1] == "my runs/[1]/tensorboard"
    assert shlex.split(search)[2:] == ["my runs/[1]/study.journal", "--artifact-dir", "my runs/[1]/artifacts"]


def test_names_are_printed_as_they_are_spelt():
    out = io.StringIO()
    console = RunConsole(Console(file=out, force_terminal=True, width=200))
    console.print("run folder läufe/[bold]x\x1b[31m")
    assert "run folder läufe/[bold]x\\x1b[31m" in out.getvalue()
    with (
        build_bars(Console(file=out, force_terminal=True, width=200)) as bars,
        add_bar(bars, "reading [/bold] é\x1b[31m"),
    ):
        bars.refresh()
    assert "reading [/bold] é\\x1b[31m" in out.getvalue()


def test_lines_break_between_words_on_a_terminal_but_commands_stay_whole():
    def printed(terminal, **how):
        screen = io.StringIO()
        line = "400 images of 4 backgrounds validate; resume --resume /runs/1"
        RunConsole(Console(file=screen, force_terminal=terminal, width=40)).print(line, **how)
        return [line.rstrip() for line in screen.getvalue().splitlines()]

    assert printed(True) == ["400 images of 4 backgrounds validate;", "resume --resume /runs/1"]
    assert printed(True, whole=True) == printed(False) == [" ".join(printed(True))]


def test_paths_below_the_working_directory_are_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list_dashboards(tmp_path / "runs" / "a", searches=False) == [
        "curves    tensorboard --logdir runs/a/tensorboard"
    ]
    report, model, *_ = list_results(tmp_path / "runs" / "20261129-133146")
    assert report == "report    runs/20261129-133146/report.html  (open it in a browser)"
    assert model == "model     runs/20261129-133146/best  (README.md, metrics.json, samples.png)" and len(model) <= 80
    assert str(tmp_path.parent / "b") in list_results(tmp_path.parent / "b")[0]
