"""The report of a run: one page in one file, which asks nothing of the network.

    python -m analysis.report RUN [--out FILE]

Works on every run folder: finished, going on, cut off, failed, of a grid, of a single trial, of an older version.
"""

import argparse
import base64
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from analysis.exceptions import AnalysisError
from analysis.report import facts as account
from analysis.report.sections import figures, leaderboard
from analysis.report.style import ARCH, TITLE_PX, by_name
from analysis.runs.files import write_file
from analysis.runs.importance import importances
from analysis.runs.pareto import front, models
from analysis.runs.run import Run, first_stage, read_json, read_run, with_latency

HERE = Path(__file__).parent
FILE = "report.html"
JPEG_QUALITY = 88
SECTIONS = {  # by what has to be there
    "best": ("Best model", ""),
    "time": ("Over time", "over_time"),
    "leaderboard": ("Leaderboard", "rows"),
    "curves": ("Learning curves", "curves"),
    "ranks": ("Stage to stage", "ranks"),
    "importance": ("Importances", "importance"),
    "parallel": ("Parallel coordinates", "parallel"),
    "slices": ("Parameters", "slices"),
    "front": ("Score and size", "front"),
    "failures": ("Endings", ""),
    "budget": ("Budget", "spent"),
    "environment": ("Environment", ""),
}
STATES = {
    "done": "",
    "running": "This page shows how far it has come.",
    "stopped": "It was stopped before its end; it can go on.",
    "cut off": "It ended without a word, as a killed process does; it can go on.",
    "failed": "It ended with an error or without a model.",
}


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder; return its path.

    Args:
        run: The run folder.
        out: The file; report.html in the run folder if None.

    Raises:
        AnalysisError: It is no run folder, a file of it is damaged, or the report cannot be written.
    """
    out = out or Path(run) / FILE
    write_file(out, render(read_run(run)).encode())
    return out


def render(run: Run) -> str:
    """Return the page."""
    shares = importances(run.folder)
    drawn = figures(run, shares)
    who: dict[str, str] = {}
    by_key = {f"{name}-{number}": chart for name, found in drawn.items() for number, chart in enumerate(found)}
    table = leaderboard(run)
    facts = {
        "plots": {name: [f"{name}-{number}" for number in range(len(found))] for name, found in drawn.items()},
        "figures": {key: _about(chart) for key, chart in by_key.items()},
        "figures_json": _json({key: _bare(chart, who) for key, chart in by_key.items()}),
        "leaderboard": table,
        "rows_json": _json({**table, "who": who}),
        "importance_known": len(shares) > 0,
    }
    facts["sections"] = [
        (id, title) for id, (title, needs) in SECTIONS.items() if not needs or drawn.get(needs) or table.get(needs)
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2")
    return page.render(**facts, **_head(run), **_best(run), **_tables(run), **_assets())


def _head(run: Run) -> dict[str, Any]:
    notes = run.notes
    searching = first_stage(run)
    counted = f"{len(searching)} trials of {run.stages[0]}" if run.stages else "no trial yet"
    began = next((time for time, _ in account.commands(run)), "")
    parts = [
        f"budget {notes['budget']}" if "budget" in notes else "",
        f"began {began.replace('T', ' ')}" if began else "",
        f"ran {notes['wall_s']:,.0f} s" if "wall_s" in notes else "",
        counted,
        STATES.get(run.state, ""),
    ]
    return {
        "name": run.folder.resolve().name,
        "folder": shlex.quote(str(run.folder)),
        "folder_in_python": repr(str(run.folder)),
        "state": run.state,
        "told_state": " · ".join(part for part in parts if part),
        "is_done": run.state == "done",
        "written": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "archs": [(name, colour) for name, colour, _ in by_name(searching, ARCH)],
        "first_stage": next(iter(run.stages), ""),
        "stages_beyond": run.stages[:1] if len(run.stages) > 1 else [],
        "resume": "" if run.state in ("running", "unknown") else _resume(run),
    }


def _resume(run: Run) -> str:
    more = " --budget 30m" if run.state == "done" else ""
    return f"python search/run.py --resume {shlex.quote(str(run.folder))}{more}"


def _best(run: Run) -> dict[str, Any]:
    metrics = read_json(run.folder / "best" / "metrics.json")
    figures_of_best, best = account.measured(metrics), run.best
    parts = [part for part in ("val", "test") if part in metrics]
    path = account.lineage(run)
    settings = (
        [] if best is None else [(name, best[name]) for name in best.index if "/" in name and pd.notna(best[name])]
    )
    return {
        "best": best is not None,
        "cards": account.headline(run, metrics),
        "reasons": account.reasons(run),
        "formula": account.formula(run),
        "note": metrics.get("note", ""),
        "samples": picture(run.folder / "best" / "samples.png"),
        "samples_part": {"val": "validation"}.get(parts[-1], parts[-1]) if parts else "validation",
        "figures_of_best": figures_of_best.to_dict("records"),
        "parts": parts,
        "path": path.to_dict("records"),
        "config": settings,
        "has_model": (run.folder / "best" / "model.safetensors").is_file(),
    }


def _tables(run: Run) -> dict[str, Any]:
    ends, spent = account.endings(run), account.phases(run)
    on_front = front(models(with_latency(run)))
    hours = {kind: seconds / 3600 for kind, seconds in run.notes.get("device_s", {}).items() if seconds}
    held = " and ".join(f"{amount:.2f} {kind.upper()} hours" for kind, amount in hours.items())
    return {
        "statuses": list(ends.columns),
        "told_statuses": account.ENDINGS,
        "endings": [(stage, list(counts)) for stage, counts in zip(ends.index, ends.to_numpy(), strict=True)],
        "failures": account.failures(run).to_dict("records"),
        "failed_count": int((run.trials["status"] == "failed").sum()),
        "rejections": list(account.rejections(run).items()),
        "phases": spent.to_dict("records"),
        "device_hours": f"Held in all: {held}, whether they computed or not." if held else "",
        "front_rows": on_front.to_dict("records") if len(on_front) > 1 else [],
        "environment": account.environment(run),
        "commands": account.commands(run),
    }


def picture(path: Path) -> str:
    """Return a picture as the address that carries it, as JPEG; "" where there is none that can be read."""
    image = cv2.imread(str(path)) if path.is_file() else None
    if image is None:
        return ""
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def _about(chart: go.Figure) -> dict[str, Any]:
    wide = any(trace.type == "parcoords" for trace in chart.data)
    return {"title": chart.layout.title.text, "height": chart.layout.height, "wide": wide}


def _bare(chart: go.Figure, who: dict[str, str]) -> dict[str, Any]:
    """Return a chart without its title and its theme, which the page has.

    What its points tell of their trials goes to `who`, by trial, so that the page says it once and not in every chart.
    """
    content: dict[str, Any] = chart.to_plotly_json()
    for trace in content["data"]:
        if "hovertext" in trace:
            who |= zip(trace["customdata"], trace.pop("hovertext"), strict=True)
    layout = {name: value for name, value in content["layout"].items() if name not in ("title", "template")}
    above = layout["margin"]["t"] - TITLE_PX
    return {"data": content["data"], "layout": {**layout, "margin": {**layout["margin"], "t": above}}}


def _json(content: Any) -> Markup:
    """Return JSON for a script element, which nothing in it can end."""
    return Markup(to_json_plotly(content).replace("<", "\\u003c"))


def _assets() -> dict[str, Markup]:
    """Return scripts and styles, our own and those of Plotly and Tabulator."""
    files = {
        "css": "report.css",
        "js": "report.js",
        "tabulator_css": "tabulator.min.css",
        "tabulator_js": "tabulator.min.js",
    }
    texts = {name: (HERE / "static" / file).read_text(encoding="utf-8") for name, file in files.items()}
    return {name: Markup(text) for name, text in {**texts, "plotly_js": get_plotlyjs()}.items()}


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    p = argparse.ArgumentParser(prog="python -m analysis.report", description="Write the report of a run: one page.")
    p.add_argument("run", type=Path, metavar="RUN", help="run folder, finished or not")
    p.add_argument("--out", type=Path, metavar="FILE", help=f"file to write (default: {FILE} in the run folder)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 written, 2 the user's mistake."""
    args = parser().parse_args(arguments)
    try:
        print(f"report in {write_report(args.run, args.out)}")
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
