import cv2
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from analysis.plots.__main__ import main
from analysis.plots.plots import GREY, plot_curves
from analysis.runs.run import read_run


@pytest.fixture
def run(running_run):
    return read_run(running_run)


@pytest.fixture
def few_panels(monkeypatch):
    """Plot one panel a stage instead of seven, which takes seconds."""
    monkeypatch.setattr("analysis.plots.plots.PANELS", {"score": "validation score"})


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_loss_curves_have_two_rows_a_stage_and_a_line_a_trial(run):
    axes = plot_curves(run.curves).axes
    assert len(axes) == 2 * 8 and axes[0].get_gridspec().get_geometry() == (4, 4)
    assert [ax.get_ylabel() for ax in axes[::8]] == ["explore", "confirm"]
    assert [len(ax.lines) for ax in axes[:5]] == [3] * 5
    assert [round(value, 6) for value in axes[0].lines[2].get_ydata()] == [1.8, 1.5, 1.6]
    assert list(axes[0].lines[2].get_xdata()) == [10, 20, 30]


def test_only_the_best_are_in_colour_and_named(run, monkeypatch):
    monkeypatch.setattr("analysis.plots.plots.HIGHLIGHTED", 1)
    figure = plot_curves(run.curves)
    explore = figure.axes[0]
    grey = to_hex(GREY["color"])
    assert [to_hex(line.get_color()) == grey for line in explore.lines] == [True, True, False]
    assert legend(figure.axes[7]) == ["e3 unet w4 0.500", "2 others"]
    assert legend(figure.axes[15]) == ["c1 unet w4 0.600", "1 other"]


def test_trial_has_the_colour_of_its_ancestor(run):
    axes = plot_curves(run.curves).axes
    assert axes[0].lines[2].get_color() == axes[8].lines[-1].get_color() != axes[0].lines[1].get_color()


def test_data_without_depth_has_no_panel_for_it(run):
    figure = plot_curves(run.curves.drop(columns=["rmse_depth", "train_depth"]))
    assert [ax.get_title() for ax in figure.axes[:4]] == [
        "training loss",
        "mask part of the loss",
        "validation IoU of the mask",
        "validation score",
    ]


def test_learning_rates_have_a_panel_with_a_logarithmic_axis(run):
    axes = plot_curves(run.curves).axes
    assert axes[6].get_title() == "learning rate" and axes[6].get_yscale() == "log"
    assert axes[14].lines[1].get_ydata()[1] == 0.05 and axes[5].get_yscale() == "linear"


def test_command_writes_plots_and_tables_of_a_running_run(few_panels, running_run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(running_run), "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"curves.png", "training_times.csv"}
    assert cv2.imread(str(out / "curves.png")).shape[1] > 300
    assert len(pd.read_csv(out / "training_times.csv")) == 6
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["score", "epochs"])
def test_run_without_a_score_is_one_line(name, running_run, tmp_path, capsys):
    path = running_run / "reports.jsonl"
    path.write_text(path.read_text().replace(f'"{name}"', '"unnamed"'))
    assert main([str(running_run), "--out", str(tmp_path / "plots")]) == 2
    said = capsys.readouterr().err
    assert "there is nothing to plot" in said and said.count("\n") == 1 and not (tmp_path / "plots").exists()


def test_plots_of_several_runs_lie_in_folders_of_their_own(few_panels, running_run, tmp_path):
    first, second = tmp_path / "a" / "run", tmp_path / "b" / "run"
    first.parent.mkdir()
    running_run.rename(first)
    second.mkdir(parents=True)
    for name in ("reports.jsonl", "run.json"):
        (second / name).write_bytes((first / name).read_bytes())
    out = tmp_path / "out"
    assert main([str(first), str(second), str(first), "--out", str(out), "--format", "svg"]) == 0
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.svg")} == {"a/run/curves.svg", "b/run/curves.svg"}
    assert len(pd.read_csv(out / "training_times.csv")) == 6 + 5


def test_wrong_arguments_are_one_line_and_exit_code_2(running_run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "starting").mkdir()
    (tmp_path / "starting" / "run.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    calls = {
        "none: no such folder": [tmp_path / "none"],
        "not a run folder": [running_run, tmp_path / "empty"],
        "there is nothing to plot": [tmp_path / "starting"],
        "is a file": [running_run, "--out", tmp_path / "file"],
    }
    for reason, arguments in calls.items():
        place = [] if "--out" in arguments else ["--out", tmp_path / "out"]
        assert main([*map(str, arguments), *map(str, place)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and reason in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
