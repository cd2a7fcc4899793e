import csv
import errno
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data import writing
from data.compose.__main__ import main
from data.compose.compose import draw_composites, paste_all, write_composites
from data.compose.plan import ComposeOptions, Plan, make_plan
from data.compose.sources import UNKNOWN, Background, encode_depth_bytes, read_background
from data.dataset import DataError, DatasetSpec
from data.reading.layout import read_dataset

PX = 48


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def depth_mm(number, height=60, width=80):
    depth = np.tile(np.linspace(1000 + 50 * number, 4000, width), (height, 1)).astype(np.uint16)
    depth[:, : width // 4] = 0
    return depth


def cutout_rgba(number, side=40):
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[5:35, 10:30, :3] = (0, 50 * number, 255)
    rgba[5:35, 10:30, 3] = 255
    rgba[5:35, 30:32, 3] = 120
    return rgba


@pytest.fixture
def sources(tmp_path):
    """Write ten photos with depth and three foregrounds."""
    for number in range(10):
        name = f"photo{number:02d}"
        write(tmp_path / "bg/images" / f"{name}.jpg", np.full((60, 80, 3), 20 * number, np.uint8))
        write(tmp_path / "bg/depth" / f"{name}.png", depth_mm(number))
    for number in range(3):
        write(tmp_path / "fg" / f"thing{number}.png", cutout_rgba(number))
    return tmp_path / "bg", tmp_path / "fg"


def rows_of(root):
    with (root / "manifest.csv").open() as file:
        return list(csv.DictReader(file))


def read_all(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def plan_of(sources, count=None, *, depth=True, per_pair=1, **rules):
    backgrounds, foregrounds = sources
    folder = backgrounds / "depth" if depth else None
    return make_plan(
        backgrounds, foregrounds, depth=folder, count=count, per_pair=per_pair, options=ComposeOptions(px=PX, **rules)
    )


def composites(plan):
    return [sample for _, sample in draw_composites(plan, range(plan.count))]


def test_compose_writes_a_data_set_with_its_manifest(sources, tmp_path):
    root = write_composites(plan_of(sources, 40), tmp_path / "out", workers=1)
    dataset = read_dataset(root)
    assert len(dataset.triplets) == 40
    assert json.loads((root / "dataset.json").read_text())["near"] == "bright"
    assert dataset.spec.missing == (0,)
    assert 1.5 < dataset.spec.near_m < 1.75  # a tenth before the nearest: the first quarter of the ramp is missing
    assert dataset.spec.far_m == pytest.approx(4.0, rel=0.02)
    assert [row["background"] for row in rows_of(root)] == [f"photo{n // 4:02d}" for n in range(40)]
    assert {row["foreground"] for row in rows_of(root)} == {"thing0", "thing1", "thing2"}
    assert left_over(tmp_path) == ["bg", "fg", "out"]


def left_over(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_pair_is_composed_as_often(sources):
    plan = plan_of(sources, per_pair=2, flip=True, hold_out=False)
    assert plan.count == 10 * 3 * 2 * 2
    pairs = Counter((plan.pick_background(index), plan.pick_foreground(index)) for index in range(plan.count))
    assert set(pairs.values()) == {2}
    assert len(pairs) == 60


def test_without_flip_nothing_is_mirrored(sources):
    plan = plan_of(sources, 30)
    assert not any(plan.pick_foreground(index)[1] for index in range(30))


def test_flip_mirrors_the_thing(sources):
    """Recognise mirrored foregrounds by the faint edge on their right."""
    plan = plan_of(sources, per_pair=20, flip=True)
    photo = Background(np.zeros((PX, PX, 3), np.uint8), np.full((PX, PX), 0.5, np.float32))
    seen = set()
    for index in range(200):
        things = [plan.pick_foreground(index)]
        canvas = paste_all(plan, photo, things, np.random.default_rng(index))
        first, *_, last = np.flatnonzero(canvas.mask.any(axis=0))
        if first > 1 and last < PX - 2:
            faint_left = canvas.image[:, first - 1].max() > canvas.image[:, last + 1].max()
            seen.add((things[0][1], bool(faint_left)))
    assert seen == {(False, False), (True, True)}


def test_last_fifth_of_photos_validates(sources, tmp_path):
    root = write_composites(plan_of(sources, 20), tmp_path / "out", workers=1)
    splits = {row["background"]: row["split"] for row in rows_of(root)}
    assert [name for name, split in splits.items() if split == "val"] == ["photo08", "photo09"]
    assert sum(split == "train" for split in splits.values()) == 8


@pytest.mark.parametrize(
    ("photos", "cutouts", "expected"),
    [
        (20, 20, {"train": (16, 16), "val": (2, 2), "test": (2, 2)}),
        (96, 31, {"train": (77, 25), "val": (10, 3), "test": (9, 3)}),
        (19, 100, {"train": (16, 80), "val": (3, 20)}),
        (100, 5, {"train": (80, 4), "val": (20, 1)}),
    ],
)
def test_parts_of_a_set_share_neither_photos_nor_cutouts(photos, cutouts, expected):
    backgrounds = tuple((Path(f"photo{number}"), None) for number in range(photos))
    foregrounds = tuple(Path(f"cutout{number}") for number in range(cutouts))
    plan = Plan(backgrounds=backgrounds, foregrounds=foregrounds, count=20 * photos, depth_spec=None)
    used = {split: (set(), set()) for split in expected}
    for index in range(plan.count):
        background = plan.pick_background(index)
        of_photos, of_cutouts = used[plan.pick_split(background)]
        of_photos.add(background)
        of_cutouts.add(plan.pick_foreground(index)[0])
    assert {split: (len(a), len(b)) for split, (a, b) in used.items()} == expected
    assert sum(len(a) for a, _ in used.values()) == photos and sum(len(b) for _, b in used.values()) == cutouts


def test_split_is_left_to_the_reader_where_asked(sources, tmp_path):
    root = write_composites(plan_of(sources, 20, hold_out=False), tmp_path / "out", workers=1)
    assert not any("split" in row for row in rows_of(root))
    assert len({t.background for t in read_dataset(root).triplets}) == 10


def test_single_photo_is_not_split():
    assert Plan(backgrounds=((Path("a"), None),), foregrounds=(), count=5, depth_spec=None).pick_split(0) == ""


def test_composites_do_not_depend_on_workers(sources, tmp_path):
    plan = plan_of(sources, 60, placement="ground", things=3, shadow=True, flip=True)
    alone = write_composites(plan, tmp_path / "alone", workers=1)
    together = write_composites(plan, tmp_path / "together", workers=2)
    assert read_all(alone) == read_all(together)


def test_seed_changes_the_composites(sources):
    one, two = (composites(plan_of(sources, 1, seed=seed))[0] for seed in (0, 1))
    assert (one.mask != two.mask).any() or (one.image != two.image).any()


def test_an_interrupted_set_is_resumed_and_ends_the_same(sources, tmp_path):
    plan = plan_of(sources, 120, flip=True)
    whole = write_composites(plan, tmp_path / "whole", workers=1)

    def stop(done, total):
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_composites(plan, tmp_path / "out", workers=1, progress=stop)
    assert not (tmp_path / "out").exists()
    calls = []
    write_composites(plan, tmp_path / "out", workers=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(50, 120), (100, 120), (120, 120)]
    assert read_all(tmp_path / "out") == read_all(whole)


KILLED_AFTER_150 = """
import os, sys
from data.compose.__main__ import build_parser, plan_from_args
from data.compose.compose import write_composites
plan = plan_from_args(build_parser().parse_args(sys.argv[1:]))
write_composites(plan, sys.argv[6], workers=1, progress=lambda done, total: done < 150 or os.kill(os.getpid(), 9))
"""


def test_a_killed_command_is_resumed(sources, tmp_path):
    out = tmp_path / "out"
    arguments = [*places(sources, out), "--count", "250", "--size", str(PX), "--workers", "1"]
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLED_AFTER_150, *arguments]
    assert subprocess.run(command, cwd=root, env=environment, timeout=60).returncode == -9
    assert len(list((tmp_path / ".out.partial/images").iterdir())) == 150
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".out.partial/images").iterdir()}
    assert main(arguments) == 0
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in (out / "images").iterdir()}.items()
    assert read_all(out) == read_all(write_composites(plan_of(sources, 250), tmp_path / "whole", workers=1))


