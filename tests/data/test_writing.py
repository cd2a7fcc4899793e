"""Tests of data.writing."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from data.dataset import DataError, DatasetSpec
from data.reading.layout import read_dataset
from data.writing import STORED, DatasetWriter, Sample, StagingDir

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


RAMP = np.tile(np.arange(0, 64, 2, dtype=np.uint8) * 4, (32, 1))


def sample(number, split=""):
    rng = np.random.default_rng(number)
    image = cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), (32, 32), interpolation=cv2.INTER_LINEAR)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 255
    return Sample(image, mask, RAMP, f"b{number // 3}", f"f{number}", split)


def draw(job):
    return [(number, sample(number)) for number in job]


def fail_later(job):
    if job[0] > 3:
        raise RuntimeError("no more")
    return draw(job)


def left_over(folder):
    return [path.name for path in folder.iterdir()]


def test_written_folder_reads_back_as_data_set(tmp_path):
    with DatasetWriter(tmp_path / "set", DatasetSpec(group_size=3, near_m=1.5)) as writer:
        writer.fill(draw, [range(4, 7), range(1, 4)], workers=1)
    dataset = read_dataset(tmp_path / "set")
    assert [triplet.image.name for triplet in dataset.triplets] == [f"fgbg{n:06d}.jpg" for n in range(1, 7)]
    assert [triplet.background for triplet in dataset.triplets] == ["b0", "b0", "b1", "b1", "b1", "b2"]
    assert dataset.triplets[0].foreground == "f1"
    assert dataclasses.replace(dataset.spec, mask_values=None) == DatasetSpec(group_size=3, near_m=1.5)


def test_written_images_keep_their_values(tmp_path):
    with DatasetWriter(tmp_path / "set", DatasetSpec(missing=(0.0,)), label_suffix=".png") as writer:
        writer.fill(draw, [[1]], workers=1)
    triplet = read_dataset(tmp_path / "set").triplets[0]
    image = cv2.cvtColor(cv2.imread(str(triplet.image)), cv2.COLOR_BGR2RGB)
    assert np.abs(image.astype(int) - sample(1).image).mean() < 4
    np.testing.assert_array_equal(cv2.imread(str(triplet.depth), cv2.IMREAD_UNCHANGED), RAMP)
    np.testing.assert_array_equal(cv2.imread(str(triplet.mask), cv2.IMREAD_UNCHANGED), sample(1).mask)


def test_depth_as_jpeg_is_near_what_was_given(tmp_path):
    with DatasetWriter(tmp_path / "set", DatasetSpec()) as writer:
        writer.fill(draw, [[1]], workers=1)
    depth = cv2.imread(str(tmp_path / "set/depth/fgbg000001.jpg"), cv2.IMREAD_UNCHANGED)
    assert depth.ndim == 2
    assert np.abs(depth.astype(int) - RAMP).max() <= 4


def test_dataset_json_states_only_what_is_known(tmp_path):
    with DatasetWriter(tmp_path / "set", DatasetSpec(missing=(0.0,))) as writer:
        writer.fill(draw, [[1]], workers=1)
    content = json.loads((tmp_path / "set/dataset.json").read_text())
    assert content == {"near": "bright", "depth_unit": "relative", "missing": 0}


@pytest.mark.parametrize(("split", "has_column"), [("val", True), ("", False)])
def test_manifest_has_split_column_only_when_split(tmp_path, split, has_column):
    with DatasetWriter(tmp_path / "set", DatasetSpec()) as writer:
        writer.fill(lambda _: [(1, sample(1, split))], [0], workers=1)
    header = (tmp_path / "set/manifest.csv").read_text().splitlines()[0]
    assert ("split" in header.split(",")) is has_column


def test_failure_leaves_nothing_behind(tmp_path):
    with (
        pytest.raises(RuntimeError, match="no more"),
        DatasetWriter(tmp_path / "set", DatasetSpec()) as writer,
    ):
        writer.fill(fail_later, [range(1, 3), range(4, 6)], workers=1)
    assert left_over(tmp_path) == []


def test_folder_is_not_there_until_all_is_written(tmp_path):
    with DatasetWriter(tmp_path / "set", DatasetSpec()) as writer:
        writer.fill(draw, [range(1, 3)], workers=1)
        assert not (tmp_path / "set").exists()
    assert left_over(tmp_path) == ["set"]


def test_folder_in_use_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("dear")
    with pytest.raises(DataError, match="in use"):
        DatasetWriter(tmp_path, DatasetSpec())
    assert (tmp_path / "mine.txt").read_text() == "dear"


def test_empty_folder_is_taken(tmp_path):
    (tmp_path / "set").mkdir()
    with DatasetWriter(tmp_path / "set", DatasetSpec()) as writer:
        writer.fill(draw, [[1]], workers=1)
    assert (tmp_path / "set/manifest.csv").is_file()


def test_link_to_an_empty_folder_is_followed(tmp_path):
    (tmp_path / "disk/big").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk/big")
    with DatasetWriter(tmp_path / "out", DatasetSpec()) as writer:
        writer.fill(draw, [range(1, 4)], workers=1)
    assert (tmp_path / "out").is_symlink() and len(read_dataset(tmp_path / "disk/big").triplets) > 0


def test_mount_point_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path.name == "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out: is a mount point; name a new folder in it, such as"):
        DatasetWriter(tmp_path / "out", DatasetSpec())


def test_file_in_place_of_folder_is_refused(tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(DataError, match="is a file"):
        DatasetWriter(tmp_path / "set", DatasetSpec())
    with pytest.raises(DataError, match="cannot be made"), DatasetWriter(tmp_path / "set" / "deep", DatasetSpec()):
        pass


def test_folder_that_comes_into_use_meanwhile_is_not_overwritten(tmp_path):
    with (
        pytest.raises(DataError, match="no longer empty"),
        DatasetWriter(tmp_path / "set", DatasetSpec()) as writer,
    ):
        writer.fill(draw, [[1]], workers=1)
        (tmp_path / "set").mkdir()
        (tmp_path / "set/other.txt").write_text("")
    assert left_over(tmp_path) == ["set"]
    assert left_over(tmp_path / "set") == ["other.txt"]


def test_progress_counts_jobs(tmp_path):
    calls = []
    with DatasetWriter(tmp_path / "set", DatasetSpec()) as writer:
        jobs = [range(1, 3), range(3, 5)]
        writer.fill(draw, jobs, workers=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
