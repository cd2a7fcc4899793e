import subprocess
import sys

import cv2
import numpy as np
import pytest

from data.dataset import DataError
from data.reading.layout import read_dataset
from data.scenes import scenes
from data.scenes.__main__ import main
from data.scenes.scenes import (
    FAR_M,
    NEAR_M,
    SIZES,
    draw_background,
    draw_scene,
    find_cached_scenes,
    make_scenes,
    to_relative,
)

PX = 64


@pytest.fixture(scope="module")
def backgrounds():
    return [draw_background(np.random.default_rng(seed), PX) for seed in range(12)]


def read_all(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_make_scenes_writes_the_studys_layout(tmp_path):
    root = make_scenes(tmp_path / "set", 10, per_background=4, px=PX, workers=1)
    dataset = read_dataset(root)
    assert [triplet.background for triplet in dataset.triplets] == (
        ["scene0000"] * 4 + ["scene0001"] * 4 + ["scene0002"] * 2
    )
    assert dataset.spec.near == "bright"
    assert (dataset.spec.near_m, dataset.spec.far_m) == (NEAR_M, FAR_M)
    for triplet in dataset.triplets:
        assert cv2.imread(str(triplet.image)).shape == (PX, PX, 3)
        assert cv2.imread(str(triplet.mask), cv2.IMREAD_UNCHANGED).shape == (PX, PX)
        assert cv2.imread(str(triplet.depth), cv2.IMREAD_UNCHANGED).shape == (PX, PX)


def test_scenes_do_not_depend_on_workers(tmp_path):
    alone = make_scenes(tmp_path / "alone", 4, per_background=2, px=PX, workers=1)
    together = make_scenes(tmp_path / "together", 4, per_background=2, px=PX, workers=2)
    assert read_all(alone) == read_all(together)


def test_scenes_repeat_by_seed_and_differ_between_seeds():
    def first(seed):
        return next(scenes.draw_group(scenes.ScenePlan(count=1, px=PX, seed=seed), 0))[1]

    np.testing.assert_array_equal(first(1).image, first(1).image)
    assert (first(1).image != first(2).image).mean() > 0.5


def test_first_scenes_do_not_depend_on_the_count():
    few, many = (next(scenes.draw_group(scenes.ScenePlan(count=n, px=PX), 0))[1] for n in (1, 500))
    np.testing.assert_array_equal(few.image, many.image)


def test_background_is_shared_outside_the_thing(backgrounds):
    one, two = (draw_scene(backgrounds[0], np.random.default_rng(seed)) for seed in (1, 2))
    clear = cv2.dilate(np.maximum(one.mask, two.mask), np.ones((5, 5), np.uint8)) == 0
    np.testing.assert_array_equal(one.depth[clear], two.depth[clear])
    assert np.abs(one.image[clear].astype(int) - two.image[clear]).mean() < 12
    assert (one.mask != two.mask).any()


def test_thing_is_nearer_than_all_that_it_covers(backgrounds):
    for seed, background in enumerate(backgrounds):
        scene = draw_scene(background, np.random.default_rng(seed))
        inside = scene.mask == 255
        behind = np.round(to_relative(background.view.inverse) * 255)
        assert (scene.depth[inside] >= behind[inside]).all()
        assert scene.depth[inside].min(initial=255) >= behind[inside].max(initial=0)


def test_depth_is_untouched_outside_the_thing(backgrounds):
    scene = draw_scene(backgrounds[3], np.random.default_rng(0))
    outside = scene.mask == 0
    np.testing.assert_allclose(scene.depth[outside], to_relative(backgrounds[3].view.inverse)[outside] * 255, atol=0.51)


def test_backgrounds_leave_room_before_them(backgrounds):
    for background in backgrounds:
        assert np.isfinite(background.view.image).all()
        assert (background.view.inverse >= 0).all()
        assert background.view.inverse.max() <= 1 / NEAR_M


def test_masks_are_of_the_stated_sizes(backgrounds):
    shares, sides = [], []
    for seed in range(60):
        mask = draw_scene(backgrounds[seed % 12], np.random.default_rng(seed)).mask > 127
        rows, columns = np.nonzero(mask)
        shares.append(mask.mean())
        if mask.any():
            sides.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert 0.05 < np.mean(shares) < 0.15
    assert 0.6 * PX < max(sides) <= SIZES[1] * PX + 2
    assert np.mean([share > 0 for share in shares]) > 0.95


def test_mask_edges_are_smooth(backgrounds):
    mask = draw_scene(backgrounds[0], np.random.default_rng(5)).mask
    assert ((mask > 10) & (mask < 245)).any()


def test_depth_uses_its_range():
    depths = np.concatenate([
        draw_scene(draw_background(np.random.default_rng(seed), PX), np.random.default_rng(seed)).depth.reshape(-1)
        for seed in range(12, 24)
    ])  # fmt: skip
    assert 0.1 < (depths / 255).std() < 0.3
    assert depths.max() > 0.75 * 255


def test_relative_depth_spans_near_to_far():
    inverse = np.float32([1 / NEAR_M, 1 / FAR_M, 0.0, 2 / NEAR_M])
    np.testing.assert_allclose(to_relative(inverse), [1, 0, 0, 1], atol=1e-6)


def test_cached_scenes_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path))
    calls = []
    real = scenes.make_scenes

    def counted(folder, count, **options):
        calls.append(count)
        return real(folder, count, px=PX, workers=1, **options)

    monkeypatch.setattr(scenes, "make_scenes", counted)
    first, second = find_cached_scenes(3), find_cached_scenes(3)
    assert first == second
    assert first.is_relative_to(tmp_path)
    assert calls == [3]
    assert len(read_dataset(first).triplets) == 3


def test_cached_scenes_accept_what_another_process_made(tmp_path, monkeypatch):
    monkeypatch.setenv("ONE_LOOK_CACHE", str(tmp_path))

    def beaten(folder, count, **options):
        folder.mkdir(parents=True)
        raise DataError("the folder is no longer empty")

    monkeypatch.setattr(scenes, "make_scenes", beaten)
    assert find_cached_scenes(3).is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "0"], "count is 0"),
        (["--size", "8"], "px is 8"),
        (["--per-background", "0"], "per_background is 0"),
    ],
)
def test_command_line_refuses_bad_numbers_in_one_line(tmp_path, capsys, options, message):
    assert main(["--out", str(tmp_path / "set"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_command_line_refuses_folder_in_use(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("")
    assert main(["--out", str(tmp_path), "--count", "1", "--size", "32"]) == 2
    assert "in use" in capsys.readouterr().err


def test_command_line_makes_a_data_set(tmp_path, capsys):
    out = tmp_path / "set"
    assert main(["--out", str(out), "--count", "2", "--size", "48", "--workers", "1"]) == 0
    assert "2 scenes" in capsys.readouterr().out
    assert len(read_dataset(out).triplets) == 2


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom data.scenes.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'albumentations', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("px", [64, 512, 600])
def test_grain_covers_images_of_any_size(px):
    noisy = scenes._add_grain(np.full((px, px, 3), 0.5, np.float32), np.random.default_rng(0))
    assert noisy.shape == (px, px, 3) and noisy[-32:, -32:].std() > 0
