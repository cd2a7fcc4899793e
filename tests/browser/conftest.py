"""Fixtures: a browser without internet access, and servers that end with their module."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from analysis import AnalysisError
from tests.browser.browser import chromium, open_page
from tests.browser.browser import serve as run_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Serve = Callable[[list[str]], str]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Headless Chromium; it ends with the module, because asyncio.run fails while it is open."""
    with ExitStack() as opened:
        try:
            chrome = opened.enter_context(chromium())
        except AnalysisError as error:
            pytest.skip(str(error))
        yield chrome


@pytest.fixture
def elsewhere() -> list[str]:
    """Blocked requests of `page` to other machines."""
    return []


@pytest.fixture
def page(browser: "Browser", elsewhere: list[str]) -> "Iterator[Page]":
    """A page of 1,280 by 800 pixels that reaches this machine only; an exception in its scripts fails the test."""
    errors: list[str] = []
    with open_page(browser, elsewhere) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors, errors


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Start a command that serves pages and return its address; "{port}" is replaced by a free port."""
    with ExitStack() as running:
        yield lambda command: running.enter_context(run_server(command))
