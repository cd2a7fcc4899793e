import math

import numpy as np
import pytest
import pytorch_msssim
import torch

from models.losses.loss import build_loss
from models.losses.registry import LossConfig
from models.losses.terms import ms_ssim, ssim
from models.metric_table import METRICS
from models.metrics import (
    MIN_DEPTH,
    MetricSums,
    boundary_f,
    compute_full_metrics,
    compute_relative_depth_metrics,
    compute_reported_ms_ssim,
    compute_reported_ssim,
    compute_score_metrics,
    find_boundary,
    overlap,
    predict_constant,
)
from models.score import Score
from models.target import Target

SCORE = Score(sigma=0.25)
OF_MASK = {name for name, metric in METRICS.items() if "mask" in metric.needs}
OF_DEPTH = {name for name, metric in METRICS.items() if "depth" in metric.needs}
KEYS = {"score", "iou", "dice", "mae_mask", "boundary_f", "rmse_depth", "abs_rel", "log10", "silog"}
KEYS |= {"delta1", "delta2", "delta3", "ssim_depth", "study_mse_ssim", "study_l1_msssim", "checkerboard"}


def scene(n: int = 5, px: int = 40, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    rows = torch.linspace(0, 1, px)[:, None].expand(px, px)
    depth = (rows * torch.rand(n, 1, 1, 1, generator=g) + 0.1).contiguous()
    mask = torch.zeros(n, 1, px, px)
    for i in range(n):
        mask[i, 0, 5 + i : 20 + 2 * i, 8 : 25 - i] = 1
    pred = torch.cat((mask, depth), 1) + 0.3 * torch.randn(n, 2, px, px, generator=g)
    valid = torch.rand(n, 1, px, px, generator=g) > 0.25
    return pred.clamp(0, 1), mask, depth, valid


def measured(metrics, pred, mask, depth, valid, known=None, step: int = 100) -> dict[str, float]:
    sums, known = MetricSums(SCORE, metrics), torch.ones(len(pred), dtype=torch.bool) if known is None else known
    for k in range(0, len(pred), step):
        some = slice(k, k + step)
        sums.update(pred[some], Target(mask[some], depth[some], valid[some], known[some]))
    return sums.compute()


def binary(*rows: str) -> torch.Tensor:
    return torch.tensor([[c == "#" for c in row] for row in rows])[None, None]


def test_full_metrics_have_the_promised_keys():
    assert set(measured(compute_full_metrics, *scene())) == KEYS


def test_score_metrics_are_part_of_the_full_ones():
    few, all_of_them = measured(compute_score_metrics, *scene()), measured(compute_full_metrics, *scene())
    assert few == {name: all_of_them[name] for name in few}
    assert "checkerboard" in few


def test_perfect_prediction_has_perfect_metrics():
    _, mask, depth, valid = scene()
    metrics = measured(compute_full_metrics, torch.cat((mask, depth), 1), mask, depth, valid)
    ones = {"score", "iou", "dice", "boundary_f", "delta1", "delta2", "delta3", "ssim_depth"}
    assert {k: metrics[k] for k in ones} == pytest.approx(dict.fromkeys(ones, 1.0), abs=1e-5)
    zeros = KEYS - ones - {"checkerboard"}
    assert {k: metrics[k] for k in zeros} == pytest.approx(dict.fromkeys(zeros, 0.0), abs=1e-5)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_metrics_do_not_depend_on_the_batch_size(step):
    assert measured(compute_full_metrics, *scene(), step=step) == pytest.approx(
        measured(compute_full_metrics, *scene()), rel=1e-5
    )


@pytest.mark.parametrize(
    ("pred", "true", "iou", "dice"),
    [
        ("##..", ".##.", 1 / 3, 1 / 2),
        ("####", "##..", 1 / 2, 2 / 3),
        ("....", "##..", 0, 0),
        ("##..", "....", 0, 0),
        ("....", "....", 1, 1),
    ],
)
def test_overlap_has_the_value_computed_by_hand(pred, true, iou, dice):
    values = [v.item() for v in overlap(binary(pred), binary(true))]
    assert values == pytest.approx([iou, dice])


def test_mask_at_exactly_one_half_is_background():
    half = torch.full((1, 2, 16, 16), 0.5)
    mask, valid = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    assert compute_score_metrics(half, Target(mask, mask, valid, torch.ones(1).bool()))["iou"].item() == 1


def test_boundary_is_the_inner_rim_and_not_the_image_s_edge():
    mask = binary("####.", "####.", "####.", ".....")
    assert torch.equal(find_boundary(mask), binary("...#.", "...#.", "####.", "....."))
    assert not find_boundary(torch.ones(1, 1, 5, 5, dtype=torch.bool)).any()


@pytest.mark.parametrize("tolerance", [1, 2, 4])
def test_boundary_f_agrees_with_distances_of_all_pairs(tolerance):
    g = torch.Generator().manual_seed(tolerance)
    for _ in range(5):
        pred, true = (torch.nn.functional.avg_pool2d(torch.rand(2, 1, 1, 30, 26, generator=g)[:, 0], 5, 1, 2) > 0.5)[
            :, None
        ]
        ours, theirs = (np.argwhere(find_boundary(m)[0, 0].numpy()) for m in (pred, true))
        distance = np.abs(ours[:, None] - theirs[None]).max(-1)
        precision, recall = (distance.min(1) <= tolerance).mean(), (distance.min(0) <= tolerance).mean()
        expected = 2 * precision * recall / (precision + recall)
        assert boundary_f(pred, true, tolerance).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("pred", "true", "value"), [("....", "....", 1), ("....", ".##.", 0), (".##.", "....", 0)])
