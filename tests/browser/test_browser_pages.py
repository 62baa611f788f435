"""The queue page in a real browser, on a real DPU that runs real jobs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from fakes_browser import ASKED, DEADLINE_MS, DESK, PHONE, barriers, looking, taken

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

    from fakes_browser import Ears, Night

pytestmark = pytest.mark.timeout(600)
expect.set_options(timeout=DEADLINE_MS)

OPEN = re.compile("^(QUEUED|RUNNING)$")
#: What a person sees of a row as it changes: kept by the page itself, so that nothing in between is missed.
SEEN = """job => {
  window.seen = []
  const look = () => {
    const row = document.getElementById(`job-${job}`)
    if (row) seen.push(row.querySelector('.state').textContent + ' ' + row.querySelector('.counts').textContent)
  }
  look()
  new MutationObserver(look).observe(document.getElementById('queue'), { childList: true, subtree: true })
}"""


def test_the_queue_goes_live_as_tasks_end(night: Night, signed: BrowserContext, address: str) -> None:
    with looking(signed, address) as page:
        expect(page.locator("#live")).to_have_text("live")
        with night.held():
            job = night.processor().run("ReadNoise", **ASKED)
            row = page.locator(f"#job-{job}")
            expect(row.locator(".state")).to_have_text(OPEN)
            page.evaluate(SEEN, job)
        expect(row.locator(".state")).to_have_text("FINISHED")
        expect(row.locator(".counts")).to_have_text(re.compile("^[1-9]/0/0/0/0$"))
        seen = page.evaluate("seen")
        assert any(each.startswith("RUNNING ") for each in seen), seen


def test_the_filter_shows_what_it_says_and_keeps_to_it_live(
    night: Night, signed: BrowserContext, address: str, done: int
) -> None:
    with looking(signed, address) as page:
        page.get_by_label("finished").check()
        page.get_by_label("Sequence").fill("ReadNoise")
        page.get_by_role("button", name="Show").click()
        expect(page.locator(f"#job-{done}")).to_be_visible()
        expect(page.locator("#live")).to_have_text("live")
        assert set(page.locator("#queue .state").all_inner_texts()) == {"FINISHED"}
        with night.held():
            other = night.processor().run("Bias", **ASKED)
            job = night.processor().run("ReadNoise", **ASKED)
        expect(page.locator(f"#job-{job}")).to_be_visible()
        expect(page.locator(f"#job-{other}")).to_have_count(0)
        page.get_by_label("Sequence").fill("NoSuchSequence")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_text("No jobs that fit.")).to_be_visible()


def test_an_operator_sees_the_workers(signed: BrowserContext, address: str, done: int) -> None:
    assert done
    with looking(signed, address) as page:
        page.get_by_text("1 worker", exact=True).click()
        expect(page.get_by_role("listitem").filter(has_text="local")).to_have_text(
            re.compile(r"^local: \d of \d slots? at work$")
        )


def test_a_job_is_found_by_its_number_with_its_tasks(signed: BrowserContext, address: str, done: int) -> None:
    with looking(signed, address) as page:
        page.get_by_role("link", name=str(done), exact=True).click()
        expect(page.get_by_role("heading", name=f"Job {done}: ReadNoise")).to_be_visible()
        for chip in ("ccd50", "ccd51"):
            tasks = page.get_by_role("region", name="Tasks")
            expect(tasks.get_by_role("row").filter(has_text=chip)).to_contain_text("SUCCEEDED")


def test_the_log_is_followed_to_its_end(night: Night, signed: BrowserContext, address: str) -> None:
    with night.held():
        job = night.processor().run("ReadNoise", **ASKED)
        page = signed.new_page()
        page.goto(f"{address}/jobs/{job}/log")
        expect(page.locator("#end")).to_be_empty()
    expect(page.locator("#log")).to_contain_text("Querying database for instances of class RawBiasFrame")
    expect(page.locator("#end")).to_have_text("The job has ended as FINISHED, and the log is complete")
    followed = page.locator("#log").inner_text()
    page.reload()
    assert page.locator("#log").inner_text().split("\n") == followed.split("\n")
    page.close()


def test_a_log_is_followed_and_the_queue_stays_live_while_the_dpu_is_started_anew(
    night: Night, signed: BrowserContext, address: str
) -> None:
    log, queue = signed.new_page(), signed.new_page()
    queue.goto(address)
    with night.held():
        job = night.processor().run("ReadNoise", **ASKED)
        log.goto(f"{address}/jobs/{job}/log")
        expect(queue.locator(f"#job-{job}")).to_be_visible()
        night.killed()
        expect(log.locator("#end")).to_have_text("The connection is lost: trying again")
    night.started()
    # What a task that was killed had not sent yet is missing, and the page says so.
    expect(log.locator("#end")).to_have_text(re.compile("^The job has ended as FINISHED, and "))
    expect(log.locator("#log")).to_contain_text("Querying database for instances of class RawBiasFrame")
    followed = log.locator("#log").inner_text()
    log.reload()
    assert followed.split("\n") == log.locator("#log").inner_text().split("\n")
    expect(queue.locator(f"#job-{job} .state")).to_have_text("FINISHED")
    log.close()
    queue.close()


def test_a_job_is_cancelled_after_it_was_asked_for_twice(night: Night, signed: BrowserContext, address: str) -> None:
    with night.held():
        job = night.processor().run("ReadNoise", **ASKED)
        with looking(signed, f"{address}/jobs/{job}") as page:
            button = page.get_by_role("button", name=f"Cancel job {job}")
            expect(button).to_be_hidden()
            page.get_by_text("Cancel this job").click()
            button.click()
            expect(page.get_by_text("on the queue page")).to_be_visible()
            expect(page.locator(".state").first).to_have_text(re.compile("^CANCELL"))
    with looking(signed, f"{address}/jobs/{job}") as page:
        expect(page.locator(".state").first).to_have_text("CANCELLED")


def test_somebody_signs_in_with_a_token_and_out_again(night: Night, browser: Browser, address: str, done: int) -> None:
    context = browser.new_context()
    with looking(context, f"{address}/jobs/{done}") as page:
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("Token").fill(night.token)
        page.get_by_label("Project").fill(night.project)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name=f"Job {done}: ReadNoise")).to_be_visible()
        assert page.evaluate("document.cookie") == "", "a script can read the token"
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(address)
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


def test_a_wrong_token_is_refused(browser: Browser, address: str, ears: Ears) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("unknown to this DPU")
    assert barriers(page) == []
    ears.forgive(page, "responded with a status of 4")
    context.close()


def test_another_projects_job_is_not_found(night: Night, browser: Browser, address: str, ears: Ears, done: int) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Token").fill(night.token)
    page.get_by_label("Project").fill("VST")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No jobs")).to_be_visible()
    for path in (f"/jobs/{done}", f"/jobs/{done}/log"):
        answer = page.goto(address + path)
        assert answer is not None
        assert answer.status == 404
        expect(page.get_by_text(f"there is no job {done}")).to_be_visible()
    assert barriers(page) == []
    ears.forgive(page, "responded with a status of 404", 2)
    context.close()


@pytest.mark.skipif(not os.environ.get("DPU_PICTURES"), reason="DPU_PICTURES=1 makes the documentation's pictures anew")
def test_pictures_for_the_documentation(signed: BrowserContext, address: str, done: int) -> None:
    for name, path in (("queue", "/"), ("queue-log", f"/jobs/{done}/log")):
        with looking(signed, address + path) as page:
            taken(page, name)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(signed: BrowserContext, address: str, done: int, scheme: str, size: dict[str, int]) -> None:
    for path in ("/", f"/jobs/{done}", f"/jobs/{done}/log"):
        with looking(signed, address + path) as page:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of two
            page.set_viewport_size(size)  # type: ignore[arg-type]  # has both
            assert barriers(page) == []
            wide, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert wide <= shown, f"{path} is wider than the window: {wide} of {shown} pixels"


def test_the_pages_can_be_read_without_scripts(browser: Browser, night: Night, address: str, done: int) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Token").fill(night.token)
    page.get_by_label("Project").fill(night.project)
    page.get_by_label("Project").press("Enter")
    page.locator(f"#job-{done}").get_by_role("link").click()
    expect(page.get_by_role("heading", name=f"Job {done}: ReadNoise")).to_be_visible()
    page.get_by_role("link", name="Log").click()
    expect(page.locator("#log")).to_contain_text("Querying database for instances of class RawBiasFrame")
    context.close()
