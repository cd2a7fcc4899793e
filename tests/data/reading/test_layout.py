"""Finding triplets in folders, and saying what is wrong with them."""

import json
import os
import shutil

import numpy as np
import pytest

from data.dataset import DataError, DatasetSpec, MaskValues
from data.reading import layout
from data.reading.dataset_json import join_folders
from data.reading.layout import read_dataset
from data.reading.matching import group_backgrounds, pair_files
from data.reading.roles import find_candidates
from data.runtime.files import find_cache_folder
from data.values.depth import find_known


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked at")
    return root


def named(triplet):
    return tuple(path.name if path else None for path in (triplet.image, triplet.mask, triplet.depth))


def test_study_layout_is_matched_by_number(make_dataset):
    dataset = read_dataset(make_dataset(3))
    assert [named(t) for t in dataset.triplets][1] == ("fgbg000002.png", "mask000002.png", "fgbg000002.png")
    assert [t.id for t in dataset.triplets] == ["fgbg000001", "fgbg000002", "fgbg000003"]
    assert all(t.image.exists() and t.mask.exists() and t.depth.exists() for t in dataset.triplets)


@pytest.mark.parametrize(
    ("image", "mask", "depth"),
    [
        ("pics/a.jpg", "mask/a.png", "depth/a.png"),
        ("fg_bg/x_26682.jpg", "fg_bg_mask/fg_bg_mask_26682.jpg", "depthmap/depth_26682.jpg"),
        ("images/ol_bg001fg001_1.png", "masks/mask_ol_bg001fg001_1.png", "depth/depth_ol_bg001fg001_1.jpg"),
        ("images/0007.png", "masks/m7_final.png", "depth/007-d.png"),
    ],
)
def test_folders_and_files_of_other_makers_are_matched(tmp_path, image, mask, depth):
    touch(tmp_path, image, mask, depth, image.replace("/", "/notes_").replace("jpg", "txt").replace("png", "txt"))
    (triplet,) = read_dataset(tmp_path).triplets
    assert [path.relative_to(tmp_path).as_posix() for path in (triplet.image, triplet.mask, triplet.depth)] == [
        image,
        mask,
        depth,
    ]


def test_images_are_in_natural_order(tmp_path):
    touch(tmp_path, *(f"{folder}/p{n}.png" for folder in ("images", "masks", "depth") for n in (10, 9, 1)))
    assert [t.id for t in read_dataset(tmp_path).triplets] == ["p1", "p9", "p10"]


def test_folder_without_depth_reads_as_mask_only(tmp_path):
    (triplet,) = read_dataset(touch(tmp_path, "images/a.jpg", "masks/a.png")).triplets
    assert triplet.depth is None and triplet.mask is not None


def test_folder_without_masks_reads_as_depth_only(tmp_path):
    (triplet,) = read_dataset(touch(tmp_path, "images/a.jpg", "depth/a.png")).triplets
    assert triplet.mask is None and triplet.depth is not None


def test_numbers_that_clash_are_not_used():
    assert pair_files(["cat_1.png", "dog_1.png"], ["cat_1.jpg", "mask1.jpg"]) == {"cat_1.png": "cat_1.jpg"}


def test_one_name_without_a_number_has_no_partner_and_all_others_keep_theirs():
    pairs = {"IMG_1.jpg": "m01.png", "IMG_2.jpg": "m02.png"}
    assert pair_files([*pairs, "cover.jpg"], [*pairs.values(), "readme.png"]) == pairs


def test_masks_may_lie_in_a_sub_folder_of_the_images(tmp_path):
    touch(tmp_path, *(f"{name}{n}.png" for name in ("", "annotated/") for n in range(3)))
    found = read_dataset(tmp_path, roles={"image": ".", "mask": "annotated"})
    assert len(found.triplets) == 3 and {t.mask.parent.name for t in found.triplets} == {"annotated"}


