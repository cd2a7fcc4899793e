"""Take screenshots of a run's pages for the README: report, dashboards, demo, and Ray's page of a running run."""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import AnalysisError
from analysis.runs.files import check_folder, write_file
from data.runtime import cli
from data.runtime.cli import first_line
from tests.browser.browser import chromium, open_page, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SETTLED_MS = 2_500  # until charts have settled
QUALITY = 70
Shot = tuple[str, Callable[["Page"], None]]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = build_parser().parse_args(arguments)
    return cli.run(lambda: _take(args), AnalysisError)


def _take(args: argparse.Namespace) -> None:
    check_folder(args.out)
    if args.photo and not args.photo.is_file():
        raise AnalysisError(f"{args.photo}: no such photo; name an image file")
    if not (args.run / "run.json").exists():
        raise AnalysisError(f"{args.run}: not a run folder; name one that search/run.py wrote")
    with chromium() as browser:
        for path in take(args.run, args.out, browser, ray=args.ray, photo=args.photo):
            print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__.split("\n")[0])
    p.add_argument("run", type=Path, metavar="RUN", help="run folder")
    p.add_argument("--out", type=Path, default=Path("screenshots"), help="folder (default screenshots)")
    p.add_argument("--photo", type=Path, help="photo for the demo, which is left out without one")
    p.add_argument("--ray", metavar="URL", help="address of the Ray dashboard, which a running run prints")
    return p


def take(
    run: Path, out: Path, browser: "Browser", *, ray: str | None = None, photo: Path | None = None
) -> Iterator[Path]:
    """Write a JPEG of each page of a run, and yield its path.

    Args:
        run: The run folder.
        out: Output folder.
        browser: The browser.
        ray: Address of the Ray dashboard of a running run.
        photo: Photo for the demo.

    Raises:
        AnalysisError: A server is not installed or does not answer, or a page does not load.
    """
    with ExitStack() as opened:
        dashboards = [*_of_tensorboard(run, opened), *_of_optuna(run, opened)]
        for name, show in [*_of_ray(ray), *_of_report(run), *dashboards, *_of_demo(run, photo, opened)]:
            with _wait_for(name), open_page(browser, []) as page:
                show(page)
                page.wait_for_timeout(SETTLED_MS)
                write_file(out / f"{name}.jpg", page.screenshot(type="jpeg", quality=QUALITY))
            yield out / f"{name}.jpg"


@contextmanager
def _wait_for(name: str) -> Iterator[None]:
    """Raise AnalysisError if a page does not load or is not the expected one."""
    from playwright.sync_api import Error

    try:
        yield
    except Error as error:
        hint = "; --ray takes the address that a running run prints" if name == "ray" else ""
        raise AnalysisError(f"{name}: the page does not load ({first_line(error)}){hint}") from error


def log_in(page: "Page", url: str, token: str) -> None:
    """Open a page of the Ray dashboard and enter its token."""
    page.goto(url)
    field = page.get_by_label("Authentication Token", exact=True)
    field.fill(token)
    field.press("Enter")
    page.get_by_text("Authentication Token Required").wait_for(state="hidden")


def ray_token() -> str:
    """Return the token of the user's Ray cluster.

    Raises:
        AnalysisError: There is none.
    """
    done = subprocess.run([_program("ray"), "get-auth-token"], capture_output=True, text=True)
    if done.returncode:
        raise AnalysisError(f"ray get-auth-token failed: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}")
    return done.stdout.strip().splitlines()[-1]


def _of_ray(url: str | None) -> Sequence[Shot]:
    def workers(page: "Page") -> None:
        assert url is not None
        log_in(page, f"{url}/#/cluster", ray_token())
        page.get_by_text(re.compile(r"^ray::[a-z]\d+_")).last.scroll_into_view_if_needed()

    return [("ray", workers)] if url else []


def _of_report(run: Path) -> Sequence[Shot]:
    path = run / "report.html"

    def report(page: "Page") -> None:
        page.goto(path.resolve().as_uri())

    return [("report", report)] if path.exists() else []


def _of_tensorboard(run: Path, opened: ExitStack) -> Sequence[Shot]:
    if not (run / "tensorboard").exists():
        return []
    url = opened.enter_context(
        serve([_program("tensorboard"), "--logdir", str(run / "tensorboard"), "--port", "{port}"])
    )

    def curves(page: "Page") -> None:
        page.goto(f"{url}/?tagFilter=metrics%2F(score%7Ciou)%7Closs%2Ftotal%7Clr%2Fbatch#timeseries")
        page.get_by_text("metrics", exact=True).first.wait_for()

    return [("tensorboard", curves)]


def _of_optuna(run: Path, opened: ExitStack) -> Sequence[Shot]:
    if not (run / "study.journal").exists():
        return []
    artifacts = ["--artifact-dir", str(run / "artifacts")]
    command = [_program("optuna-dashboard"), str(run / "study.journal"), *artifacts, "--port", "{port}"]
    url = opened.enter_context(serve(command))

    def study(page: "Page") -> None:
        page.goto(f"{url}/dashboard/studies/0")
        page.get_by_text("Best Trial").first.wait_for()

    return [("optuna", study)]


def _of_demo(run: Path, photo: Path | None, opened: ExitStack) -> Sequence[Shot]:
    if photo is None:
        return []
    command = [sys.executable, "-m", "analysis.demo", str(run), "--port", "{port}", "--device", "cpu"]
    url = opened.enter_context(serve(command))

    def turning(page: "Page") -> None:
        page.goto(url)
        page.locator("input[type=file]").first.set_input_files(photo)
        page.locator("#cutout img").wait_for()
        page.locator(".turning canvas").first.wait_for()

    return [("demo", turning)]


def _program(name: str) -> str:
    """Return the path of a program of this Python environment.

    Raises:
        AnalysisError: The program is not installed.
    """
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise AnalysisError(f'{name}: not installed; run pip install -e ".[test]"')
    return found


if __name__ == "__main__":
    sys.exit(main())
