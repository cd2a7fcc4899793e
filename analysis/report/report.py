"""Write the report of a run: one HTML file that works offline.

Every run folder can be reported on: finished, running, cut off or failed, with one trial or a grid, from this or an
older version.
"""

import base64
import shlex
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from analysis.report import charts, facts, parameter_charts
from analysis.report.leaderboard import build_leaderboard
from analysis.report.style import ARCH, TITLE_PX, group_by_colour
from analysis.runs.curves import pair_promotions, select_models, select_pareto_trials
from analysis.runs.files import WEIGHTS, read_json, write_file
from analysis.runs.importance import compute_importances, load_study
from analysis.runs.run import Run, add_latency, read_run, select_first_stage, thin_trials
from search.output.budget_advice import warn_of_guess
from search.output.model_card import describe_origin
from search.records.run_dir import format_resume_command
from search.records.run_state import FORMAT_VERSION

HERE = Path(__file__).parent
FILE = "report.html"
JPEG_QUALITY = 88
STATES = {
    "done": "",
    "running": "This page shows its progress so far.",
    "stopped": "The run was stopped; resume with --resume.",
    "cut off": "The process ended unexpectedly; resume with --resume.",
    "failed": "The run ended with an error or without a model.",
}
OLDER = "The run was recorded by another version and cannot be resumed."
MAX_AXES = 7  # largest number of parameters in the parallel coordinates
MAX_SHOWN, BEST_SHOWN = 1000, 200  # trials of a stage in the charts; of these, the number taken from the best
MAX_SLICES = 18  # largest number of charts of score against one parameter
MIN_TRIALS = 3  # least number of trials for a chart of parameters


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder to `out`, by default report.html in it; return its path."""
    out = out or Path(run) / FILE
    write_file(out, render(read_run(run)).encode())
    return out


def render(run: Run) -> str:
    """Return the HTML page of a run."""
    study, shown = load_study(run.folder), thin_trials(run, MAX_SHOWN, BEST_SHOWN)
    shares = compute_importances(run.folder, study)
    drawn = make_charts(shown, shares, run.curves)
    hover: dict[str, str] = {}
    by_key = {f"{name}-{number}": chart for name, found in drawn.items() for number, chart in enumerate(found)}
    table = build_leaderboard(run)
    context = {
        "run": run,
        "facts": facts,
        "plots": {name: [f"{name}-{number}" for number in range(len(found))] for name, found in drawn.items()},
        "figures": {
            key: {"title": chart.layout.title.text, "height": chart.layout.height, "wide": key.startswith("parallel")}
            for key, chart in by_key.items()
        },
        "figures_json": _to_json({key: _strip(chart, hover) for key, chart in by_key.items()}),
        "leaderboard": table,
        "rows_json": _to_json({**table, "hover": hover}),
        "importance_known": len(shares) > 0,
        "rejections": facts.count_rejections(study),
    }
    files = jinja2.FileSystemLoader(HERE / "templates")
    page = jinja2.Environment(loader=files, autoescape=True, undefined=jinja2.StrictUndefined)
    parts = {**_build_head(run, shown), **_describe_best(run), **_read_assets()}
    return page.get_template("report.html.j2").render(**context, **parts)


def make_charts(run: Run, importances: pd.DataFrame, curves: pd.DataFrame) -> dict[str, list[go.Figure]]:
    """Return the charts of a run by section; a section without content has an empty list.

    `run` may lack some trials; `curves` cover all trials, so that the best score so far is right.
    """
    first, costed = select_first_stage(run), add_latency(run)
    first, known = first[first["score"].notna()], costed[costed["score"].notna()]
    varied = parameter_charts.list_varied(first, importances) if len(first) >= MIN_TRIALS else []
    axes = [name for name in varied if name != "model/arch"][:MAX_AXES]
    reported, spans = run.curves[run.curves["score"].notna()], facts.find_stage_spans(run)
    shown, ran = set(run.trials["trial_id"]), run.trials.dropna(subset=["started_s", "ended_s"])
    stages = [stage for stage in run.stages[::-1] if (reported["stage"] == stage).any()]
    costs = [cost for cost in parameter_charts.COSTS if known[cost].notna().sum() > 1]
    names = list(dict.fromkeys(importances["architecture"]))
    names = names[:1] if len(names) == 2 else names  # with a single architecture, "all" would show the same
    return {
        "over_time": [charts.plot_best_over_time(curves, spans, shown=shown)] if len(reported) else [],
        "curves": [charts.plot_learning_curves(run.curves, stage) for stage in stages],
        "ranks": _plot_ranks(run),
        "importance": [parameter_charts.plot_importances(importances, name) for name in names],
        "parallel": [parameter_charts.plot_parallel_coordinates(first, axes)] if axes else [],
        "slices": [parameter_charts.plot_score_by(first, name) for name in varied[:MAX_SLICES]],
        "front": [parameter_charts.plot_score_against(costed, cost) for cost in costs],
        "timeline": [charts.plot_timeline(ran, spans)] if len(ran) else [],
    }


def _plot_ranks(run: Run) -> list[go.Figure]:
    key, stages = "rank_correlation_with_previous_stage", run.run_json.get("stages", ())
    measured = {stage["name"]: stage[key] for stage in stages if isinstance(stage.get(key), dict)}
    return [
        charts.plot_stage_ranks(run.trials, lower, upper, measured.get(upper))
        for lower, upper in pairwise(run.stages)
        if len(pair_promotions(run.trials, lower, upper)) > 1
    ]


def _build_head(run: Run, shown: Run) -> dict[str, Any]:
    content, searching = run.run_json, select_first_stage(run)
    older = bool(content) and content.get("format_version") != FORMAT_VERSION
    resumable = run.state not in ("running", "unknown") and not older
    began = next((time for time, _ in facts.list_commands(run)), "")
    parts = [
        f"budget {content['budget']}" if "budget" in content else "",
        f"began {began.replace('T', ' ')}" if began else "",
        f"ran {content['wall_s']:,.0f} s" if "wall_s" in content else "",
        f"{len(searching)} trials of {run.stages[0]}" if run.stages else "no trial yet",
        f"charts show {len(shown.trials):,} of {len(run.trials):,} trials" if shown is not run else "",
        OLDER if older else STATES.get(run.state, ""),
    ]
    return {
        "name": run.folder.resolve().name,
        "folder": shlex.quote(str(run.folder)),
        "folder_in_python": repr(str(run.folder)),
        "state_line": " · ".join(part for part in parts if part),
        "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "archs": [(name, colour) for name, colour, _ in group_by_colour(searching, ARCH)],
        "on_front": select_pareto_trials(select_models(add_latency(run))).to_dict("records"),
        "resume": format_resume_command(run.folder) + " --budget 30m" * (run.state == "done") if resumable else "",
    }


def _describe_best(run: Run) -> dict[str, Any]:
    folder, best = run.folder / "best", run.best
    metrics, trained_on = read_json(folder / "metrics.json"), read_json(folder / "config.json").get("trained_on", {})
    settings: dict[str, Any] | pd.Series = {} if best is None else best[best.index.str.contains("/")].dropna()
    return {
        "metrics": metrics,
        "splits": [split for split in ("val", "test") if split in metrics],
        "reasons": [
            *facts.explain_best(run),
            *([f"{metrics['outlook']}."] if "outlook" in metrics else []),
            *([f"{warning}."] if (warning := warn_of_guess(metrics)) else []),
            *([describe_origin(trained_on)] if trained_on else []),
            *(f"{warning}." for warning in run.run_json.get("data", {}).get("warnings", ())),
        ],
        "minimised": " and ".join(run.run_json.get("options", {}).get("objectives", [])[1:]),
        "samples": embed_image(folder / "samples.png"),
        "config": [(name, f"{v:g}" if isinstance(v, float) else v) for name, v in settings.items()],
        "has_model": (folder / WEIGHTS).is_file(),
    }


def embed_image(path: Path) -> str:
    """Return an image file as a data URL with JPEG content; "" if the file cannot be read."""
    image = cv2.imread(str(path)) if path.is_file() else None
    if image is None:
        return ""
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def _strip(chart: go.Figure, hover: dict[str, str]) -> dict[str, Any]:
    """Return a chart without title and theme, which the page supplies.

    The hover texts of its points move to `hover`, by trial, so that the page contains each text only once.
    """
    content: dict[str, Any] = chart.to_plotly_json()
    for trace in content["data"]:
        if "hovertext" in trace:
            hover |= zip(trace["customdata"], trace.pop("hovertext"), strict=True)
    layout = {name: value for name, value in content["layout"].items() if name not in ("title", "template")}
    above = layout["margin"]["t"] - TITLE_PX
    return {"data": content["data"], "layout": {**layout, "margin": {**layout["margin"], "t": above}}}


def _to_json(content: Any) -> Markup:
    """Return JSON for a script element, escaped so that no content can close the element."""
    return Markup(to_json_plotly(content).replace("<", "\\u003c"))


def _read_assets() -> dict[str, Markup]:
    """Return the scripts and styles of the page, Plotly and Tabulator."""
    files = {"css": "report.css", "js": "report.js"}
    files |= {"tabulator_css": "tabulator.min.css", "tabulator_js": "tabulator.min.js"}
    texts = {name: (HERE / "static" / file).read_text(encoding="utf-8") for name, file in files.items()}
    return {name: Markup(text) for name, text in {**texts, "plotly_js": get_plotlyjs()}.items()}
