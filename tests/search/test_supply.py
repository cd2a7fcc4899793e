import json
import os
import shutil
from contextlib import contextmanager

import pytest

from data.dataset import DataError
from data.stated import join_folders
from search.ladder import ladder
from search.run import parser
from search.supply import Supply, supply_of


@pytest.fixture
def supply(tiny_dataset):
    return Supply(tiny_dataset, seed=0)


def test_no_background_is_in_two_parts(supply):
    parts = [{t.background for t in part} for part in (supply.splits.train, supply.splits.val, supply.splits.test)]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == 10


def test_stages_share_statistics_and_sigma_and_nest(supply):
    explore, confirm, final = (supply.for_stage(stage) for stage in ladder()[:3])
    assert explore.stats == confirm.stats == final.stats and explore.sigma == confirm.sigma == final.sigma
    assert set(explore.train.ids) < set(confirm.train.ids) == set(final.train.ids)
    assert (explore.train.px, confirm.train.px, final.train.px) == (80, 80, 160)


def test_several_folders_are_one_data_set(partial_datasets, tmp_path):
    folders = [partial_datasets[name] for name in ("mask_only", "depth_only")]
    assert parser().parse_args(["--data", *map(str, folders), "--seed", "1"]).data == folders
    supply = Supply(join_folders(folders, tmp_path), seed=0)
    data = supply.for_stage(ladder()[0])
    assert supply.sizes() == {"train": 64, "val": 8, "test": 8} and data.stats.mask_known < 1
    assert data.val.stats.mask_known == 0.5 and data.sigma == data.val.stats.depth_std


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


def test_bad_picture_is_found_before_anything_starts(tiny_dataset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_dataset, copy)
    last = sorted((copy / "images").iterdir())[-1]
    os.truncate(last, 100)
    with pytest.raises(DataError, match=last.name):
        Supply(copy, seed=0).pack_all(80)


def test_packing_is_shown(supply):
    shown, told = [], []

    @contextmanager
    def show(title):
        shown.append(title)
        yield lambda done, total: told.append((done, total))

    supply.show = show
    pack = supply.pack("train", 24)
    assert shown == ["packing train at 24 px"] and told[-1] == (len(pack), len(pack))
