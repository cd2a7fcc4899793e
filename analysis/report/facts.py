"""Text and tables of the report: why the best trial was selected, how trials ended, how the time was spent."""

import json
from collections import Counter
from typing import Any

import pandas as pd

from analysis.runs.curves import Span
from analysis.runs.importance import StudyTrials
from analysis.runs.run import Run, add_latency
from models.metric_table import METRICS
from models.score import DEFAULT_WEIGHTS, describe_score
from search.output.model_card import SPLITS

SHOWN = "score iou dice boundary_f mae_mask false_area rmse_depth abs_rel delta1 ssim_depth".split()  # noqa: SIM905
STATUSES = {
    "completed": "trained to its planned end",
    "ended_by_budget": "reached the time limit with an annealed learning rate, so the score counts",
    "stopped": "ended early by ASHA, because others scored higher",
    "failed": "ended with an error",
    "running": "still training",
    "unfinished": "still running when the run ended",
}


def build_cards(run: Run, metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the key facts of the best model as label, value and hint of each card; `metrics` is best/metrics.json."""
    best = run.best
    if best is None:
        return []
    split = next((split for split in ("test", "val") if split in metrics), "")
    own = metrics.get(split, best.to_dict())
    where = {"test": "test images", "val": "validation images"}.get(split, f"{best['stage']}, validation")
    guess = own.get("constant_guess", {}).get("score")
    latency = add_latency(run).set_index("trial_id")["latency_ms"].get(best["trial_id"])
    size = f"an image of {_format(best['px'], '.0f', ' px')}"
    cards = [
        ("network", str(best["network"]), f"trial {best['trial_id']}"),
        ("score", _format(own.get("score"), ".3f"), where + ("" if guess is None else f"; constant guess {guess:.3f}")),
        ("IoU of the mask", _format(own.get("iou"), ".3f"), where),
        ("RMSE of the depth", _format(own.get("rmse_depth"), ".3f"), where),
        ("parameters", _format(best["params"], ",.0f"), ""),
        ("multiply-adds", _format(best["macs"] / 1e6, ",.1f", " M"), size),
        ("latency", _format(latency, ".1f", " ms"), f"one image on {name_latency_device(run)}"),
    ]
    return [card for card in cards if card[1]]


def name_latency_device(run: Run) -> str:
    """Return the device of the latencies that a run measured: the name of a GPU, or one thread."""
    usual = "the GPU" if _read_devices(run.run_json).get("gpu") else "one thread"
    return next((str(line["latency_on"]) for line in run.run_json.get("front", []) if "latency_on" in line), usual)


def _read_devices(content: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of cores ("cpu") and GPUs ("gpu") in run.json; formats before 4 call them "cluster"."""
    return content.get("devices") or {name.rstrip("s"): count for name, count in content.get("cluster", {}).items()}


def explain_score(run: Run) -> str:
    """Return the formula of the run's scores over the metrics that its data allow."""
    weights = run.run_json.get("data", {}).get("score", DEFAULT_WEIGHTS)
    known = [name for name in weights if name in run.trials and run.trials[name].notna().any()]
    return describe_score(weights, known or weights)


def _format(value: Any, form: str, unit: str = "") -> str:
    return "" if value is None or pd.isna(value) else format(value, form) + unit


def trace_lineage(run: Run) -> pd.DataFrame:
    """Return the best trial and its ancestors, a row per stage: `stage`, `trial_id`, `rank`, `of` and the metrics."""
    known = run.trials.set_index("trial_id", drop=False)
    rows: list[pd.Series] = []
    trial = run.best
    while trial is not None:
        rows.insert(0, trial)
        trial = known.loc[trial["parent_id"]] if trial["parent_id"] in known.index else None
    of = run.trials[run.trials["rank"].notna()].groupby("stage").size()
    path = pd.DataFrame(rows, columns=run.trials.columns)
    return path.assign(of=path["stage"].map(of))


def explain_best(run: Run) -> list[str]:
    """Return sentences that explain, from the records, why the best trial was selected."""
    best = run.best
    if best is None:
        return []
    others = run.trials[(run.trials["stage"] == best["stage"]) & (run.trials["trial_id"] != best["trial_id"])]
    others = others[others["rank"].notna()].sort_values("rank")
    sentences = []
    if len(others):
        second = others.iloc[0]
        lead = best["score"] - second["score"]
        place = f"{abs(lead):.3f} {'ahead of' if lead >= 0 else 'behind'} {second['trial_id']} ({second['network']})"
        sentences.append(f"In {best['stage']} it scored {best['score']:.3f}, {place}.")
    seeds = run.run_json.get("seeds", {})
    if best["trial_id"] in seeds.get("trials", ()):
        spread = f", 95 % interval {seeds['low']:.3f} to {seeds['high']:.3f}" if "low" in seeds else ""
        sentences.append(
            f"Trained with {len(seeds['scores'])} seeds it scores {seeds['mean']:.3f} on average{spread}; "
            "the mean over seeds decided between repeated finalists."
        )
    path = trace_lineage(run)
    if len(path) > 1:
        first = path.iloc[0]
        place = f"number {first['rank']:.0f} of {first['of']:.0f}"
        sentences.append(f"In {first['stage']} the same configuration was {place}.")
    return sentences


def tabulate_metrics(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return the metrics of best/metrics.json: `metric`, `better`, a column per split, and `guess` (constant guess)."""
    splits = [split for split in ("val", "test") if split in metrics]
    guess = metrics[splits[-1]].get("constant_guess", {}) if splits else {}
    about = {name: (METRICS[name].title, "lower" if METRICS[name].is_error else "higher") for name in SHOWN}
    rows = [
        {"metric": title, "better": better}
        | {split: metrics[split].get(name) for split in splits}
        | {"guess": guess.get(name)}
        for name, (title, better) in {**about, "images": ("images measured", "")}.items()
        if any(name in metrics[split] for split in splits)
    ]
    return pd.DataFrame(rows, columns=["metric", "better", *splits, "guess"], dtype=object)


def count_endings(run: Run) -> pd.DataFrame:
    """Count the trials by stage and status."""
    ends = pd.crosstab(run.trials["stage"], run.trials["status"])
    return ends.reindex(index=run.stages, columns=[status for status in STATUSES if status in ends])


def group_failures(run: Run) -> pd.DataFrame:
    """Group the failed trials by reason, the most frequent first: `reason`, `count` and `trials`."""
    failed = run.trials[run.trials["status"] == "failed"]
    grouped = failed.assign(reason=failed["reason"].fillna("no recorded reason")).groupby("reason", sort=False)
    table = grouped["trial_id"].agg(count="size", trials=lambda ids: list(ids)).reset_index()
    return table.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def count_rejections(study: StudyTrials) -> dict[str, int]:
    """Count the configurations that were rejected before training, by the constraint that they violated."""
    untrained = [trial for trial in study if "trial_id" not in trial.user_attrs]
    rejected = [trial.constraints for trial in untrained if trial.state.name == "PRUNED"]
    violated = [[name for name, by in excess.items() if by > 0] for excess in rejected]
    return dict(Counter(" and ".join(sorted(names)) or "unrecorded constraint" for names in violated).most_common())


def list_phases(run: Run) -> pd.DataFrame:
    """Return the phases of a run in order: `phase`, `stage`, `began_s`, `wall_s`, `busy` and the stage's plan."""
    content, end = run.run_json, 0.0
    rows: list[dict[str, Any]] = []
    for stage in content.get("stages", []):
        began = stage.get("began_s", end or content.get("startup_s", 0.0))
        if began - end > 0.5:
            rows.append({"phase": "between stages" if rows else "start-up", "stage": "", "wall_s": began - end})
        again = f", round {stage['round']}" if stage.get("round", 1) > 1 else ""
        wall = stage.get("wall_s", max(content.get("wall_s", began) - began, 0.0))
        rows.append({**stage, "phase": stage["name"] + again, "stage": stage["name"], "wall_s": wall})
        end = began + wall
    if content.get("wall_s", end) - end > 0.5:
        rows.append({"phase": "closing" if rows else "start-up", "stage": "", "wall_s": content["wall_s"] - end})
    table = pd.DataFrame(rows)
    wanted = ["phase", "stage", "wall_s", "busy", "trials", "px", "train_images", "val_images"]
    table = table.reindex(columns=[*dict.fromkeys([*wanted, *table.columns])])
    return table.assign(began_s=table["wall_s"].cumsum() - table["wall_s"], busy=table["busy"].astype(float))


def describe_device_hours(run: Run) -> str:
    """Return a sentence on how long devices were reserved; "" if that is not recorded."""
    hours = {kind: seconds / 3600 for kind, seconds in run.run_json.get("device_s", {}).items() if seconds}
    held = " and ".join(f"{amount:.2f} {kind.upper()} hours" for kind, amount in hours.items())
    return f"Devices were reserved for {held} in all, busy or idle." if held else ""


def find_stage_spans(run: Run) -> list[Span]:
    """Return the start and end of each stage in seconds of run time."""
    table = list_phases(run)
    stages = table[table["stage"] != ""]
    return list(zip(stages["stage"], stages["began_s"], stages["began_s"] + stages["wall_s"], strict=True))


def describe_environment(run: Run) -> list[tuple[str, str]]:
    """Return the conditions of a run, such as data, budget and versions, as names and texts."""
    content = run.run_json
    data, options = content.get("data", {}), content.get("options", {})
    sizes = ", ".join(f"{data[name]:,} {name}" for name in ("train", "val", "test") if isinstance(data.get(name), int))
    limits = {name: value for name, value in options.items() if name.startswith("max_") and value is not None}
    devices, split = _read_devices(content), data.get("split_by", data.get("split"))
    facts = {
        "data": " + ".join(data.get("folders", ())) or data.get("folder"),
        "images": sizes,
        "left out": _describe_left_out(data.get("left_out", {})),
        "split": SPLITS.get(split, split),
        "fingerprint of the data": data.get("fingerprint"),
        "budget": content.get("budget"),
        "seed": content.get("seed"),
        "sampler": options.get("sampler"),
        "stages": options.get("stages"),
        "constraints": json.dumps(limits) if limits else None,
        "cores and GPUs": f"{devices['cpu']} and {devices['gpu']}" if devices else content.get("cpus"),
        "Python": content.get("python"),
        "platform": content.get("platform"),
        **content.get("versions", {}),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "", "absent")]


def _describe_left_out(left_out: dict[str, Any]) -> str:
    """Return the number of unusable triplets and the reasons; "" if there are none."""
    reasons = ", ".join(f"{words}: {count}" for words, count in left_out.get("reasons", {}).items())
    return f"{left_out['triplets']:,} of {left_out['of']:,} ({reasons})" if left_out.get("triplets") else ""


def list_commands(run: Run) -> list[tuple[str, str]]:
    """Return the start time and the exact command of each process that worked on the run."""
    processes = [*run.run_json.get("earlier", []), run.run_json]
    return [(str(process.get("time", "")), str(process["command"])) for process in processes if "command" in process]
