"""A real OpenID provider on loopback, and the person who confirms a code in its pages."""

from __future__ import annotations

import http.cookiejar
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
#: Where npm installs it, kept between runs.
ROOM = HERE.parent / "build" / "npm" / "oidc"
PACKAGE = "oidc-provider@8.8.1"


def installed() -> Path:
    """Return the script of the provider, installed. Skips the test where npm cannot."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm and node are not installed: no OpenID provider to log in at")
    if not (ROOM / "node_modules" / "oidc-provider").is_dir():
        ROOM.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(ROOM), "--no-audit", "--no-fund", PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr[-200:]}")
    script = ROOM / "provider.mjs"
    shutil.copyfile(HERE / "fakes_oidc.mjs", script)
    return script


@contextmanager
def provider(seconds: int = 3600, redirect: str = "") -> Iterator[str]:
    """Run a provider whose identity tokens are valid for `seconds`; give its issuer.

    A browser that logs in there itself is sent back to `redirect`.
    """
    script = installed()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["node", str(script), str(port), str(seconds), *([redirect] if redirect else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def confirm(url: str, user: str, opener: urllib.request.OpenerDirector | None = None, **more: str) -> str:
    """Do what a person does in a browser: every form of the provider's pages from `url` on; return the last page.

    With `more` that goes into the first form, and nothing else is done.
    """
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = opener or urllib.request.build_opener(jar)
    with opener.open(url, timeout=30) as response:
        page, place = response.read().decode(), response.url
    for _ in range(5):
        if urllib.parse.urlsplit(place).netloc != urllib.parse.urlsplit(url).netloc:
            return page
        form = re.search(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', page, re.DOTALL)
        if form is None or "Sign-in Success" in page:
            return page
        fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', form[2]))
        if 'name="login"' in form[2]:
            fields |= {"login": user, "password": "secret"}
        fields |= more
        body = urllib.parse.urlencode({name: unescape(value) for name, value in fields.items()}).encode()
        with opener.open(urllib.parse.urljoin(place, unescape(form[1])), body, timeout=30) as response:
            page, place = response.read().decode(), response.url
        if more:
            return page
    raise AssertionError(f"the pages of the provider have no end: {page[:500]}")
