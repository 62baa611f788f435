"""Logging in at a real OpenID provider, and what the services make of its tokens."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import dpud.scheduler.main as scheduler
from dpu.config import Config
from dpu.errors import NotAllowed, NotLoggedIn, Unreachable, UsageError
from dpu.oidc import Login, Provider, Tokens
from dpud.hosting import oidc
from dpud.hosting.caller import Role
from dpud.hosting.oidc import Trust, Verifier
from dpud.hosting.server import listening
from dpud.hosting.settings import Environment, Listening
from fakes_hosting import place
from fakes_oidc import confirm, provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BIN = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with provider() as url:
        yield url


def tokens_of(issuer: str, user: str) -> Tokens:
    """Return what `user` gets by the device flow."""
    at = Provider(issuer, "awe")
    challenge = at.challenge()
    assert "Sign-in Success" in confirm(challenge.url, user)
    return at.wait(challenge, lambda _seconds: None)


def verifier(issuer: str, **changes: str) -> Verifier:
    return Verifier(Trust(issuer=issuer, audience="awe", projects="groups", roles="dpu_roles", **changes))


@asynccontextmanager
async def a_dpu(issuer: str, folder: Path) -> AsyncIterator[dict[str, str]]:
    """Run a scheduler that trusts `issuer`; give the environment of a user of it."""
    with place() as where:
        tokens = where.listening.tokens
        tokens.write_text(
            f'{tokens.read_text()}\n[oidc]\nissuer = "{issuer}"\naudience = "awe"\n'
            'projects = "groups"\nroles = "dpu_roles"\n'
        )
        values = {"DPU_LISTEN": where.address, "DPU_TOKENS_FILE": str(tokens), "DPU_STATE": str(folder / "state")}
        (folder / "token").write_text("service's")
        others = dict.fromkeys(("DPU_ARCHIVE", "DPU_LOGS", "DPU_CODE"), where.address)
        peers = others | {"DPU_TOKEN_FILE": str(folder / "token")}
        settings = scheduler.Settings.read(Environment({**values, **peers, "DPU_NAME": "groningen"}))
        config = folder / "config.toml"
        config.write_text(
            'default = "groningen"\nproject = "KIDS"\n'
            f'[dpus.groningen]\naddress = "{where.address}"\nissuer = "{issuer}"\n'
        )
        async with (
            scheduler.built(settings) as services,
            listening(Listening.read(Environment(values)), services),
        ):
            yield {"PATH": os.environ["PATH"], "DPU_CONFIG": str(config), "DPU_HOME": str(folder / "home"), "USER": "u"}


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]], env=environment, capture_output=True, text=True, check=False
    )


def log_in(environment: dict[str, str], user: str) -> str:
    """Type `awe login`, do what it says, and return what it said at the end."""
    command = [str(BIN / "awe"), "login"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        confirm(words[1], user)
        said = process.stdout.read()
    assert process.returncode == 0
    return said


async def test_a_person_logs_in_is_known_and_logs_out(issuer, tmp_path):
    async with a_dpu(issuer, tmp_path) as environment:
        refused = await asyncio.to_thread(run, environment, "dpu", "status")
        assert (refused.returncode, refused.stderr) == (1, "dpu: you are not logged in: awe login\n")
        assert await asyncio.to_thread(log_in, environment, "anna") == "You are logged in to groningen as anna\n"
        kept = tmp_path / "home" / "logins" / "groningen.json"
        assert kept.stat().st_mode & 0o777 == 0o600
        status = await asyncio.to_thread(run, environment, "dpu", "status", "--json")
        assert (status.returncode, json.loads(status.stdout)) == (0, [])
        assert "anna" in (await asyncio.to_thread(run, environment, "awe", "env")).stdout
        left = await asyncio.to_thread(run, environment, "awe", "logout")
        assert left.stdout == "You are logged out of groningen\n"
        assert not kept.exists()


def test_a_token_that_nears_its_end_is_renewed_for_the_next_call(tmp_path):
    with provider(seconds=30) as brief:
        login = Login(tmp_path / "login.json", Provider(brief, "awe"))
        first = tokens_of(brief, "anna")
        login.keep(first)
        assert not first.is_fresh
        renewed = login.token()
        assert renewed != first.identity
        assert Tokens(renewed).user == "anna"
        assert json.loads(login.path.read_text())["identity"] == renewed


def test_a_log_in_that_was_ended_is_renewed_no_more(issuer, tmp_path):
    login = Login(tmp_path / "login.json", Provider(issuer, "awe"))
    tokens = tokens_of(issuer, "anna")
    login.keep(tokens)
    login.forget()
    assert not login.path.exists()
    with pytest.raises(NotLoggedIn, match="renews the log-in no more"):
        Provider(issuer, "awe").renew(tokens)
    with pytest.raises(NotLoggedIn, match="you are not logged in: awe login"):
        login.token()


def test_a_person_who_declines_is_not_logged_in(issuer):
    at = Provider(issuer, "awe")
    challenge = at.challenge()
    confirm(challenge.url, "anna", abort="yes")
    with pytest.raises(NotLoggedIn, match="refuses the log-in"):
        at.wait(challenge, lambda _seconds: None)


async def test_a_provider_says_user_projects_and_roles(issuer):
    anna = await verifier(issuer).identify(tokens_of(issuer, "anna").identity)
    # Any project, and what a worker may, are not a provider's to give.
    assert (anna.user, anna.projects, anna.roles) == ("anna", {"KIDS"}, {Role.USER})
    olga = await verifier(issuer).identify(tokens_of(issuer, "olga").identity)
    assert olga.roles == {Role.OPERATOR}
    with pytest.raises(NotAllowed, match="olga is not a member of project 'KIDS'"):
        olga.caller("KIDS")


async def test_a_token_for_somebody_else_is_refused(issuer):
    token = tokens_of(issuer, "anna").identity
    other = Verifier(Trust(issuer=issuer, audience="mail"))
    with pytest.raises(NotLoggedIn, match="Audience"):
        await other.identify(token)
    with pytest.raises(NotLoggedIn, match="has no claim 'email'"):
        await verifier(issuer, user="email").identify(token)


async def test_a_token_that_somebody_else_signed_is_refused(issuer):
    true = tokens_of(issuer, "anna").identity
    claims, kid = jwt.decode(true, options={"verify_signature": False}), jwt.get_unverified_header(true)["kid"]
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    verify = verifier(issuer)
    forged = [
        ("Signature", jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})),
        ("alg", jwt.encode(claims, "a secret of thirty-two bytes or more", algorithm="HS256", headers={"kid": kid})),
        ("alg", jwt.encode(claims, None, algorithm="none", headers={"kid": kid})),
        ("no key 'mine'", jwt.encode(claims, key, algorithm="RS256", headers={"kid": "mine"})),
        ("", "a.b.c"),
    ]
    for reason, token in forged:
        with pytest.raises(NotLoggedIn, match=f"(?i){reason}"):
            await verify.identify(token)
    assert (await verify.identify(true)).user == "anna"


async def test_a_token_past_its_end_is_refused_though_it_was_good_before(monkeypatch):
    monkeypatch.setattr(oidc, "LEEWAY_S", 0)
    with provider(seconds=2) as brief:
        token = tokens_of(brief, "anna").identity
        verify = verifier(brief)
        assert (await verify.identify(token)).user == "anna"
        ends = float(jwt.decode(token, options={"verify_signature": False})["exp"])
        await asyncio.sleep(max(ends + 0.1 - time.time(), 0))
        with pytest.raises(NotLoggedIn, match="expired"):
            await verify.identify(token)


async def test_a_provider_out_of_reach_is_said():
    with pytest.raises(Unreachable, match=r"the OpenID provider http://127.0.0.1:9 cannot be reached"):
        Provider("http://127.0.0.1:9", "awe").challenge()
    token = jwt.encode({"sub": "a"}, "a secret of thirty-two bytes or more", algorithm="HS256", headers={"kid": "k"})
    verify = verifier("http://127.0.0.1:9")
    # Also to those who come before it is asked again.
    for _ in range(2):
        with pytest.raises(Unreachable, match="gives no keys"):
            await verify.identify(token)


async def test_whose_key_is_known_waits_for_no_provider(issuer, monkeypatch):
    anna, olga = (tokens_of(issuer, name).identity for name in ("anna", "olga"))
    verify = verifier(issuer)
    assert (await verify.identify(anna)).user == "anna"
    asked, answer, published = threading.Event(), threading.Event(), oidc._published

    def slowly(name):
        asked.set()
        answer.wait(60)
        return published(name)

    monkeypatch.setattr(oidc, "PAUSE_S", 0)
    monkeypatch.setattr(oidc, "_published", slowly)
    strange = jwt.encode({"sub": "a"}, "a secret of thirty-two bytes or more", algorithm="HS256", headers={"kid": "k"})
    waiting = asyncio.create_task(verify.identify(strange))
    await asyncio.to_thread(asked.wait, 60)
    assert (await asyncio.wait_for(verify.identify(olga), 30)).user == "olga"
    answer.set()
    with pytest.raises(NotLoggedIn, match="no key 'k'"):
        await waiting


def test_secrets_go_to_https_or_this_machine_only():
    with pytest.raises(UsageError, match="must be reached by https"):
        Provider("http://login.example.org", "awe").challenge()
    with pytest.raises(ValueError, match="must be https"):
        Trust.of({"issuer": "http://login.example.org", "audience": "awe"})
    with pytest.raises(ValueError, match="a provider makes user, operator only"):
        Trust.of({"issuer": "https://login.example.org", "audience": "awe", "default_roles": ["worker"]})


def test_a_token_may_be_piped_in(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('default = "g"\n[dpus.g]\naddress = "unix:/nowhere"\ntoken_file = "secrets/g.token"\n')
    environment = {"PATH": os.environ["PATH"], "DPU_CONFIG": str(config), "DPU_USER": "anna"}
    command = [str(BIN / "awe"), "login"]
    done = subprocess.run(command, env=environment, input="s3cret\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "You are logged in to g as anna\n")
    kept = tmp_path / "secrets" / "g.token"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("s3cret\n", 0o600)
    assert Config.read(environment).find("g").token() == "s3cret"
    assert subprocess.run([str(BIN / "awe"), "logout"], env=environment, check=False).returncode == 0
    assert not kept.exists()
