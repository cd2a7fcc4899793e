"""Test the check of a folder and its fixed copy, on drawn faults and on real defective and clean triplets."""

import csv
import json
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest

from data.check.__main__ import main
from data.check.check import check_folder
from data.reading.layout import read_dataset
from data.values.decoding import decode_label, read_pixels


@pytest.fixture
def folder(tmp_path, add):
    """Write twelve clean triplets: a bright disc on a ground of its own, nearer than the floor."""
    root = tmp_path / "set"
    for number in range(1, 13):
        add(root, number)
    return root


def kinds(report):
    return Counter(fault.kind for fault in report.faults)


def image_of(root, number):
    return root / f"images/fgbg{number:06d}.png"


def mask_of(root, number):
    return root / f"masks/mask{number:06d}.png"


def depth_of(root, number):
    return root / f"depth/fgbg{number:06d}.png"


def test_a_clean_folder_has_no_faults(folder):
    assert kinds(check_folder(folder)) == {}


def test_faults_of_files(folder, pictures):
    image_of(folder, 1).write_bytes(b"no picture")
    whole = depth_of(folder, 2).read_bytes()
    depth_of(folder, 2).write_bytes(whole[: len(whole) // 2])
    mask_of(folder, 3).unlink()
    cv2.imwrite(str(mask_of(folder, 4)), cv2.resize(pictures(4)[1], (48, 48)))
    cv2.imwrite(str(image_of(folder, 5)), pictures(5)[0][..., 0])
    shutil.copy(image_of(folder, 6), image_of(folder, 9))  # the same object place: 6 and 9 are alike modulo 3
    report = check_folder(folder)
    assert kinds(report) == {
        "unreadable": 1, "truncated": 1, "no partner": 1, "size": 1, "channels": 1, "duplicate": 1,
    }  # fmt: skip
    assert {fault.kind: fault.file for fault in report.faults}["truncated"] == str(depth_of(folder, 2))
    assert len(report.faulty) == 6


def test_names_with_escape_sequences_are_spelt_out(folder, capsys):
    for where, prefix in (("images", "fgbg"), ("masks", "mask"), ("depth", "fgbg")):
        (folder / where / f"{prefix}\x1b[2J[red]000099.png").write_bytes(b"broken")
    main([str(folder)])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "fgbg\\x1b[2J[red]000099.png" in said.out


def test_faults_of_folders(folder):
    for path in (image_of(folder, 5), mask_of(folder, 5), depth_of(folder, 5)):
        path.unlink()
    (folder / "images" / "notes.txt").write_bytes(b"x")
    (folder / "meta.csv").write_text("a document\n")
    (folder / "old").mkdir()
    report = check_folder(folder)
    assert kinds(report) == {"stray file": 2}
    assert report.faulty == {}


def row_of(root, number, **more):
    paths = {"image": image_of(root, number), "mask": mask_of(root, number), "depth": depth_of(root, number)}
    return {role: path.name for role, path in paths.items()} | more


def test_a_background_under_two_names(folder, add, write_manifest):
    add(folder, 12, ground=1)
    write_manifest(folder, [row_of(folder, n, background=f"bg{n}") for n in range(1, 13)])
    report = check_folder(folder)
    assert kinds(report) == {"repeated background": 1}
    assert report.aliases == {"bg12": "bg1"}
    assert main([str(folder), "--fix", str(folder.with_name("out"))]) == 1
    fixed = {t.id: t.background for t in read_dataset(folder.with_name("out")).triplets}
    assert fixed["fgbg000012"] == fixed["fgbg000001"] == "bg1"


@pytest.fixture
def faulty_manifest(folder, write_manifest):
    """Write twelve lines: three name missing files, one has no image, one a wrong split."""
    rows = [row_of(folder, n, split="train") for n in range(1, 13)]
    rows[1]["mask"], rows[3]["image"], rows[4]["depth"], rows[5]["image"] = "no.png", "no.png", "depth/no.gif", ""
    rows[6]["split"] = "practice"
    write_manifest(folder, rows)
    return folder


def test_all_lines_that_cannot_be_used_are_listed(faulty_manifest, capsys):
    report = check_folder(faulty_manifest)
    files = {fault.file: fault.detail for fault in report.faults if fault.kind in ("missing file", "faulty line")}
    assert files == {
        str(faulty_manifest / "masks/no.png"): "",
        str(faulty_manifest / "images/no.png"): "",
        str(faulty_manifest / "depth/no.gif"): "",
        str(faulty_manifest / "manifest.csv"): "line 7: image is empty",
        str(image_of(faulty_manifest, 7)): "line 8: split is 'practice'",
    }
    assert report.faulty.keys() == {"fgbg000002", "no", "fgbg000005", "fgbg000007"}
    assert main([str(faulty_manifest)]) == 1
    out = capsys.readouterr().out
    assert "3  missing file" in out and "2  faulty line" in out and "line 7: image is empty" in out


def test_lines_that_cannot_be_used_are_left_out_of_the_copy(faulty_manifest, tmp_path):
    assert main([str(faulty_manifest), "--fix", str(tmp_path / "out")]) == 1
    assert len(read_dataset(tmp_path / "out").triplets) == 7
    with (tmp_path / "out" / "quarantine.csv").open() as file:
        assert {row["id"]: row["kind"] for row in csv.DictReader(file)} == {
            "fgbg000002": "missing file",
            "no": "missing file",
            "fgbg000005": "missing file",
            "fgbg000007": "faulty line",
        }


def test_a_fault_of_a_shared_file_belongs_to_each_line(folder, write_manifest, tmp_path):
    write_manifest(
        folder, [row_of(folder, 1), row_of(folder, 2) | {"mask": row_of(folder, 1)["mask"]}, row_of(folder, 3)]
    )
    mask_of(folder, 1).write_bytes(b"no picture")
    assert {name: len(found) for name, found in check_folder(folder).faulty.items()} == {
        "fgbg000001": 1,
        "fgbg000002": 1,
    }
    assert main([str(folder), "--fix", str(tmp_path / "out")]) == 1
    assert [triplet.id for triplet in read_dataset(tmp_path / "out").triplets] == ["fgbg000003"]


def test_files_in_a_folder_that_is_not_there_are_missing(folder, write_manifest):
    write_manifest(folder, [row_of(folder, 1), row_of(folder, 2) | {"image": "pics/a.png"}])
    assert kinds(check_folder(folder))["missing file"] == 1


def test_missing_partners_keep_the_configured_polarity(folder, add):
    for number in range(1, 13):
        add(folder, number, near=-1)
    (folder / "dataset.json").write_text('{"near": "dark"}')
    mask_of(folder, 3).unlink()
    assert kinds(check_folder(folder)) == {"no partner": 1}


@pytest.mark.parametrize(("near", "word"), [(1, "bright"), (-1, "dark")])
def test_polarity_is_inferred_and_written(folder, add, capsys, near, word):
    for number in range(1, 13):
        add(folder, number, near=near)
    assert main([str(folder)]) == 0 and not (folder / "dataset.json").exists()
    assert "--write writes it to" in capsys.readouterr().out
    assert main([str(folder), "--write"]) == 0
    assert json.loads((folder / "dataset.json").read_text()) == {"depth_unit": "relative", "near": word}
    assert f"near: {word}, certain" in capsys.readouterr().out
    assert main([str(folder)]) == 0
    assert "near:" not in capsys.readouterr().out, "a configured field is not inferred again"


def test_mixed_polarity_is_not_written(folder, add, capsys):
    for number in range(1, 7):
        add(folder, number, near=-1)
    main([str(folder), "--write"])
    assert "both polarities" in capsys.readouterr().out
    assert "near" not in json.loads((folder / "dataset.json").read_text())


def test_group_size_and_millimetres_are_inferred(folder, write_triplet, pictures, capsys):
    for number in range(1, 13):
        image, mask, _ = pictures(number, ground=100 + (number - 1) // 3)
        depth = np.where(mask > 0, 900, 2500).astype(np.uint16)
        depth[:6] = 0
        write_triplet(folder, number, image=image, mask=mask, depth=depth)
    sure = {field.key: field.value for field in check_folder(folder).inferred if field.certain}
    assert sure == {"depth_unit": "mm", "missing": 0, "group_size": 3}
    main([str(folder)])
    said = f"a search will refuse this folder until group_size is known: one-look check {folder} --write"
    assert said in capsys.readouterr().out
    main([str(folder), "--write"])
    assert "refuse" not in capsys.readouterr().out


def test_group_size_that_the_numbers_of_the_files_contradict_is_not_certain(folder, pictures, write_triplet):
    for path in folder.rglob("*.png"):
        path.unlink()
    for number in range(5, 17):
        image, mask, depth = pictures(number, ground=100 + (number - 5) // 3)
        write_triplet(folder, number, image=image, mask=mask, depth=depth)
    found = {field.key: field for field in check_folder(folder).inferred}["group_size"]
    assert found.certain == (found.value == 3) and ("group them differently" in found.reason) == (found.value is None)
    assert found.value is None


@pytest.mark.parametrize("frames", [1, 2])
def test_folder_that_a_search_refuses_is_told_with_a_command_that_helps(folder, add, capsys, frames):
    root = folder.rename(folder.with_name("my set"))
    if frames > 1:
        add(root, 13, ground=12)
    size = 1 if frames == 1 else "N"
    assert main([str(root)]) == 0
    said = capsys.readouterr().out
    assert f"one-look check '{root}' --group-size {size}\n" in said
    assert "a search will refuse this folder: its backgrounds are unknown, and a split needs 2" in said
    assert ("1 to 2 consecutive files look alike, so the groups" in said) is (frames > 1)
    main([str(root), "--group-size", "1"])
    assert "refuse" not in capsys.readouterr().out


def test_folder_of_one_background_is_told_that_it_cannot_be_split(folder, write_manifest, capsys):
    write_manifest(folder, [row_of(folder, n, background="room") for n in range(1, 13)])
    main([str(folder)])
    assert "refuse this folder: it has 1 background, and a split needs 2 backgrounds" in capsys.readouterr().out


def test_names_of_very_large_numbers_are_checked(folder, add):
    for number in range(1, 4):
        add(folder, number, stem=str(10017090168044687777 * number))
    check_folder(folder)


def test_flags_set_fields_and_keep_the_others(folder):
    (folder / "dataset.json").write_text('{"group_size": 4}')
    assert main([str(folder), "--near", "bright", "--missing", "0"]) == 0
    assert json.loads((folder / "dataset.json").read_text()) == {"group_size": 4, "near": "bright", "missing": 0}
    assert main([str(folder), "--mask-foreground", "255", "--mask-ignored", "3,7"]) == 0
    content = json.loads((folder / "dataset.json").read_text())
    assert content["mask_values"] == {"foreground": [255], "ignored": [3, 7]}
    assert main([str(folder), "--mask-ignored", "5"]) == 0
    content = json.loads((folder / "dataset.json").read_text())
    assert content["mask_values"] == {"foreground": [255], "ignored": [5]}


def test_fields_that_are_null_are_not_set(folder):
    (folder / "dataset.json").write_text('{"group_size": null, "missing": null}')
    assert "group_size" in {field.key for field in check_folder(folder).inferred}
    dataset = read_dataset(folder, fields={"group_size": 3, "missing": 0})
    assert (dataset.spec.group_size, dataset.spec.missing) == (3, (0.0,))


def test_file_for_json_that_cannot_be_written_is_told_before_the_check(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("data.check.__main__.check_folder", None)
    assert main([str(folder), "--json", str(tmp_path / "no/report.json")]) == 2
    assert "no/report.json: cannot be written" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("kept")
    with pytest.raises(TypeError):
        main([str(folder), "--json", str(tmp_path / "report.json")])
    assert (tmp_path / "report.json").read_text() == "kept"
    with pytest.raises(TypeError):
        main([str(folder), "--json", str(tmp_path / "new.json")])
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize("flags", [(), ("--depth-unit", "m", "--depth-scale", "256")])
def test_depth_that_cannot_be_told_is_not_fixed(folder, write_triplet, pictures, tmp_path, capsys, flags):
    for number in range(1, 13):
        image, mask, depth = pictures(number)
        metres = np.where(
            np.random.default_rng(number).random(depth.shape) < 0.9, 0, 6000 - 20 * depth.astype(np.uint16)
        )
        write_triplet(folder, number, image=image, mask=mask, depth=metres.astype(np.uint16))
    out = tmp_path / "out"
    code = main([str(folder), "--fix", str(out), *flags])
    printed, error = capsys.readouterr()
    assert out.exists() == bool(flags) and ("--depth-scale 256 (KITTI)" in error) == (not flags)
    assert ("unclear: " in printed) == (not flags) and code == (0 if flags else 2)
    assert main([str(folder)]) == (0 if flags else 1)


def test_polarity_that_cannot_be_told_is_shown_and_copied_as_it_is(folder, tmp_path, capsys):
    shutil.rmtree(folder / "masks")
    assert main([str(folder), "--fix", str(tmp_path / "out")]) == 1
    assert "near = unclear" in (printed := capsys.readouterr().out) and "use --near bright if" in printed
    assert len(read_dataset(tmp_path / "out").triplets) == 12


@pytest.mark.parametrize(("unit", "ignored"), [("disparity", 0), ("relative", 12)])
def test_foregrounds_are_near_where_disparity_is_large(folder, add, unit, ignored):
    for number in range(1, 13):
        add(folder, number, near=1)
    (folder / "dataset.json").write_text(json.dumps({"depth_unit": unit, "near": "dark"}))
    assert kinds(check_folder(folder))["no object in depth"] == ignored


def test_certain_fields_are_added_to_a_dataset_json(folder):
    (folder / "dataset.json").write_text('{"depth_unit": "relative"}')
    main([str(folder), "--write"])
    written = json.loads((folder / "dataset.json").read_text())
    assert written["depth_unit"] == "relative" and written.keys() > {"depth_unit"}


def test_a_folder_marked_read_only_is_left_alone(folder, capsys):
    folder.chmod(0o555)
    try:
        main([str(folder), "--write"])
    finally:
        folder.chmod(0o755)
    assert not (folder / "dataset.json").exists()
    error = capsys.readouterr().err
    assert "read-only" in error
    assert '"near": "bright"' in error


def test_the_copy_is_fixed_and_the_source_untouched(folder, tmp_path, pictures):
    cv2.imwrite(str(mask_of(folder, 1)), cv2.resize(pictures(1)[1], (48, 48), interpolation=cv2.INTER_NEAREST))
    faint = pictures(2)[1]
    faint[:10, :30] = 60
    cv2.imwrite(str(mask_of(folder, 2)), faint)
    cv2.imwrite(str(image_of(folder, 3)), pictures(3)[0][..., 0])
    cv2.imwrite(str(depth_of(folder, 4)), cv2.resize(pictures(4)[2], (64, 32)))  # another aspect ratio
    cv2.imwrite(str(mask_of(folder, 5)), pictures(5)[1] * 0)
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*.png"))}
    out = tmp_path / "out"
    assert main([str(folder), "--fix", str(out)]) == 1
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
    with (out / "quarantine.csv").open() as file:
        assert {row["id"]: row["kind"] for row in csv.DictReader(file)} == {
            "fgbg000004": "size",
            "fgbg000005": "empty mask",
        }
    assert len(read_dataset(out).triplets) == 10
    assert check_folder(out).faulty == {}
    assert set(np.unique(cv2.imread(str(mask_of(out, 2)), -1))) == {0, 255}


@pytest.mark.parametrize("out", ["images", "inside"])
def test_the_copy_must_be_a_new_folder_outside(folder, capsys, out):
    assert main([str(folder), "--fix", str(folder / out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (folder / "inside").exists()


def test_user_mistakes_are_one_line(tmp_path, folder, capsys):
    assert main([str(tmp_path / "nope")]) == 2
    assert main([str(folder), "--group-size", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not (folder / "dataset.json").exists()


def test_json_names_every_fault(folder, tmp_path):
    image_of(folder, 1).write_bytes(b"")
    main([str(folder), "--json", str(tmp_path / "report.json")])
    content = json.loads((tmp_path / "report.json").read_text())
    empty = "not a whole image but an empty file; restore or remove it"
    assert content["faulty"] == 1
    assert content["faults"][0] == {"kind": "unreadable", "file": str(image_of(folder, 1)), "detail": empty}


def test_every_real_defect_is_found(shared_data):
    report = check_folder(shared_data / "quirks")
    found = {name: {fault.kind for fault in of} for name, of in report.faulty.items()}
    old = {name for name in found if name.startswith("deepold")}
    assert len(found) == 21
    assert all(found[name] >= {"size", "shifted mask"} for name in old)
    assert all("frame" in found[name] for name in found.keys() - old)
    assert "stray part" in found["sum_21"]


def test_real_clean_triplets_have_no_faults(shared_data):
    assert check_folder(shared_data / "pairs_mask").faults == ()
    # SOURCES.csv lists these, too: a faint box in the mask, a dog that is not visible in the depth.
    assert check_folder(shared_data / "triplets").faulty.keys() == {"anu_006", "deep_26682", "deep_39553"}


def test_built_in_scenes_have_hardly_any_faults(tiny_dataset):
    assert len(check_folder(tiny_dataset).faulty) <= 1


def rewrite(paths, change):
    """Replace each mask or depth map by what `change` makes of it."""
    for path in sorted(paths):
        assert cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


@pytest.mark.parametrize("change", [lambda m: (m // 255).astype(np.uint16), lambda m: m // 255 * 2, lambda m: m // 255])
def test_masks_are_read_as_the_search_reads_them(folder, change, capsys):
    rewrite((folder / "masks").iterdir(), change)
    assert main([str(folder)]) == 0
    assert "read as: masks" in capsys.readouterr().out


def test_mattes_in_alpha_have_no_wrong_channels(folder):
    rewrite((folder / "masks").iterdir(), lambda m: np.dstack([np.full_like(m, 255)] * 3 + [m]))
    assert kinds(check_folder(folder)) == {}


def test_inverted_masks_are_questioned_and_polarity_is_not_certain(folder, capsys):
    rewrite((folder / "masks").iterdir(), lambda m: 255 - m)
    assert main([str(folder), "--write"]) == 1
    out = capsys.readouterr().out
    assert "unclear:" in out and "masks look inverted" in out and "near: dark, certain" not in out
    path = folder / "dataset.json"
    assert not path.exists() or "near" not in json.loads(path.read_text())


def test_constant_depth_is_a_fault(folder):
    rewrite((folder / "depth").iterdir(), lambda d: np.full_like(d, 128))
    assert kinds(check_folder(folder))["constant depth"] == 12


@pytest.mark.parametrize(
    ("unknown", "fields"), [(-1, {"missing": -1}), (np.inf, {}), (np.nan, {}), (3, {"depth_max": 3})]
)
def test_only_known_depth_has_a_range(folder, unknown, fields):
    for path in sorted((folder / "depth").iterdir()):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / np.float32(255)
        depth[:2] = unknown
        np.save(path.with_suffix(".npy"), depth)
        path.unlink()
    np.save(depth_of(folder, 1).with_suffix(".npy"), np.full((64, 64), np.nan, np.float32))
    np.save(depth_of(folder, 2).with_suffix(".npy"), np.linspace(-2, 1, 64 * 64, dtype=np.float32).reshape(64, 64))
    (folder / "dataset.json").write_text(json.dumps({"near": "bright", "depth_unit": "relative"} | fields))
    assert kinds(check_folder(folder))["depth range"] == ("depth_max" not in fields)


def test_images_and_labels_are_turned_as_the_search_turns_them(folder):
    from PIL import Image

    for path in sorted((folder / "images").iterdir()):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(path).convert("RGB").rotate(90).save(path.with_suffix(".jpg"), quality=95, exif=exif)
        path.unlink()
    rewrite((folder / "masks").iterdir(), lambda m: cv2.rotate(m, cv2.ROTATE_90_COUNTERCLOCKWISE))
    rewrite((folder / "depth").iterdir(), lambda d: cv2.rotate(d, cv2.ROTATE_90_COUNTERCLOCKWISE))
    assert kinds(check_folder(folder)) == {}


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (lambda m: m // 255, None),
        (lambda m: 255 - m, {"foreground": 0}),
        (lambda m: 255 - m, {"empty": 255, "full": 0}),
        (lambda m: m.astype(np.uint16) * 257, None),
        (lambda m: np.where(cv2.dilate(m, np.ones((9, 9))) > m, 2, m // 255 * 7).astype(np.uint8),
         {"foreground": 7, "ignored": 2}),
    ],
)  # fmt: skip
def test_fixed_masks_have_the_values_of_the_others(folder, tmp_path, change, values):
    rewrite((folder / "masks").iterdir(), change)
    whole = cv2.imread(str(mask_of(folder, 1)), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(mask_of(folder, 1)), cv2.resize(whole, (48, 48), interpolation=cv2.INTER_NEAREST))
    if values:
        (folder / "dataset.json").write_text(json.dumps({"mask_values": values, "near": "bright"}))
    main([str(folder), "--fix", str(tmp_path / "out")])
    fixed = cv2.imread(str(tmp_path / "out/masks/mask000001.png"), cv2.IMREAD_UNCHANGED)
    assert fixed.dtype == whole.dtype and set(np.unique(fixed)) == set(np.unique(whole))
    assert fixed.shape == whole.shape and np.mean(fixed != whole) < 0.1


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float16, np.float32, np.uint16])
def test_depth_beside_a_fixed_mask_keeps_its_type_and_values(folder, tmp_path, kind):
    for path in sorted((folder / "depth").iterdir()):
        np.save(path.with_suffix(".npy"), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(kind) * 10)
        path.unlink()
    (folder / "dataset.json").write_text(json.dumps({"depth_unit": "disparity"}))
    rewrite([mask_of(folder, 1)], lambda m: cv2.resize(m, (48, 48), interpolation=cv2.INTER_NEAREST))
    main([str(folder), "--fix", str(tmp_path / "out")])
    copied = next((tmp_path / "out/depth").glob("fgbg000001*"))
    found, _ = read_pixels(copied, decode_label)
    assert found.dtype == kind and np.array_equal(found, np.load(folder / "depth/fgbg000001.npy"))


def test_composites_of_several_objects_may_have_far_parts(folder, write_manifest):
    for number in (1, 2):
        mask = cv2.imread(str(mask_of(folder, number)), cv2.IMREAD_UNCHANGED)
        mask[2:6, 58:62] = 255
        cv2.imwrite(str(mask_of(folder, number)), mask)
    names = {1: "dog+ball", 2: "dog"}
    write_manifest(
        folder, [row_of(folder, n, background=f"bg{n}", foreground=names.get(n, "cat")) for n in range(1, 13)]
    )
    assert [(fault.kind, fault.file) for fault in check_folder(folder).faults] == [
        ("stray part", str(mask_of(folder, 2)))
    ]