def test_other_options_do_not_resume_an_interrupted_set(sources, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_composites(plan_of(sources, 100), tmp_path / "out", workers=1, progress=stop)
    with pytest.raises(DataError, match="another set"):
        write_composites(plan_of(sources, 100, seed=1), tmp_path / "out", workers=1)


def test_disk_is_estimated_and_a_set_that_does_not_fit_is_refused(sources, tmp_path, monkeypatch):
    plan = plan_of(sources, 60)
    taken = sum(
        -(-len(data) // 4096) * 4096
        for name, data in read_all(write_composites(plan, tmp_path / "a", workers=1)).items()
        if "/" in name
    )
    with monkeypatch.context() as patch:
        patch.setattr(writing.shutil, "disk_usage", lambda _: writing.shutil._ntuple_diskusage(10**9, 10**9, taken))
        with pytest.raises(DataError, match=r"GB are needed.*make fewer"):
            write_composites(plan, tmp_path / "b", workers=1)
        assert left_over(tmp_path) == ["a", "bg", "fg"]
        patch.setattr(writing.shutil, "disk_usage", lambda _: writing.shutil._ntuple_diskusage(10**9, 10**9, 2 * taken))
        write_composites(plan, tmp_path / "b", workers=1)


def test_without_depth_there_are_images_and_masks_only(sources, tmp_path):
    root = write_composites(plan_of(sources, 10, depth=False), tmp_path / "out", workers=1)
    assert not (root / "depth").exists()
    assert all(triplet.depth is None for triplet in read_dataset(root).triplets)


def test_photos_may_lie_in_the_folder_itself(sources, tmp_path):
    assert run(sources[0] / "images", sources[1], tmp_path / "out", "--depth", "none") == 0
    assert run(sources[0] / "images", sources[1], tmp_path / "b", "--depth", str(sources[0] / "depth")) == 0


def test_photo_keeps_its_shape_and_its_holes(sources):
    spec = DatasetSpec(depth_unit="mm", near_m=1.0, far_m=4.0)
    photo = read_background(sources[0] / "images/photo01.jpg", sources[0] / "depth/photo01.png", spec, 30)
    assert photo.image.shape == (30, 40, 3)
    assert (photo.depth[:, :9] == UNKNOWN).all()
    assert (np.diff(photo.depth[0, 11:]) <= 0).all()
    assert photo.depth[0, 39] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("lies", ["as the photo is stored", "upright", "tagged"])
def test_depth_is_turned_with_its_photo(tmp_path, orientation, lies):
    """The photo is bright where its depth is near: at the top of the upright picture; the depth is of half its size."""
    upright = np.tile(np.linspace(250, 5, 80)[:, None], (1, 60)).astype(np.uint8)
    turns = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_CLOCKWISE}
    stored, exif = cv2.rotate(upright, turns[orientation]), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).convert("RGB").save(tmp_path / "a.jpg", quality=98, exif=exif)
    depth = Image.fromarray(upright if lies == "upright" else stored)
    depth.reduce(2).save(tmp_path / "a.png", exif=exif if lies == "tagged" else Image.Exif())
    photo = read_background(tmp_path / "a.jpg", tmp_path / "a.png", DatasetSpec(), 30)
    assert photo.image.shape == (40, 30, 3) and photo.image[0].mean() > 200 > 50 > photo.image[-1].mean()
    unclear = orientation == 3 and lies == "upright"  # both shapes fit, and a depth map lies as its photo is stored
    assert (photo.depth[0].mean() > 0.7) != unclear and photo.depth.shape == (40, 30)


