"""Layouts of other makers: roles by whole words, levels, splits, scenes, suffixes, and what a refusal says."""

import os
from pathlib import Path

import pytest

from data.check.check import check_folder
from data.dataset import DataError
from data.reading import folders
from data.reading.layout import read_dataset
from data.reading.roles import find_role, find_split
from data.reading.splits import split_by_background


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return root


def paths(dataset):
    """What each triplet holds, relative to the root."""
    return [
        tuple(path.relative_to(dataset.root).as_posix() if path else None for path in (t.image, t.mask, t.depth))
        for t in dataset.triplets
    ]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("image", "image"),
        ("JPEGImages", "image"),
        ("original", "image"),
        ("rgb", "image"),
        ("leftImg8bit", "image"),
        ("fg_bg", "image"),
        ("fg_bg_mask", "mask"),
        ("SegmentationClass", "mask"),
        ("annotations", "mask"),
        ("gt", "mask"),
        ("alpha", "mask"),
        ("matte", "mask"),
        ("gtFine", "mask"),
        ("gt_depth", "depth"),
        ("disparity", "depth"),
        ("Depths", "depth"),
        ("rgbd", None),
        ("trimap", None),
        ("unmasked", None),
        ("imagery", None),
    ],
)
def test_roles_are_whole_words(name, role):
    assert find_role(name) == role


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("train_masks", "train"),
        ("train2017", "train"),
        ("validation", "val"),
        ("test", "test"),
        ("constrain", None),
        ("train_of_thought", None),
        ("masks", None),
    ],
)
def test_splits_are_whole_words(name, split):
    assert find_split(name) == split


@pytest.mark.parametrize(
    ("image", "mask", "depth"),
    [
        ("original/a.jpg", "mask/a.png", None),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png", None),
        ("img/a.jpg", "gt/a.png", "disparity/a.png"),
        ("JPEGImages/480p/bear/00.jpg", "Annotations/480p/bear/00.png", None),
        ("images/sceneA/00.jpg", "masks/sceneA/00.png", "depth/sceneA/00.png"),
        ("sceneA/rgb/00.jpg", None, "sceneA/depth/00.png"),
        ("train/car_01.jpg", "train_masks/car_01_mask.png", None),
        ("a_rgb.png", "a_mask.png", "a_depth.png"),
        ("a.png", "a_mask.png", None),
        ("a_color.png", None, "a_depth.png"),
        ("room/rgb_00001.jpg", None, "room/sync_depth_00001.png"),
        ("leftImg8bit/bonn/b_0_leftImg8bit.png", "gtFine/bonn/b_0_gtFine_labelIds.png", None),
    ],
)
def test_layouts_of_other_makers_are_read(tmp_path, image, mask, depth):
    touch(tmp_path, *filter(None, (image, mask, depth)))
    assert paths(read_dataset(tmp_path)) == [(image, mask, depth)]


def test_trimaps_and_coloured_labels_are_ignored(tmp_path):
    touch(tmp_path, "original/a.jpg", "mask/a.png", "trimap/a.png")
    assert paths(read_dataset(tmp_path)) == [("original/a.jpg", "mask/a.png", None)]
    city = touch(tmp_path / "city", "leftImg8bit/a_leftImg8bit.png")
    touch(city, "gtFine/a_gtFine_color.png", "gtFine/a_gtFine_instanceIds.png", "gtFine/a_gtFine_labelIds.png")
    assert paths(read_dataset(city)) == [("leftImg8bit/a_leftImg8bit.png", "gtFine/a_gtFine_labelIds.png", None)]


@pytest.mark.parametrize("pattern", ["{split}/{role}/{n}.png", "{role}/{split}/{n}.png"])
def test_training_and_validation_folders_state_the_split(tmp_path, pattern):
    for split, numbers in (("train", (1, 2)), ("val", (3,)), ("test", (4,))):
        touch(tmp_path, *(pattern.format(split=split, role=role, n=n) for n in numbers for role in ("images", "masks")))
    dataset = read_dataset(tmp_path)
    assert {triplet.id: triplet.split for triplet in dataset.triplets} == {
        "1": "train",
        "2": "train",
        "3": "val",
        "4": "test",
    }
    assert split_by_background(dataset).sizes() == {"train": 2, "val": 1, "test": 1}


