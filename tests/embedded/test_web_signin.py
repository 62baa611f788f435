"""Signing in to the pages: by a token, at a real OpenID provider, or not at all where visitors may look."""

from __future__ import annotations

import asyncio
import re
import secrets
import urllib.error
import urllib.parse
from contextlib import asynccontextmanager
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

from dpu.errors import NotLoggedIn
from dpu.oidc import Authorization, Provider, Tokens
from dpud.hosting.settings import Address, BadSetting, Environment
from dpud.hosting.tokens import token_row
from dpud.web.main import Settings, serving
from dpud.web.places import Place
from dpud.web.provider import Desk
from fakes_client import SECRET, Script, job
from fakes_client import serving as scripted
from fakes_fleet import free_port
from fakes_oidc import confirm, provider
from fakes_web import Visiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(400)
VISITOR = secrets.token_hex(8)
#: An identity token lives so long: less than the margin, so that every page renews it.
SECONDS = 30


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def issuer(port: int) -> Iterator[str]:
    with provider(SECONDS, f"http://127.0.0.1:{port}/login/return") as url:
        yield url


@pytest.fixture
def script() -> Script:
    return Script(jobs={number: job(number, revision=number) for number in (5, 6)})


@asynccontextmanager
async def pages(script: Script, folder: Path, port: int, issuer: str = "", **changes: Any) -> AsyncIterator[Visiting]:
    trust = (
        f'[oidc]\nissuer = "{issuer}"\naudience = "awe"\nprojects = "groups"\nroles = "dpu_roles"\n' if issuer else ""
    )
    with scripted(folder, script, token_row(VISITOR, "visitor", ["KIDS"], ["visitor"]) + trust) as address:
        at = Address.parse(address)
        place = Place(name="groningen", scheduler=at, logs=at, archive=at, oidc_issuer=issuer, **changes)
        async with serving(Settings(Address.parse(f"127.0.0.1:{port}"), (place,))) as url:
            yield Visiting(url)


async def at_the_provider(browser: Visiting, user: str, project: str = "KIDS", to: str = "") -> str:
    """Sign in as `user`; return the page that one comes to."""
    _, page, _ = await browser.post("login/begin", project=project, to=to)
    url = unescape(re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page)[1])
    return await asyncio.to_thread(confirm, url, user, browser.opener)


async def test_somebody_signs_in_at_the_provider_and_comes_to_the_page_that_was_asked_for(
    script, tmp_path, port, issuer
):
    async with pages(script, tmp_path, port, issuer) as browser:
        _, page, answer = await browser.get("/jobs/5")
        assert answer.url.endswith("/login?to=%2Fjobs%2F5")
        assert "Sign in at 127.0.0.1" in page
        page = await at_the_provider(browser, "anna", to="/jobs/5")
        assert "Job 5" in page
        assert "anna in KIDS" in page
        assert {cookie.name.rpartition("-")[2] for cookie in browser.jar if cookie.name.startswith("dpu-")} == {
            "token",
            "refresh",
            "project",
            "user",
            "seed",
        }


async def test_whoever_is_signed_in_stays_so_when_the_token_is_renewed(script, tmp_path, port, issuer):
    async with pages(script, tmp_path, port, issuer) as browser:
        await at_the_provider(browser, "anna")
        _, page, _ = await browser.get("/jobs/5")
        stamp, before = browser.stamp(page), browser.cookie("refresh")
        # Pages that are asked for together come with the same token for renewal, which is taken once only.
        answers = await asyncio.gather(*(browser.get("/jobs/5") for _ in range(4)))
        assert [status for status, _, _ in answers] == [200] * 4
        assert browser.cookie("refresh") != before
        _, page, _ = await browser.post("/jobs/5/retry", stamp=stamp)
        assert "Job 90005" in page, "a form from before the renewal is not taken"


async def test_signing_out_ends_it_at_the_provider_too(script, tmp_path, port, issuer):
    async with pages(script, tmp_path, port, issuer) as browser:
        page = await at_the_provider(browser, "anna")
        kept = Tokens(identity=browser.cookie("token"), refresh=browser.cookie("refresh"))
        assert "Sign in" in (await browser.post("logout", stamp=browser.stamp(page)))[1]
        assert not [cookie for cookie in browser.jar if cookie.name.startswith("dpu-")]
        with pytest.raises(NotLoggedIn, match="renews the log-in no more"):
            Provider(issuer, "awe").renew(kept)


async def test_who_may_not_see_the_project_is_told_so(script, tmp_path, port, issuer):
    async with pages(script, tmp_path, port, issuer) as browser:
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            await at_the_provider(browser, "olga")
        assert "olga is not a member of project" in refused.value.read().decode()
        assert not [cookie for cookie in browser.jar if cookie.name.endswith("-token")]


