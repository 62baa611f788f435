"""What others wrote, in a real browser: names, log lines and headers that try to act, and sites that do."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from dpu.values import to_map
from dpu_api.v1 import archive_pb2, job_pb2, scheduler_pb2
from dpud.hosting.tokens import token_row
from fakes_browser import DEADLINE_MS, DESK, PHONE, Ears, barriers, looking
from fakes_client import Script, batch, image, job, job_end, product, serving, task
from fakes_fleet import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.timeout(600)

SCRIPT = "<script>window.pwned=1</script>"
#: Ends what it stands in, in each of the ways that there are, and acts.
HOSTILE = (
    f"{SCRIPT}\"'><img src=x onerror=window.pwned=1></pre></title></textarea>-->"
    "<svg onload=window.pwned=1>{{7*7}}javascript:window.pwned=1"
)
#: Turns what follows around, hides, and has no end.
ODD = "\u202egnp.exe\u2066 \u200b\u200d\ufeffNGC\u0301\u0301\u0301 " + "W" * 3000
NUMBER = 7
USER = "o<b>sada"
TOKEN = secrets.token_hex(8)


@pytest.fixture(scope="module")
def script() -> Script:
    """Everything that somebody else may have written, hostile."""
    jobs = {
        number: job(
            number,
            user=name,
            sequence=name,
            project="KIDS",
            state=job_pb2.JOB_STATE_RUNNING,
            revision=number,
            options=to_map({"object": name, "instrument": name, "filter": [name], "date": name, name[:80]: name}),
        )
        for number, name in ((5, ODD), (NUMBER, HOSTILE))
    }
    failed = jobs[NUMBER]
    failed.failure.message = failed.failure.detail = HOSTILE
    failed.cancellation.by = failed.cancellation.reason = HOSTILE
    content = image(100.0)
    frame = product(
        "ccd50", content, file_name=HOSTILE, published=True, frame_class=HOSTILE, object=HOSTILE, filter=HOSTILE
    )
    totals = scheduler_pb2.Totals(finished=1, busy_s=10)
    named = [scheduler_pb2.NamedTotals(name=name, totals=totals) for name in (HOSTILE, ODD)]
    return Script(
        jobs=jobs,
        page=50,
        tasks=[task(1, HOSTILE, job_pb2.TASK_STATE_FAILED, worker=HOSTILE, job_id=NUMBER)],
        frames=[frame],
        files={frame.id: content},
        cards=[f"OBJECT  = '{SCRIPT}'", f"COMMENT {HOSTILE}", f"HISTORY {ODD}"],
        logs=[batch(1, HOSTILE, ODD, "\u2028\u2029\x00", offset=3)],
        totals=scheduler_pb2.GetTotalsResponse(users=named, sequences=named),
        trends={"ReadNoise": [archive_pb2.TrendPoint(night="2000-04-28", chip=HOSTILE, filter=HOSTILE, value=2.0)]},
        explanation=scheduler_pb2.ExplainJobResponse(waits=[scheduler_pb2.Wait(tasks=1, message=HOSTILE)]),
    )


@pytest.fixture(scope="module")
def address(script: Script, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages of a DPU that knows these, as a process of their own."""
    folder = tmp_path_factory.mktemp("h")
    port = free_port()
    with serving(folder, script, more=token_row(TOKEN, USER, ["KIDS"], ["user"])) as at:
        settings = dict.fromkeys(("DPU_SCHEDULER", "DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), at)
        settings |= {"DPU_NAME": "hostile", "DPU_LISTEN": f"127.0.0.1:{port}"}
        with (
            (folder / "web.log").open("ab") as log,
            subprocess.Popen([sys.executable, "-m", "dpud", "web"], env=os.environ | settings, stderr=log) as process,
        ):
            try:
                until_it_listens(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the pages did not begin to listen within 60 s"
        else:
            return


@pytest.fixture(scope="module")
def signed(browser: Browser, address: str) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=DESK)  # type: ignore[arg-type]  # has both
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Project").fill("KIDS")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#queue")).to_be_visible()
    page.close()
    yield context
    context.close()


def harmless(page: Page, address: str) -> None:
    """See that nothing of it acted, and that the page is no wider than it should be."""
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img[src=x], main svg[onload], main script").count() == 0
    wide, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= shown, f"{page.url} is wider than the window: {wide} of {shown} pixels"
    assert page.url.startswith(address)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        f"/?search={quote(HOSTILE)}&user={quote(HOSTILE)}&sequence={quote(HOSTILE)}&sort=object&state={quote(HOSTILE)}",
        f"/jobs/{NUMBER}",
        "/jobs/5",
        f"/jobs/{NUMBER}/log?chip={quote(HOSTILE)}&level={quote(HOSTILE)}",
        f"/chosen?job={NUMBER}&job=5",
        "/statistics",
        "/frames/id-ccd50",
    ],
    ids=["queue", "asked", "job", "odd", "log", "chosen", "statistics", "product"],
)
def test_nothing_that_others_wrote_acts(signed: BrowserContext, address: str, path: str, size: dict[str, int]) -> None:
    with looking(signed, address + path) as page:
        page.set_viewport_size(size)  # type: ignore[arg-type]  # has both
        harmless(page, address)
        assert barriers(page) == []
        assert "window.pwned=1" in page.content() or path in ("/jobs/5", "/")


