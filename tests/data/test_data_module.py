import json
import os
import shutil
from contextlib import contextmanager

import pytest

from data.data_module import Supply, supply_of
from data.dataset import DataError
from data.reading.dataset_json import join_folders
from search.run import parser
from search.tuning.stages import ladder


@pytest.fixture
def supply(tiny_dataset):
    return Supply(tiny_dataset, seed=0)


def test_no_background_is_in_two_parts(supply):
    parts = [{t.background for t in part} for part in (supply.splits.train, supply.splits.val, supply.splits.test)]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == 10


def test_stages_share_statistics_and_sigma_and_nest(supply):
    explore, confirm, final = (supply.for_stage(fraction=stage.fraction, px=stage.px) for stage in ladder()[:3])
    assert explore.stats == confirm.stats == final.stats and explore.sigma == confirm.sigma == final.sigma
    assert set(explore.train.ids) < set(confirm.train.ids) == set(final.train.ids)
    assert (explore.train.px, confirm.train.px, final.train.px) == (80, 80, 160)


def test_several_folders_are_one_data_set(partial_datasets, tmp_path):
    folders = [partial_datasets[name] for name in ("mask_only", "depth_only")]
    assert parser().parse_args(["--data", *map(str, folders), "--seed", "1"]).data == folders
    supply = Supply(join_folders(folders, tmp_path), seed=0)
    data = supply.for_stage(fraction=ladder()[0].fraction, px=ladder()[0].px)
    assert supply.sizes() == {"train": 64, "val": 8, "test": 8} and data.stats.mask_known < 1
    assert data.val.stats.mask_known == 0.5 and data.sigma == data.val.stats.depth_std


@pytest.fixture
def spoilt(tiny_dataset, tmp_path):
    """Factory of copies of the data set in which an image of each of some backgrounds is cut off."""

    def make(count):
        copy = tmp_path / f"spoilt{count}"
        shutil.copytree(tiny_dataset, copy)
        for path in sorted((copy / "images").iterdir())[1::4][:count]:
            os.truncate(path, 100)
        return copy

    return make


def test_few_bad_triplets_are_left_out_and_counted(spoilt):
    supply = Supply(spoilt(4), seed=0)
    supply.pack_all(80)
    told = supply.left_out()
    assert (told["triplets"], told["of"], told["reasons"]) == (4, 40, {"file that is no picture": 4})
    assert len(told["first"]) == 4 and "images" in told["first"][0]
    assert supply.what_was_left_out().startswith("4 of 40 triplets cannot be used (file that is no picture: 4)")
    data = supply.for_stage(fraction=ladder()[1].fraction, px=ladder()[1].px)
    assert len(data.train) + len(supply.pack("val", 80)) + len(supply.pack("test", 80)) == 36
    assert supply.left_out() == told


def test_triplets_whose_files_lack_are_left_out_and_counted(tiny_dataset, tmp_path):
    copy = shutil.copytree(tiny_dataset, tmp_path / "copy")
    sorted((copy / "masks").iterdir())[0].unlink()
    supply = Supply(copy, seed=0)
    supply.pack_all(80)
    told = supply.left_out()
    assert (told["triplets"], told["of"]) == (1, 40) and "is not there" in told["first"][0]
    assert sum(supply.sizes().values()) == 39


def test_nothing_is_said_of_whole_data(supply):
    supply.pack_all(80)
    assert supply.what_was_left_out() == "" and supply.left_out()["triplets"] == 0


def test_more_than_a_tenth_bad_stops_unless_it_is_allowed(spoilt):
    folder = spoilt(5)
    with pytest.raises(DataError, match=r"5 of 40 triplets cannot be used.*--check.*--allow-bad"):
        Supply(folder, seed=0).pack_all(80)
    supply = Supply(folder, seed=0, allow_bad=parser().parse_args(["--allow-bad"]).allow_bad)
    supply.pack_all(80)
    assert supply.left_out()["triplets"] == 5
    taken_up = supply_of({"seed": 0, "data": supply.facts()})  # a run that has begun goes on
    taken_up.pack_all(80)
    assert taken_up.facts() == supply.facts()


def test_data_of_a_run_are_found_again_after_the_cache_was_emptied(partial_datasets, monkeypatch, tmp_path):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    root = join_folders([partial_datasets[name] for name in ("mask_only", "depth_only")], tmp_path / "cache")
    notes = {"seed": 1, "data": json.loads(json.dumps(Supply(root, seed=1, split="random").facts()))}
    shutil.rmtree(tmp_path / "cache")
    found = supply_of(notes)
    assert found.dataset.root == root and found.facts() == notes["data"]
    (root / "dataset.json").unlink()
    assert supply_of(notes).facts() == notes["data"]


def test_data_of_a_run_that_are_others_or_not_named_are_refused(supply):
    facts = supply.facts()
    with pytest.raises(DataError, match="has changed since the run began"):
        supply_of({"seed": 0, "data": facts | {"fingerprint": "another"}})
    for notes in ({"seed": 0}, {"data": facts}, {"seed": 0, "data": {"folder": facts["folder"]}}):
        with pytest.raises(DataError, match="does not say what the run was trained on"):
            supply_of(notes)


def test_packing_is_shown(supply):
    shown, told = [], []

    @contextmanager
    def show(title):
        shown.append(title)
        yield lambda done, total: told.append((done, total))

    supply.show = show
    pack = supply.pack("train", 24)
    assert shown == ["packing train at 24 px"] and told[-1] == (len(pack), len(pack))
