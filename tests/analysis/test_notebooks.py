import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "analysis" / "notebooks").glob("*.ipynb"))
MOST_LINES = 12  # of a cell; what is longer belongs into a module


def parameters(notebook):
    """Return the cell that names the runs."""
    return next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_short_cells_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert all(cell.source.count("\n") < MOST_LINES for cell in cells)
    assert cells[1] == parameters(notebook) and "pick_runs(" in cells[0].source
    assert notebook.cells[0].source.startswith("# ")


def executed(name, monkeypatch, folder, known, **values):
    """Execute a notebook of a user who has the runs `known`; return its code cells."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ONE_LOOK_CACHE", str(folder / "cache"))
    (folder / "cache").mkdir()
    (folder / "cache" / "runs.json").write_text(json.dumps(list(map(str, known))))
    monkeypatch.setenv("IPYTHONDIR", str(folder))
    notebook = nbformat.read(ROOT / "analysis" / "notebooks" / f"{name}.ipynb", as_version=4)
    assert set(values) <= set(re.findall(r"^(\w+) = ", parameters(notebook).source, re.MULTILINE))
    parameters(notebook).source += "\n" + "\n".join(f"{key} = {value!r}" for key, value in values.items())
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    warned = [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert warned == []
    return cells


def shown(cells, beginning):
    """Return text and data by media type of the cell with such a line."""
    (cell,) = (cell for cell in cells if re.search(rf"^{re.escape(beginning)}", cell.source, re.MULTILINE))
    printed = [output.text for output in cell.outputs if output.output_type == "stream"]
    data = [output.data for output in cell.outputs if "data" in output]
    return "".join(printed), (data[-1] if data else {})


def table(cells, beginning):
    return shown(cells, beginning)[1]["text/plain"]


def row(cells, beginning, name):
    """Return the cells of a row of a table that may be too wide for one line."""
    lines = [line.split() for line in table(cells, beginning).splitlines() if line.startswith(f"{name} ")]
    return [word for line in lines for word in line[1:] if word != "\\"]


def pictures(cells):
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)


def charts(cells):
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    return [each["application/vnd.plotly.v1+json"] for each in data if "application/vnd.plotly.v1+json" in each]


def test_trial_tables_show_the_trials_of_all_runs(whole_runs, monkeypatch, tmp_path):
    cells = executed("trial_tables", monkeypatch, tmp_path, whole_runs, runs=[str(run) for run in whole_runs])
    assert shown(cells, "trials = load_trials")[0].startswith("30 trials of 2 runs, ")
    assert table(cells, "failed[[").count("loss is not finite") == 2
    best = table(cells, "best = trials.query(")
    assert best.count("f0001") == 2 and "e0014" not in best
    small = table(cells, "small.nlargest")
    assert "e0014" in small and "e0003" not in small  # which failed
    assert "unet" in table(cells, "first.groupby") and "atrous" in table(cells, "first.pivot_table")
    assert "chance" in table(cells, "found[") or "Empty" in table(cells, "found[")
    assert "f0001" in table(cells, "front[") and "e0014" in table(cells, "pairs[[")
    assert "images_per_s" in table(cells, "list_training_times(")
    assert pictures(cells) == 1 and len(charts(cells)) == 2
    drawn = json.dumps(charts(cells)[1])
    assert "f0001" in drawn and "e0014" in drawn


def test_notebook_opens_on_the_latest_run_and_keeps_its_charts_as_html(whole_runs, monkeypatch, tmp_path):
    begun = tmp_path / "begun"  # without a trial that has ended
    begun.mkdir()
    (begun / "run.json").write_text("{}")
    cells = executed("trial_tables", monkeypatch, tmp_path, [*whole_runs, begun, tmp_path / "gone"])
    assert table(cells, "picker = ").startswith("SelectMultiple(") and whole_runs[-1].name in table(cells, "picker = ")
    assert shown(cells, "trials = load_trials")[0].startswith("15 trials of 1 run, ")
    data = [output.data for cell in cells for output in cell.outputs if "data" in output]
    assert all("Plotly.newPlot" in each["text/html"] for each in data if "application/vnd.plotly.v1+json" in each)


def test_bars_of_a_notebook_leave_nothing_behind(monkeypatch, tmp_path):
    notebook = nbformat.v4.new_notebook()
    lines = "from data.runtime.progress import progress_bar", "with progress_bar('[b] work') as p:", "    p(1, 2)"
    notebook.cells = [nbformat.v4.new_code_cell("\n".join(lines))]
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    NotebookClient(notebook, timeout=300).execute()
    assert [output.get("data") for output in notebook.cells[0].outputs] == [{"text/plain": ""}]


def test_inside_the_best_model_shows_metrics_and_images(whole_runs, monkeypatch, tmp_path):
    cells = executed("inside_the_best_model", monkeypatch, tmp_path, [whole_runs[1], whole_runs[0]])
    metrics = json.loads((whole_runs[0] / "best" / "metrics.json").read_text())["val"]
    assert shown(cells, "seen = open_split")[0] == f"f0001: unet of width 4; {metrics['images']} images of 32 px\n"
    means = row(cells, "errors[[*MEASURED", "mean")
    wanted = [f"{metrics[name]:.4f}" for name in ("score", "iou", "boundary_f", "mae_mask", "rmse_depth", "abs_rel")]
    assert means[:6] == wanted
    for what in ("mask_share", "depth_range"):
        assert row(cells, f'average_groups(errors, "{what}")', "3")[2] == "1"  # of four images, four groups of one
    assert f"{metrics['images']}" in table(cells, "means.assign(")
    assert "pixel_shuffle" in table(cells, "trials.groupby(ways")
    assert pictures(cells) == 5
    (cloud,) = charts(cells)
    assert len(cloud["data"][0]["marker"]["color"]) == 32 * 32
    assert "a camera of 55 degrees" in shown(cells, "plot_points(")[0]


def test_compare_runs_scores_methods_alike(whole_runs, monkeypatch, tmp_path):
    cells = executed("compare_runs", monkeypatch, tmp_path, whole_runs[::-1])
    assert all(name in table(cells, "table = ") for name in ("default", "random", "1m"))
    scored = table(cells, "scored = table")
    assert "test_score" in scored and "sigma" in scored
    for beginning in ("estimate_methods(scored", "scored.pivot_table", "estimate_methods(optimism", "scored[["):
        assert all(name in table(cells, beginning) for name in ("default", "random")), beginning
    assert pictures(cells) == 1
