import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.data_module import DataModule, load_data_module
from data.dataset import DataError, Dataset, DatasetSpec, Triplet
from data.reading.dataset_json import join_folders
from data.reading.split_warnings import describe_reliability
from search.config.stages import build_stages
from search.run import build_parser


@pytest.fixture
def data_module(tiny_dataset):
    return DataModule(tiny_dataset, seed=0)


def test_no_background_is_in_two_parts(data_module):
    parts = [
        {t.background for t in part}
        for part in (data_module.splits.train, data_module.splits.val, data_module.splits.test)
    ]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts)) == 10


@pytest.fixture
def large(monkeypatch):
    """Let the tiny data set stand for a large one."""
    monkeypatch.setattr("data.data_module.MIN_TRAIN", 3)


def test_stages_share_statistics_and_sigma_and_nest(data_module, large):
    explore, confirm, final = (
        data_module.load_stage_data(fraction=stage.fraction, px=stage.px) for stage in build_stages()[:3]
    )
    assert explore.stats == confirm.stats == final.stats and explore.score == confirm.score == final.score
    assert set(explore.train.ids) < set(confirm.train.ids) == set(final.train.ids)
    assert (explore.train.px, confirm.train.px, final.train.px) == (80, 160, 160)


def test_stage_has_the_numbers_of_images_of_count_stage_images(data_module, large):
    data = data_module.load_stage_data(fraction=0.5, px=32, max_images=10)
    assert (len(data.train), len(data.val)) == data_module.count_stage_images(0.5, 10) == (10, 4)
    assert data_module.count_stage_images(0.5) == (16, 4) and data_module.count_stage_images(0.5, 99) == (16, 4)


def test_several_folders_are_one_data_set(partial_datasets, tmp_path):
    folders = [partial_datasets[name] for name in ("mask_only", "depth_only")]
    assert build_parser().parse_args(["--data", *map(str, folders), "--seed", "1"]).data == folders
    data_module = DataModule(join_folders(folders, tmp_path), seed=0)
    assert data_module.describe().startswith(" + ".join(folder.name for folder in folders) + ": ")
    data = data_module.load_stage_data(fraction=build_stages()[0].fraction, px=build_stages()[0].px)
    assert data_module.sizes() == {"train": 64, "val": 8, "test": 8} and data.stats.mask_known < 1
    assert data.val.stats.mask_known == 0.5 and data.score.sigma == data.val.stats.depth_std


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
    data_module = DataModule(spoilt(4), seed=0)
    data_module.prepare_data(80)
    left_out = data_module.left_out.to_dict()
    assert (left_out["triplets"], left_out["of"], left_out["reasons"]) == (4, 40, {"truncated image file": 4})
    assert len(left_out["first"]) == 4 and "images" in left_out["first"][0]
    assert data_module.left_out.describe().startswith("4 of 40 triplets cannot be used (truncated image file: 4)")
    data = data_module.load_stage_data(fraction=build_stages()[1].fraction, px=build_stages()[1].px)
    assert len(data.train) + len(data_module.pack("val", 80)) + len(data_module.pack("test", 80)) == 36
    assert data_module.left_out.to_dict() == left_out


def test_triplets_whose_files_lack_are_left_out_and_counted(tiny_dataset, tmp_path):
    copy = shutil.copytree(tiny_dataset, tmp_path / "copy")
    sorted((copy / "masks").iterdir())[0].unlink()
    data_module = DataModule(copy, seed=0)
    data_module.prepare_data(80)
    left_out = data_module.left_out.to_dict()
    assert (left_out["triplets"], left_out["of"]) == (1, 40) and "is not there" in left_out["first"][0]
    assert sum(data_module.sizes().values()) == 39


def test_a_tenth_of_all_is_not_too_much_for_those_decoded_so_far(tiny_dataset, tmp_path):
    copy = shutil.copytree(tiny_dataset, tmp_path / "copy")
    for path in sorted((copy / "masks").iterdir())[::10]:
        path.unlink()
    data_module = DataModule(copy, seed=0)
    decoded = data_module.pack("train", 32, count=20)
    assert len(decoded) == 20 and data_module.left_out.describe().startswith("4 of 34 triplets")
    data_module.check_left_out()


