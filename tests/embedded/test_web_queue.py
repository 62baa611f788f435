"""The queue, its filter and order, what is done with chosen jobs, pages of logs, and the statistics."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from dpu.values import to_map
from dpu_api.v1 import archive_pb2, job_pb2, scheduler_pb2
from dpud.hosting.settings import Address
from dpud.web import logpage
from dpud.web.main import Settings, serving
from dpud.web.places import Place
from fakes_client import SECRET, Script, batch, job, job_end
from fakes_client import serving as scripted
from fakes_fleet import free_port
from fakes_web import Visiting

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNING, FAILED = job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_FAILED
STAMP = re.compile(r'name="stamp" value="(\w+)"')


def many(*numbers: int, **changes: Any) -> dict[int, job_pb2.Job]:
    return {number: job(number, revision=number, **changes) for number in numbers}


@pytest.fixture
def script() -> Script:
    return Script(jobs=many(5, 6), page=1000)


@pytest.fixture
async def browser(script, tmp_path):
    with scripted(tmp_path, script) as address:
        at = Address.parse(address)
        place = Place(name="groningen", scheduler=at, logs=at, archive=at)
        async with serving(Settings(Address.parse(f"127.0.0.1:{free_port()}"), (place,))) as url:
            found = Visiting(url)
            await found.sign_in(SECRET)
            yield found


def rows(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr id="job-(\d+)"', page)]


def asked(script: Script, method: str) -> list[Any]:
    return [request for name, request in script.asked if name == method]


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    while not condition():  # noqa: ASYNC110 (another thread has no event of ours)
        await asyncio.sleep(0.01)


async def test_the_address_of_the_page_says_which_jobs(browser, script):
    _, page, _ = await browser.get("/?search=wfi+2000-04-28&user=bert&state=FAILED&sequence=Bias")
    wanted = asked(script, "ListJobs")[-1]
    assert (wanted.search, wanted.user, list(wanted.states), wanted.sequence) == (
        "wfi 2000-04-28",
        "bert",
        [FAILED],
        "Bias",
    )
    assert 'value="wfi 2000-04-28"' in page
    assert "<option selected>bert</option>" in page
    assert 'href="/?user=bert&amp;state=FAILED&amp;sequence=Bias&amp;search=wfi+2000-04-28&amp;sort=-ran"' in page


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("object", [7, 6, 8, 5]), ("-object", [8, 6, 7, 5]), ("job", [5, 6, 7, 8]), ("nonsense", [8, 7, 6, 5])],
)
async def test_jobs_are_sorted_by_a_column_those_without_a_value_last(browser, script, sort, expected):
    script.jobs |= many(7, 8)
    for number, name in ((6, "NGC 2"), (7, "NGC 1"), (8, "NGC 3")):
        script.jobs[number].options.CopyFrom(to_map({"object": name}))
    _, page, _ = await browser.get(f"/?sort={sort}")
    assert rows(page) == expected
    assert ("queue.js" in page) == (sort == "nonsense")
    assert ("aria-sort" in page) == (sort != "nonsense")


async def test_jobs_that_are_sorted_have_pages_too(browser, script):
    script.jobs = many(*range(1, 121))
    seen: list[int] = []
    path = "/?sort=job"
    while path:
        _, page, _ = await browser.get(path)
        seen += rows(page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == list(range(1, 121))


async def test_jobs_that_were_chosen_are_cancelled_or_done_again_after_it_was_asked(browser, script):
    script.jobs |= many(7, state=RUNNING) | many(8, state=FAILED)
    _, page, _ = await browser.get("/chosen?job=8&job=7&job=5")
    assert "3 jobs chosen" in page
    for words in ("Cancel 1 job<", "Do 2 jobs again", "Only what failed of 1 job<"):
        assert words in page
    stamp = STAMP.findall(page)[0]
    once = re.findall(r'name="once" value="([\w-]+)"', page)[0]
    assert asked(script, "CancelJobs") == []
    await browser.post("/chosen/cancel", stamp=stamp, jobs="7")
    assert [list(wish.job_ids) for wish in asked(script, "CancelJobs")] == [[7]]
    for _ in range(2):
        await browser.post("/chosen/retry", stamp=stamp, once=once, jobs="8 5")
    wishes = asked(script, "RetryJob")
    assert sorted({(wish.job_id, wish.only_failed) for wish in wishes}) == [(5, False), (8, False)]
    assert len({wish.request_id for wish in wishes}) == 2, "sent twice, a form must not make jobs twice"


@pytest.mark.parametrize("path", ["/chosen/cancel", "/chosen/retry"])
async def test_a_form_from_elsewhere_does_nothing(browser, script, path):
    for stamp in ("", "0" * 64):
        assert (await browser.post(path, stamp=stamp, jobs="5"))[0] == 403
    assert not asked(script, "CancelJobs") + asked(script, "RetryJob")


@pytest.mark.parametrize("query", ["job=x", "&".join(f"job={number}" for number in range(1, 103))])
async def test_choices_that_make_no_sense_are_refused(browser, query):
    assert (await browser.get(f"/chosen?{query}"))[0] == 400
    assert "0 jobs chosen" in (await browser.get("/chosen"))[1]


async def test_a_view_is_told_what_is_new_on_it_and_what_is_gone(browser, script):
    heard: list[tuple[str, Any]] = []

    def listen(enough: int) -> None:
        with browser.events("/live?after=6") as stream:
            name = ""
            for line in stream:
                text = line.decode().strip()
                name = text.removeprefix("event: ") if text.startswith("event: ") else name
                if text.startswith("data: "):
                    heard.append((name, json.loads(text[6:])))
                if sum(kind == "rows" for kind, _ in heard) == enough:
                    return

    listening = asyncio.create_task(asyncio.to_thread(listen, 2))
    async with asyncio.timeout(60):
        await until(lambda: ("rows", [6, 5]) in heard)
        script.jobs |= many(7, state=RUNNING)
        await listening
    kinds = [(name, data["id"] if name == "job" else data) for name, data in heard if name != "load"]
    assert kinds == [("rows", [6, 5]), ("job", 7), ("rows", [7, 6, 5])]
    assert ("load", {"open": 0, "running": 0, "slots": 0}) in heard


async def test_a_job_page_is_told_of_its_own_job_alone(browser, script):
    def told() -> Any:
        with browser.events("/live?job=5&after=5") as stream:
            return next(json.loads(line[6:]) for line in stream if line.startswith(b'data: {"id'))

    listening = asyncio.create_task(asyncio.to_thread(told))
    async with asyncio.timeout(60):
        await until(lambda: asked(script, "WatchJobs"))
        script.jobs |= many(7, state=RUNNING)
        script.jobs[5] = job(5, revision=8)
        assert (await listening)["id"] == 5
    assert list(asked(script, "ListJobs")[-1].job_ids) == [5]


async def test_a_page_of_a_log_leads_to_those_before_and_behind_it(browser, script):
    script.logs = [batch(1, "one", "two", offset=702), job_end(703)]
    _, page, _ = await browser.get("/jobs/5/log")
    assert ('href="?before=700"' in page, 'href="?behind=0"' in page) == (True, True)
    wanted = asked(script, "Read")[-1]
    assert (wanted.tail, wanted.before, wanted.head) == (500, 0, 0)
    script.logs = [batch(1, "one", offset=502), job_end(502, cut=True)]
    _, page, _ = await browser.get("/jobs/5/log?behind=501")
    assert 'href="?behind=502"' in page
    assert "log.js" not in page
    wanted = asked(script, "Read")[-1]
    assert (wanted.offset, wanted.head, wanted.tail) == (501, 500, 0)
    await browser.get("/jobs/5/log?before=501")
    wanted = asked(script, "Read")[-1]
    assert (wanted.before, wanted.tail) == (501, 500)
    assert (await browser.get("/jobs/5/log?before=x"))[0] == 400


async def test_lines_that_fit_are_looked_for_no_longer_than_a_page_should_take(browser, script, monkeypatch):
    monkeypatch.setattr(logpage, "STRETCH", 300)
    script.logs = [batch(1, "one", "two", offset=702), job_end(1000)]
    _, page, _ = await browser.get("/jobs/5/log?text=o")
    stretches = [(wanted.offset, wanted.before) for wanted in asked(script, "Read")[1:]]
    assert stretches == [(700, 1000), (400, 700), (100, 400), (0, 100)]
    await browser.get("/jobs/5/log?text=o&behind=500")
    stretches = [(wanted.offset, wanted.before) for wanted in asked(script, "Read")[-2:]]
    assert stretches == [(500, 800), (800, 1000)]
    monkeypatch.setattr(logpage, "SEARCH_S", 0)
    _, page, _ = await browser.get("/jobs/5/log?text=o")
    assert 'href="?text=o&amp;before=1000">Search earlier lines' in page
    _, page, _ = await browser.get("/jobs/5/log?text=o&behind=500")
    assert 'href="?text=o&amp;behind=500">Search later lines' in page


async def test_of_a_very_long_line_a_page_shows_the_begin_and_the_file_all(browser, script):
    script.logs = [batch(1, "x" * 50_000, offset=1), job_end(2)]
    assert len((await browser.get("/jobs/5/log"))[1]) < 10_000
    assert "x" * 50_000 in (await browser.get("/jobs/5/log.txt"))[1]


async def test_statistics_say_what_jobs_came_to_and_how_products_change(browser, script):
    of = scheduler_pb2.Totals(finished=3, failed=1, tasks=40, waited_s=40, longest_wait_s=30, ran_s=400, busy_s=300)
    script.totals.days.add(totals=of).day.GetCurrentTime()
    script.totals.users.add(name="ann", totals=of)
    script.totals.users.add(name="bert", totals=scheduler_pb2.Totals(finished=1, busy_s=100))
    script.totals.sequences.add(name="Bias", totals=of)
    script.trends["ReadNoise"] = [
        archive_pb2.TrendPoint(night=f"2000-04-{day}", chip=chip, value=day / 4, is_valid=day != 28)
        for day in (27, 28)
        for chip in ("ccd50", "ccd51")
    ]
    _, page, _ = await browser.get("/statistics?days=7&instrument=WFI&chip=ccd50")
    assert asked(script, "GetTotals")[-1].days == 7
    assert [each.chips for each in asked(script, "ListTrend")] == [["ccd50"]] * 4
    for said in ("75.0 %", "25.0 %", "Read noise (ADU)", "2000-04-28", '<td class="time">10 s</td>', 'class="invalid"'):
        assert said in page, said
    assert page.count("Nothing yet.") == 3
    await browser.get("/statistics?days=17&instrument=NONE&chip=none")
    assert asked(script, "GetTotals")[-1].days == 30


@pytest.mark.parametrize(("worked_with", "shown"), [("WFI", "WFI"), ("KODAK", "OMEGACAM"), ("", "OMEGACAM")])
async def test_statistics_begin_with_the_instrument_that_was_worked_with_last(browser, script, worked_with, shown):
    script.jobs[9] = job(9)
    script.jobs[9].options.CopyFrom(to_map({"instrument": worked_with}))
    assert f"Trends of {shown}" in (await browser.get("/statistics"))[1]
    assert "Trends of OMEGACAM" in (await browser.get("/statistics?instrument=OMEGACAM"))[1]


async def test_statistics_of_nothing_can_be_looked_at(browser):
    status, page, _ = await browser.get("/statistics")
    assert (status, "No job has ended." in page) == (200, True)
