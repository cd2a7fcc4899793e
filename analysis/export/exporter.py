"""Export a trained model to one of the formats, and compare the content with the model before it is written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.export.formats import FORMATS, PortableNetwork, Program, silence_exporters
from analysis.predict.model import Model
from data.runtime.cli import first_line
from data.runtime.progress import Progress, no_progress
from models.cost import measure_ms

SIZES = ((1, 16, 16), (3, 97, 131), (2, 64, 240), (1, 333, 250), (1, 17, 300))
MAX_DIFFERENCE = 1e-4  # for values in [0, 1]; one step of eight bits is 4e-3
Size = tuple[int, int, int]  # images, height, width


class ExportError(RuntimeError):
    """The format cannot express the model or changes its outputs; the message is one line."""


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """The content of an exported file and its measurements."""

    content: bytes
    difference: float  # largest absolute difference from the model's outputs, which are in [0, 1], over all checks
    latency_ms: float  # minimum milliseconds for one image of the model's size, on one thread
    torch_latency_ms: float  # the same measurement for the model in torch


def export(model: Model, to: str, *, progress: Progress = no_progress) -> ExportedModel:
    """Export a model, open the result again and compare its outputs with the model's."""
    form, own = FORMATS[to], (1, model.px, model.px)
    form.check_packages()
    with silence_exporters(), torch.inference_mode(False), torch.no_grad():
        try:
            content = form.write(PortableNetwork(model), describe(model))
            program = form.open(content)
        except Exception as error:  # exporters and runtimes raise errors of many types
            raise ExportError(f"{to} cannot express this network ({first_line(error)})") from error
        difference = measure_difference(program, model, [*SIZES, own], progress=progress)
        image = draw_random_images(own)
        return ExportedModel(
            content=content,
            difference=difference,
            latency_ms=measure_ms(lambda: program(image)),
            torch_latency_ms=measure_ms(lambda: predict(model, image)),
        )


def describe(model: Model) -> dict[str, str]:
    """Return the metadata of an exported file."""
    return {
        "rgb": "red, green, blue in 0..255, uint8, shape (images, 3, height, width)",
        "mask": "foreground in [0, 1], shape (images, 1, height, width)",
        "depth": "relative inverse depth in [0, 1], near = 1, shape (images, 1, height, width)",
        "px": str(model.px),
        "trial_id": model.trial_id,
        "config": json.dumps(model.config.to_dict()),
    }


def measure_difference(
    program: Program, model: Model, sizes: Sequence[Size], *, progress: Progress = no_progress
) -> float:
    """Return the largest absolute difference between a program and the model over random images of several sizes."""
    largest = 0.0
    for number, size in enumerate(sizes, start=1):
        rgb = draw_random_images(size)
        shown = "{} x {} x {}".format(*size)
        try:
            pairs = zip(program(rgb), predict(model, rgb), strict=True)
            difference = max(float((found.detach() - expected).abs().max()) for found, expected in pairs)
        except Exception as error:  # each runtime raises its own error types
            raise ExportError(f"the file does not run on {shown} images ({first_line(error)})") from error
        if not difference <= MAX_DIFFERENCE:  # catches nan too
            raise ExportError(
                f"the file differs from the model by up to {difference:.2g} on {shown} images; not written"
            )
        largest = max(largest, difference)
        progress(number, len(sizes))
    return largest


def predict(model: Model, rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask and depth of the model itself for images (b, 3, h, w)."""
    maps = torch.from_numpy(model.predict_squares(rgb.permute(0, 2, 3, 1).numpy()))
    return maps[:, :1], maps[:, 1:]


def draw_random_images(size: Size) -> Tensor:
    """Return images of coarse and fine noise, which depend on the size only."""
    count, height, width = size
    generator = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (255 * (0.8 * smooth + 0.2 * fine)).byte()