def test_role_folders_prefer_plain_names_and_report_ambiguity():
    assert find_candidates(["images", "masks", "soft_masks", "depth"], "mask") == ["masks"]
    assert find_candidates(["images", "mask_a", "mask_b"], "mask") == ["mask_a", "mask_b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no image folder"),
        (("masks/a.png", "depth/a.png"), "no image folder"),
        (("images/a.png",), "no folder of masks or depth"),
        (("images/a.txt", "masks/a.png"), "no images in it"),
        (
            ("images/a.png", "masks/b.png"),
            r"no mask of the same stem or number in masks/; .* \(none of 1 can be used\)",
        ),
        (("images/a.png", "mask_a/a.png", "mask_b/a.png"), "mask_a and mask_b both look like mask folders"),
    ],
)
def test_faulty_folder_is_named_in_one_line(tmp_path, names, message):
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(touch(tmp_path, *names))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"set\.zip: is a file, not a folder; name one that holds images/"):
        read_dataset(tmp_path / "set.zip")


def test_manifest_names_files_groups_and_split(make_dataset, write_manifest):
    root = make_dataset(2)
    row = {"image": "images/fgbg000002.png", "mask": "masks/mask000001.png", "depth": "", "background": "park"}
    write_manifest(root, [{**row, "foreground": "dog", "split": "val"}])
    (triplet,) = read_dataset(root).triplets
    assert named(triplet) == ("fgbg000002.png", "mask000001.png", None)
    assert (triplet.background, triplet.foreground, triplet.split) == ("park", "dog", "val")


def test_manifest_accepts_bare_file_names(make_dataset, write_manifest):
    root = make_dataset(1)
    write_manifest(root, [{"image": "fgbg000001.png", "mask": "mask000001.png", "depth": "fgbg000001.png"}])
    assert read_dataset(root).triplets[0].depth == root / "depth" / "fgbg000001.png"


def faulty_manifest(make_dataset, write_manifest, change):
    root = make_dataset(2)
    rows = [
        {"image": f"images/fgbg00000{n}.png", "mask": f"masks/mask00000{n}.png", "background": "b"}
        | {"split": "train", "near": "dark"}
        for n in (1, 2)
    ]
    write_manifest(root, [{**rows[0], **change}, rows[1]])
    return root


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": "masks/none.png"}, "line 2: mask masks/none.png is not there or not an image; add it"),
        ({"mask": ""}, "line 2: mask and depth are empty; name a file"),
        ({"image": ""}, "line 2: image is empty; name a file"),
        ({"split": "practice"}, "line 2: split is 'practice'; it is one of train, val, test"),
        ({"near": "light"}, "line 2: near is 'light'; it is one of bright, dark"),
    ],
)
def test_line_that_cannot_be_used_is_left_out_and_named(make_dataset, write_manifest, change, message):
    dataset = read_dataset(faulty_manifest(make_dataset, write_manifest, change))
    assert [triplet.id for triplet in dataset.triplets] == ["fgbg000002"]
    assert [one.message.startswith(f"{dataset.root / 'manifest.csv'}: {message}") for one in dataset.unusable] == [True]


def test_manifest_that_names_some_backgrounds_is_an_error(make_dataset, write_manifest):
    with pytest.raises(DataError, match="background is empty in 1 lines"):
        read_dataset(faulty_manifest(make_dataset, write_manifest, {"background": ""}))


@pytest.mark.parametrize("path", ["images/fgbg000002.png", "./images/fgbg000002.png", "images//fgbg000002.png"])
def test_second_line_of_an_image_is_left_out_and_the_first_stays(make_dataset, write_manifest, path):
    dataset = read_dataset(faulty_manifest(make_dataset, write_manifest, {"image": path}))
    assert [named(triplet)[:2] for triplet in dataset.triplets] == [("fgbg000002.png", "mask000001.png")]
    problem = "line 3: image images/fgbg000002.png is in line 2 already; remove one of them"
    assert [one.message for one in dataset.unusable] == [f"{dataset.root / 'manifest.csv'}: {problem}"]


def test_line_that_cannot_be_used_needs_no_background(make_dataset):
    root = make_dataset(2)
    lines = ["image,mask,background,split", "# checked in May"]
    lines += [f"fgbg00000{n}.png,mask00000{n}.png,b{n},{split}" for n, split in ((1, "Training"), (2, "valid"))]
    (root / "manifest.csv").write_text("\n".join(lines))
    dataset = read_dataset(root)
    assert [(triplet.background, triplet.split) for triplet in dataset.triplets] == [("b1", "train"), ("b2", "val")]
    assert [one.problem.partition(":")[0] for one in dataset.unusable] == ["line 2"]


