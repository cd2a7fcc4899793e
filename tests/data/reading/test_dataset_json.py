"""Folders joined into one data set."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.dataset import DataError
from data.pack.pack import pack_split
from data.reading.dataset_json import join_folders
from data.reading.layout import read_dataset
from data.reading.splits import sort_nested, split_by_background, split_randomly
from data.values.depth import decode_depth


@pytest.fixture
def two(make_dataset):
    """A folder of 20 triplets, bright where near, and one of 10 without masks, dark where near."""
    bright = make_dataset(20, name="bright", spec={"group_size": 2})
    dark = make_dataset(10, name="dark", spec={"group_size": 2, "near": "dark"})
    (dark / "masks").rename(dark.parent / "away")
    return bright, dark


@pytest.fixture
def join(tmp_path):
    def write(*names, **more):
        root = tmp_path / "join"
        root.mkdir(exist_ok=True)
        (root / "dataset.json").write_text(json.dumps({"folders": names, **more}))
        return root

    return write


def test_joined_folders_keep_their_names_apart(two, join):
    dataset = read_dataset(join("../bright", str(two[1])))
    assert len(dataset.triplets) == 30 and len({triplet.id for triplet in dataset.triplets}) == 30
    assert dataset.triplets[0].id == "bright/fgbg000001" and dataset.triplets[-1].id == "dark/fgbg000010"
    assert len({triplet.background for triplet in dataset.triplets}) == 15
    assert [folder.spec.near for folder in dataset.folders] == ["bright", "dark"]


def test_each_folder_s_depth_is_read_by_its_own_spec(two, join, tmp_path):
    dataset = read_dataset(join("../bright", "../dark"))
    pack = pack_split(dataset, sort_nested(dataset.triplets), 16, cache=tmp_path / "cache")
    batch = pack.gather(np.arange(30))
    of = {name: decode_depth(batch.depth[pack.ids.index(name)])[0] for name in ("bright/fgbg000001", "dark/fgbg000001")}
    known = np.s_[:, 2:]  # the zeros before it stand alone
    assert of["bright/fgbg000001"][known] + of["dark/fgbg000001"][known] == pytest.approx(1, abs=1e-4)
    assert batch.mask_known.tolist() == [name.startswith("bright") for name in pack.ids]


@pytest.mark.parametrize("split", [split_by_background, split_randomly])
def test_every_folder_is_in_every_part(two, join, split):
    dataset = read_dataset(join("../bright", "../dark"))
    found = split(dataset, seed=3)
    for part in (found.train, found.val, found.test):
        assert {triplet.id.partition("/")[0] for triplet in part} == {"bright", "dark"}
        assert part == sort_nested(part)
    assert {t.id for part in (found.train, found.val, found.test) for t in part} == {t.id for t in dataset.triplets}
    alone = split_by_background(dataset.folders[0], seed=3)
    assert split is split_randomly or set(alone.val) < set(found.val)


def test_folder_of_unknown_backgrounds_is_named(two, join):
    (two[1] / "dataset.json").unlink()
    with pytest.raises(DataError, match="dark: its backgrounds are unknown"):
        split_by_background(read_dataset(join("../bright", "../dark")))


def test_folders_of_one_name_are_told_apart_by_their_paths(two, join, tmp_path):
    (tmp_path / "other").mkdir()
    two[1].rename(tmp_path / "other" / "bright")
    dataset = read_dataset(join("../bright", "../other/bright"))
    assert dataset.triplets[-1].id == "../other/bright/fgbg000010"


def test_fingerprint_of_a_join_is_that_of_its_folders(two, join, tmp_path):
    root = join("../bright", "../dark")
    before = read_dataset(root).fingerprint
    assert read_dataset(join_folders(two, tmp_path / "cache")).fingerprint == before
    (two[1] / "images" / "fgbg000010.png").write_bytes(b"another image")
    assert read_dataset(root).fingerprint != before


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        ([], {}, r'join/dataset.json: to join folders, write {"folders": \["one", "another"\]} and nothing else'),
        ([3], {}, "to join folders"),
        (["../bright"], {"near": "dark"}, "and nothing else"),
        (["../bright", "../bright"], {}, "bright is named more than once"),
        (["../bright", "../nowhere"], {}, "nowhere: no such folder"),
        (["."], {}, "join joins other folders; name those folders instead"),
    ],
)
def test_faulty_join_is_named_in_one_line(two, join, names, more, message):
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(join(*names, **more))
    assert "\n" not in str(caught.value)


def test_folders_are_joined_in_the_cache_the_same_each_time(two, tmp_path, monkeypatch):
    root = join_folders(two, tmp_path / "cache")
    assert root.name.startswith("bright+dark+") and root == join_folders(two, tmp_path / "cache")
    assert root != join_folders(two[::-1], tmp_path / "cache")
    before = (root / "dataset.json").read_text()
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("cut off before the name was given"))
    with pytest.raises(pytest.fail.Exception):
        join_folders(two, tmp_path / "cache")
    assert (root / "dataset.json").read_text() == before and len(list(root.iterdir())) == 1
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        join_folders(two, tmp_path / "file")
