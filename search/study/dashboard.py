"""Studies for Optuna's dashboard: one for each stage after the search, with curves, metrics and sample images.

The trials of the search are final once they are reported to Optuna. Results of promoted trials are therefore written to
the studies of the later stages, and to the user attributes of the search's study.
"""

import tempfile
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from data.loading.visualize import render_predictions, render_truth
from data.pack.pack import RawBatch
from search.records.tensorboard import Metrics, Predictions, Rates
from search.records.trials import TrialRecord, TrialTable
from search.study.journal import create_study, find_study, open_journal, open_trial
from search.study.reconcile import close_stale_trials
from search.study.trial_outcome import finish_trial

JPEG_QUALITY = 90


class StageStudies:
    """Writes the studies of the stages after the search; a run with fixed configurations has none."""

    def __init__(self, folder: Path, table: TrialTable) -> None:
        self.table, self._journal, self._artifacts = table, folder / "study.journal", folder / "artifacts"
        self._trials: dict[str, tuple[optuna.Trial, optuna.Study]] = {}  # running trials
        self._truth: dict[str, np.ndarray] = {}
        self._predicted: dict[str, np.ndarray] = {}

    @cached_property
    def _storage(self) -> BaseStorage:
        """The journal; stale trials in the studies of later stages are closed when it is opened."""
        storage = open_journal(self._journal)
        for stage in {record.stage for record in self.table.records.values() if record.parent_id}:
            if (study := find_study(storage, stage)) is not None:
                close_stale_trials(storage, study, list(self.table.records.values()))
        return storage

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Open a promoted trial in the study of its stage, or reopen the one that an earlier process left running."""
        if not (record.parent_id and self._journal.exists()):
            return
        study = create_study(self._storage, record.stage)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        numbers = [trial.number for trial in running if trial.user_attrs["trial_id"] == record.trial_id]
        if not numbers:
            study.add_trial(self._new_trial(record))
            numbers = [len(study.get_trials(deepcopy=False)) - 1]
        self._trials[record.trial_id] = open_trial(self._storage, study, numbers[0]), study
        if raw is not None:
            self._truth[record.trial_id] = render_truth(raw)

    def report(self, record: TrialRecord, metrics: Metrics, *, rates: Rates, predictions: Predictions) -> None:
        """Add the score of an epoch to the trial's curve and keep its latest sample images."""
        if record.trial_id in self._trials:
            self._trials[record.trial_id][0].report(metrics["score"], int(metrics["epochs"]))
            if predictions is not None:
                self._predicted[record.trial_id] = predictions

    def finish(self, record: TrialRecord) -> None:
        """Close a trial with its metrics and its last sample images, and summarise it in the study of the search."""
        truth, predicted = (images.pop(record.trial_id, None) for images in (self._truth, self._predicted))
        if record.trial_id not in self._trials:
            return
        trial, study = self._trials.pop(record.trial_id)
        if truth is not None and predicted is not None:
            sheet = np.hstack([truth, render_predictions(predicted)])[..., ::-1]
            content = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{record.trial_id}.jpg"
                path.write_bytes(content)
                self._attach(trial, path)
        finish_trial(study, trial, record.status, record.reason, record.metrics)
        self._summarise(self._list_lineage(record)[-1])

    def attach_image(self, picture: Path) -> None:
        """Attach an image file to the study of the search."""
        if self._journal.exists() and (study := find_study(self._storage)) is not None:
            self._attach(study, picture)

    def _new_trial(self, record: TrialRecord) -> FrozenTrial:
        """Return a running trial with the parameters that the search chose and the scores of the earlier stages."""
        ancestors = self._list_lineage(record)[1:]
        study = find_study(self._storage)
        trials = study.get_trials(deepcopy=False) if study is not None else []
        chosen = next((t for t in trials if t.user_attrs.get("trial_id") == ancestors[-1].trial_id), None)
        attributes = {"trial_id": record.trial_id, "stage": record.stage, "parent_id": record.parent_id}
        return create_trial(
            state=TrialState.RUNNING,
            params=chosen.params if chosen else {},
            distributions=chosen.distributions if chosen else {},
            user_attrs={**attributes, **{f"score of {r.stage}": r.score for r in ancestors}},
        )

    def _list_lineage(self, record: TrialRecord) -> list[TrialRecord]:
        """Return a trial, its parent, and so on back to a trial of the search."""
        lineage = [record]
        while lineage[-1].parent_id:
            lineage.append(self.table.records[lineage[-1].parent_id])
        return lineage

    def _summarise(self, first: TrialRecord) -> None:
        """Write the outcomes of all promotions of a trial of the search to the search's study."""
        ended = [r for r in self.table.records.values() if r.parent_id and r.status]
        promoted = [r for r in ended if self._list_lineage(r)[-1] is first]
        outcomes = [f"{r.stage} {r.trial_id} {f'{r.score:.3f}' if r.metrics else r.status}" for r in promoted]
        if (study := find_study(self._storage)) is not None:
            study.set_user_attr(first.trial_id, ", ".join(outcomes))

    def _attach(self, to: optuna.Trial | optuna.Study, picture: Path) -> None:
        self._artifacts.mkdir(exist_ok=True)
        store = FileSystemArtifactStore(self._artifacts)
        upload_artifact(artifact_store=store, file_path=str(picture), study_or_trial=to)
