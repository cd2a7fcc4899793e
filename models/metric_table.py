"""The metrics by their names in metrics.json and trials.csv, with title, required labels and direction."""

from dataclasses import dataclass

MASK, DEPTH = frozenset(("mask",)), frozenset(("depth",))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Description of a metric; `models.metrics` computes it."""

    title: str
    needs: frozenset[str]  # labels that an image must have: "mask", "depth" or both
    is_error: bool = False  # True if lower is better and 0 is perfect
    foreground: bool | None = None  # True: only images with foreground, False: only images without


METRICS = {
    "score": Metric(title="score", needs=frozenset()),  # the labels depend on the weights
    "iou": Metric(title="IoU of the mask", needs=MASK, foreground=True),
    "dice": Metric(title="Dice of the mask", needs=MASK, foreground=True),
    "boundary_f": Metric(title="boundary F of the mask", needs=MASK, foreground=True),
    "mae_mask": Metric(title="mean absolute error of the mask", needs=MASK, is_error=True),
    "false_area": Metric(
        title="foreground predicted in images without any", needs=MASK, is_error=True, foreground=False
    ),
    "rmse_depth": Metric(title="RMSE of the depth", needs=DEPTH, is_error=True),
    "abs_rel": Metric(title="relative error of the depth (AbsRel)", needs=DEPTH, is_error=True),
    "log10": Metric(title="log10 error of the depth", needs=DEPTH, is_error=True),
    "silog": Metric(title="scale-invariant log error of the depth (SILog)", needs=DEPTH, is_error=True),
    "delta1": Metric(title="share of the depth within a factor of 1.25", needs=DEPTH),
    "delta2": Metric(title="share of the depth within a factor of 1.25²", needs=DEPTH),
    "delta3": Metric(title="share of the depth within a factor of 1.25³", needs=DEPTH),
    "ssim_depth": Metric(title="SSIM of the depth", needs=DEPTH),
    "study_mse_ssim": Metric(title="MSE of the mask + 1 - SSIM of the depth", needs=MASK | DEPTH, is_error=True),
    "study_l1_msssim": Metric(
        title="0.16 L1 + 0.84 (1 - MS-SSIM) of mask and depth", needs=MASK | DEPTH, is_error=True
    ),
    "checkerboard": Metric(title="checkerboard patterns", needs=frozenset(), is_error=True),
}