async def test_a_return_that_was_not_begun_here_is_refused(script, tmp_path, port, issuer):
    async with pages(script, tmp_path, port, issuer) as browser:
        for begun in (False, True):
            if begun:
                await browser.post("login/begin", project="KIDS")
            status, page, _ = await browser.get("/login/return?code=stolen&state=forged")
            assert (status, "this sign-in was not begun here" in page) == (401, True)
        _, page, _ = await browser.post("login/begin", project="KIDS")
        state = re.search(r"state=([\w-]+)", page)[1]
        status, page, _ = await browser.get(f"/login/return?error=access_denied&state={state}")
        assert (status, "refuses the sign-in: access_denied" in page) == (401, True)


async def test_a_code_of_another_sign_in_is_refused(issuer, port):
    desk = Desk(issuer, Provider(issuer, "awe"))
    begun = Authorization.begin(f"http://127.0.0.1:{port}/login/return")
    with pytest.raises(NotLoggedIn, match="refuses the log-in"):
        await desk.exchange(begun, "stolen")


async def test_a_provider_that_is_away_is_said(script, tmp_path, port):
    async with pages(script, tmp_path, port, f"http://127.0.0.1:{free_port()}") as browser:
        status, page, _ = await browser.post("login/begin", project="KIDS")
        assert (status, "cannot be reached" in page) == (503, True)
        assert "osada in KIDS" in (await browser.post("login", token=SECRET, project="KIDS"))[1]


async def test_a_visitor_looks_without_signing_in_and_changes_nothing(script, tmp_path, port):
    guest = {"visitors_token": VISITOR, "visitors_project": "KIDS"}
    async with pages(script, tmp_path, port, **guest) as browser:
        _, page, _ = await browser.get("/jobs/5")
        assert "a visitor in KIDS" in page
        assert "/retry" not in page
        status, page, _ = await browser.post("/jobs/5/retry", stamp="")
        assert (status, "not from a page of the DPU" in page) == (403, True)
        assert not [each for each in script.asked if each[0] == "RetryJob"]
        _, page, _ = await browser.post("login", token=SECRET, project="KIDS")
        assert "osada in KIDS" in page
        assert "/retry" in (await browser.get("/jobs/5"))[1]
        # Whoever is known no more signs in again, and may look until then.
        browser.set_cookie("token", "revoked")
        assert "Sign in" in (await browser.get("/jobs/5"))[1]
        assert "a visitor in KIDS" in (await browser.get("/jobs/5"))[1]


@pytest.mark.parametrize(
    "to",
    ["//evil.example/", "https://evil.example/", "/\\evil.example", "/\t/evil.example", "jobs/5", "/%0d%0aa: b", ""],
)
async def test_signing_in_leads_nowhere_else(script, tmp_path, port, to):
    async with pages(script, tmp_path, port) as browser:
        _, _, answer = await browser.post("login", token=SECRET, project="KIDS", to=to)
        assert urllib.parse.urlsplit(answer.url).netloc == f"127.0.0.1:{port}"


async def test_a_token_that_no_browser_would_keep_is_refused(script, tmp_path, port):
    async with pages(script, tmp_path, port) as browser:
        status, page, _ = await browser.post("login", token="x" * 4000, project="KIDS")
        assert (status, "longer than the 3800 letters" in page) == (400, True)


def test_a_page_that_a_provider_sends_people_back_to_says_where_it_is(tmp_path):
    services = dict.fromkeys(("DPU_SCHEDULER", "DPU_LOGS", "DPU_ARCHIVE"), "unix:/a")
    tls = {"DPU_TLS_CERTIFICATE": "tls.crt", "DPU_TLS_KEY": "tls.key"}
    values = {"DPU_NAME": "g", "DPU_LISTEN": "0.0.0.0:443", **services, **tls, "DPU_OIDC_ISSUER": "https://sso.example"}
    with pytest.raises(BadSetting, match="set DPU_WEB_URL"):
        Settings.read(Environment(values))
    found = Settings.read(Environment({**values, "DPU_WEB_URL": "https://queue.example/"}))
    assert (found.address, found.places[0].oidc_client) == ("https://queue.example", "awe")
    with pytest.raises(BadSetting, match="must be 'https://HOST'"):
        Settings.read(Environment({**values, "DPU_WEB_URL": "queue.example"}))
    (tmp_path / "visitor").write_text(f"{VISITOR}\n")
    seen = {**values, "DPU_OIDC_ISSUER": "", "DPU_VISITORS_TOKEN_FILE": str(tmp_path / "visitor")}
    assert Settings.read(Environment(seen)).places[0].visitors_token == VISITOR
    assert VISITOR not in repr(Settings.read(Environment(seen)))