def test_saturated_depth_is_missing(tmp_path):
    write(tmp_path / "a.jpg", np.zeros((40, 40, 3), np.uint8))
    write(tmp_path / "a.png", np.full((40, 40), 65535, np.uint16))
    spec = DatasetSpec(depth_unit="mm", near_m=1.0, far_m=4.0)
    assert (read_background(tmp_path / "a.jpg", tmp_path / "a.png", spec, 40).depth == UNKNOWN).all()


def test_dataset_json_beside_the_depth_maps_gives_their_meaning(sources):
    backgrounds, _ = sources
    for path in (backgrounds / "depth").iterdir():
        write(path, np.tile(np.linspace(0, 255, 80).astype(np.uint8), (60, 1)))
    (backgrounds / "depth/dataset.json").write_text(json.dumps({"near": "dark"}))
    plan = plan_of(sources, 4)
    depth = read_background(*plan.backgrounds[0], plan.depth_spec, PX).depth
    assert depth[0, 0] == pytest.approx(0.9, abs=0.02)  # room for foregrounds in front of the nearest pixel
    assert depth[0, -1] == pytest.approx(0, abs=0.02)
    assert plan.build_spec() == DatasetSpec(missing=(0.0,))


def test_depth_that_looks_relative_is_asked_about(sources, tmp_path, capsys):
    backgrounds, foregrounds = sources
    for path in (backgrounds / "depth").iterdir():
        write(path, np.tile(np.linspace(0, 65000, 80).astype(np.uint16), (60, 1)))
    assert run(backgrounds, foregrounds, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "depth: the values do not look like millimetres (uint16" in error
    (backgrounds / "depth/dataset.json").write_text('{"near": "bright"}')
    assert run(backgrounds, foregrounds, tmp_path / "out") == 0


def test_other_fields_of_dataset_json_leave_the_unit_to_the_files(sources):
    (sources[0] / "depth/dataset.json").write_text('{"missing": 0}')
    plan = plan_of(sources, 4)
    assert plan.depth_spec.depth_unit == "mm" and plan.depth_spec.missing == (0.0,)


def test_values_that_are_larger_at_the_bottom_are_no_millimetres(sources, tmp_path, capsys):
    for path in (sources[0] / "depth").iterdir():
        write(path, np.tile(np.linspace(800, 9000, 60).astype(np.uint16)[:, None], (1, 80)))
    assert run(*sources, tmp_path / "out") == 2
    assert "larger at the bottom, where near things are" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["bg/images", "fg"])
