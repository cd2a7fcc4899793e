"""The comparison: one run a method and seed, at equal budget, never twice; its table out of what runs wrote."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import compare, load_model
from data.loaders import normalise
from models.metrics import MetricSums
from search.supply import Supply


def write_run(folder, *, val, test, budget="3m", data="d", params=1000):
    """Write what a finished run leaves, as far as the comparison reads it."""
    folder.mkdir(parents=True)
    notes = {"state": "done", "best": "f0001", "wall_s": 60.0, "budget": budget, "data": {"folder": data}}
    notes["measured"] = {"val_score": val, "test_score": test, "test_iou": test, "test_rmse_depth": 0.1}
    (folder / "run.json").write_text(json.dumps(notes))
    row = {"trial_id": "f0001", "model/arch": "unet", "model/width": 4, "params": params, "images_seen": 10}
    pd.DataFrame([row]).to_csv(folder / "trials.csv", index=False)


@pytest.fixture
def commands(monkeypatch):
    """Stand in for the runs; return the commands they were asked for by."""
    asked = []

    class Run(contextlib.nullcontext):
        returncode = 0

        def __init__(self, command, **_):
            super().__init__(self)
            asked.append(command)
            seed = int(command[command.index("--seed") + 1])
            val = 0.6 if "--recipe" in command else 0.8
            write_run(Path(command[command.index("--out") + 1]), val=val + seed / 10, test=0.5)

        def communicate(self):
            return None, ""

    monkeypatch.setattr(compare.subprocess, "Popen", Run)
    monkeypatch.setattr(compare, "measured", lambda folder, notes: notes["measured"])
    return asked


def arguments(folder, *more):
    return ["--data", "d", "--budget", "3m", "--seeds", "2", "--out", str(folder), *more]


def test_every_method_runs_every_seed_at_the_same_budget(commands, tmp_path, capsys):
    assert compare.main(arguments(tmp_path, "--methods", "search,study")) == 0
    assert len(commands) == 4 and all(c[c.index("--budget") + 1] == "3m" for c in commands)
    assert [c[c.index("--seed") + 1] for c in commands] == ["0", "0", "1", "1"]
    table = (tmp_path / "table.md").read_text()
    assert (
        "| search | 2 | 0.500 [0.500, 0.500] |" in table and "| 0.850 [0.800, 0.900] | 0.350 [0.300, 0.400] |" in table
    )
    assert capsys.readouterr().out.endswith(table)
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 4


def test_models_are_measured_on_whole_parts(finished_run, tiny_dataset):
    row = compare.measured(finished_run, {"seed": 0, "data": {"folder": str(tiny_dataset), "split": "background"}})
    model, supply = load_model(finished_run, device="cpu"), Supply(tiny_dataset, seed=0)
    for part in ("val", "test"):
        sums, pack = MetricSums(), supply.pack(part, model.px)
        for number in range(len(pack)):
            batch = normalise(pack.gather(np.array([number])), model.stats)
            sums.update(model.network(batch.image), batch.mask, batch.depth, batch.valid)
        assert row[f"{part}_score"] == pytest.approx(sums.compute(0.2)["score"], abs=1e-5)


def test_runs_that_are_there_are_not_repeated(commands, tmp_path):
    compare.main(arguments(tmp_path, "--methods", "search"))
    compare.main(arguments(tmp_path, "--methods", "search,study"))
    assert len(commands) == 4


@pytest.mark.parametrize("other", [("--budget", "5m"), ("--data", "e")])
def test_runs_of_another_budget_or_of_other_data_are_not_mixed_in(other, commands, tmp_path, capsys):
    compare.main(arguments(tmp_path, "--methods", "search"))
    assert compare.main(arguments(tmp_path, *other)) == 2
    assert "search-0 is a run of 3m on" in capsys.readouterr().err and len(commands) == 2


def test_file_in_the_place_of_the_folder_is_refused(commands, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert compare.main(arguments(tmp_path / "file")) == 2
    assert "is a file" in capsys.readouterr().err and not commands


def test_unfinished_run_is_named_and_left(commands, tmp_path, capsys):
    (tmp_path / "search-0").mkdir()
    assert compare.main(arguments(tmp_path)) == 2
    assert "search-0 holds no finished run; remove it" in capsys.readouterr().err and not commands


def test_failed_run_speaks_for_itself(tmp_path, capsys):
    assert compare.main(["--data", str(tmp_path / "none"), "--budget", "60s", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: search, seed 0: error:") and "no such folder" in error and error.count("\n") == 1


@pytest.mark.parametrize(("more", "says"), [(("--methods", "ours"), "no method 'ours'"), (("--seeds", "0"), "seeds")])
def test_wrong_argument_exits_with_2(more, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        compare.main(arguments(tmp_path, *more))
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_methods_are_commands_that_run_understands():
    from search.run import parser

    read = {name: parser().parse_args(["--budget", "3m", *words]) for name, words in compare.METHODS.items()}
    told = {name: (args.recipe, args.width, args.split) for name, args in read.items()}
    assert told == {
        "search": (None, None, "background"),
        "study": ("study", None, "background"),
        "study_small": ("study", 4, "background"),
        "random_split": (None, None, "random"),
    }
