"""What a job makes, in a real browser: the focal plane as it fills, products, their files, the code that made them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits
from playwright.sync_api import expect

from dpu.products import results
from fakes_browser import ASKED, DEADLINE_MS, DESK, PHONE, barriers, looking, taken

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

    from fakes_browser import Night

pytestmark = pytest.mark.timeout(600)
expect.set_options(timeout=DEADLINE_MS)


def shown(page: Page, path: str) -> None:
    """Follow the first link to a product."""
    page.goto(path)
    page.get_by_role("region", name="Products").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="BiasFrame ccd50")).to_be_visible()


def test_the_focal_plane_fills_as_tasks_end(night: Night, signed: BrowserContext, address: str, done: int) -> None:
    assert done
    with night.held():
        job = night.processor().run("ReadNoise", **ASKED, force=True)
        page = signed.new_page()
        page.goto(f"{address}/jobs/{job}")
        page.evaluate("window.same = true")
        expect(page.get_by_text("Cancel this job")).to_be_visible()
    for chip in ("ccd50", "ccd51"):
        tile = page.locator("g.tile").filter(has_text=chip)
        expect(tile).to_have_class("tile succeeded")
        row = page.get_by_role("region", name="Chips").get_by_role("row").filter(has_text=chip)
        expect(row).to_contain_text("✓ SUCCEEDED")
    expect(page.locator(".state").first).to_have_text("FINISHED")
    expect(page.get_by_text("Do it again")).to_be_visible()
    page.close()


def test_a_page_that_is_live_stays_where_somebody_reads(
    night: Night, signed: BrowserContext, address: str, done: int
) -> None:
    assert done
    with night.held():
        job = night.processor().run("ReadNoise", **ASKED, force=True)
        page = signed.new_page()
        page.goto(f"{address}/jobs/{job}")
        page.get_by_text("Cancel this job").click()
        page.evaluate("window.same = true")
    expect(page.locator("#summary .state").first).to_have_text("FINISHED")
    assert page.evaluate("window.same"), "the page was loaded anew under a form that is open"
    expect(page.get_by_role("button", name=f"Cancel job {job}")).to_be_visible()
    page.close()


def test_the_tasks_of_a_job_are_bars_by_worker(signed: BrowserContext, address: str, biases: int) -> None:
    with looking(signed, f"{address}/jobs/{biases}") as page:
        row = page.get_by_role("region", name="Timeline").get_by_role("row").filter(has_text="local")
        expect(row).to_contain_text(re.compile(r"\d+%"))
        assert row.locator("rect").count() >= 2
        assert "Bias ccd50: succeeded" in " ".join(row.locator("rect title").all_text_contents())


def test_a_product_is_seen_judged_and_brought_home(
    signed: BrowserContext, address: str, biases: int, tmp_path: Path
) -> None:
    with looking(signed, f"{address}/jobs/{biases}") as page:
        shown(page, f"{address}/jobs/{biases}")
        image = page.get_by_role("img", name="The image of BiasFrame ccd50")
        page.wait_for_function("image => image.complete", arg=image.element_handle())
        assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [205, 410]
        expect(
            page.get_by_role("region", name="Quality").get_by_role("row").filter(has_text="STDEV").first
        ).to_be_visible()
        figure = page.locator(".quality img").first
        figure.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=figure.element_handle())
        expect(page.locator("pre[aria-label=Header]")).to_contain_text("FRAMECLS= 'BiasFrame'")
        with page.expect_download() as waiting:
            page.get_by_role("link", name="Download FITS").click()
        waiting.value.save_as(tmp_path / "bias.fits")
        with fits.open(tmp_path / "bias.fits") as file:
            assert file[0].data.shape == (410, 205)
        assert waiting.value.suggested_filename.endswith(".fits")


def test_a_lineage_leads_from_a_product_to_what_it_was_made_from(
    signed: BrowserContext, address: str, biases: int
) -> None:
    with looking(signed, f"{address}/jobs/{biases}") as page:
        shown(page, f"{address}/jobs/{biases}")
        lineage = page.get_by_role("region", name="Lineage")
        expect(lineage.locator("text.title").filter(has_text="ReadNoise")).to_be_visible()
        lineage.locator("g").filter(has_text="ReadNoise").get_by_role("link").click()
        expect(page.get_by_role("heading", name="ReadNoise ccd50")).to_be_visible()
        expect(page.get_by_role("region", name="Lineage").locator(".here .title")).to_have_text("ReadNoise")


def test_the_code_of_a_job_is_told(signed: BrowserContext, address: str, biases: int) -> None:
    with looking(signed, f"{address}/jobs/{biases}/code") as page:
        expect(page.get_by_role("heading", name=f"Code of job {biases}")).to_be_visible()
        expect(page.locator("dd").filter(has_text=re.compile("^[0-9a-f]{64}$"))).to_be_visible()


def test_another_projects_product_is_not_found(night: Night, browser: Browser, address: str, biases: int) -> None:
    context = browser.new_context()
    page = context.new_page()
    frame = results(night.processor().link, biases)[0]
    page.goto(f"{address}/login")
    page.get_by_label("Token").fill(night.token)
    page.get_by_label("Project").fill("VST")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No jobs")).to_be_visible()
    for part in ("", "/image.png", "/file.fits"):
        answer = context.request.get(f"{address}/frames/{frame.id}{part}")
        assert answer.status == 404, part
    context.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_of_a_product(
    signed: BrowserContext, address: str, biases: int, scheme: str, size: dict[str, int]
) -> None:
    for follow in (True, False):
        path = f"{address}/jobs/{biases}"
        with looking(signed, path if follow else f"{path}/code") as page:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of two
            page.set_viewport_size(size)  # type: ignore[arg-type]  # has both
            if follow:
                shown(page, path)
            assert barriers(page) == []
            wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert wide <= seen, f"{page.url} is wider than the window: {wide} of {seen} pixels"


@pytest.mark.skipif(not os.environ.get("DPU_PICTURES"), reason="DPU_PICTURES=1 makes the documentation's pictures anew")
def test_pictures_of_a_job_and_a_product(night: Night, signed: BrowserContext, address: str, biases: int) -> None:
    with looking(signed, f"{address}/jobs/{biases}") as page:
        shown(page, f"{address}/jobs/{biases}")
        page.wait_for_load_state("networkidle")
        taken(page, "queue-product")
    job = night.processor().run("Bias", **ASKED, force=True)
    with looking(signed, f"{address}/jobs/{job}") as page:
        # While it runs there is most to see.
        page.locator("g.tile.succeeded").nth(2).wait_for()
        taken(page, "queue-job", height=1000)
