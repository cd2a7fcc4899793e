"""Fixtures: run folders with a small untrained model, and one with trials at several stages."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.score import Score
from search.config.trial import TrialConfig
from search.records.run_dir import write_json
from search.records.run_state import FORMAT_VERSION
from search.records.trials import TrialTable
from tests.trials import add_trial, make_record

if TYPE_CHECKING:
    from data.data_module import DataModule

PX = 32


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder with run.json and best/."""
    import torch

    from data.pack.stats import Stats
    from models.architectures.blocks import Head
    from models.architectures.registry import build_model
    from search.output.model_folder import TrainedModel, save_model

    config = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2, "levels": 3}})
    torch.manual_seed(1)
    network = build_model(config.model)
    for module in network.modules():
        if isinstance(module, Head):
            module.project.weight.data *= 20  # so that the maps are not flat
    stats = Stats(40, (0.4, 0.5, 0.6), (0.3, 0.25, 0.2), 0.1, 0.3, 0.4, 0.2, 1.0)
    run = tmp_path_factory.mktemp("finished") / "run"
    (run / "best").mkdir(parents=True)
    winner = TrainedModel(
        config=config, weights=network.state_dict(), stats=stats, score=Score(sigma=0.2), px=PX, trial_id="f0001"
    )
    save_model(winner, run / "best")
    write_json(run / "run.json", {"state": "done", "best": "f0001"})
    return run


@pytest.fixture(scope="session")
def whole_runs(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> list[Path]:
    """Two finished runs on the tiny data set, of two methods, with all of their files."""
    folder = tmp_path_factory.mktemp("comparison")
    return [write_whole_run(folder / name, tiny_dataset) for name in ("default-0", "random-0")]


@pytest.fixture
def running_run(tmp_path: Path) -> Path:
    """A running run: explore has ended, one of its trials without an epoch; a trial of confirm is running."""
    run = tmp_path / "running"
    run.mkdir()
    write_json(run / "run.json", {"state": "running", "format_version": FORMAT_VERSION})
    table = TrialTable(run)
    for number, scores in enumerate([[0.1, 0.2], [0.3], [0.2, 0.5, 0.4], []], start=1):
        add_scored_trial(table, f"e{number}", scores)
        table.finish(f"e{number}", "completed" if scores else "failed", "" if scores else "out of memory")
    add_scored_trial(table, "c1", [0.4, 0.6], parent="e3")
    table.finish("c1", "completed")
    table.write()
    add_scored_trial(table, "c2", [0.45, 0.44, 0.55], parent="e2")
    return run


@pytest.fixture
def other_run(tmp_path: Path) -> Path:
    """A run with one trial, whose id is another run's too."""
    run = tmp_path / "other"
    run.mkdir()
    table = TrialTable(run)
    add_scored_trial(table, "e3", [0.1])
    table.finish("e3", "completed")
    return run


def add_scored_trial(table: TrialTable, trial_id: str, scores: list[float], *, parent: str = "") -> None:
    """Let a trial report these scores, each after two seconds and ten images."""
    table.start(make_record(trial_id, parent_id=parent, config={"model/arch": "unet", "model/width": 4}))
    began = 10.0 * len(table.records)
    for epoch, score in enumerate(scores, start=1):
        figures, best = ({"score": s, "iou": s, "rmse_depth": 1 - s} for s in (score, max(scores[:epoch])))
        best |= {"best_epoch": 1 + scores.index(best["score"])}
        losses = {"train_total": 2 - score, "train_mask": 1 - score, "train_depth": 1.0, "lr": 0.1 / epoch}
        cost = {"images_seen": 10 * epoch, "fit_s": 2.0 * epoch, "ended_s": began + 2.0 * epoch, "params": 1234}
        more = {"last": epoch == len(scores), "best": best, "epochs": epoch, "px": 80}
        table.report(trial_id, {**figures, **losses, **cost, **more})


def write_whole_run(run: Path, dataset: Path, *, searched: int = 14) -> Path:
    """Write a run: a search of `searched` trials, the best trained at the final size, an untrained best model."""
    import optuna
    import torch

    from data.data_module import DataModule
    from models.architectures.registry import build_model
    from search.output.model_folder import TrainedModel, write_model_folder
    from search.study.journal import open_journal
    from search.study.search_space import build_space, suggest

    data_module = DataModule(dataset, seed=0)
    data = data_module.load_stage_data(fraction=1.0, px=PX)
    config = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2, "levels": 3}})
    torch.manual_seed(len(run.name))
    weights = build_model(config.model).state_dict()
    winner = TrainedModel(config=config, weights=weights, stats=data.stats, score=data.score, px=PX, trial_id="f0001")
    packs = {part: data_module.pack(part, PX) for part in ("val", "test")}
    metrics = write_model_folder(winner, run / "best", packs, sizes=data_module.sizes(), deadline=None)
    (run / "study.journal").touch()
    study = optuna.create_study(study_name="explore", storage=open_journal(run / "study.journal"), direction="maximize")
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    table = TrialTable(run)
    for number in range(1, searched + 1):
        trial = study.ask()
        tried = suggest(trial, build_space())
        trial.set_user_attr("trial_id", f"e{number:04}")
        study.tell(trial, _add(table, f"e{number:04}", tried, score=number / 20 - 0.2))
    best = {name: metrics["val"][name] for name in ("score", "iou", "rmse_depth", "checkerboard")}
    _add(table, "f0001", config, parent=f"e{searched:04}", **best)
    table.write()
    write_json(run / "run.json", _notes(data_module, table))
    return run


def _add(
    table: TrialTable, trial_id: str, config: TrialConfig, *, score: float, parent: str = "", **more: float
) -> float:
    """Let a trial report once and end; the third one fails."""
    number = len(table.records)
    record = make_record(trial_id, parent_id=parent, config=config.flatten(), started_s=3.0 * number)
    figures = {"score": score, "iou": score, "dice": score, "mae_mask": 0.1, "rmse_depth": 0.2, "checkerboard": 0.01}
    losses = {"train_total": 2 - score, "train_mask": 1 - score, "train_depth": 1.0, "lr": 0.01}
    cost = {"params": 1000 * (1 + number % 5), "macs": 10**6 * (1 + number % 5), "px": PX, "images_seen": 32}
    spent = {"epochs": 1, "fit_s": 2.0, "device_s": 2.0, "ended_s": record.started_s + 2}
    ending = {"status": "failed", "reason": "loss is not finite"} if number == 2 else {}
    add_trial(table, record, **ending, **{"last": True, **figures, **losses, **cost, **spent, **more})
    return score


def _notes(data_module: "DataModule", table: TrialTable) -> dict[str, Any]:
    """Return the content of run.json of such a run."""
    stages = [
        {"name": name, "round": 1, "began_s": began_s, "wall_s": wall_s, "px": PX, "busy": 0.8}
        for name, began_s, wall_s in (("explore", 0.0, 44.0), ("final", 45.0, 3.0))
    ]
    options = {"sampler": "tpe", "stages": "default", "split": "background", "configs": []}
    wall_s = max(record.metrics["ended_s"] for record in table.records.values()) + 2
    state = {"format_version": FORMAT_VERSION, "state": "done", "best": "f0001", "budget": "1m", "seed": 0}
    return state | {"wall_s": wall_s, "options": options, "data": data_module.to_dict(), "stages": stages, "round": 1}
