import pytest

from data.dataset import DataError
from data.writing.staging import STORED, StagingDir

ROW = {"image": "a.jpg", "mask": "", "depth": "", "background": "b", "foreground": "f", "split": ""}


def begun(root, origin="same"):
    """A draft of one job, let go of."""
    draft = StagingDir(root, origin)
    (draft.folder / "a.jpg").write_bytes(b"picture")
    draft.record_job(0, [ROW])
    draft.close()
    return draft.folder


def test_draft_that_was_cut_off_is_taken_up(tmp_path):
    begun(tmp_path / "set")
    draft = StagingDir(tmp_path / "set", "same")
    assert list(draft.read_jobs()) == [(0, [ROW])]
    assert draft.complete_jobs() == {0}
    draft.publish()
    draft.close()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["a.jpg"]


def test_draft_of_another_origin_is_refused_and_kept(tmp_path):
    folder = begun(tmp_path / "set")
    with pytest.raises(DataError, match="another set"):
        StagingDir(tmp_path / "set", "other")
    assert (folder / "a.jpg").is_file()


def test_draft_in_which_nothing_is_stored_does_not_stay(tmp_path):
    StagingDir(tmp_path / "set", "same").close()
    assert list(tmp_path.iterdir()) == []


def test_draft_without_origin_does_not_stay(tmp_path):
    begun(tmp_path / "set", None)
    assert list(tmp_path.iterdir()) == []


def test_draft_is_held_by_one(tmp_path):
    draft = StagingDir(tmp_path / "set", "same")
    with pytest.raises(DataError, match="another process"):
        StagingDir(tmp_path / "set", "same")
    draft.close()


def test_line_that_was_not_ended_is_dropped(tmp_path):
    folder = begun(tmp_path / "set")
    with (folder / STORED).open("a") as file:
        file.write('[1, [{"ima')
    draft = StagingDir(tmp_path / "set", "same")
    draft.record_job(2, [])
    assert [job for job, _ in draft.read_jobs()] == [0, 2]
    draft.close()


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_job_whose_files_are_lost_or_empty_is_not_whole(tmp_path, spoil):
    spoil(begun(tmp_path / "set") / "a.jpg")
    draft = StagingDir(tmp_path / "set", "same")
    assert draft.complete_jobs() == set()
    draft.close()
