"""Open a run's pages in headless Chromium through Playwright, and serve them on loopback, for tests and screenshots."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from analysis import AnalysisError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SOFTWARE_WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card
ANSWER_S = 60.0
PAGE_MS = 60_000  # a page may share two cores with a search


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Open Chromium; until it is closed asyncio.run does not work in this process.

    Raises:
        AnalysisError: Chromium or Playwright is not installed.
    """
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        raise AnalysisError(f"none of {', '.join(CHROMIUM)} is on the path; on Debian: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise AnalysisError('playwright: not installed; run pip install -e ".[test]"') from error
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=SOFTWARE_WEBGL + root)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: "Browser", elsewhere: list[str]) -> "Iterator[Page]":
    """Open a page of 1,280 by 800 pixels that can reach this machine only.

    Args:
        browser: The browser.
        elsewhere: Collects the blocked requests to other addresses.
    """

    def on_this_machine(route: "Route") -> None:
        address = urlparse(route.request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in ("127.0.0.1", "localhost"):
            elsewhere.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PAGE_MS)
    context.route("**/*", on_this_machine)
    yield context.new_page()
    context.close()


@contextmanager
def serve(command: list[str]) -> Iterator[str]:
    """Run a command that serves pages; the context's end terminates it and its children.

    Args:
        command: The command, in which "{port}" is replaced by a free port.

    Yields:
        The address.

    Raises:
        AnalysisError: The server does not answer; the message contains its output.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word.replace("{port}", str(port)) for word in command]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            if not _answers(f"http://127.0.0.1:{port}", process):
                log.seek(0)
                raise AnalysisError(f"{' '.join(words)}: no answer\n{log.read().decode(errors='replace')}")
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(process)


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    """Return whether a server answers within ANSWER_S, before its process ends."""
    until = time.monotonic() + ANSWER_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            time.sleep(0.1)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Terminate a process and its children, and wait for it."""
    for name in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, name)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
