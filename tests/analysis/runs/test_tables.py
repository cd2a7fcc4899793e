import pytest

from analysis import AnalysisError
from analysis.runs.tables import load_reports, load_trials, load_trials_so_far
from search.records.trials import TrialTable
from tests.trials import add_trial, make_record


def read_so_far(run):
    return load_trials_so_far(run, load_reports(run))


@pytest.fixture
def run(tmp_path):
    table = TrialTable(tmp_path)
    for number, (status, score) in enumerate([("completed", 0.25), ("stopped", 0.5), ("failed", 0.75)], start=1):
        config = {"model/arch": "unet", "loss/mask_structural": "none"}
        add_trial(table, make_record(f"e{number}", config=config), status=status, score=score, epochs=1)
    table.write()
    return tmp_path


def test_trial_table_comes_back_as_written(run):
    trials = load_trials(run, run)
    assert len(trials) == 6 and list(trials["trial_id"][:3]) == ["e1", "e2", "e3"]
    assert trials["score"].dtype == float and set(trials["loss/mask_structural"]) == {"none"}


def test_outcome_of_an_older_format_has_its_present_name(run):
    table = (run / "trials.csv").read_text().replace(",stopped,", ",timed_out,")
    (run / "trials.csv").write_text(table)
    assert list(load_trials(run)["status"]) == ["completed", "ended_by_budget", "failed"]


def test_reports_come_back_as_written(run):
    assert list(load_reports(run)["score"]) == [0.25, 0.5, 0.75]


def test_line_that_is_being_written_is_left_out(run):
    with (run / "reports.jsonl").open("a") as file:
        file.write('{"trial_id": "e4", "sco')
    assert len(load_reports(run)) == 3


def test_run_that_has_reported_nothing_has_no_reports_and_no_trials(tmp_path):
    assert load_reports(tmp_path).empty and read_so_far(tmp_path).empty


def test_trials_so_far_include_running_ones(running_run):
    trials = read_so_far(running_run).set_index("trial_id")
    assert list(trials.index) == ["e1", "e2", "e3", "e4", "c1", "c2"]
    assert trials.loc["c2", "status"] == "running" and trials.loc["c2", "epochs"] == 3
    assert trials.loc["c2", "model/arch"] == "unet" and trials.loc["c2", "parent_id"] == "e2"
    assert trials.loc["e4", "status"] == "failed" and trials.loc["c1", "model/arch"] == "unet"


def test_trials_that_have_ended_since_the_table_was_written_are_not_taken_for_running(running_run):
    with (running_run / "trials.jsonl").open("a") as file:
        file.write('{"trial_id": "c2", "status": "failed", "reason": "loss is nan"}\n')
    trials = read_so_far(running_run).set_index("trial_id")
    assert tuple(trials.loc["c2", ["status", "reason", "epochs"]]) == ("failed", "loss is nan", 3)
    assert trials.loc["c1", "status"] == "completed"


def test_trials_so_far_need_no_table(running_run):
    (running_run / "trials.csv").unlink()
    trials = read_so_far(running_run).set_index("trial_id")
    assert trials["status"].to_dict() == {
        **dict.fromkeys(("e1", "e2", "e3", "c1"), "completed"),
        **{"e4": "failed", "c2": "running"},
    }
    assert trials.loc["e4", "reason"] == "out of memory"
    assert trials.loc["e3", "score"] == 0.5  # of its best epoch


@pytest.mark.parametrize("content", [None, b"", b"trial_id\xff,stage\n\x00"])
def test_folder_without_whole_trials_is_an_error(content, tmp_path):
    if content is not None:
        (tmp_path / "trials.csv").write_bytes(content)
    with pytest.raises(AnalysisError, match=r"trials\.csv: cannot be read"):
        load_trials(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1,2\n", r"trials\.csv: not a table of trials; it lacks trial_id, stage, status"),
        (b"trial_id,stage,status\n,explore,failed\n", r"not a table of trials; it lacks trial_id"),
        (b"run,trial_id,stage,status\nx,e1,explore,failed\n", r"trials\.csv: cannot be read \(cannot insert run"),
    ],
)
def test_table_of_something_else_is_an_error(content, says, tmp_path):
    (tmp_path / "trials.csv").write_bytes(content)
    for read in (load_trials, read_so_far):
        with pytest.raises(AnalysisError, match=says):
            read(tmp_path)


def test_columns_that_lack_are_empty_and_figures_that_are_no_numbers_unknown(tmp_path):
    (tmp_path / "trials.csv").write_text("trial_id,stage,status,params\n7,explore,failed,many\n")
    trials = load_trials(tmp_path)
    assert trials["trial_id"].item() == "7"
    assert trials[["score", "params", "fit_s", "model/arch", "parent_id"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("trials.jsonl", b"\x89PNG\xff\n", "trials.jsonl: cannot be read"),
        ("trials.jsonl", b'{"trial_id": "e1", "config": {}}\n', r"\(parent_id, stage, seed missing\)"),
        (
            "trials.jsonl",
            b'{"trial_id": "e1", "parent_id": "", "stage": "explore", "config": {}, "seed": 0, "started_s": "noon"}\n',
            r"\(started_s missing\)",
        ),
        ("reports.jsonl", b"\x89PNG\xff\n", "reports.jsonl: a line is damaged"),
        ("reports.jsonl", b'{\n{"trial_id": "e1"}\n', "reports.jsonl: a line is damaged"),
        ("reports.jsonl", b"[1]\n", "reports.jsonl: a line names no trial"),
        ("reports.jsonl", b'{"score": 1.0}\n', "reports.jsonl: a line names no trial"),
    ],
)
def test_damaged_records_are_an_error(name, content, says, running_run):
    (running_run / name).write_bytes(content)
    with pytest.raises(AnalysisError, match=says) as caught:
        read_so_far(running_run)
    assert "\n" not in str(caught.value)


def test_records_of_another_version_are_read_as_far_as_they_are_known(running_run):
    path = running_run / "trials.jsonl"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 0, "mood": "fair"'))
    assert "c2" in read_so_far(running_run)["trial_id"].to_list()