@pytest.mark.parametrize(("cell", "line"), [('"fgbg000002.png', 3), ("fgbg\0.png", 3)])
def test_quote_that_is_not_closed_is_an_error_and_does_not_swallow_lines(make_dataset, cell, line):
    root = make_dataset(4)
    rows = [f"fgbg00000{n}.png,mask00000{n}.png" for n in range(1, 5)]
    rows[1] = rows[1].replace("fgbg000002.png", cell)
    (root / "manifest.csv").write_text("\n".join(["image,mask", *rows]))
    with pytest.raises(DataError, match=f"line {line}: image holds a line break or a zero byte; close the quote"):
        read_dataset(root)


def test_dataset_json_may_begin_with_a_byte_order_mark(make_dataset):
    root = make_dataset(2)
    (root / "dataset.json").write_text('{"near": "bright", "group_size": 1}', encoding="utf-8-sig")
    assert read_dataset(root).spec.group_size == 1


def test_dataset_json_that_is_nested_too_deeply_is_an_error(make_dataset):
    root = make_dataset(1)
    (root / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"dataset\.json: not valid JSON"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("column", "message"), [("image", "no column 'mask' or 'depth'"), ("mask", "no column 'image'")]
)
def test_manifest_without_a_column_is_an_error(make_dataset, column, message, write_manifest):
    root = make_dataset(1)
    write_manifest(root, [{column: "images/fgbg000001.png"}])
    with pytest.raises(DataError, match=message):
        read_dataset(root)


def test_manifest_may_leave_mask_or_depth_of_a_line_empty(make_dataset, write_manifest):
    root = make_dataset(3)
    names = [
        {"image": f"fgbg00000{n}.png", "mask": f"mask00000{n}.png", "depth": f"fgbg00000{n}.png"} for n in (1, 2, 3)
    ]
    write_manifest(root, [names[0], {**names[1], "mask": ""}, {**names[2], "depth": ""}])
    assert [(t.mask is None, t.depth is None) for t in read_dataset(root).triplets] == [
        (False, False),
        (True, False),
        (False, True),
    ]


def test_nothing_but_faulty_lines_is_an_error_in_one_line(make_dataset, write_manifest):
    root = make_dataset(2)
    write_manifest(root, [{"image": f"fgbg00000{n}.png", "mask": "no.png"} for n in (1, 2)])
    with pytest.raises(DataError, match=r"line 2: mask masks/no.png is not there .* \(none of 2") as caught:
        read_dataset(root)
    assert "\n" not in str(caught.value)


def test_manifest_may_name_files_by_whole_paths_and_has_its_lines_counted_as_an_editor_does(make_dataset):
    root = make_dataset(3)
    names = [str(root / "images" / f"fgbg00000{n}.png") for n in (1, 2, 3)]
    masks = [str(root / "masks" / f"mask00000{n}.png") for n in (1, 2)]
    lines = ["image,mask", f"{names[0]},{masks[0]}", "", f"{names[1]},{masks[1]}", f"{names[2]},no.png"]
    (root / "manifest.csv").write_text("\n".join(lines))
    dataset = read_dataset(root)
    assert [str(triplet.image) for triplet in dataset.triplets] == names[:2]
    assert [one.problem.partition(":")[0] for one in dataset.unusable] == ["line 5"]


@pytest.mark.parametrize("whole", [False, True])
def test_manifest_names_no_file_outside_the_folder_unless_the_user_allows_it(
    make_dataset, write_manifest, monkeypatch, whole
):
    root, others = make_dataset(3), make_dataset(1, name="others")
    lines = [
        {"image": f"images/{path.name}", "mask": f"masks/{path.name.replace('fgbg', 'mask')}"} for path in images(root)
    ]
    secret = next((others / "images").iterdir())
    lines[1]["image"] = str(secret) if whole else f"images/../../others/images/{secret.name}"
    write_manifest(root, lines)
    (fault,) = read_dataset(root).unusable
    assert fault.message.startswith(f"{root / 'manifest.csv'}: line 3: image ")
    assert (
        "is outside the folder of the data set; link it into the folder, or set ONE_LOOK_ALLOW_OUTSIDE=1"
        in fault.message
    )
    monkeypatch.setenv("ONE_LOOK_ALLOW_OUTSIDE", "1")
    assert not read_dataset(root).unusable
    monkeypatch.delenv("ONE_LOOK_ALLOW_OUTSIDE")
    (root / "images" / "linked.jpg").symlink_to(secret)
    lines[1]["image"] = "images/linked.jpg"
    write_manifest(root, lines)
    assert not read_dataset(root).unusable


