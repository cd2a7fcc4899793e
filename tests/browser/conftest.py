"""A browser for tests of the pages people look at, cut off from the network; servers that end with their module."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from analysis.exceptions import AnalysisError
from tests.browser.browser import chromium, page_of, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Serve = Callable[[list[str]], str]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium without a window; it ends with the module, for while it is open asyncio.run does not work here."""
    with ExitStack() as opened:
        try:
            chrome = opened.enter_context(chromium())
        except AnalysisError as error:
            pytest.skip(str(error))
        yield chrome


@pytest.fixture
def elsewhere() -> list[str]:
    """Addresses beyond this machine that `page` has asked for, in vain."""
    return []


@pytest.fixture
def page(browser: "Browser", elsewhere: list[str]) -> "Iterator[Page]":
    """A page of 1,280 by 800 pixels that reaches this machine only; an exception in its scripts fails the test."""
    errors: list[str] = []
    with page_of(browser, elsewhere) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors, errors


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Start a command that serves pages and return its address; "{port}" in it becomes a free one."""
    with ExitStack() as running:
        yield lambda command: running.enter_context(served(command))
