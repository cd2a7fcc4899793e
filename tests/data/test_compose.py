import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.compose import Plan, compose, depth_codes, draw_composites, main, make_plan, paste
from data.compose_sources import CutOut, Photo, read_cutout, read_photo
from data.dataset import DataError
from data.layout import read_dataset

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
    """Ten photos with depth and three cut-outs."""
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


def flat_photo(depth_m=2.0, px=PX):
    return Photo(np.full((px, px, 3), 100, np.uint8), np.full((px, px), depth_m, np.float32))


def square_cutout(alpha=1.0, side=20):
    return CutOut(np.full((side, side, 3), 200 * alpha, np.float32), np.full((side, side), alpha, np.float32))


PLAN = Plan(photos=(), cutouts=(), count=1, seed=0, px=PX, near_m=0.5, far_m=5.0)


def test_compose_writes_a_data_set_with_its_manifest(sources, tmp_path):
    root = compose(*sources, tmp_path / "out", 40, px=PX, workers=1)
    dataset = read_dataset(root)
    assert len(dataset.triplets) == 40
    assert dataset.spec.missing == 0
    assert 1.5 < dataset.spec.near_m < 1.75  # a tenth before the nearest: the first quarter of the ramp is missing
    assert dataset.spec.far_m == pytest.approx(4.0, rel=0.02)
    assert [row["background"] for row in rows_of(root)] == [f"photo{n // 4:02d}" for n in range(40)]
    assert {row["foreground"] for row in rows_of(root)} == {"thing0", "thing1", "thing2"}


def test_last_fifth_of_photos_validates(sources, tmp_path):
    root = compose(*sources, tmp_path / "out", 20, px=PX, workers=1)
    splits = {row["background"]: row["split"] for row in rows_of(root)}
    assert [name for name, split in splits.items() if split == "val"] == ["photo08", "photo09"]
    assert sum(split == "train" for split in splits.values()) == 8


def test_split_is_left_to_the_reader_where_asked(sources, tmp_path):
    root = compose(*sources, tmp_path / "out", 20, px=PX, workers=1, hold_out=False)
    assert not any("split" in row for row in rows_of(root))
    assert len({t.background for t in read_dataset(root).triplets}) == 10


def test_single_photo_is_not_split():
    plan = Plan(photos=((Path("a"), Path("b")),), cutouts=(), count=5, seed=0, px=PX, near_m=1.0, far_m=2.0)
    assert plan.split(0) == ""


def test_composites_do_not_depend_on_workers(sources, tmp_path):
    alone = compose(*sources, tmp_path / "alone", 60, px=PX, workers=1)
    together = compose(*sources, tmp_path / "together", 60, px=PX, workers=2)
    assert read_all(alone) == read_all(together)


def test_seed_changes_the_composites(sources):
    one, two = (next(draw_composites(make_plan(*sources, 10, seed=seed, px=PX), range(1)))[1] for seed in (0, 1))
    assert (one.mask != two.mask).any() or (one.image != two.image).any()


def test_every_cutout_is_used_equally(sources):
    plan = make_plan(*sources, 30, px=PX)
    used = np.bincount([plan.foreground(index) for index in range(30)])
    np.testing.assert_array_equal(used, [10, 10, 10])


def test_mask_is_where_alpha_is_200_or_more():
    for alpha, covered in ((199 / 255, False), (200 / 255, True)):
        _, mask, _ = paste(PLAN, flat_photo(), square_cutout(alpha), np.random.default_rng(0))
        assert (mask == 255).any() == covered
        assert set(np.unique(mask)) <= {0, 255}


def test_soft_alpha_is_blended():
    image, mask, _ = paste(PLAN, flat_photo(), square_cutout(0.5), np.random.default_rng(0))
    assert not mask.any()
    assert image.max() == pytest.approx(150, abs=1)


def test_thing_stands_just_before_what_it_covers():
    image, mask, depth = paste(PLAN, flat_photo(2.0), square_cutout(), np.random.default_rng(0))
    inside = mask > 0
    behind = int(depth_codes(np.full((1, 1), 2.0, np.float32), 0.5, 5.0)[0, 0])
    before = int(depth_codes(np.full((1, 1), 0.85 * 2.0, np.float32), 0.5, 5.0)[0, 0])
    assert len(np.unique(depth[inside])) == 1
    assert behind < depth[inside][0] <= before
    assert (depth[~inside] == behind).all()
    assert (image[inside] == 200).all()


@pytest.mark.parametrize("seed", range(8))
def test_thing_is_nearer_than_all_real_depth_behind_it(sources, seed):
    plan = make_plan(*sources, 8, px=PX)
    photo = read_photo(*plan.photos[0], PX)
    _, mask, depth = paste(plan, photo, read_cutout(plan.cutouts[0]), np.random.default_rng(seed))
    inside = mask > 0
    assert inside.any()
    assert (depth[inside] > 0).all()
    assert depth[inside].min() >= depth[~inside].min()
    empty = CutOut(np.zeros((40, 40, 3), np.float32), np.zeros((40, 40), np.float32))
    _, _, behind = paste(plan, photo, empty, np.random.default_rng(seed))
    assert (depth[inside] >= behind[inside]).all()
    np.testing.assert_array_equal(depth[~inside], behind[~inside])


