"""A finished run folder with a small untrained model, and one with trials at several stages."""

from pathlib import Path

import pytest

from search.config import TrialConfig
from search.records import TrialRecord, TrialTable, write_json

PX = 32


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with run.json and best/, as a run leaves them."""
    import torch

    from data.stats import Stats
    from models.build import build_model
    from models.heads import Head
    from search.best import Winner, save_model

    config = TrialConfig.from_dict({"model": {"arch": "unet", "width": 4, "stem_stride": 2, "levels": 3}})
    torch.manual_seed(1)
    network = build_model(config.model)
    for module in network.modules():
        if isinstance(module, Head):
            module.project.weight.data *= 20  # so that the maps are not flat
    stats = Stats(40, (0.4, 0.5, 0.6), (0.3, 0.25, 0.2), 0.1, 0.3, 0.4, 0.2, 1.0)
    run = tmp_path_factory.mktemp("finished") / "run"
    (run / "best").mkdir(parents=True)
    winner = Winner(config=config, weights=network.state_dict(), stats=stats, sigma=0.2, px=PX, trial_id="f0001")
    save_model(winner, run / "best")
    write_json(run / "run.json", {"state": "done", "best": "f0001"})
    return run


@pytest.fixture
def climbing_run(tmp_path: Path) -> Path:
    """A run that still goes on: explore has ended, a trial of it without an epoch; one of confirm is running."""
    run = tmp_path / "climbing"
    run.mkdir()
    write_json(run / "run.json", {"state": "running"})
    table = TrialTable(run)
    for number, scores in enumerate([[0.1, 0.2], [0.3], [0.2, 0.5, 0.4], []], start=1):
        add_trial(table, f"e{number}", "explore", scores)
        table.finish(f"e{number}", "completed" if scores else "failed", "" if scores else "out of memory")
    add_trial(table, "c1", "confirm", [0.4, 0.6], parent="e3")
    table.finish("c1", "completed")
    add_trial(table, "c2", "confirm", [0.45, 0.44, 0.55], parent="e2")
    return run


@pytest.fixture
def other_run(tmp_path: Path) -> Path:
    """A run with one trial, whose id is another run's too."""
    run = tmp_path / "other"
    run.mkdir()
    table = TrialTable(run)
    add_trial(table, "e3", "explore", [0.1])
    table.finish("e3", "completed")
    return run


def add_trial(table: TrialTable, trial_id: str, stage: str, scores: list[float], *, parent: str = "") -> None:
    """Let a trial report these scores, each after two seconds and ten images; the last report repeats the best."""
    config = {"model/arch": "unet", "model/width": 4}
    table.start(TrialRecord(trial_id=trial_id, parent_id=parent, stage=stage, seed=0, config=config))
    began = 10.0 * len(table.records)
    for epoch, score in enumerate(scores, start=1):
        last, best = epoch == len(scores), max(scores[:epoch])
        kept = best if last else score
        figures = {"score": kept, "iou": kept, "rmse_depth": 1 - kept, "best_epoch": 1 + scores.index(best)}
        losses = {"train_total": 2 - score, "train_mask": 1 - score, "train_depth": 1.0, "lr": 0.1 / epoch}
        cost = {
            "images_seen": 10 * epoch,
            "fit_s": 2.0 * epoch,
            "ended_s": began + 2.0 * epoch,
            "params": 1234,
            "px": 80,
        }
        table.report(trial_id, {"last": last, **figures, **losses, **cost, "epochs": epoch})