def test_name_that_is_not_utf8_is_one_line(sources, tmp_path, capsys, folder):
    path = next((tmp_path / folder).iterdir())
    path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9" + os.fsencode(path.suffix)))
    assert run(*sources, tmp_path / "out", "--depth", "none") == 2
    shown = f"caf\N{REPLACEMENT CHARACTER}{path.suffix}"
    assert capsys.readouterr().err.endswith(f"{shown}: its name is not UTF-8; rename it\n")


def test_depth_codes_span_far_to_near():
    np.testing.assert_array_equal(encode_depth_bytes(np.float32([0, 1, UNKNOWN, 0.5])), [1, 255, 0, 128])


def drop(path):
    path.unlink()


BREAKS = {
    "no depth for this photo": lambda bg, fg: drop(bg / "depth/photo03.png"),
    "16-bit": lambda bg, fg: write(bg / "depth/photo03.png", np.zeros((60, 80), np.uint8)),
    "no known depth": lambda bg, fg: [write(path, np.zeros((60, 80), np.uint16)) for path in (bg / "depth").iterdir()],
    "not RGBA": lambda bg, fg: write(fg / "thing9.png", np.zeros((20, 20, 3), np.uint8)),
    "no opaque pixel": lambda bg, fg: write(fg / "thing9.png", np.full((20, 20, 4), 90, np.uint8)),
    "not a whole image": lambda bg, fg: (bg / "images/photo02.jpg").write_bytes(b"no"),
    "same stem": lambda bg, fg: write(bg / "images/photo02.png", np.zeros((60, 80, 3), np.uint8)),
    "same shape": lambda bg, fg: write(bg / "depth/photo02.png", np.full((60, 60), 2000, np.uint16)),
    "unknown key": lambda bg, fg: (bg / "depth/dataset.json").write_text('{"naer": "dark"}'),
    "no images in it": lambda bg, fg: [drop(path) for path in fg.iterdir()],
}