def images(root):
    return sorted((root / "images").iterdir())


@pytest.mark.parametrize("name", ["manifest.csv", "dataset.json"])
def test_text_that_is_not_utf_8_is_an_error_in_one_line(make_dataset, name):
    root = make_dataset(1)
    (root / name).write_bytes("image,mask\nä.png,b.png\n".encode("latin-1"))
    with pytest.raises(DataError, match=name):
        read_dataset(root)


def test_images_without_partner_are_left_out_and_named(make_dataset):
    root = make_dataset(4)
    (root / "masks" / "mask000002.png").unlink()
    (root / "depth" / "fgbg000002.png").unlink()
    (root / "depth" / "fgbg000003.png").unlink()
    dataset = read_dataset(root)
    assert [triplet.id for triplet in dataset.triplets] == ["fgbg000001", "fgbg000004"]
    assert [(one.kind, one.image.name, one.problem.partition(" of ")[0]) for one in dataset.unusable] == [
        ("no partner", "fgbg000002.png", "no mask and depth"),
        ("no partner", "fgbg000003.png", "no depth"),
    ]
    whole = read_dataset(join_folders([root, make_dataset(2, name="other")], root.parent / "cache"))
    assert len(whole.triplets) == 4 and whole.unusable == dataset.unusable


def test_manifest_states_polarity_line_by_line(make_dataset, write_manifest):
    root = make_dataset(2)
    rows = [{"image": f"fgbg00000{n}.png", "depth": f"fgbg00000{n}.png"} for n in (1, 2)]
    write_manifest(root, [rows[0] | {"near": "dark"}, rows[1] | {"near": ""}])
    dataset = read_dataset(root)
    assert [triplet.near for triplet in dataset.triplets] == ["dark", None]
    assert [dataset.spec.for_triplet(triplet).near for triplet in dataset.triplets] == ["dark", "bright"]


def test_manifest_of_depth_alone_needs_no_column_of_masks(make_dataset, write_manifest):
    root = make_dataset(1)
    write_manifest(root, [{"image": "fgbg000001.png", "depth": "fgbg000001.png"}])
    assert named(read_dataset(root).triplets[0]) == ("fgbg000001.png", None, "fgbg000001.png")


def test_spec_is_read_from_dataset_json(make_dataset):
    spec = read_dataset(make_dataset(1, spec={"near": "dark", "group_size": 3})).spec
    assert spec == DatasetSpec(near="dark", group_size=3, mask_values=MaskValues(full=255.0))


