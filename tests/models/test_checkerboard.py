import torch

from models.checkerboard import checkerboard

ROWS = torch.linspace(0, 1, 64)[:, None].expand(64, 64)
BOARD = (torch.arange(64)[:, None] + torch.arange(64)) % 2


def figure(maps: torch.Tensor, stride: int = 2) -> float:
    return checkerboard(maps[None, None], stride).item()


def test_smooth_map_has_next_to_no_checkerboard():
    assert figure(torch.sin(6 * ROWS) * torch.cos(5 * ROWS.T)) < 0.01


def test_checkerboard_is_all_checkerboard():
    assert figure(BOARD.float()) > 0.99


def test_figure_grows_with_the_pattern():
    smooth = torch.sin(6 * ROWS)
    values = [figure(smooth + amplitude * BOARD) for amplitude in (0.0, 0.05, 0.2, 0.8)]
    assert values == sorted(values)
    assert values[2] > 10 * values[0]


def test_pattern_of_period_four_is_seen_at_stride_four():
    stripes = (torch.arange(64) % 4 < 2).float().expand(64, 64)
    assert figure(stripes, 4) > 0.9
    assert figure(stripes, 2) < 0.1


def test_constant_map_counts_nothing():
    assert figure(torch.full((64, 64), 0.7)) == 0


def test_figure_is_one_value_an_image():
    maps = torch.stack((ROWS, BOARD.float()))[:, None]
    assert checkerboard(maps).tolist() == [figure(ROWS.contiguous()), figure(BOARD.float())]