def test_holes_stay_unknown_outside_the_thing_and_are_filled_inside():
    photo = flat_photo()
    photo.depth_m[:, : PX // 2] = 0
    _, mask, depth = paste(PLAN, photo, square_cutout(), np.random.default_rng(3))
    inside = mask > 0
    assert (depth[inside] > 0).all()
    np.testing.assert_array_equal((depth == 0)[~inside], (photo.depth_m == 0)[~inside])


def test_thing_before_nothing_known_stands_before_the_rest_of_the_picture():
    photo = flat_photo(0.0)
    _, mask, depth = paste(PLAN, photo, square_cutout(), np.random.default_rng(0))
    assert (depth[mask > 0] > 0).all()
    assert (depth[mask == 0] == 0).all()


def test_things_follow_the_studys_rule():
    plan = Plan(photos=(), cutouts=(), count=1, seed=0, px=100, near_m=0.5, far_m=5.0)
    sides, rows, columns = [], [], []
    for seed in range(200):
        _, mask, _ = paste(plan, flat_photo(px=100), square_cutout(), np.random.default_rng(seed))
        here = np.nonzero(mask)
        sides.append(max(np.ptp(here[0]), np.ptp(here[1])) + 1)
        rows.append(here[0].mean())
        columns.append(here[1].mean())
    assert max(sides) <= 60
    assert np.percentile(sides, 50) > 35
    for middles in (rows, columns):
        assert min(middles) < 15
        assert max(middles) > 85


def test_cutouts_are_mirrored_half_of_the_time():
    half = square_cutout()
    half.colour[:, :10] = 0
    bright = []
    for seed in range(40):
        image, mask, _ = paste(PLAN, flat_photo(), half, np.random.default_rng(seed))
        column = np.nonzero(mask.any(axis=0))[0]
        row = np.nonzero(mask.any(axis=1))[0][0]
        if column[0] > 0 and column[-1] < PX - 1:
            bright.append(image[row, column[1], 0] > 100)
    assert 0.2 < np.mean(bright) < 0.8


def test_depth_codes_span_near_to_far():
    metres = np.float32([[0.5, 5.0, 0.0, 0.1, 50.0]])
    np.testing.assert_array_equal(depth_codes(metres, 0.5, 5.0), [[255, 1, 0, 255, 1]])
    middle = 1 / ((1 / 0.5 + 1 / 5.0) / 2)
    assert depth_codes(np.float32([[middle]]), 0.5, 5.0)[0, 0] == 128


def test_photo_keeps_its_shape_and_its_holes(sources):
    photo = read_photo(sources[0] / "images/photo01.jpg", sources[0] / "depth/photo01.png", 30)
    assert photo.image.shape == (30, 40, 3)
    assert (photo.depth_m[:, :9] == 0).all()
    assert photo.depth_m[:, 11:].min() > 1.0
    assert photo.depth_m.max() == pytest.approx(4.0, rel=0.02)


def test_saturated_depth_is_missing(tmp_path):
    write(tmp_path / "a.jpg", np.zeros((40, 40, 3), np.uint8))
    write(tmp_path / "a.png", np.full((40, 40), 65535, np.uint16))
    assert not read_photo(tmp_path / "a.jpg", tmp_path / "a.png", 40).depth_m.any()


def test_cutout_loses_its_margin(sources):
    cutout = read_cutout(sources[1] / "thing1.png")
    assert cutout.alpha.shape == (30, 22)
    np.testing.assert_allclose(cutout.colour[0, 0], [255, 50, 0])


def drop(path):
    path.unlink()


BREAKS = {
    "no depth for this photo": lambda bg, fg: drop(bg / "depth/photo03.png"),
    "16-bit": lambda bg, fg: write(bg / "depth/photo03.png", np.zeros((60, 80), np.uint8)),
    "no known depth": lambda bg, fg: [write(path, np.zeros((60, 80), np.uint16)) for path in (bg / "depth").iterdir()],
    "not RGBA": lambda bg, fg: write(fg / "thing9.png", np.zeros((20, 20, 3), np.uint8)),
    "nothing opaque": lambda bg, fg: write(fg / "thing9.png", np.full((20, 20, 4), 90, np.uint8)),
    "not a whole picture": lambda bg, fg: (bg / "images/photo02.jpg").write_bytes(b"no"),
    "no pictures in it": lambda bg, fg: [drop(path) for path in fg.iterdir()],
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


def run(backgrounds, foregrounds, out, *options):
    places = ["--backgrounds", str(backgrounds), "--foregrounds", str(foregrounds), "--out", str(out)]
    return main([*places, "--count", "4", "--size", str(PX), "--workers", "1", *options])


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


def test_count_out_of_range_is_refused(sources, tmp_path):
    with pytest.raises(DataError, match="count is 0"):
        compose(*sources, tmp_path / "out", 0)


def test_command_line_composes(sources, tmp_path, capsys):
    assert run(*sources, tmp_path / "out", "--seed", "3") == 0
    assert "4 composites" in capsys.readouterr().out
    assert len(read_dataset(tmp_path / "out").triplets) == 4


def test_real_photos_and_cutouts_compose(shared_data, tmp_path):
    root = compose(shared_data / "rgbd", shared_data / "foregrounds", tmp_path / "out", 40, px=80, workers=1)
    rows = rows_of(root)
    assert len({row["background"] for row in rows if row["split"] == "val"}) == 4
    assert len({row["background"] for row in rows if row["split"] == "train"}) == 16
    depth = np.stack([cv2.imread(str(root / row["depth"]), cv2.IMREAD_UNCHANGED) for row in rows])
    assert 0.15 < (depth[depth > 0] / 255).std() < 0.3
    assert 0.02 < (depth == 0).mean() < 0.3