@pytest.mark.parametrize(
    ("unit", "missing", "known"),
    [("relative", (), [True] * 3), ("mm", (), [False, True, False]), ("m", (9.0,), [False] * 3)],
)
def test_missing_values_default_by_unit(unit, missing, known):
    raw = np.array([[0, 9, 65535]], np.uint16)
    assert find_known(raw, DatasetSpec(depth_unit=unit, missing=missing)).tolist() == [known]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"groupsize": 4}', "unknown key 'groupsize'; the nearest is 'group_size'"),
        ('{"mask_value": {}}', "unknown key 'mask_value'; the nearest is 'mask_values'"),
        ('{"mask_values": {"empty": 255}}', "without full"),
        ('{"mask_values": {"empty": null}}', "null as empty"),
        ('{"group_size": true}', "group_size is True; it is a whole number"),
        ('{"near": "light"}', "near is 'light'; it is one of bright, dark"),
        ('{"group_size": 0}', "at least 1"),
        ('{"group_size": "many"}', "whole number"),
        ('{"near_m": 5, "far_m": 2}', "not below far_m"),
        ('{"near_m": -1}', "above 0"),
        ("[]", "not a JSON object"),
        ("{", "not valid JSON"),
    ],
)
def test_faulty_dataset_json_is_named(make_dataset, text, message):
    root = make_dataset(1)
    (root / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(root)
    assert str(root / "dataset.json") in str(caught.value)


def test_configured_groups_follow_the_numbers_across_gaps():
    stems = [f"fgbg{n:06d}" for n in (1, 3, 4, 6)]
    assert group_backgrounds(stems, 3) == ["group00000", "group00000", "group00001", "group00001"]


def test_groups_of_unnumbered_files_follow_their_rank():
    assert group_backgrounds(["a", "b", "c"], 2) == ["group00000", "group00000", "group00001"]


def test_study_groups_need_more_than_one_group():
    assert set(group_backgrounds([f"fgbg{n:06d}" for n in range(1, 4001)], None)) == {"unknown"}
    assert len(set(group_backgrounds([f"fgbg{n:06d}" for n in range(1, 8002)], None))) == 3
    assert set(group_backgrounds([f"photo{n:06d}" for n in range(1, 8002)], None)) == {"unknown"}


@pytest.mark.parametrize("numbers", [range(0, 90, 10), range(1000, 1045, 5), range(7, 16)])
def test_groups_of_every_nth_frame_are_consecutive_files(numbers):
    groups = group_backgrounds([f"frame{n:04d}" for n in numbers], 3)
    assert [groups.count(name) for name in sorted(set(groups))] == [3, 3, 3]


def test_background_in_the_name_is_read():
    assert group_backgrounds(["ol_bg001fg001_1", "ol_bg002fg001_1"], None) == ["bg001", "bg002"]
    assert group_backgrounds(["fg_bg_1", "fgbg000002"], None) == ["unknown", "unknown"]


def test_fingerprint_changes_with_used_files_only(make_dataset):
    root = make_dataset(2)
    before = read_dataset(root).fingerprint
    (root / "images" / "stray.txt").write_text("stray")
    assert read_dataset(root).fingerprint == before
    path = root / "masks" / "mask000001.png"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    rewritten = read_dataset(root).fingerprint
    path.write_bytes(content + b"0")
    longer = read_dataset(root).fingerprint
    (root / "dataset.json").write_text(json.dumps({"near": "dark"}))
    assert len({before, rewritten, longer, read_dataset(root).fingerprint}) == 4


def test_fingerprint_is_that_of_a_copy_and_does_not_change_with_times(make_dataset, tmp_path):
    root = make_dataset(2)
    before = read_dataset(root).fingerprint
    os.utime(root / "masks" / "mask000001.png", ns=(1, 1))
    assert read_dataset(root).fingerprint == before
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert read_dataset(tmp_path / "copy").fingerprint == before


def test_fingerprint_of_a_large_data_set_is_fast_and_changes_with_the_size_of_any_file(make_dataset, monkeypatch):
    root = make_dataset(4)
    monkeypatch.setattr(layout, "HASHED_FILES", 2)
    opened = []
    monkeypatch.setattr(layout, "_read_ends", lambda path: opened.append(path) or b"")
    found = [read_dataset(root).fingerprint]
    assert len(opened) == 2
    for path in sorted(root.rglob("*.png")):
        path.write_bytes(path.read_bytes() + b"0")
        found.append(read_dataset(root).fingerprint)
    assert len(set(found)) == len(found)


def test_fingerprint_changes_with_the_polarity_of_a_line(make_dataset, write_manifest):
    root = make_dataset(2)
    found = []
    for near in ("", "dark", "bright"):
        rows = [{"image": f"fgbg00000{n}.png", "depth": f"fgbg00000{n}.png", "near": near} for n in (1, 2)]
        write_manifest(root, rows)
        found.append(read_dataset(root).fingerprint)
    assert len(set(found)) == 3


def test_fingerprint_survives_moving_the_folder(make_dataset, tmp_path):
    root = make_dataset(2)
    before = read_dataset(root).fingerprint
    assert read_dataset(root.rename(tmp_path / "moved")).fingerprint == before


def test_cache_folder_is_overridden_by_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path))
    assert find_cache_folder() == tmp_path
    monkeypatch.delenv("ONE_LOOK_CACHE")
    assert find_cache_folder().name == "one-look"


@pytest.mark.parametrize(
    ("folder", "count", "depth"), [("triplets", 29, True), ("quirks", 21, True), ("pairs_mask", 40, False)]
)
def test_real_folders_are_read(shared_data, folder, count, depth):
    triplets = read_dataset(shared_data / folder).triplets
    assert len(triplets) == count
    assert all((t.depth is not None) == depth and t.image.stem == t.mask.stem for t in triplets)
