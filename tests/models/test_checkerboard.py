import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from models.metrics import checkerboard

AXIS = torch.arange(64)
ROWS = torch.linspace(0, 1, 64)[:, None].expand(64, 64)
BOARDS = {period: (AXIS[:, None] // (period // 2) + AXIS // (period // 2)) % 2 for period in (2, 4, 8)}
STRIPES = {period: (AXIS % period < period // 2).expand(64, 64) for period in (2, 4, 8)}
DISC = (AXIS[:, None] - 30) ** 2 + (AXIS - 33) ** 2 < 300


def figure(maps: torch.Tensor) -> float:
    return checkerboard(maps[None, None].float()).item()


@pytest.mark.parametrize("period", [2, 4])
def test_pattern_has_its_own_deviation(period):
    board, stripes = BOARDS[period].float(), STRIPES[period].float()
    assert figure(board) == pytest.approx(board.std(correction=0).item(), abs=1e-4) == pytest.approx(0.5, abs=1e-4)
    assert (figure(stripes), figure(stripes.T)) == pytest.approx((0.5 / 2**0.5,) * 2, abs=1e-4)
    assert figure(0.2 * board) == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize(
    "scene", [ROWS, torch.sin(6 * ROWS) * torch.cos(5 * ROWS.T), DISC, AXIS.expand(64, 64) > 20, BOARDS[8], STRIPES[8]]
)
def test_scene_without_pattern_has_none(scene):
    assert figure(scene) < 1e-3


def test_noise_has_next_to_none():
    assert figure(torch.rand(64, 64, generator=torch.Generator().manual_seed(0))) < 0.2 * 12**-0.5


@pytest.mark.parametrize("amplitude", [0.01, 0.1, 0.4])
def test_metric_is_the_pattern_s_and_not_the_scene_s(amplitude):
    scene = 0.5 * torch.sin(6 * ROWS)
    assert figure(scene + amplitude * BOARDS[2]) == pytest.approx(amplitude / 2, rel=0.05)


@pytest.mark.parametrize("amplitude", [0.04, 0.4])
def test_sharp_outlines_hide_but_the_faintest_pattern(amplitude):
    assert figure(DISC + amplitude * BOARDS[2]) == pytest.approx(amplitude / 2, rel=0.2)


def test_pattern_that_is_there_in_places_only_is_seen():
    assert 0.1 < figure(DISC * BOARDS[2]) < 0.25


def test_phase_does_not_matter():
    board = BOARDS[4].float()
    assert figure(board.roll((1, 1), (0, 1))) == pytest.approx(figure(board), abs=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (37, 50), (160, 160)])
def test_any_size_of_16_px_or_more(size):
    board = (torch.arange(size[0])[:, None] + torch.arange(size[1])) % 2
    assert figure(board) == pytest.approx(0.5, abs=1e-4)


def test_constant_map_counts_nothing():
    assert figure(torch.full((64, 64), 0.7)) < 1e-6


def test_metric_is_one_value_an_image_and_the_mean_of_its_maps():
    maps = torch.stack((ROWS, BOARDS[2].float()))
    assert checkerboard(maps[:, None]).tolist() == pytest.approx([figure(ROWS), 0.5], abs=1e-4)
    assert checkerboard(maps[None]).item() == pytest.approx(0.25, abs=1e-4)


def test_uneven_enlarging_is_told_from_even_ones():
    small = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    repeated, smooth = (F.interpolate(small, scale_factor=4, mode=mode) for mode in ("nearest", "bicubic"))
    uneven = smooth + 0.05 * smooth * BOARDS[2]
    assert max(checkerboard(repeated).max(), checkerboard(smooth).max()) < 0.002 < checkerboard(uneven).min()