@pytest.mark.parametrize("message", BREAKS)
def test_wrong_sources_are_one_line_and_exit_code_2(sources, tmp_path, capsys, message):
    BREAKS[message](*sources)
    out = tmp_path / "out"
    assert run(*sources, out) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
    assert not list(tmp_path.glob(".out*"))


def places(sources, out):
    return ["--backgrounds", str(sources[0]), "--foregrounds", str(sources[1]), "--out", str(out)]


def run(backgrounds, foregrounds, out, *options):
    arguments = places((backgrounds, foregrounds), out)
    return main([*arguments, "--count", "4", "--size", str(PX), "--workers", "1", *options])


def test_missing_folders_and_out_in_use_are_one_line(sources, tmp_path, capsys):
    backgrounds, foregrounds = sources
    in_use = tmp_path / "used"
    in_use.mkdir()
    (in_use / "mine.txt").write_text("")
    cases = [
        (tmp_path / "nowhere", foregrounds, tmp_path / "out", "no such folder"),
        (backgrounds, tmp_path / "nowhere", tmp_path / "out", "no such folder"),
        (backgrounds, foregrounds, in_use, "in use"),
    ]
    for *places, message in cases:
        assert run(*places) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_disparity_is_inverse_depth_on_the_scale_of_its_own_files(sources):
    backgrounds, foregrounds = sources
    for path in (backgrounds / "depth").iterdir():
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        write(path, np.divide(8e6, depth, out=np.zeros(depth.shape), where=depth > 0).astype(np.uint16))
    (backgrounds / "dataset.json").write_text('{"depth_unit": "disparity"}')
    plan = make_plan(backgrounds, foregrounds, depth=backgrounds / "depth", count=4, options=ComposeOptions(px=PX))
    depth = read_background(*plan.backgrounds[0], plan.depth_spec, PX).depth
    assert plan.depth_spec.depth_max == pytest.approx(4454, rel=0.02)  # not 65535
    assert (depth[:, 0] == UNKNOWN).all()
    assert depth.max() == pytest.approx(0.9) and depth[0, -1] == pytest.approx(
        0.9 * 2000 / plan.depth_spec.depth_max, rel=0.02
    )


@pytest.mark.parametrize(("kind", "scale", "unit"), [(">u2", 1.0, "mm"), (">f4", 0.001, "m"), ("<f8", 0.001, "m")])
def test_depth_in_numpy_files_is_that_of_images(sources, kind, scale, unit):
    backgrounds, foregrounds = sources
    options = ComposeOptions(px=PX)
    plan = make_plan(backgrounds, foregrounds, depth=backgrounds / "depth", count=4, options=options)
    expected = read_background(*plan.backgrounds[0], plan.depth_spec, PX).depth
    for path in list((backgrounds / "depth").glob("*.png")):
        np.save(path.with_suffix(".npy"), (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * scale).astype(kind))
        path.unlink()
    (backgrounds / "depth/dataset.json").write_text(json.dumps({"depth_unit": unit}))
    plan = make_plan(backgrounds, foregrounds, depth=backgrounds / "depth", count=4, options=options)
    np.testing.assert_allclose(read_background(*plan.backgrounds[0], plan.depth_spec, PX).depth, expected, atol=1e-4)


