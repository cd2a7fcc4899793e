"""What a run has to tell in words and tables: its best trial and why, how trials ended, where the time went.

Plain values and frames for the report and for notebooks; no charts, no HTML.
"""

import json
from collections import Counter
from typing import Any

import pandas as pd

from analysis.runs.curves import Span
from analysis.runs.importance import load_study
from analysis.runs.run import Run, with_latency

FIGURES = {  # of metrics.json: what each is called, and which way is better
    "score": ("score", "higher"),
    "iou": ("IoU of the mask", "higher"),
    "dice": ("Dice of the mask", "higher"),
    "boundary_f": ("boundary F of the mask", "higher"),
    "mae_mask": ("mean absolute error of the mask", "lower"),
    "rmse_depth": ("RMSE of the depth", "lower"),
    "abs_rel": ("relative error of the depth (AbsRel)", "lower"),
    "delta1": ("depth within a factor of 1.25", "higher"),
    "ssim_depth": ("SSIM of the depth", "higher"),
    "images": ("images measured", ""),
}
ENDINGS = {
    "completed": "came to its planned end",
    "timed_out": "cut by the clock, annealed",
    "stopped": "stopped early, for others did better",
    "failed": "failed",
    "running": "running",
    "unfinished": "had not ended when the run did",
}


