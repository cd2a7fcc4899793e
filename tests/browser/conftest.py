"""A browser for the pages people look at: the system's Chromium, driven by Playwright, cut off from the network."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
DRAWN_BY_THE_CPU = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card
WAIT_S = 60.0

Serve = Callable[[list[str]], str]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Headless Chromium; it ends with the module, for while it is open asyncio.run does not work in this process."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no {' or '.join(NAMES)} on the path; on Debian: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium's sandbox refuses
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=DRAWN_BY_THE_CPU + root)
        yield chromium
        chromium.close()


@pytest.fixture
def elsewhere() -> list[str]:
    """Addresses beyond this machine that `page` asked for, in vain."""
    return []


@pytest.fixture
def page(browser: "Browser", elsewhere: list[str]) -> "Iterator[Page]":
    """A page of 1,280 by 800 pixels that reaches this machine only; an exception in its scripts fails the test."""

    def on_this_machine(route: "Route") -> None:
        address = urlparse(route.request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in ("127.0.0.1", "localhost"):
            elsewhere.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(30_000)
    context.route("**/*", on_this_machine)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, errors


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a command that serves pages and return its address; "{port}" in it becomes a free one.

    The command and its children end with the module.
    """
    with ExitStack() as running:

        def start(command: list[str]) -> str:
            port = free_port()
            log = tmp_path_factory.mktemp("server") / "log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [word.replace("{port}", str(port)) for word in command],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            running.callback(end, process)
            await_answer(f"http://127.0.0.1:{port}/", process, log)
            return f"http://127.0.0.1:{port}"

        yield start


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def await_answer(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a server answers; fail with what it printed if it ends, or is silent for WAIT_S."""
    until = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{' '.join(process.args)} does not serve {url}:\n{log.read_text()}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children, and wait for it."""
    for name in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, name)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
