"""Signing in in a real browser: at a real OpenID provider, as a visitor, at one of several DPUs."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from dpu import local
from dpu_api.v1 import job_pb2
from dpud.hosting.tokens import token_row
from fakes_browser import DEADLINE_MS, barriers, looking
from fakes_client import SECRET, Script, job
from fakes_client import serving as scripted
from fakes_fleet import free_port
from fakes_oidc import provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from fakes_browser import Ears

pytestmark = pytest.mark.timeout(600)
expect.set_options(timeout=DEADLINE_MS)

VISITOR = secrets.token_hex(8)
#: An identity token lives so long: less than the margin, so that every page renews it.
SECONDS = 30


@contextmanager
def web(**settings: str) -> Iterator[str]:
    """Run the page as a process of its own; give its address."""
    address = f"127.0.0.1:{free_port()}" if "DPU_LISTEN" not in settings else settings["DPU_LISTEN"]
    kept = {name: os.environ[name] for name in local.KEPT if name in os.environ}
    environment = {**kept, "DPU_LISTEN": address, **settings}
    command = [sys.executable, "-m", "dpud", "web"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "listening" in process.stderr.readline()
            yield f"http://{address}"
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def here() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def issuer(here: str, hearing: Ears) -> Iterator[str]:
    with provider(SECONDS, f"http://{here}/login/return") as url:
        hearing.strangers.add(urlsplit(url).netloc)
        yield url


@pytest.fixture(scope="module")
def services(issuer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A DPU that trusts the provider and has a token for visitors; where its services are."""
    script = Script(jobs={5: job(5, state=job_pb2.JOB_STATE_RUNNING, revision=5)})
    more = token_row(VISITOR, "visitor", ["KIDS"], ["visitor"])
    trust = f'[oidc]\nissuer = "{issuer}"\naudience = "awe"\nprojects = "groups"\nroles = "dpu_roles"\n'
    with scripted(tmp_path_factory.mktemp("dpu"), script, more + trust) as address:
        yield dict.fromkeys(("DPU_SCHEDULER", "DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), address)


def sign_in_at_the_provider(page: Page, user: str) -> None:
    """Do what a person does on the provider's pages."""
    page.locator('input[name="login"]').fill(user)
    page.locator('input[name="password"]').fill("secret")
    page.locator('button[type="submit"]').click()
    page.get_by_role("button", name="Continue").click()


def test_somebody_signs_in_at_the_provider_stays_and_signs_out(
    browser: Browser, services: dict[str, str], issuer: str, here: str
) -> None:
    settings = {"DPU_NAME": "groningen", "DPU_OIDC_ISSUER": issuer, "DPU_LISTEN": here}
    context = browser.new_context()
    with web(**services, **settings) as address, looking(context, f"{address}/jobs/5") as page:
        assert barriers(page) == []
        page.get_by_label("Project", exact=True).fill("KIDS")
        page.get_by_role("button", name="Sign in at 127.0.0.1").click()
        sign_in_at_the_provider(page, "anna")
        expect(page.get_by_role("heading", name="Job 5")).to_be_visible()
        expect(page.get_by_text("anna in KIDS")).to_be_visible()
        assert page.evaluate("document.cookie") == "", "a script can read the tokens"
        kept = {cookie["name"]: cookie for cookie in context.cookies(address)}
        before = kept["dpu-groningen-refresh"]["value"]
        assert {cookie["sameSite"] for cookie in kept.values()} == {"Lax"}
        page.reload()
        expect(page.get_by_text("anna in KIDS")).to_be_visible()
        after = next(each for each in context.cookies(address) if each["name"] == "dpu-groningen-refresh")
        assert after["value"] != before, "the token was not renewed"
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert not [cookie for cookie in context.cookies(address) if "token" in cookie["name"]]
    context.close()


def test_a_visitor_looks_and_then_signs_in(browser: Browser, services: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "visitor").write_text(VISITOR)
    guest = {"DPU_VISITORS_TOKEN_FILE": str(tmp_path / "visitor"), "DPU_VISITORS_PROJECT": "KIDS"}
    context = browser.new_context()
    with web(**services, **guest, DPU_NAME="groningen") as address, looking(context, address) as page:
        expect(page.get_by_text("a visitor in KIDS")).to_be_visible()
        expect(page.locator(".choice").first).to_be_hidden()
        assert barriers(page) == []
        page.locator("#job-5").get_by_role("link").click()
        expect(page.get_by_role("heading", name="Job 5")).to_be_visible()
        expect(page.get_by_text("Cancel this job")).to_have_count(0)
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Token").fill(SECRET)
        page.get_by_label("Project").fill("KIDS")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("osada in KIDS")).to_be_visible()
    context.close()


def test_one_goes_from_dpu_to_dpu(browser: Browser, services: dict[str, str], tmp_path: Path) -> None:
    keys = {key.removeprefix("DPU_").lower(): address for key, address in services.items()}
    rows = "".join(f'{key} = "{address}"\n' for key, address in keys.items())
    (tmp_path / "dpus.toml").write_text(f"[groningen]\n{rows}[leiden]\n{rows}")
    context = browser.new_context()
    with web(DPU_WEB_DPUS=str(tmp_path / "dpus.toml")) as address, looking(context, address) as page:
        for dpu in ("groningen", "leiden"):
            page.get_by_role("navigation", name="DPUs").get_by_role("link", name=dpu).click()
            page.get_by_label("Token").fill(SECRET)
            page.get_by_label("Project").fill("KIDS")
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("#live")).to_contain_text("live")
            assert page.url == f"{address}/{dpu}/"
            assert barriers(page) == []
            page.locator("#job-5").get_by_role("link").click()
            assert page.url == f"{address}/{dpu}/jobs/5"
            expect(page.get_by_role("heading", name="Job 5")).to_be_visible()
    context.close()
