"""Why trials failed, read from the errors that Ray Tune keeps."""

from types import SimpleNamespace

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayTaskError

from data.runtime.storage import StorageError
from search.tuning.ray.tune import read_failure

TEXT = "Traceback (most recent call last)\n  the last line\n"


@pytest.mark.parametrize(
    ("error", "transient", "reason"),
    [
        (ActorDiedError(), True, "worker died: the last line"),
        (
            RayTaskError("train", TEXT, StorageError("s3://b cannot be used")),
            True,
            "StorageError: s3://b cannot be used",
        ),
        (RayTaskError("train", TEXT, ValueError("a bug")), False, "ValueError: a bug"),
    ],
)
def test_trial_is_continued_if_its_worker_died_or_could_not_use_the_storage(error, transient, reason, tmp_path):
    files = {"error_file": tmp_path / "error.txt", "pickled_error_file": tmp_path / "error.pkl"}
    files["error_file"].write_text(TEXT)
    files["pickled_error_file"].write_bytes(cloudpickle.dumps(error))
    failure = read_failure(SimpleNamespace(**files))
    assert (failure.transient, failure.reason, failure.text) == (transient, reason, TEXT)


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        (TEXT, b"of a class that is not installed here", "the last line"),
        ("", b"", "no error was recorded"),
        ("", cloudpickle.dumps(ActorDiedError()), "worker died: no error was recorded"),
    ],
)
def test_reason_is_found_in_files_that_are_empty_or_cannot_be_loaded(text, error, reason, tmp_path):
    files = {"error_file": tmp_path / "error.txt", "pickled_error_file": tmp_path / "error.pkl"}
    files["error_file"].write_text(text)
    files["pickled_error_file"].write_bytes(error)
    assert read_failure(SimpleNamespace(**files)).reason == reason