def test_boundary_f_of_empty_masks(pred, true, value):
    assert boundary_f(binary(pred), binary(true)).item() == value


def test_boundary_tolerance_grows_with_the_image():
    small, large = torch.zeros(2, 1, 1, 80, 80), torch.zeros(2, 1, 1, 320, 320)
    small[0, ..., 10:20, 10:20], small[1, ..., 12:22, 12:22] = 1, 1
    large[0, ..., 10:20, 10:20], large[1, ..., 12:22, 12:22] = 1, 1
    assert boundary_f(*(small > 0.5)).item() < boundary_f(*(large > 0.5)).item() == 1


def test_depth_metrics_agree_with_loops_over_pixels():
    pred, _, depth, valid = scene()
    metrics = compute_relative_depth_metrics(pred[:, 1:], depth, valid)
    for i in range(len(pred)):
        p = np.maximum(pred[i, 1].numpy()[valid[i, 0]].astype(float), MIN_DEPTH)
        t = np.maximum(depth[i, 0].numpy()[valid[i, 0]].astype(float), MIN_DEPTH)
        ratio = np.maximum(p / t, t / p)
        expected = {
            "abs_rel": np.mean(np.abs(p - t) / t),
            "log10": np.mean(np.abs(np.log10(p) - np.log10(t))),
            "silog": np.std(np.log(p) - np.log(t)),
            **{f"delta{k}": np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
        }
        assert {k: v[i].item() for k, v in metrics.items()} == pytest.approx(expected, rel=1e-4)


def test_rmse_is_taken_per_image_over_valid_pixels():
    pred, depth = torch.zeros(2, 2, 16, 16), torch.zeros(2, 1, 16, 16)
    depth[0], depth[1] = 0.2, 0.6
    valid = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    valid[0, 0, 0, 0] = valid[1, 0, 3:5] = True
    depth[~valid] = 1
    assert measured(compute_score_metrics, pred, depth * 0, depth, valid)["rmse_depth"] == pytest.approx(0.4)


def test_images_without_valid_depth_do_not_count_for_depth():
    pred, mask, depth, valid = scene()
    valid[3:] = False
    metrics, some = (
        measured(compute_full_metrics, pred, mask, depth, valid),
        measured(compute_full_metrics, *(x[:3] for x in scene())),
    )
    assert metrics["rmse_depth"] == pytest.approx(some["rmse_depth"])
    assert metrics["ssim_depth"] == pytest.approx(some["ssim_depth"])
    assert all(math.isfinite(v) for v in metrics.values())


def test_data_without_any_depth_scores_its_mask():
    pred, mask, depth, valid = scene()
    metrics = measured(compute_full_metrics, pred, mask, depth, valid & False)
    assert "rmse_depth" not in metrics
    assert metrics["score"] == metrics["iou"]


def test_images_without_a_mask_do_not_count_for_the_mask():
    known = torch.tensor([True, False, True, True, False])
    metrics = measured(compute_full_metrics, *scene(), known)
    some = measured(compute_full_metrics, *(tensor[known] for tensor in scene()))
    whole = measured(compute_full_metrics, *scene())
    of_mask = OF_MASK - {"false_area"} | {"score"}
    of_depth = OF_DEPTH - OF_MASK | {"checkerboard"}
    assert {k: metrics[k] for k in of_mask - {"score"}} == pytest.approx({k: some[k] for k in of_mask - {"score"}})
    assert {k: metrics[k] for k in of_depth} == pytest.approx({k: whole[k] for k in of_depth})
    assert metrics["score"] == pytest.approx(0.5 * some["iou"] + 0.5 * (1 - whole["rmse_depth"] / 0.25))


def test_data_without_any_mask_scores_its_depth():
    metrics = measured(compute_full_metrics, *scene(), torch.zeros(5, dtype=torch.bool))
    assert not OF_MASK & metrics.keys() and metrics.keys() >= OF_DEPTH - OF_MASK
    assert metrics["score"] == pytest.approx(1 - metrics["rmse_depth"] / 0.25)


def test_study_s_metrics_are_of_images_that_have_both():
    pred, mask, depth, valid = scene()
    valid[0] = False
    known = torch.tensor([True, False, True, True, True])
    both = measured(compute_full_metrics, *(tensor[2:] for tensor in (pred, mask, depth, valid)))
    metrics = measured(compute_full_metrics, pred, mask, depth, valid, known)
    assert metrics["study_mse_ssim"] == pytest.approx(both["study_mse_ssim"])
    known[2:] = False
    assert "study_mse_ssim" not in measured(compute_full_metrics, pred, mask, depth, valid, known)


def test_data_of_which_nothing_is_known_cannot_be_scored():
    pred, mask, depth, valid = scene()
    with pytest.raises(ValueError, match="nothing to score"):
        measured(compute_full_metrics, pred, mask, depth, valid & False, torch.zeros(5, dtype=torch.bool))


def test_unknown_depth_is_never_read():
    pred, mask, depth, valid = scene()
    nan = torch.where(valid, depth, torch.full_like(depth, float("nan")))
    assert measured(compute_full_metrics, pred, mask, nan, valid) == measured(
        compute_full_metrics, pred, mask, depth, valid
    )


def test_ms_ssim_metric_is_absent_below_its_smallest_size():
    metrics = measured(compute_full_metrics, *scene(px=32))
    assert KEYS - set(metrics) == {"study_l1_msssim"}


@pytest.mark.parametrize(
    ("weights", "extra"),
    [
        ({"iou": 1.0}, set()),
        ({"boundary_f": 0.5, "rmse_depth": 0.5}, {"boundary_f"}),
        ({"delta1": 0.3, "silog": 0.7}, {"abs_rel", "log10", "silog", "delta1", "delta2", "delta3"}),
    ],
)
def test_metrics_that_the_score_counts_are_measured_at_each_epoch(weights, extra):
    pred, mask, depth, valid = scene()
    usual = measured(compute_score_metrics, pred, mask, depth, valid).keys()
    sums = MetricSums(Score(sigma=0.25, weights=weights))
    sums.update(pred, Target(mask, depth, valid, torch.ones(5, dtype=torch.bool)))
    found, whole = sums.compute(), measured(compute_full_metrics, pred, mask, depth, valid)
    assert found.keys() - usual == extra
    assert {name: found[name] for name in extra} == {name: whole[name] for name in extra}
    assert found["score"] == pytest.approx(Score(sigma=0.25, weights=weights).compute(whole))


def test_study_metrics_are_the_study_s_losses():
    pred, mask, depth, valid = scene()
    known = torch.ones(len(pred), dtype=torch.bool)
    metrics = measured(compute_full_metrics, pred, mask, depth, valid | True)
    parts = {"mask_pixel": "mse", "mask_structural": "none", "depth_structural": "ssim", "depth_alpha": 0.0}
    first = build_loss(LossConfig.from_dict(parts), 40)(pred, Target(mask, depth, valid | True, known)).total
    both = {f"{t}_{k}": v for t in ("mask", "depth") for k, v in (("pixel", "l1"), ("structural", "ms_ssim"))}
    alphas = {"mask_alpha": 0.16, "depth_alpha": 0.16}
    second = build_loss(LossConfig.from_dict(both | alphas), 40)(pred, Target(mask, depth, valid | True, known)).total
    assert metrics["study_mse_ssim"] == pytest.approx(first.item(), rel=1e-5)
    assert metrics["study_l1_msssim"] == pytest.approx(second.item(), rel=1e-5)


@pytest.mark.parametrize("px", [9, 33, 64, 80, 161, 224])
def test_reported_ssim_equals_the_training_loss_s(px):
    pred, _, depth, _ = scene(px=px)
    torch.testing.assert_close(compute_reported_ssim(pred[:, 1:], depth), ssim(pred[:, 1:], depth), atol=1e-5, rtol=0)
    if px >= 33:
        torch.testing.assert_close(
            compute_reported_ms_ssim(pred[:, 1:], depth), ms_ssim(pred[:, 1:], depth), atol=1e-5, rtol=0
        )


def test_reported_ssim_comes_from_pytorch_msssim(monkeypatch):
    monkeypatch.setattr(pytorch_msssim, "ssim", lambda x, y, **_: torch.full((len(x),), 0.25))
    monkeypatch.setattr(pytorch_msssim, "ms_ssim", lambda x, y, **_: torch.full((len(x),), 0.5))
    _, mask, depth, valid = scene()
    metrics = measured(compute_full_metrics, torch.cat((mask, depth), 1), mask, depth, valid | True)
    assert metrics["ssim_depth"] == pytest.approx(0.25) and metrics["study_mse_ssim"] == pytest.approx(0.75)
    assert metrics["study_l1_msssim"] == pytest.approx(0.84)


def test_constant_guess_scores_about_zero():
    _, mask, depth, valid = scene(n=8)
    known = depth[valid]
    sums = MetricSums(Score(sigma=known.std().item()), compute_full_metrics)
    sums.update(
        predict_constant(mask, known.mean().item()), Target(mask, depth, valid, torch.ones(8, dtype=torch.bool))
    )
    metrics = sums.compute()
    assert metrics["iou"] == 0
    assert metrics["score"] == pytest.approx(0, abs=0.1)
    assert metrics["mae_mask"] == pytest.approx(mask.mean().item())


def test_no_image_cannot_be_measured():
    with pytest.raises(ValueError, match="no image"):
        MetricSums(SCORE).compute()


def test_metrics_are_float32_under_autocast():
    pred, mask, depth, valid = scene()
    with torch.autocast("cpu", torch.bfloat16):
        cast = measured(compute_full_metrics, pred, mask, depth, valid)
    assert cast == measured(compute_full_metrics, pred, mask, depth, valid)


def test_empty_against_empty_is_no_success():
    _, mask, depth, valid = scene(4)
    mask[:2] = 0
    pred = predict_constant(mask, 0.5)
    pred[1, 0, :10] = 1
    metrics = measured(compute_score_metrics, pred, mask, depth, valid)
    assert metrics["iou"] == 0 and metrics["dice"] == 0, "nothing was found in the two images that have foreground"
    assert metrics["false_area"] == pytest.approx((0 + 0.25) / 2)
    assert "false_area" not in measured(compute_score_metrics, *(tensor[2:] for tensor in (pred, mask, depth, valid)))
    without = measured(compute_score_metrics, *(tensor[:2] for tensor in (pred, mask, depth, valid)))
    assert "iou" not in without and without["score"] == pytest.approx(1 - without["rmse_depth"] / 0.25)


def test_ignored_pixels_are_not_measured():
    pred, mask, depth, valid = scene(3)
    pixels = torch.ones_like(valid)
    pixels[:, :, :20] = False
    known = torch.ones(3, dtype=torch.bool)
    target = Target(mask, depth, valid, known, pixels)
    spoilt = pred.clone()
    spoilt[:, 0, :20] = 1 - spoilt[:, 0, :20]
    found, other = (compute_full_metrics(each, target) for each in (pred, spoilt))
    for name in ("iou", "dice", "mae_mask", "false_area"):
        torch.testing.assert_close(found[name], other[name])
    half = overlap(pred[:, :1, 20:] > 0.5, mask[:, :, 20:] > 0.5)[0]
    torch.testing.assert_close(found["iou"], half)
    loss = build_loss(LossConfig(), 40)
    torch.testing.assert_close(loss(pred, target).parts["mask_pixel"], loss(spoilt, target).parts["mask_pixel"])