def test_validation_is_held_out_of_training_if_only_the_test_is_stated(tmp_path):
    names = [f"train/images/bg{n}fg1.png" for n in range(10)] + ["test/images/bg9fg9.png"]
    touch(tmp_path, *names, *(name.replace("images", "masks") for name in names))
    splits = split_by_background(read_dataset(tmp_path))
    assert splits.sizes() == {"train": 9, "val": 1, "test": 1} and splits.test[0].id == "bg9fg9"


def test_training_alone_states_no_split_and_a_test_without_masks_is_ignored(tmp_path):
    touch(tmp_path, "train/a.jpg", "train/b.jpg", "train_masks/a_mask.png", "train_masks/b_mask.png", "test/c.jpg")
    dataset = read_dataset(tmp_path)
    assert [(t.id, t.split) for t in dataset.triplets] == [("a", None), ("b", None)] and not dataset.unusable


def test_scenes_are_backgrounds(tmp_path):
    names = [f"images/{scene}/{n}.png" for scene in ("park", "road") for n in (1, 2)]
    touch(tmp_path, *names, *(name.replace("images", "masks") for name in names))
    dataset = read_dataset(tmp_path)
    assert [(t.id, t.background) for t in dataset.triplets] == [(n, n.split("/")[1]) for n in names]
    (tmp_path / "dataset.json").write_text('{"group_size": 1}')
    assert len({t.background for t in read_dataset(tmp_path).triplets}) == 4


def test_one_odd_name_leaves_the_others_paired(tmp_path):
    touch(tmp_path, *(f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(4)))
    touch(tmp_path, "images/2.jpg", "masks/3.jpg")
    dataset = read_dataset(tmp_path)
    assert [t.id for t in dataset.triplets] == ["0", "1"]
    assert [one.message.split("; ")[0] for one in dataset.unusable] == [
        f"{tmp_path}/images/2.jpg: has the same stem as 2.png, so its mask or depth may belong to either",
        f"{tmp_path}/images/3.png: masks/ has 3.jpg and 3.png for it",
    ]


def test_composed_and_separate_accents_are_one_name(tmp_path):
    touch(tmp_path, "images/A\u030angstro\u0308m.jpg", "masks/\u00c5ngstr\u00f6m.png")
    assert [t.id for t in read_dataset(tmp_path).triplets] == ["\u00c5ngstr\u00f6m"]
    (tmp_path / "manifest.csv").write_text(
        "image,mask\n\u00c5ngstr\u00f6m.jpg,A\u030angstro\u0308m.png\n", encoding="utf-8"
    )
    assert len(read_dataset(tmp_path).triplets) == 1


@pytest.mark.parametrize("role", ["images", "masks"])
def test_link_to_itself_is_named(tmp_path, role):
    touch(tmp_path, *(f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(3)))
    (tmp_path / role / "1.png").unlink()
    (tmp_path / role / "1.png").symlink_to("1.png")
    dataset = read_dataset(tmp_path)
    assert [t.id for t in dataset.triplets] == ["0", "2"]
    (one,) = dataset.unusable
    assert "1.png" in one.message and "a link that leads nowhere" in one.message


def test_name_that_is_not_utf_8_is_named(tmp_path):
    touch(tmp_path, *(f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(3)))
    (tmp_path / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    dataset = read_dataset(tmp_path)
    assert len(dataset.triplets) == 3
    assert "its name is not UTF-8" in dataset.unusable[0].message.encode().decode()


def test_folder_that_links_to_one_above_is_not_followed_for_ever(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "images" / "again").symlink_to(tmp_path)
    assert [t.id for t in read_dataset(tmp_path).triplets] == ["a"]


def test_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "images/a.png", "masks/a.png")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("masks"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"masks: cannot be listed \(Permission denied\)"):
        read_dataset(tmp_path)


def test_name_too_long_for_a_folder_is_one_short_line():
    with pytest.raises(DataError, match="no such folder") as caught:
        read_dataset(Path("x" * 300))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("a/1.png", "b/1.png", "c/1.png", "c/2.png"),
            r"3 folders of images: a/ \(1\), b/ \(1\), c/ \(2\); say which with --images a --masks b --depth c",
        ),
        (("images/1.png", "images/2.png", "x/1.png", "y/1.png"), "say which with --images images --masks x --depth y"),
        (("images/1.png", "mask_a/1.png", "mask_b/1.png"), "say which with --images images --masks mask_a --depth"),
        (("images/1.cr2", "masks/1.png"), "images: no images in it but 1 .cr2 files; they are not read"),
        (("images/1.png", "masks/1.mat"), "masks: no images in it but 1 .mat files; they are not read"),
        (("one/images/1.png", "two/images/1.png", "two/masks/1.png"), "holds 2 data sets .*--data .*one .*two"),
        (
            ("one/images/1.png", "one/masks/1.png", "one/dataset.json", "two/images/1.png", "two/manifest.csv"),
            "holds 2 data sets",
        ),
    ],
)
def test_refusal_lists_what_was_seen(tmp_path, names, message):
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(touch(tmp_path, *names))
    assert "\n" not in str(caught.value)