def test_nothing_is_described_if_all_data_are_usable(data_module):
    data_module.prepare_data(80)
    assert data_module.left_out.describe() == "" and data_module.left_out.to_dict()["triplets"] == 0


def test_more_than_a_tenth_bad_stops_unless_it_is_allowed(spoilt):
    folder = spoilt(5)
    with pytest.raises(DataError, match=r"5 of 40 triplets cannot be used.*one-look check.*--allow-bad"):
        DataModule(folder, seed=0).prepare_data(80)
    data_module = DataModule(folder, seed=0, allow_bad=build_parser().parse_args(["--allow-bad"]).allow_bad)
    data_module.prepare_data(80)
    assert data_module.left_out.to_dict()["triplets"] == 5
    restored = load_data_module({"seed": 0, "data": data_module.to_dict()})  # a run that has started may continue
    restored.prepare_data(80)
    assert restored.to_dict() == data_module.to_dict()


def test_data_of_a_run_are_found_again_after_the_cache_was_emptied(partial_datasets, monkeypatch, tmp_path):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    root = join_folders([partial_datasets[name] for name in ("mask_only", "depth_only")], tmp_path / "cache")
    notes = {"seed": 1, "data": json.loads(json.dumps(DataModule(root, seed=1, split="random").to_dict()))}
    shutil.rmtree(tmp_path / "cache")
    found = load_data_module(notes)
    assert found.dataset.root == root and found.to_dict() == notes["data"]
    (root / "dataset.json").unlink()
    assert load_data_module(notes).to_dict() == notes["data"]


def test_data_of_a_run_that_are_others_or_not_named_are_refused(data_module):
    facts = data_module.to_dict()
    with pytest.raises(DataError, match="has changed since the run began"):
        load_data_module({"seed": 0, "data": facts | {"fingerprint": "another"}})
    for notes in ({"seed": 0}, {"data": facts}, {"seed": 0, "data": {"folder": facts["folder"]}}):
        with pytest.raises(DataError, match="does not record the training data"):
            load_data_module(notes)


def test_data_of_a_run_are_found_in_the_folder_that_they_have_moved_to(partial_datasets, monkeypatch, tmp_path):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path / "cache"))
    roots = [Path(shutil.copytree(partial_datasets[name], tmp_path / name)) for name in ("mask_only", "depth_only")]
    for folders in (roots[:1], roots):
        root = folders[0] if len(folders) == 1 else join_folders(folders, tmp_path / "cache")
        state = {"seed": 1, "data": DataModule(root, seed=1, split="random").to_dict()}
        moved = [tmp_path / f"moved{len(folders)}" / folder.name for folder in folders]
        for folder, to in zip(folders, moved, strict=True):
            shutil.copytree(folder, to, copy_function=shutil.copyfile)
            (to / "images").touch()
        found = load_data_module(state, moved)
        assert [t.id for t in found.splits.train] == [t.id for t in load_data_module(state).splits.train]
        assert all(t.image.is_relative_to(moved[0].parent) for t in found.splits.train)
        facts = load_data_module({"seed": 1, "data": found.to_dict()}).to_dict()  # the next process needs no --data
        assert facts == found.to_dict() and str(moved[0]) in str(facts)
    with pytest.raises(DataError, match="has changed since the run began"):
        load_data_module(state, roots[:1])
    shutil.rmtree(roots[0])
    with pytest.raises(DataError, match="--data"):
        load_data_module({"seed": 1, "data": facts | {"folder": str(roots[0]), "folders": []}})


def test_packing_is_shown(data_module):
    shown, calls = [], []

    @contextmanager
    def show(title):
        shown.append(title)
        yield lambda done, total: calls.append((done, total))

    data_module.show = show
    pack = data_module.pack("train", 24)
    assert shown == ["packing train at 24 px"] and calls[-1] == (len(pack), len(pack))


