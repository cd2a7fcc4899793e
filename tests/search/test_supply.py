import os
from contextlib import contextmanager

import pytest

from data.dataset import DataError
from data.stated import join_folders
from search.ladder import ladder
from search.run import parser
from search.supply import Supply


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


def test_bad_picture_is_found_before_anything_starts(tiny_dataset, tmp_path):
    import shutil

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
