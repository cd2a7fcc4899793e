"""What Optuna's dashboard shows beside the search: a study for each stage above it, with curves, metrics and pictures.

The trials of the search are Optuna's own and, once told, as they are for ever; what became of those that were promoted
stands in the studies of the stages that they reached, and in the user attributes of the search's study. Knows no Ray.
"""

import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from data.pack.pack import RawBatch
from data.visualize import render_predictions, render_truth
from search.records.trials import TrialRecord, TrialTable
from search.study.resume import close_stale_trials, newest_study
from search.study.sampler import TOLD, ending, name_score
from search.study.storage import open_journal

JPEG_QUALITY = 90


class StageStudies:
    """Keeps the studies of the stages above the search; a run that does not search has none.

    Args:
        folder: The run folder.
        table: Its records.
    """

    def __init__(self, folder: Path, table: TrialTable) -> None:
        self.table, self._journal, self._artifacts = table, folder / "study.journal", folder / "artifacts"
        self._trials: dict[str, int] = {}
        self._truth: dict[str, np.ndarray] = {}
        self._predicted: dict[str, np.ndarray] = {}

    @cached_property
    def _storage(self) -> BaseStorage:
        """The journal; trials that a dead process left running in these studies are settled."""
        storage = open_journal(self._journal)
        for study in storage.get_all_studies():
            if study.study_name in {record.stage for record in self.table.records.values() if record.parent_id}:
                close_stale_trials(storage, study._study_id, list(self.table.records.values()))
        return storage

    def start(self, record: TrialRecord, raw: RawBatch | None) -> None:
        """Open a promoted trial in the study of its stage, or take up the one that an earlier process left."""
        if not (record.parent_id and self._journal.exists()):
            return
        study_id = self._study(record.stage)
        running = self._storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        mine = [t._trial_id for t in running if t.user_attrs["trial_id"] == record.trial_id]
        self._trials[record.trial_id] = mine[0] if mine else self._opened(study_id, record)
        if raw is not None:
            self._truth[record.trial_id] = render_truth(raw)

    def report(
        self, record: TrialRecord, *, rates: Iterable[tuple[int, float]] = (), pictures: np.ndarray | None = None
    ) -> None:
        """Add the score at its epoch to the trial's curve, and keep its newest pictures."""
        if record.trial_id in self._trials:
            epoch, trial = int(record.metrics["epochs"]), self._trials[record.trial_id]
            self._storage.set_trial_intermediate_value(trial, epoch, record.score)
            if pictures is not None:
                self._predicted[record.trial_id] = pictures

    def finish(self, record: TrialRecord) -> None:
        """Close a trial with its metrics and its last pictures, and say so in the study of the search."""
        trial, truth = self._trials.pop(record.trial_id, None), self._truth.pop(record.trial_id, None)
        predicted = self._predicted.pop(record.trial_id, None)
        if trial is None:
            return
        if truth is not None and predicted is not None:
            sheet = np.hstack([truth, render_predictions(predicted)])
            self._attach(self._storage.get_trial(trial), f"{record.trial_id}.jpg", _jpeg(sheet))
        for name, value in ending(record.status, record.reason, record.metrics).items():
            self._storage.set_trial_user_attr(trial, name, value)
        state = TOLD[record.status]
        values = [record.score] if state == TrialState.COMPLETE else None
        self._storage.set_trial_state_values(trial, state, values)
        self._say_reached(list(self._line(record))[-1])

    def show(self, picture: Path) -> None:
        """Attach a picture to the study of the search."""
        if (study := self._search()) is not None:
            self._attach(study, picture.name, picture.read_bytes())

    def _opened(self, study_id: int, record: TrialRecord) -> int:
        """Return a new trial that runs, with the parameters that the search chose and the scores further down."""
        below = list(self._line(record))[1:]
        chosen = self._chosen(below[-1])
        attributes = {"trial_id": record.trial_id, "stage": record.stage, "parent_id": record.parent_id}
        template = create_trial(
            state=TrialState.RUNNING,
            params=chosen.params if chosen else {},
            distributions=chosen.distributions if chosen else {},
            user_attrs={**attributes, **{f"score of {r.stage}": r.score for r in below}},
        )
        return self._storage.create_new_trial(study_id, template)

    def _chosen(self, first: TrialRecord) -> FrozenTrial | None:
        """Return Optuna's trial behind one of the search, if the space has not dropped it."""
        study = self._search()
        trials = self._storage.get_all_trials(study._study_id, deepcopy=False) if study is not None else []
        return next((t for t in trials if t.user_attrs.get("trial_id") == first.trial_id), None)

    def _line(self, record: TrialRecord) -> Iterator[TrialRecord]:
        """Yield a trial, the one whose weights it began with, and so on down to the search."""
        while True:
            yield record
            if not record.parent_id:
                return
            record = self.table.records[record.parent_id]

    def _say_reached(self, first: TrialRecord) -> None:
        """Note in the study of the search how the promotions of one of its trials have ended so far."""
        ended = [r for r in self.table.records.values() if r.parent_id and r.status]
        mine = [r for r in ended if list(self._line(r))[-1] is first]
        said = ", ".join(f"{r.stage} {r.trial_id} {f'{r.score:.3f}' if r.metrics else r.status}" for r in mine)
        if (study := self._search()) is not None:
            study.set_user_attr(first.trial_id, said)

    def _search(self) -> optuna.Study | None:
        name = newest_study(self._storage) if self._journal.exists() else None
        return None if name is None else optuna.load_study(study_name=name, storage=self._storage)

    def _study(self, stage: str) -> int:
        """Return the study of a stage, made now if there is none."""
        study = optuna.create_study(study_name=stage, storage=self._storage, direction="maximize", load_if_exists=True)
        name_score(study)
        return study._study_id

    def _attach(self, to: FrozenTrial | optuna.Study, name: str, content: bytes) -> None:
        self._artifacts.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            store = FileSystemArtifactStore(self._artifacts)
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=to, storage=self._storage)


def _jpeg(picture: np.ndarray) -> bytes:
    """Return RGB bytes of shape (h, w, 3) as a JPEG file."""
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return content.tobytes()