def test_named_folders_are_recorded_for_runs_that_continue(make_dataset, tmp_path, monkeypatch):
    root = make_dataset(4, spec={"group_size": 1})
    for old, new in (("images", "a"), ("masks", "b"), ("depth", "c")):
        (root / old).rename(root / new)
    with pytest.raises(DataError, match="--images a --masks b --depth c"):
        DataModule(root, seed=0)
    monkeypatch.chdir(root)
    module = DataModule(root, seed=0, roles={"image": "a", "mask": "./b"})
    monkeypatch.chdir(tmp_path)
    restored = load_data_module({"seed": 0, "data": json.loads(json.dumps(module.to_dict()))})
    assert restored.splits == module.splits and restored.splits.train[0].depth is None


def names_of(count, **columns):
    return [{"image": f"images/{n}.png", "mask": f"masks/{n}.png", **columns} for n in range(count)]


def touch_images(root, count):
    """Write images and masks of the same few pixels, half of them foreground."""
    pixels = cv2.imencode(".png", np.repeat(np.uint8([0, 255]), 8).reshape(4, 4))[1].tobytes()
    for folder in ("images", "masks"):
        (root / folder).mkdir()
        for n in range(count):
            (root / folder / f"{n}.png").write_bytes(pixels)


@pytest.mark.parametrize(
    ("count", "sizes", "all_at_first"),
    [
        (8, {"train": 6, "val": 1, "test": 1}, True),
        (20, {"train": 16, "val": 2, "test": 2}, True),
        (60, {"train": 48, "val": 6, "test": 6}, True),
        (200, {"train": 160, "val": 20, "test": 20}, True),
        (400, {"train": 320, "val": 40, "test": 40}, False),
        (2000, {"train": 1600, "val": 200, "test": 200}, False),
    ],
)
def test_small_folders_are_explored_on_enough_images(tmp_path, write_manifest, count, sizes, all_at_first):
    rows = [{**row, "background": row["image"]} for row in names_of(count)]
    touch_images(tmp_path, count)
    write_manifest(tmp_path, rows)
    module = DataModule(tmp_path, seed=0)
    assert module.sizes() == sizes
    train, val = module.count_stage_images(0.1)
    assert train == min(160, sizes["train"]) and val == min(96, sizes["val"])
    assert (train == sizes["train"]) is all_at_first
    assert ("may be chance" in describe_reliability(module.splits)) is (count < 100)


def test_reliability_counts_images_and_backgrounds(tiny_dataset):
    line = describe_reliability(DataModule(tiny_dataset, seed=0).splits)
    assert line == (
        "the validation split has 4 images of 1 background, the test split 4 images: differences of scores below 0.50 "
        "may be chance; add images of more backgrounds"
    )