@pytest.mark.parametrize(
    "path", [f"/jobs/{quote(HOSTILE)}", f"/?page={quote(HOSTILE)}", f"/chosen?job={quote(HOSTILE)}"]
)
def test_what_is_asked_for_in_vain_is_said_as_text(signed: BrowserContext, address: str, ears: Ears, path: str) -> None:
    with looking(signed, address + path) as page:
        harmless(page, address)
        ears.forgive(page, "responded with a status of ")


def test_what_comes_live_is_text_too(signed: BrowserContext, address: str, script: Script) -> None:
    with looking(signed, address) as page, looking(signed, f"{address}/jobs/{NUMBER}/log") as log:
        expect(page.locator("#live")).to_have_text("live")
        added = job(9, user=HOSTILE, sequence=HOSTILE, state=job_pb2.JOB_STATE_RUNNING, revision=90)
        added.options.CopyFrom(to_map({"object": HOSTILE}))
        script.jobs[9] = added
        expect(page.locator("#job-9")).to_contain_text(SCRIPT)
        harmless(page, address)
        expect(log.locator("#log")).to_contain_text(SCRIPT)
        harmless(log, address)
        script.logs.append(job_end(4))


def test_where_something_got_in_all_the_same_the_policy_holds(signed: BrowserContext, address: str, ears: Ears) -> None:
    page = signed.new_page()
    page.goto(address)
    page.evaluate(
        """() => {
          window.broken = []
          document.addEventListener('securitypolicyviolation', event => broken.push(event.effectiveDirective))
          const script = document.createElement('script')
          script.textContent = 'window.pwned = 1'
          const other = document.createElement('script')
          other.src = 'https://elsewhere.example/x.js'
          const image = document.createElement('img')
          image.src = 'https://elsewhere.example/x.png'
          const frame = document.createElement('iframe')
          frame.src = 'https://elsewhere.example/'
          const style = document.createElement('style')
          style.textContent = 'body { display: none }'
          document.body.append(script, other, image, frame, style)
          document.body.setAttribute('onclick', 'window.pwned = 1')
          document.body.click()
          const base = document.createElement('base')
          base.href = 'https://elsewhere.example/'
          document.head.append(base)
        }"""
    )
    expected = {"script-src-elem", "script-src-attr", "img-src", "frame-src", "style-src-elem", "base-uri"}
    page.wait_for_function("expected => expected.every(each => broken.includes(each))", arg=sorted(expected))
    assert page.evaluate("window.pwned") is None
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    ears.forgive(page, "Content Security Policy", len(expected))
    page.close()


class Elsewhere(BaseHTTPRequestHandler):
    """Another site, whose page sends a form to ours and shows ours in a frame."""

    def __init__(self, target: str, *arguments: object) -> None:
        self._target = target
        super().__init__(*arguments)  # type: ignore[arg-type]  # as the server calls it

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(
            f"""<form method="post" action="{self._target}/chosen/cancel"><input name="jobs" value="{NUMBER}">
            <button>Win a prize</button></form><iframe src="{self._target}/"></iframe>""".encode()
        )

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_another_site_neither_acts_for_a_visitor_nor_shows_the_page(
    signed: BrowserContext, address: str, script: Script, ears: Ears
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Elsewhere, address)) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        try:
            page = signed.new_page()
            ears.strangers.add(f"localhost:{site.server_port}")
            page.goto(f"http://localhost:{site.server_port}/")
            frame = page.frames[1]
            frame.wait_for_load_state()
            assert "Queue" not in frame.content(), "ours stands in a frame of another site"
            page.get_by_role("button", name="Win a prize").click()
            expect(
                page.get_by_role("heading", name="Sign in").or_(page.get_by_role("heading", name="Forbidden"))
            ).to_be_visible()
            page.close()
        finally:
            site.shutdown()
    assert "CancelJobs" not in [method for method, _ in script.asked]


def test_a_cookie_is_for_the_server_alone(signed: BrowserContext, address: str) -> None:
    with looking(signed, address) as page:
        assert page.evaluate("document.cookie") == ""
    cookies = [cookie for cookie in signed.cookies() if cookie["name"].startswith("dpu-hostile-")]
    assert {(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies} == {(True, "Lax")}
    assert len(cookies) >= 3


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2fetc/passwd",
        "/frames/..%2f..%2fetc%2fpasswd/file.fits",
        "//elsewhere.example/",
        "/login/..//elsewhere.example",
        "/\\elsewhere.example",
    ],
)
def test_a_path_leads_to_no_other_file_and_no_other_site(signed: BrowserContext, address: str, path: str) -> None:
    cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in signed.cookies())
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        # As it stands: a client of Python would tidy the path.
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    status = int(answer.split()[1])
    assert status in {303, 307, 400, 404}, answer[:300]
    lines = answer.partition(b"\r\n\r\n")[0].lower().splitlines()
    leads = [line.partition(b": ")[2] for line in lines if line.startswith(b"location:")]
    assert all(to.startswith((b"/login", address.encode())) and not to.startswith(b"//") for to in leads), leads
    assert b"import annotations" not in answer
