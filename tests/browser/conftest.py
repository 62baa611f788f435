"""One browser, and one DPU with a night, for all that looks at the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from fakes_browser import ASKED, DEADLINE_MS, DESK, Ears, a_night, browsing, the_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext

    from fakes_browser import Night


@pytest.fixture(scope="session")
def hearing() -> Ears:
    return Ears()


@pytest.fixture(scope="session")
def browser(hearing: Ears) -> Iterator[Browser]:
    with browsing(hearing) as browser:
        yield browser


@pytest.fixture(autouse=True)
def ears(hearing: Ears) -> Iterator[Ears]:
    """See that nothing went wrong on any page during a test."""
    yield hearing
    said, hearing.said = hearing.said, []
    assert said == []


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Night]:
    assert browser.is_connected()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGNAME", "ann")
        with a_night(tmp_path_factory.mktemp("dpu")) as night:
            yield night


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A session's log file is written where one works.
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def way_in(night: Night) -> Iterator[str]:
    with the_page(night) as address:
        yield address


@pytest.fixture(scope="session")
def address(way_in: str) -> str:
    return way_in.partition("/enter")[0]


@pytest.fixture(scope="session")
def signed(browser: Browser, way_in: str) -> Iterator[BrowserContext]:
    """Whoever has started the page and followed the link that it printed."""
    context = browser.new_context(viewport=DESK)
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    page.goto(way_in)
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    page.close()
    yield context
    context.close()


@pytest.fixture(scope="session")
def done(night: Night, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A job that has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("log"))
        session = night.processor()
        job = session.run("ReadNoise", **ASKED)
        assert session.wait(job, timeout=100) == "FINISHED"
    return job


@pytest.fixture(scope="session")
def biases(night: Night, done: int, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A job that has made images."""
    assert done
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("log"))
        session = night.processor()
        job = session.run("Bias", **ASKED)
        assert session.wait(job, timeout=200) == "FINISHED"
    return job