def test_triplets_that_mix_splits_are_counted_in_run_json(tmp_path, write_manifest):
    touch_images(tmp_path, 100)
    rows = names_of(100)
    write_manifest(tmp_path, [{**row, "background": n // 10, "foreground": n % 10} for n, row in enumerate(rows)])
    module = DataModule(tmp_path, seed=0)
    assert module.describe().endswith("100 images of 10 backgrounds")
    assert module.sizes() == {"train": 36, "val": 4, "test": 4} and module.to_dict()["mixed"] == 56
    mixed, reliability = module.list_warnings()
    assert mixed.startswith("56 of 100 triplets are not used: their foreground belongs to another")
    assert reliability.startswith("the validation split has 4 images of 2 backgrounds, the test split 4 im")


def test_foregrounds_shared_between_joined_folders_are_counted_beside_triplets_that_are_left_out(
    tmp_path, write_manifest
):
    for name, foregrounds in (("one", 10), ("two", 1)):
        (tmp_path / name).mkdir()
        touch_images(tmp_path / name, 100)
        rows = [row | {"background": n // 10, "foreground": n % foregrounds} for n, row in enumerate(names_of(100))]
        write_manifest(tmp_path / name, rows)
    warnings = DataModule(join_folders([tmp_path / "one", tmp_path / "two"], tmp_path), seed=0).list_warnings()
    assert [warning.split()[:4] for warning in warnings[:2]] == [
        ["56", "of", "200", "triplets"],
        ["1", "foreground", "is", "in"],
    ]


@pytest.mark.parametrize(
    ("backgrounds", "split", "split_by", "said"),
    [
        ("aabbc", "background", "column", ""),
        ("aabcb", "background", "column", "1 background is in more than one split that the data set defines"),
        ("abcba", "background", "column", "2 backgrounds are in more than one split that the data set defines"),
        ("abcba", "random", "random", ""),
        (None, "background", "column", ""),  # all are unknown
    ],
)
def test_backgrounds_in_two_splits_of_the_data_set_s_own_are_counted(
    tmp_path, write_manifest, backgrounds, split, split_by, said
):
    touch_images(tmp_path, 5)
    rows = [
        {**row, "split": part} for row, part in zip(names_of(5), ("train", "train", "val", "val", "test"), strict=True)
    ]
    named = zip(rows, backgrounds or (), strict=bool(backgrounds))
    write_manifest(tmp_path, [{**row, "background": name} for row, name in named] or rows)
    module = DataModule(tmp_path, seed=0, split=split)
    warnings = [warning for warning in module.list_warnings() if "that the data set defines" in warning]
    assert module.describe().endswith("5 images, split as the data set defines it")
    assert module.split_by == split_by and len(warnings) == bool(said) and "".join(warnings).startswith(said)


def test_score_has_the_run_s_weights_also_when_it_is_resumed(tiny_dataset):
    own = DataModule(tiny_dataset, seed=3, weights={"boundary_f": 1.0})
    assert own.load_stage_data(fraction=1.0, px=32).score.weights == {"boundary_f": 1.0}
    again = load_data_module(json.loads(json.dumps({"seed": 3, "data": own.to_dict()})))
    assert again.weights == {"boundary_f": 1.0}


def test_score_of_labels_that_no_image_has_is_refused(partial_datasets):
    with pytest.raises(
        DataError, match=r"no image of the train split has a depth, and \[score\] counts rmse_depth and delta1 alone"
    ):
        DataModule(partial_datasets["mask_only"], seed=0, weights={"rmse_depth": 0.5, "delta1": 0.5})
    assert DataModule(partial_datasets["mask_only"], seed=0).weights == {"iou": 0.5, "rmse_depth": 0.5}


def test_score_of_labels_that_a_split_lacks_is_refused(make_dataset, write_manifest):
    root, splits = make_dataset(3), ("train", "val", "test")
    rows = [
        {"image": f"fgbg{n:06d}.png", "mask": f"mask{n:06d}.png", "depth": f"fgbg{n:06d}.png", "split": split}
        for n, split in enumerate(splits, start=1)
    ]
    write_manifest(root, [*rows[:2], {**rows[2], "mask": ""}])
    with pytest.raises(DataError, match=r"no image of the test split has a mask, and \[score\] counts iou alone"):
        DataModule(root, seed=0, weights={"iou": 1.0})


@pytest.mark.parametrize(
    ("drawn", "foreground", "origin"), [(True, "", "drawn"), (False, "cutout_1", "pasted"), (False, "", "given")]
)
def test_origin_of_images_is_told_by_dataset_json_and_the_manifest(drawn, foreground, origin):
    triplet = Triplet(
        id="1", image=Path("1.jpg"), mask=Path("1.png"), depth=None, background="a", foreground=foreground
    )
    dataset = Dataset(root=Path("a"), triplets=(triplet,), spec=DatasetSpec(drawn=drawn), fingerprint="")
    assert dataset.origin == origin


def test_built_in_scenes_are_known_as_drawn_wherever_they_are(tiny_dataset):
    assert DataModule(tiny_dataset, seed=0).dataset.origin == "drawn"


def test_joined_folders_are_drawn_only_if_all_of_them_are():
    def build(*parts):
        return Dataset(root=Path("a"), triplets=(), spec=DatasetSpec(), fingerprint="", parts=parts)

    scenes = Dataset(root=Path("b"), triplets=(), spec=DatasetSpec(drawn=True), fingerprint="")
    assert scenes.drawn and build(scenes, scenes).drawn and not build(scenes, build()).drawn