def test_names_of_photos_and_depth_may_differ_in_how_accents_are_stored(sources):
    backgrounds, foregrounds = sources
    for folder, form in (("images", "NFD"), ("depth", "NFC")):
        path = next((backgrounds / folder).glob("photo00*"))
        path.rename(path.with_name(unicodedata.normalize(form, f"café{path.suffix}")))
    plan = make_plan(backgrounds, foregrounds, depth=backgrounds / "depth", count=4, options=ComposeOptions(px=PX))
    assert len(plan.backgrounds) == 10


def test_a_full_disk_is_one_line(sources, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.SampleFiles, "write", fail)
    assert run(*sources, tmp_path / "out") == 2
    assert "out: cannot be written (No space left on device); free some space" in capsys.readouterr().err
    monkeypatch.setenv("ONE_LOOK_CACHE", "/dev/null/cache")
    assert run(*sources, tmp_path / "out", "--depth", "ground") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("options", [("--count", "many"), ("--seed", "-1"), ("--things", "2.5")])
def test_option_that_is_no_whole_number_is_one_line_and_exit_code_2(sources, tmp_path, capsys, options):
    with pytest.raises(SystemExit) as ended:
        run(*sources, tmp_path / "out", *options)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and f"argument {options[0]}: '{options[1]}' is not a whole number" in error
    assert error.count("\n") == 1 and left_over(tmp_path) == ["bg", "fg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--count", "0"), "count is 0"),
        (("--size", "8"), "size is 8"),
        (("--things", "0"), "things is 0"),
        (("--depth-preset", "midas_small"), "needs an ONNX model"),
        (("--depth", "nowhere"), "no such folder"),
        (("--depth", "nowhere.onnx"), "no such file"),
        (("--depth", "hf:some/name"), "hf:some/name"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(sources, tmp_path, capsys, options, message):
    assert run(*sources, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert left_over(tmp_path) == ["bg", "fg"]


def test_unknown_placement_is_refused():
    with pytest.raises(DataError, match="placement is 'sky'; use one of study, ground"):
        ComposeOptions(placement="sky")


def test_per_pair_of_none_is_refused(sources):
    with pytest.raises(DataError, match="per-pair is 0"):
        plan_of(sources, per_pair=0)


def test_command_line_composes(sources, tmp_path, capsys):
    assert run(*sources, tmp_path / "out", "--seed", "3") == 0
    assert "4 composites" in capsys.readouterr().out
    assert len(read_dataset(tmp_path / "out").triplets) == 4


def test_real_photos_and_cutouts_compose(shared_data, tmp_path):
    folder = shared_data / "rgbd"
    plan = make_plan(
        folder, shared_data / "foregrounds", depth=folder / "depth", count=40, options=ComposeOptions(px=80)
    )
    root = write_composites(plan, tmp_path / "out", workers=1)
    rows = rows_of(root)
    parts = [len({row["background"] for row in rows if row["split"] == part}) for part in ("train", "val", "test")]
    assert parts == [16, 2, 2]
    depth = np.stack([cv2.imread(str(root / row["depth"]), cv2.IMREAD_UNCHANGED) for row in rows])
    assert 0.15 < (depth[depth > 0] / 255).std() < 0.3
    assert 0.02 < (depth == 0).mean() < 0.3


def test_validation_has_foregrounds_of_its_own(sources):
    plan = plan_of(sources, 60, things=2, flip=True)
    used = {"train": set(), "val": set()}
    for sample in composites(plan):
        used[sample.split] |= set(sample.foreground.split("+"))
    assert used["train"] and used["val"] and not used["train"] & used["val"]
