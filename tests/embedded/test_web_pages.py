"""The pages of the queue, through a real web server, as a browser asks for them."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dpu_recipes
from dpu.channel import target
from dpu.values import to_map
from dpu_api.v1 import archive_pb2, job_pb2, logs_pb2, scheduler_pb2
from dpud.hosting.settings import Address, BadSetting, Environment
from dpud.web.framepage import file_name
from dpud.web.main import Settings, serving
from dpud.web.places import Place
from dpud.web.queue import duration, row, states
from dpud.web.visitors import Entry
from fakes_client import SECRET, Script, batch, image, job, job_end, product, task
from fakes_client import serving as scripted
from fakes_fleet import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

RUNNING = job_pb2.JOB_STATE_RUNNING
#: What nobody's name or log line may do to a page.
HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"


@dataclass
class Browser:
    """Asks for pages, follows where it is led, keeps cookies."""

    address: str
    jar: CookieJar = field(default_factory=CookieJar)

    def __post_init__(self) -> None:
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    async def get(self, path: str = "/") -> tuple[int, str, Any]:
        return await asyncio.to_thread(self._ask, path, None)

    async def post(self, path: str, **fields: str) -> tuple[int, str, Any]:
        return await asyncio.to_thread(self._ask, path, urllib.parse.urlencode(fields).encode())

    async def sign_in(self, token: str = SECRET, project: str = "KIDS") -> tuple[int, str, Any]:
        return await self.post("login", token=token, project=project)

    def events(self, path: str) -> Any:
        return self._opener.open(self.address + path.lstrip("/"), timeout=60)

    def read(self, path: str) -> tuple[Any, bytes]:
        with self.events(path) as answer:
            return answer.headers, answer.read()

    def _ask(self, path: str, body: bytes | None) -> tuple[int, str, Any]:
        try:
            with self._opener.open(self.address + path.lstrip("/"), body, timeout=60) as answer:
                return answer.status, answer.read().decode(), answer
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error


def acting(page: str) -> list[tuple[str, str | None]]:
    """Return what stands in a page itself and does something: the policy of the pages forbids all of it."""
    found: list[tuple[str, str | None]] = []

    class Look(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "style" or (tag == "script" and not (dict(attrs).get("src") or "").startswith("/static/")):
                found.append((tag, None))
            found.extend(each for each in attrs if each[0] == "style" or each[0].startswith("on"))

    Look().feed(page)
    return found


@pytest.fixture
def script() -> Script:
    return Script(jobs={number: job(number, revision=number) for number in (5, 6)})


@asynccontextmanager
async def pages(
    script: Script, folder: Any, names: Sequence[str] = ("groningen",), **changes: Any
) -> AsyncIterator[Browser]:
    with scripted(folder, script) as address:
        at = Address.parse(address)
        places = tuple(Place(name=name, scheduler=at, logs=at, archive=at, code=at) for name in names)
        settings = Settings(Address.parse(f"127.0.0.1:{free_port()}"), places, **changes)
        async with serving(settings) as url:
            yield Browser(url)


@pytest.fixture
async def browser(script, tmp_path):
    async with pages(script, tmp_path) as found:
        await found.sign_in()
        yield found


async def test_the_queue_shows_a_row_a_job_newest_first(browser):
    status, page, answer = await browser.get()
    assert status == 200
    assert re.findall(r'<tr id="job-(\d+)"', page) == ["6", "5"]
    assert "osada in KIDS" in page
    assert "2/0/0/0/0" in page
    assert "script-src 'self'" in answer.headers["content-security-policy"]


async def test_the_queue_asks_for_what_the_filter_says(browser, script):
    await browser.get("/?user=mine&state=RUNNING&state=QUEUED&state=NONSENSE&sequence=Bias&page=t")
    asked = [request for method, request in script.asked if method == "ListJobs"][-1]
    assert (asked.user, list(asked.states)) == ("osada", [RUNNING, job_pb2.JOB_STATE_QUEUED])
    assert (asked.sequence, asked.page_size, asked.page_token) == ("Bias", 50, "t")


async def test_without_a_token_every_page_leads_to_the_sign_in(script, tmp_path):
    async with pages(script, tmp_path) as browser:
        for path in ("/", "/live", "/jobs/5", "/jobs/5/log", "/jobs/5/log.txt"):
            _, page, answer = await browser.get(path)
            assert answer.url.partition("?")[0].endswith("/login")
            assert "Sign in" in page
        status, page, _ = await browser.sign_in("wrong")
        assert (status, "the token is unknown to this DPU" in page) == (401, True)
        status, page, _ = await browser.sign_in(project="VST")
        assert (status, "not a member of project &#39;VST&#39;" in page) == (401, True)
        assert not [cookie for cookie in browser.jar if cookie.name.endswith("-token")]


async def test_a_key_lets_in_once(script, tmp_path):
    async with pages(script, tmp_path, entry=Entry("k3y", SECRET, "KIDS")) as browser:
        assert "Sign in" in (await browser.get("/enter?key=other"))[1]
        assert "osada in KIDS" in (await browser.get("/enter?key=k3y"))[1]
        assert "Sign in" in (await Browser(browser.address).get("/enter?key=k3y"))[1]


async def test_signing_out_forgets_the_token(browser):
    stamp = re.search(r'name="stamp" value="(\w+)"', (await browser.get())[1])[1]
    assert "Sign in" in (await browser.post("logout", stamp=stamp))[1]
    assert "Sign in" in (await browser.get())[1]


async def test_of_several_dpus_each_has_its_pages_and_its_visitors(script, tmp_path):
    async with pages(script, tmp_path, ("groningen", "leiden")) as browser:
        assert (await browser.get("/"))[2].url.endswith("/groningen/login")
        await browser.post("groningen/login", token=SECRET, project="KIDS")
        _, page, _ = await browser.get("/")
        assert re.findall(r'<a href="/(\w+)/"( aria-current="true")?>\1</a>', page) == [
            ("groningen", ' aria-current="true"'),
            ("leiden", ""),
        ]
        assert 'href="/groningen/jobs/6"' in page
        assert "Job 6" in (await browser.get("/groningen/jobs/6"))[1]
        assert (await browser.get("/leiden/jobs/6"))[2].url.endswith("/leiden/login?to=%2Fjobs%2F6")
        assert (await browser.get("/jobs/6"))[0] == 404


def test_the_dpus_of_a_file_are_read_with_what_is_wrong_with_them(tmp_path):
    file = tmp_path / "dpus.toml"
    values = Environment({"DPU_LISTEN": "127.0.0.1:80", "DPU_WEB_DPUS": str(file)})
    with pytest.raises(BadSetting, match=r"dpus.toml.: cannot be read"):
        Settings.read(values)
    good = '[{}]\nscheduler = "dpu:1"\nlogs = "dpu:2"\narchive = "dpu:3"\n'
    for text, wrong in (
        ("", "names no DPU"),
        ("[", "is not TOML"),
        ("groningen = 1", r"must be a table, \[groningen\]"),
        ('[g]\ncolour = "red"', r"\[g\] colour is unknown; known are scheduler, logs, archive, code"),
        ('[g]\nscheduler = "x"', r"\[g\] DPU_SCHEDULER='x': must be"),
        (good.format("static"), "DPU_NAME='static': must be letters"),
    ):
        file.write_text(text)
        with pytest.raises(BadSetting, match=wrong):
            Settings.read(values)
    file.write_text(good.format("groningen") + good.format("leiden"))
    found = Settings.read(values).places
    assert [(place.name, place.archive.text, place.code) for place in found] == [
        ("groningen", "dpu:3", None),
        ("leiden", "dpu:3", None),
    ]
    keyed = Environment({"DPU_LISTEN": "127.0.0.1:80", "DPU_WEB_DPUS": str(file), "DPU_WEB_KEY": "k"})
    with pytest.raises(BadSetting, match="DPU_WEB_DPUS names several"):
        Settings.read(keyed)


async def test_a_job_shows_its_tasks_what_it_waits_for_and_its_first_failure(browser, script):
    failed = job_pb2.Failure(message="no bias of ccd50", detail="Traceback ...")
    script.jobs[7] = job(7, state=RUNNING, failure=failed, code_digest="c0de")
    script.tasks = [task(0, "", plan=True), task(1, "ccd50", job_pb2.TASK_STATE_FAILED, worker="one")]
    script.explanation = scheduler_pb2.ExplainJobResponse(
        waits=[scheduler_pb2.Wait(tasks=2, message="waiting for a free slot")], position=3
    )
    _, page, _ = await browser.get("/jobs/7")
    for said in (
        "no bias of ccd50",
        "2 tasks: waiting for a free slot",
        "queue is 3",
        "plan of Bias",
        "FAILED",
        "c0de",
    ):
        assert said in page
    assert "Cancel job 7" in page


async def test_a_job_shows_its_focal_plane_its_workers_and_what_it_made(browser, script):
    script.jobs[7] = job(7, state=RUNNING, failure=job_pb2.Failure(message="no bias"))
    script.jobs[7].options.entries["instrument"].string_value = "WFI"
    script.tasks = [task(1, "ccd50", job_pb2.TASK_STATE_FAILED, worker="one"), task(2, "ccd51", worker="one")]
    for each in script.tasks:
        each.started.FromSeconds(1000)
        each.ended.FromSeconds(1005)
    script.frames = [product("ccd51", b"x", quality_flags=2, is_valid=True)]
    _, page, _ = await browser.get("/jobs/7")
    assert re.findall(r'<g class="tile (\w+)"><title>(.*?)</title>', page) == [
        ("failed", "ccd50: 1 failed"),
        ("succeeded", "ccd51: 1 succeeded"),
    ]
    assert "<title>task 2, Bias ccd51: succeeded, 5 s</title>" in page
    assert 'href="/jobs/7/log?chip=ccd50">Log of ccd50' in page
    assert 'href="/frames/id-ccd51?job=84820">BiasFrame ccd51</a>' in page
    assert '<span class="flagged">flagged</span>' in page


async def test_a_product_shows_its_image_quality_lineage_header_and_file(browser, script):
    content = image(100.0)
    bias = product("ccd50", content, quality_flags=1, is_valid=True, published=True)
    bias.limits.CopyFrom(to_map({"MAXIMUM_STDEV": {"measured": 12.5, "limit": 10.0, "flag": 1}}))
    bias.values.CopyFrom(to_map({"STDEV": 12.5}))
    figure = product("figure", b"a png", published=True)
    figure.frame_class = "QualityFigure"
    figure.inputs.append(bias.id)
    script.frames = [figure, bias, product("ccd51")]
    script.files = {bias.id: content, figure.id: b"a png"}
    script.cards = ["SIMPLE  =                    T", "OBJECT  = '<script>alert(1)</script>'"]
    script.links = [archive_pb2.Link(product="id-ccd50", input="id-ccd51")]
    _, page, _ = await browser.get("/frames/id-ccd50")
    for said in (
        '<img src="/frames/id-ccd50/image.png" width="64" height="32"',
        "Black is 1.5, white 2.5",
        '<a href="/jobs/84820">job 84820</a>',
        '<span class="flagged">✕ missed</span>',
        '<dt>STDEV</dt><dd class="time">12.5</dd>',
        '<a href="/frames/id-ccd51?job=84820"><text',
        '<img src="/frames/id-figure/figure.png"',
        "OBJECT  = &#39;&lt;script&gt;alert(1)&lt;/script&gt;&#39;",
    ):
        assert said in page, said
    headers, sent = await asyncio.to_thread(browser.read, "/frames/id-ccd50/image.png")
    assert (headers["content-type"], sent) == ("image/png", content)
    headers, sent = await asyncio.to_thread(browser.read, "/frames/id-ccd50/file.fits")
    assert headers["content-disposition"] == 'attachment; filename="Bias-ccd50.fits"'
    assert (int(headers["content-length"]), sent) == (len(content), content)
    headers, sent = await asyncio.to_thread(browser.read, "/frames/id-figure/figure.png")
    assert (headers["content-type"], sent) == ("image/png", b"a png")
    for path in ("id-ccd51/file.fits", "id-ccd50/figure.png"):
        assert (await browser.get(f"/frames/{path}"))[0] == 404
    for path in ("/frames/nothing", "/frames/nothing/image.png", "/frames/nothing/file.fits"):
        status, page, _ = await browser.get(path)
        assert (status, "there is no frame nothing" in page) == (404, True)


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ('a"; x="b.fits', "a___x__b.fits"),
        ("a\r\nset-cookie: b", "a__set-cookie__b"),
        ("\u202efits.exe", "_fits.exe"),
        ("...", "frame.fits"),
    ],
)
def test_a_file_is_saved_under_a_name_that_leads_nowhere_else(name, saved):
    assert file_name(archive_pb2.Frame(file_name=name)) == saved


async def test_the_code_of_a_job_is_compared_with_what_is_installed(browser, script):
    installed = Path(dpu_recipes.__file__).parent
    same = (installed / "instrument.py").read_bytes()
    changed = (installed / "task.py").read_bytes().replace(b"class Recipe", b"class Receipt", 1)
    paths = {
        "services/dpu_recipes/instrument.py": same,
        "services/dpu_recipes/task.py": changed,
        "mine/new.py": b"a = 1\n",
    }
    script.keep_tree("c0de", "c0de, git 1a2b3c4 + 2 changed files", paths)
    script.jobs[7] = job(7, code_digest="c0de")
    assert 'href="/jobs/7/code">c0de, git 1a2b3c4 + 2 changed files</a>' in (await browser.get("/jobs/7"))[1]
    _, page, _ = await browser.get("/jobs/7/code")
    kinds = dict(re.findall(r'<th scope="row">(.*?)</th><td>(\w+)</td>', page))
    assert kinds["services/dpu_recipes/task.py"] == "changed"
    assert kinds["mine/new.py"] == "added"
    assert kinds["dpu_recipes/frames.py"] == "removed"
    assert "services/dpu_recipes/instrument.py" not in kinds
    assert not [name for name in kinds if "__pycache__" in name]
    assert re.search(r'<span class="added">\+class Receipt', page)
    assert (await browser.get("/jobs/5/code"))[0] == 404


async def test_a_job_is_cancelled_and_done_again_by_forms_of_ours_only(browser, script):
    script.jobs[7] = job(7, state=RUNNING)
    stamp = re.search(r'name="stamp" value="(\w+)"', (await browser.get("/jobs/7"))[1])[1]
    for forged in ({}, {"stamp": ""}, {"stamp": "0" * 64}):
        status, page, _ = await browser.post("/jobs/7/cancel", **forged)
        assert (status, "not from a page of the DPU" in page) == (403, True)
    assert not [each for each in script.asked if each[0] == "CancelJobs"]
    status, page, _ = await browser.post("/jobs/7/cancel", stamp=stamp)
    assert (status, "Job 7" in page) == (200, True)
    ((_, wish),) = [each for each in script.asked if each[0] == "CancelJobs"]
    assert list(wish.job_ids) == [7]
    _, page, _ = await browser.post("/jobs/5/retry", stamp=stamp, failed="1")
    ((_, again),) = [each for each in script.asked if each[0] == "RetryJob"]
    assert (again.job_id, again.only_failed, "Job 90005" in page) == (5, True, True)


@pytest.mark.parametrize("path", ["/jobs/99", "/jobs/99/log", "/jobs/99/log/live", "/jobs/99/log.txt"])
async def test_a_job_that_is_not_there_is_404(browser, path):
    status, page, _ = await browser.get(path)
    assert (status, "there is no job 99" in page) == (404, True)
    assert (await browser.get("/nowhere"))[0] == 404


async def test_a_number_that_is_too_long_is_a_wrong_address(browser):
    endless = "9" * 30
    for path in (f"/jobs/{endless}", f"/jobs/{endless}/log", f"/jobs/{endless}/log.txt", f"/jobs/{endless}/code"):
        status, page, _ = await browser.get(path)
        assert (status, f"there is no job {endless}" in page) == (404, True), path
    for path in (f"/frames/x?job={endless}", f"/jobs/5/log?before={endless}", f"/jobs/5/log?behind=-{endless}"):
        status, page, _ = await browser.get(path)
        assert (status, "must be a whole number" in page) == (400, True), path


async def test_while_the_dpu_is_away_a_page_says_so_and_a_log_that_is_followed_asks_again(browser, script):
    for path, answered in {
        "/jobs/5": (503, False),
        "/jobs/5/log.txt": (503, False),
        "/jobs/5/log/live": (200, True),
    }.items():
        script.unavailable = 1
        status, page, _ = await browser.get(path)
        assert (status, page == "retry: 2000\n\n") == answered, path


async def test_what_is_live_loads_the_page_again_for_whoever_is_known_no_more(browser):
    for cookie in browser.jar:
        if cookie.name.endswith("-token"):
            cookie.value = "revoked"
    for path in ("/live", "/jobs/5/log/live"):
        assert (await browser.get(path))[1] == "event: reload\ndata:\n\n"


async def test_the_log_shows_its_last_lines_as_the_query_selects(browser, script):
    script.logs = [batch(1, "one", "two", offset=2), job_end(3)]
    _, page, _ = await browser.get("/jobs/5/log?text=o&chip=ccd50&level=warning")
    assert re.findall(r"\[1\] <bdi>(\w+)", page) == ["one", "two"]
    assert "The job has ended as FINISHED, and the log is complete" in page
    _, asked = [each for each in script.asked if each[0] == "Read"][-1]
    assert (asked.text, list(asked.chips), asked.level, asked.tail) == (
        "o",
        ["ccd50"],
        logs_pb2.LOG_LEVEL_WARNING,
        500,
    )
    _, text, answer = await browser.get("/jobs/5/log.txt")
    assert text.splitlines()[1].endswith("[1] two")
    assert answer.headers["content-disposition"] == 'attachment; filename="job-5.log"'


async def test_lines_come_live_with_where_to_resume(browser, script):
    script.logs = [batch(1, "one", offset=2), job_end(3)]

    def read() -> list[str]:
        with browser.events("/jobs/5/log/live?offset=1") as stream:
            return stream.read().decode().strip().split("\n\n")

    retry, lines, end = await asyncio.to_thread(read)
    assert retry == "retry: 2000"
    assert lines.startswith("id: 2\nevent: lines\n")
    assert json.loads(lines.split("data: ")[1])[0][3] == "one"
    assert end == 'event: end\ndata: "The job has ended as FINISHED, and the log is complete"'


async def test_what_changes_comes_live_to_all_who_look_by_one_watch(browser, script):
    others = [Browser(browser.address) for _ in range(3)]
    for other in others:
        await other.sign_in()

    def told(visitor: Browser) -> dict[str, Any]:
        with visitor.events("/live?after=6") as stream:
            for line in stream:
                if line.startswith(b"data: {"):
                    return json.loads(line[6:])
        raise AssertionError("the stream ended")

    listening = [asyncio.create_task(asyncio.to_thread(told, visitor)) for visitor in (browser, *others)]
    await asyncio.sleep(0)
    script.jobs[7] = job(7, state=RUNNING, revision=7)
    heard = await asyncio.wait_for(asyncio.gather(*listening), 60)
    assert [each["id"] for each in heard] == [7] * 4
    assert '<tr id="job-7" ' in heard[0]["html"]
    assert len([each for each in script.asked if each[0] == "WatchJobs"]) <= 4


async def test_text_from_anywhere_is_text(browser, script):
    script.jobs[7] = job(7, user=HOSTILE, sequence=HOSTILE, state=RUNNING, revision=7)
    script.jobs[7].options.entries["object"].string_value = HOSTILE
    script.jobs[7].failure.message = HOSTILE
    script.tasks = [task(1, HOSTILE, worker=HOSTILE)]
    script.logs = [batch(1, HOSTILE, offset=2), job_end(3)]
    for path in (
        "/",
        "/jobs/7",
        "/jobs/7/log?text=%3Cscript%3E",
        "/?sequence=%22%3E%3Cscript%3E",
        "/jobs/%3Cscript%3E",
    ):
        _, page, _ = await browser.get(path)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert acting(page) == []


async def test_forms_that_are_none_and_numbers_that_are_none_are_refused(browser):
    assert (await browser.get("/live?after=x"))[0] == 400
    assert (await browser.post("/jobs/5/cancel", stamp="x" * 20_000))[0] == 400


def test_a_page_beyond_loopback_needs_tls(tmp_path):
    services = dict.fromkeys(("DPU_SCHEDULER", "DPU_LOGS", "DPU_ARCHIVE"), "unix:/a")
    values = {"DPU_NAME": "g", "DPU_LISTEN": "0.0.0.0:80", **services}
    with pytest.raises(BadSetting, match="tokens need TLS"):
        Settings.read(Environment(values))
    local = Settings.read(Environment({**values, "DPU_LISTEN": "127.0.0.1:80"}))
    assert (local.entry, target(local.places[0].scheduler.text)) == (None, "unix:/a")
    (tmp_path / "token").write_text("s3cret\n")
    keyed = {**values, "DPU_LISTEN": "127.0.0.1:80", "DPU_WEB_KEY": "k", "DPU_TOKEN_FILE": str(tmp_path / "token")}
    assert Settings.read(Environment(keyed)).entry == Entry("k", "s3cret", "default")


async def test_an_address_that_is_taken_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Address.parse(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(BadSetting, match="cannot listen there"):
            async with serving(Settings(place, (Place(name="g", scheduler=place, logs=place, archive=place),))):
                pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (4.4, "4 s"), (187, "3:07"), (3723, "1:02:03"), (187_200, "2 d 04:00")],
)
def test_times_are_short(seconds, text):
    assert duration(seconds) == text


def test_a_row_counts_what_has_passed():
    one = job(5, state=RUNNING)
    one.submitted.FromSeconds(1000)
    one.started.FromSeconds(1010)
    shown = row(one, now=1075.0)
    assert (shown.waited, shown.ran, shown.is_open, shown.counts) == ("10 s", "1:05", True, "2/0/0/0/0")
    assert states(["RUNNING", "x"]) == [RUNNING]