def headline(run: Run, metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures that a glance should find: name, value and what stands below it.

    Args:
        run: From analysis.runs.
        metrics: Of best/metrics.json; empty where there is no model yet.
    """
    best = run.best
    if best is None:
        return []
    part = next((part for part in ("test", "val") if part in metrics), "")
    own = metrics.get(part, best.to_dict())
    where = {"test": "test images", "val": "validation images"}.get(part, f"{best['stage']}, validation")
    guess = own.get("constant_guess", {}).get("score")
    latency = with_latency(run).set_index("trial_id")["latency_ms"].get(best["trial_id"])
    size = f"an image of {_number(best['px'], '.0f', ' px')}"
    cards = [
        ("network", str(best["network"]), f"trial {best['trial_id']}"),
        ("score", _number(own.get("score"), ".3f"), where + ("" if guess is None else f"; constant guess {guess:.3f}")),
        ("IoU of the mask", _number(own.get("iou"), ".3f"), where),
        ("RMSE of the depth", _number(own.get("rmse_depth"), ".3f"), where),
        ("parameters", _number(best["params"], ",.0f"), ""),
        ("multiply-adds", _number(best["macs"] / 1e6, ",.1f", " M"), size),
        ("latency", _number(latency, ".1f", " ms"), "one image, one thread or the GPU"),
    ]
    return [card for card in cards if card[1]]


def formula(run: Run) -> str:
    """Return how the scores of a run came about: of mask and depth, or of the one that is known in its data."""
    known = [name for name in ("iou", "rmse_depth") if run.trials[name].notna().any()]
    overlap, skill = "IoU of the mask", "1 - RMSE of the depth / its deviation over the validation images"
    alone = {"iou": f"{overlap} (no depth is known)", "rmse_depth": f"{skill} (no mask is known)"}
    return alone[known[0]] if len(known) == 1 else f"½ · {overlap} + ½ · ({skill})"


def _number(value: Any, form: str, unit: str = "") -> str:
    return "" if value is None or pd.isna(value) else format(value, form) + unit


def lineage(run: Run) -> pd.DataFrame:
    """Return the best trial's way up, a row per stage: `stage`, `trial_id`, `rank`, `of` and its figures."""
    known = run.trials.set_index("trial_id", drop=False)
    rows: list[pd.Series] = []
    trial = run.best
    while trial is not None:
        rows.insert(0, trial)
        trial = known.loc[trial["parent_id"]] if trial["parent_id"] in known.index else None
    of = run.trials[run.trials["rank"].notna()].groupby("stage").size()
    path = pd.DataFrame(rows, columns=run.trials.columns)
    return path.assign(of=path["stage"].map(of))


def reasons(run: Run) -> list[str]:
    """Return in sentences why the best is the best, as far as the records say."""
    best = run.best
    if best is None:
        return []
    others = run.trials[(run.trials["stage"] == best["stage"]) & (run.trials["trial_id"] != best["trial_id"])]
    others = others[others["rank"].notna()].sort_values("rank")
    said = []
    if len(others):
        next_best = others.iloc[0]
        apart = best["score"] - next_best["score"]
        word = "ahead of" if apart >= 0 else "behind"
        said.append(
            f"In {best['stage']} it scored {best['score']:.3f}, {abs(apart):.3f} {word} {next_best['trial_id']} "
            f"({next_best['network']})."
        )
    seeds = run.notes.get("seeds", {})
    if best["trial_id"] in seeds.get("trials", ()):
        spread = f", 95 % interval {seeds['low']:.3f} to {seeds['high']:.3f}" if "low" in seeds else ""
        said.append(
            f"Trained with {len(seeds['scores'])} seeds it scores {seeds['mean']:.3f} on average{spread}; "
            "among finalists that were repeated, this mean decided."
        )
    path = lineage(run)
    if len(path) > 1:
        first = path.iloc[0]
        said.append(f"In {first['stage']} the same configuration was number {first['rank']:.0f} of {first['of']:.0f}.")
    return said


def measured(metrics: dict[str, Any]) -> pd.DataFrame:
    """Return the figures of best/metrics.json: `figure`, `better`, a column per part, and the constant guess's."""
    parts = [part for part in ("val", "test") if part in metrics]
    guess = metrics[parts[-1]].get("constant_guess", {}) if parts else {}
    rows = [
        {"figure": told, "better": better}
        | {part: metrics[part].get(name) for part in parts}
        | {"guess": guess.get(name)}
        for name, (told, better) in FIGURES.items()
        if any(name in metrics[part] for part in parts)
    ]
    return pd.DataFrame(rows, columns=["figure", "better", *parts, "guess"], dtype=object)


def endings(run: Run) -> pd.DataFrame:
    """Return how many trials of each stage ended in which way."""
    table = pd.crosstab(run.trials["stage"], run.trials["status"])
    return table.reindex(index=run.stages, columns=[status for status in ENDINGS if status in table])


def failures(run: Run) -> pd.DataFrame:
    """Return the failed trials by their reason, the most frequent first: `reason`, `count` and `trials`."""
    failed = run.trials[run.trials["status"] == "failed"]
    grouped = failed.assign(reason=failed["reason"].fillna("no reason on record")).groupby("reason", sort=False)
    table = grouped["trial_id"].agg(count="size", trials=lambda ids: list(ids)).reset_index()
    return table.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def rejections(run: Run) -> dict[str, int]:
    """Return how many configurations were rejected before they cost anything, by the rule that they broke."""
    if not (run.folder / "study.journal").is_file():
        return {}
    told = [trial for trial in load_study(run.folder) if "trial_id" not in trial.user_attrs]
    broken = [[name for name, by in trial.constraints.items() if by > 0] for trial in told if trial.state.is_finished()]
    return dict(Counter(" and ".join(sorted(names)) or "a rule not on record" for names in broken).most_common())


def phases(run: Run) -> pd.DataFrame:
    """Return how the time of a run was spent, in order: `phase`, `stage`, `began_s`, `wall_s`, `busy` and its plan."""
    notes, end = run.notes, 0.0
    rows: list[dict[str, Any]] = []
    for stage in notes.get("stages", []):
        began = stage.get("began_s", end or notes.get("startup_s", 0.0))
        if began - end > 0.5:
            rows.append({"phase": "between stages" if rows else "start-up", "stage": "", "wall_s": began - end})
        again = f", round {stage['round']}" if stage.get("round", 1) > 1 else ""
        wall = stage.get("wall_s", max(notes.get("wall_s", began) - began, 0.0))
        rows.append({**stage, "phase": stage["name"] + again, "stage": stage["name"], "wall_s": wall})
        end = began + wall
    if notes.get("wall_s", end) - end > 0.5:
        rows.append({"phase": "closing" if rows else "start-up", "stage": "", "wall_s": notes["wall_s"] - end})
    table = pd.DataFrame(rows)
    wanted = ["phase", "stage", "wall_s", "busy", "trials", "px", "train_images", "val_images"]
    table = table.reindex(columns=[*dict.fromkeys([*wanted, *table.columns])])
    return table.assign(began_s=table["wall_s"].cumsum() - table["wall_s"], busy=table["busy"].astype(float))


def spans(run: Run) -> list[Span]:
    """Return when each stage began and ended, in seconds of the run."""
    table = phases(run)
    stages = table[table["stage"] != ""]
    return list(zip(stages["stage"], stages["began_s"], stages["began_s"] + stages["wall_s"], strict=True))


def agreements(run: Run) -> dict[str, dict[str, Any]]:
    """Return by stage how well the stage below it had foretold the order of its trials, where that was measured."""
    key = "rank_correlation_with_stage_below"
    return {plan["name"]: plan[key] for plan in run.notes.get("stages", []) if isinstance(plan.get(key), dict)}


def environment(run: Run) -> list[tuple[str, str]]:
    """Return what a figure depends on beside its configuration, as names and texts."""
    notes = run.notes
    data, asked = notes.get("data", {}), notes.get("asked", {})
    parts = ", ".join(f"{data[part]:,} {part}" for part in ("train", "val", "test") if isinstance(data.get(part), int))
    limits = {name: value for name, value in asked.get("constraints", {}).items() if name != "px" and value is not None}
    cluster = notes.get("cluster", {})
    facts = {
        "data": data.get("folder"),
        "images": parts,
        "left out": _left_out(data.get("left_out", {})),
        "split": data.get("split"),
        "fingerprint of the data": data.get("fingerprint"),
        "budget": notes.get("budget"),
        "seed": notes.get("seed"),
        "sampler": asked.get("sampler"),
        "stages": asked.get("stages"),
        "constraints": json.dumps(limits) if limits else None,
        "cores and GPUs": f"{cluster['cpus']} and {cluster['gpus']}" if cluster else notes.get("cpus"),
        "Python": notes.get("python"),
        "platform": notes.get("platform"),
        **notes.get("versions", {}),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _left_out(told: dict[str, Any]) -> str:
    """Return how many triplets could not be used, and why; "" where all could."""
    reasons = ", ".join(f"{words}: {count}" for words, count in told.get("reasons", {}).items())
    return f"{told['triplets']:,} of {told['of']:,} ({reasons})" if told.get("triplets") else ""


def commands(run: Run) -> list[tuple[str, str]]:
    """Return when each process that worked on the run began, and its exact command."""
    told = [*run.notes.get("earlier", []), run.notes]
    return [(str(process.get("time", "")), str(process["command"])) for process in told if "command" in process]