def test_named_folders_are_read_whatever_they_are_called(tmp_path, monkeypatch):
    root = touch(tmp_path / "set", "a/1.png", "b/m1.png", "images/1.png", "c/d/1.png")
    named = read_dataset(root, roles={"image": "a", "mask": "b", "depth": "c/d"})
    assert paths(named) == [("a/1.png", "b/m1.png", "c/d/1.png")]
    touch(tmp_path, "elsewhere/1.png")
    monkeypatch.chdir(tmp_path)
    beside = read_dataset(root, roles={"image": "a", "mask": "elsewhere"})
    assert [t.mask.resolve() for t in beside.triplets] == [tmp_path / "elsewhere" / "1.png"]


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"image": "a", "mask": "nowhere"}, "--masks nowhere: no such folder"),
        ({"mask": "b"}, "--masks without --images"),
        ({"image": "a"}, "--images without --masks or --depth"),
        ({"image": "a", "mask": "empty"}, "no masks or depth in those named"),
    ],
)
def test_faulty_flags_are_named(tmp_path, roles, message):
    touch(tmp_path, "a/1.png", "b/1.png", "empty/x.txt")
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path, roles=roles)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_manifest_is_read_as_spreadsheets_write_it(tmp_path, separator):
    touch(tmp_path, "images/a.png", "masks/a.png")
    lines = [["Image ", " Mask", "BACKGROUND"], ["images\\a.png", " masks/a.png ", "park"]]
    text = "".join(separator.join(line) + "\r\n" for line in lines)
    (tmp_path / "manifest.csv").write_text(text)
    dataset = read_dataset(tmp_path)
    assert paths(dataset) == [("images/a.png", "masks/a.png", None)] and dataset.triplets[0].background == "park"
    (tmp_path / "manifest.csv").write_text(f"sep={separator}\r\n{text}")
    assert paths(read_dataset(tmp_path)) == [("images/a.png", "masks/a.png", None)]


def test_manifest_without_a_column_lists_those_it_has(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "manifest.csv").write_text("file;mask\na.png;a.png\n")
    with pytest.raises(DataError, match="no column 'image' among 'file', 'mask'"):
        read_dataset(tmp_path)


def test_folder_is_listed_once_and_names_are_compared_once_whatever_lacks_a_partner(tmp_path, monkeypatch):
    """Both took minutes on large folders: twins were looked for again for each image without a mask."""
    listed, compared = [], []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(folders, "find_twins", lambda names: compared.append(len(names)) or {})
    touch(tmp_path, *(f"images/{n}.jpg" for n in range(40)), *(f"masks/{n}.png" for n in range(0, 40, 2)))
    dataset = read_dataset(tmp_path)
    assert len(dataset.unusable) == 20 and sorted(compared) == [20, 40]
    assert len(listed) == len(set(listed)) == 3


def test_what_file_managers_and_network_drives_leave_is_not_looked_at(tmp_path):
    touch(tmp_path, *(f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(3)))
    touch(tmp_path, "images/@eaDir/0.png/THUMB.jpg", "__MACOSX/images/._0.png", "__MACOSX/images/1.png")
    touch(tmp_path, "images/._0.png", "masks/Thumbs.db", "masks/.DS_Store", "$RECYCLE.BIN/images/9.png")
    dataset = read_dataset(tmp_path)
    assert len(dataset.triplets) == 3 and not dataset.unusable
    assert {fault.kind for fault in check_folder(tmp_path, workers=1).faults} == {"unreadable"}, "no stray files"


def test_images_below_the_levels_that_are_searched_are_hinted_at(tmp_path):
    touch(tmp_path, "a/b/c/d/images/1.png", "a/b/c/d/masks/1.png")
    with pytest.raises(DataError, match=r"no image folder in 3 levels; name a folder nearer to it: a/b/c/"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path / "a/b").triplets) == 1
