import pytest

from data.dataset import DataError
from data.writing.staging import STORED, StagingDir

ROW = {"image": "a.jpg", "mask": "", "depth": "", "background": "b", "foreground": "f", "split": ""}


def begun(root, origin="same"):
    """Return the folder of a staging directory with one recorded job, closed."""
    staging = StagingDir(root, origin)
    (staging.folder / "a.jpg").write_bytes(b"image")
    staging.record_job(0, [ROW])
    staging.close()
    return staging.folder


def test_staging_dir_that_was_cut_off_is_resumed(tmp_path):
    begun(tmp_path / "set")
    staging = StagingDir(tmp_path / "set", "same")
    assert list(staging.read_jobs()) == [(0, [ROW])]
    assert staging.complete_jobs() == {0}
    staging.publish()
    staging.close()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["a.jpg"]


def test_staging_dir_of_another_origin_is_refused_and_kept(tmp_path):
    folder = begun(tmp_path / "set")
    with pytest.raises(DataError, match="another set"):
        StagingDir(tmp_path / "set", "other")
    assert (folder / "a.jpg").is_file()


def test_staging_dir_in_which_nothing_is_stored_does_not_stay(tmp_path):
    StagingDir(tmp_path / "set", "same").close()
    assert list(tmp_path.iterdir()) == []


def test_staging_dir_without_origin_does_not_stay(tmp_path):
    begun(tmp_path / "set", None)
    assert list(tmp_path.iterdir()) == []


def test_staging_dir_is_held_by_one(tmp_path):
    staging = StagingDir(tmp_path / "set", "same")
    with pytest.raises(DataError, match="another process"):
        StagingDir(tmp_path / "set", "same")
    staging.close()


def test_line_that_was_not_ended_is_dropped(tmp_path):
    folder = begun(tmp_path / "set")
    with (folder / STORED).open("a") as file:
        file.write('[1, [{"ima')
    staging = StagingDir(tmp_path / "set", "same")
    staging.record_job(2, [])
    assert [job for job, _ in staging.read_jobs()] == [0, 2]
    staging.close()


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_job_whose_files_are_lost_or_empty_is_not_whole(tmp_path, spoil):
    spoil(begun(tmp_path / "set") / "a.jpg")
    staging = StagingDir(tmp_path / "set", "same")
    assert staging.complete_jobs() == set()
    staging.close()
