"""The queue and the statistics in a real browser, on a real DPU: searched, sorted, paused, and jobs chosen in it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from fakes_browser import ASKED, DEADLINE_MS, DESK, PHONE, ROOT, barriers, looking

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from fakes_browser import Night

pytestmark = pytest.mark.timeout(600)
expect.set_options(timeout=DEADLINE_MS)


def search(page: Page, words: str) -> None:
    page.get_by_label("Search").fill(words)
    page.get_by_role("button", name="Show").click()


def test_jobs_are_found_by_words_and_sorted_by_a_column(signed: BrowserContext, address: str, done: int) -> None:
    with looking(signed, address) as page:
        search(page, "wfi 2000-04-28 readnoise finished ann")
        expect(page.locator(f"#job-{done}")).to_be_visible()
        page.get_by_role("link", name="Ran", exact=True).click()
        expect(page.get_by_role("columnheader", name="Ran")).to_have_attribute("aria-sort", "descending")
        page.get_by_role("link", name="Ran", exact=True).click()
        expect(page.get_by_role("columnheader", name="Ran")).to_have_attribute("aria-sort", "ascending")
        expect(page.locator(f"#job-{done}")).to_be_visible()
        assert barriers(page) == []
        search(page, "OMEGACAM")
        expect(page.get_by_text("No jobs that fit.")).to_be_visible()


def test_chosen_jobs_are_cancelled_and_done_again_after_it_was_asked(
    night: Night, signed: BrowserContext, address: str
) -> None:
    with looking(signed, address) as page:
        with night.held():
            jobs = [night.processor().run("ReadNoise", **ASKED) for _ in range(2)]
            for number in jobs:
                page.get_by_label(f"Job {number}", exact=True).check()
            page.get_by_role("button", name="Cancel or do again").click()
            expect(page.get_by_role("heading", name="2 jobs chosen")).to_be_visible()
            assert barriers(page) == []
            page.get_by_role("button", name="Cancel 2 jobs").click()
            expect(page.get_by_role("heading", name="Queue")).to_be_visible()
        for number in jobs:
            expect(page.locator(f"#job-{number} .state")).to_have_text("CANCELLED")
        page.get_by_label(f"Job {jobs[0]}", exact=True).check()
        page.get_by_role("button", name="Cancel or do again").click()
        page.get_by_role("button", name="Do 1 job again").click()
        expect(page.locator(f"#job-{jobs[1] + 1} .state")).to_have_text("FINISHED")


def test_what_is_chosen_stays_so_while_its_row_changes(night: Night, signed: BrowserContext, address: str) -> None:
    with looking(signed, address) as page:
        with night.held():
            job = night.processor().run("ReadNoise", **ASKED)
            box = page.get_by_label(f"Job {job}", exact=True)
            box.check()
            box.focus()
        expect(page.locator(f"#job-{job} .state")).to_have_text("FINISHED")
        expect(box).to_be_checked()
        expect(box).to_be_focused()


def test_a_page_that_is_paused_stands_still_until_it_goes_on(
    night: Night, signed: BrowserContext, address: str
) -> None:
    with looking(signed, address) as page:
        expect(page.locator("#live")).to_have_text("live")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#live")).to_have_text("paused")
        session = night.processor()
        job = session.run("ReadNoise", **ASKED)
        assert session.wait(job, timeout=100) == "FINISHED"
        expect(page.locator(f"#job-{job}")).to_have_count(0)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator(f"#job-{job} .state")).to_have_text("FINISHED")


def test_the_queue_works_by_keyboard(signed: BrowserContext, address: str, done: int) -> None:
    with looking(signed, address) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_text("To the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_label("Search").press_sequentially("readnoise finished")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("search=readnoise"))
        box = page.get_by_label(f"Job {done}", exact=True)
        box.focus()
        page.keyboard.press("Space")
        expect(box).to_be_checked()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_statistics_keep_nobody_out(
    signed: BrowserContext, address: str, done: int, scheme: str, size: dict[str, int]
) -> None:
    assert done
    with looking(signed, f"{address}/statistics") as page:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of two
        page.set_viewport_size(size)  # type: ignore[arg-type]  # has both
        for each in page.get_by_text("As a table").all():
            each.click()
        assert barriers(page) == []
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= shown, f"{wide} of {shown} pixels"


def test_the_statistics_say_who_did_what_and_how_it_measures(
    browser: Browser, night: Night, address: str, done: int
) -> None:
    assert done
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Token").fill(night.token)
    page.get_by_label("Project").fill(night.project)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Statistics").click()
    expect(page.get_by_role("row").filter(has_text="ann")).to_contain_text("100.0 %")
    expect(page.get_by_role("region", name="Times of sequences").get_by_role("row")).to_contain_text(
        ["Sequence", "ReadNoise"]
    )
    page.get_by_label("Instrument").select_option("WFI")
    page.get_by_role("button", name="Show").click()
    trend = page.get_by_role("region", name="Read noise (ADU)").first
    assert trend.locator("circle").count() >= 2
    context.close()


@pytest.mark.skipif(not os.environ.get("DPU_PICTURES"), reason="DPU_PICTURES=1 makes the documentation's pictures anew")
def test_a_picture_of_the_statistics(signed: BrowserContext, address: str, done: int) -> None:
    assert done
    with looking(signed, f"{address}/statistics?instrument=WFI") as page:
        page.screenshot(path=ROOT / "docs" / "images" / "queue-statistics.png", full_page=True)
