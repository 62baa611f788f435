"""The object `dpu` against a scripted DPU: every printed line whole, every wrong input."""

import io
import os
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf import json_format

from dpu.context import Context
from dpu.errors import (
    BadOption,
    BadTree,
    DpuError,
    NotFound,
    NothingSelected,
    NotLoggedIn,
    TimedOut,
    UnknownChip,
    UnknownInstrument,
    UnknownOption,
    UnknownSequence,
    Unreachable,
    UsageError,
)
from dpu.processor import Processor
from dpu.products import Product
from dpu.report import Reporter
from dpu.values import from_map, to_map
from dpu_api.v1 import archive_pb2, catalogue_pb2, job_pb2
from fakes_client import CATALOGUE, Script, batch, configured, job, job_end, serving, task, task_end

NOW = datetime(2000, 4, 29, 9, 55, 55, tzinfo=UTC)
#: What the batches of fakes_client carry, in this machine's time.
LOGGED = f"{datetime.fromtimestamp(957_000_000, UTC).astimezone():%H:%M:%S}"
RULE = "09:55:55 - ++++++++++++++++++++++++++++++++++++++++++++"


def block(status: object, *lines: str) -> list[str]:
    return [RULE, f"09:55:55 - job_status = {status}", RULE, "09:55:55 -", *lines]


class Session:
    """A Processor on a scripted DPU, and what it printed."""

    def __init__(self, folder: Path, script: Script, address: str, **config: object) -> None:
        self.script = script
        self.address = address
        self.out = io.StringIO()
        reporter = Reporter(host="schmidt", clock=lambda: NOW, out=self.out)
        known = configured(folder, address, **config)
        self.checkout: Path | None = None
        self.dpu = Processor(known, reporter=reporter, find_checkout=lambda: self.checkout)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def asked(self, method: str) -> list:
        return [request for name, request in self.script.asked if name == method]


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = Script()
    with serving(tmp_path, script) as address:
        session = Session(tmp_path, script, address)
        yield session
        session.dpu.close()


def run(session: Session, sequence: str = "HotPixels", **options: object) -> int:
    return session.dpu.run(sequence, **options)


def test_run_prints_three_lines_and_returns_the_job_identifier(session):
    assert session.dpu.run("HotPixels", i="WFI", c="ccd50", d="2000-04-28") == 82382
    assert session.lines == [
        "[schmidt] 09:55:55 - Calling: HotPixels(project=default, instrument=, i=WFI, c=ccd50, d=2000-04-28)",
        "[schmidt] 09:55:55 - Estimated process time : 10 seconds",
        "[schmidt] 09:55:55 - Sending job with identifier 82382 to DPU",
    ]


def test_what_is_submitted_is_checked_and_by_long_name(session):
    pars = {"BiasFrame.process_params.SIGMA_CLIP": 5}
    run(session, "Bias", i="WFI", date="2000-04-28", C=1, p=pars, dpu_time=60, dpu_mem=512, dpu_priority=-3)
    (request,) = session.script.submitted
    assert from_map(request.options) == {
        "commit": 1,
        "date": "2000-04-28",
        "instrument": "WFI",
        "pars": {"BiasFrame.process_params.SIGMA_CLIP": 5.0},
    }
    assert (request.sequence.name, request.commit, request.priority, request.code_digest) == ("Bias", True, -3, "")
    assert (request.limits.time_s, request.limits.memory_mib) == (60.0, 512)


def test_frames_are_looked_for_before_a_job_identifier_is_given(session):
    run(session, "HotPixels", i="WFI", c="ccd51", d="2000-04-28")
    (request,) = session.asked("Preview")
    assert request == archive_pb2.PreviewRequest(
        frame_class="BiasFrame",
        selection=archive_pb2.Selection(instrument="WFI", night="2000-04-28", chips=["ccd51"]),
        makers="dpu.run('Bias', i='WFI', d='2000-04-28', c='ccd51', C=1)",
    )


def test_a_stage_that_starts_from_what_an_earlier_one_makes_is_not_looked_for(session):
    bias, hot = CATALOGUE.sequences[1], CATALOGUE.sequences[0]
    chain = catalogue_pb2.Sequence(name="Bias>HotPixels", options=hot.options, stages=[*bias.stages, *hot.stages])
    session.script.catalogue = catalogue_pb2.Catalogue(sequences=[chain])
    run(session, "Bias>HotPixels", i="WFI", d="2000-04-28")
    assert [request.frame_class for request in session.asked("Preview")] == ["RawBiasFrame"]


def test_a_stage_that_may_start_from_another_class_is_looked_for_until_one_has_frames(session):
    session.script.catalogue = catalogue_pb2.Catalogue(sequences=[CATALOGUE.sequences[0]])
    session.script.catalogue.sequences[0].stages[0].instead.append("TwilightFlatFrame")
    session.script.lacking.add("BiasFrame")
    run(session, i="WFI", d="2000-04-28")
    assert [request.frame_class for request in session.asked("Preview")] == ["BiasFrame", "TwilightFlatFrame"]
    session.script.lacking.add("TwilightFlatFrame")
    with pytest.raises(NothingSelected, match=r"(?s)no BiasFrame of night .*; and no TwilightFlatFrame of"):
        run(session, i="WFI", d="2000-04-28")


def test_a_stage_starts_from_the_class_that_an_option_says(session):
    session.script.catalogue = catalogue_pb2.Catalogue(sequences=[CATALOGUE.sequences[0]])
    session.script.catalogue.sequences[0].stages[0].selects_with["chip=ccd51"] = "TwilightFlatFrame"
    for chip in ("ccd50", "ccd51"):
        run(session, i="WFI", d="2000-04-28", c=chip)
    assert [request.frame_class for request in session.asked("Preview")] == ["BiasFrame", "TwilightFlatFrame"]


def told(texts: list[str], state: int = job_pb2.JOB_STATE_FINISHED, **changes: object) -> Script:
    """Return a DPU that ends whatever is submitted, by a plan that logged some lines."""
    return Script(becomes=[job(82382, state=state, **changes)], logs=[batch(0, *texts), job_end(2)])


PLAN = [
    "Querying database for instances of class RawBiasFrame",
    "Bias of ccd50 : would be made from 5 RawBiasFrame",
    "Bias : 1 task would run, 0 exist; about 2 s on one processor",
]


@pytest.mark.parametrize("name", ["dryrun", "dpu_dryrun"])
def test_a_dry_run_is_planned_on_the_dpu_and_tells_what_would_run(session, name):
    vars(session.script).update(vars(told(PLAN)))
    assert run(session, "Bias", i="WFI", d="2000-04-28", C=1, **{name: True}) == 0
    assert [line.split(" - ")[1] for line in session.lines[1:]] == [*PLAN[1:], "Dry run: nothing was made"]
    assert session.script.submitted[0].options.entries["dryrun"].int_value == 1


def test_a_dry_run_of_what_cannot_be_planned_fails_with_the_plans_reason(session):
    failure = job_pb2.Failure(message="Bias needs at least 3 frames")
    vars(session.script).update(vars(told([], job_pb2.JOB_STATE_FAILED, failure=failure)))
    with pytest.raises(UsageError, match="it would fail: Bias needs at least 3 frames"):
        run(session, "Bias", i="WFI", d="2000-04-28", dryrun=True)


def test_a_job_commits_at_the_privileges_of_its_session(session):
    vars(session.script).update(vars(told([])))
    context = Context(session.dpu)
    run(session, "Bias", i="WFI", d="2000-04-28")
    context.set_privileges(3)
    assert "privileges 3" in repr(context)
    run(session, "Bias", i="WFI", d="2000-04-28")
    context.set_project("KIDS", 1)
    run(session, "Bias", i="WFI", d="2000-04-28")
    assert [dict(from_map(asked.options)).get("privileges") for asked in session.script.submitted] == [None, 3, 1]
    with pytest.raises(BadOption, match="privileges=6: must be a whole number from 1 to 5"):
        context.set_privileges(6)
    assert (context.project, context.privileges) == ("KIDS", 1)


KNOWN = "i, d, c, p, C, instrument, date, chip, pars, commit"
WRONG = [
    (
        ("HotPixel", {}),
        UnknownSequence,
        "there is no sequence 'HotPixel' (did you mean 'HotPixels'?); known are HotPixels, Bias",
    ),
    (
        ("HotPixels", {"i": "WFI", "chp": "ccd50"}),
        UnknownOption,
        f"HotPixels has no option 'chp' (did you mean 'chip'?); it knows {KNOWN}",
    ),
    (("HotPixels", {"i": "WFO", "d": "2000-04-28"}), UnknownInstrument, "instrument 'WFO' is not one of WFI"),
    (
        ("HotPixels", {"i": "WFI", "d": "2000-04-28", "c": "ccd58"}),
        UnknownChip,
        "chip 'ccd58' is not one of WFI's ccd50, ccd51",
    ),
    (
        ("HotPixels", {"i": "WFI", "d": "2000-02-30"}),
        BadOption,
        "d='2000-02-30': must be a date 'CCYY-MM-DD', the night that begins that evening",
    ),
    (
        ("Bias", {"i": "WFI", "d": "2000-04-27"}),
        NothingSelected,
        "no RawBiasFrame of night 2000-04-27;\nnights with some: 2000-04-28",
    ),
    (("HotPixels", {"d": "2000-04-28"}), UsageError, "HotPixels needs an instrument: give i=, as in i='WFI'"),
    (
        ("Bias", {"i": "WFI"}),
        UsageError,
        "Bias needs to know what to select: give d= (date) or raw= (raw_filenames)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[wrong[2][:24] for wrong in WRONG])
def test_wrong_input_is_one_error_that_says_what_to_do_and_nothing_is_submitted(session, call, kind, message):
    with pytest.raises(kind) as caught:
        run(session, call[0], **call[1])
    assert (type(caught.value), caught.value.message) == (kind, message)
    assert session.lines == []
    assert "SubmitJob" not in [method for method, _ in session.script.asked]


def test_a_dpu_that_is_not_there_is_one_error_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path, Script(), f"unix:{tmp_path}/nobody.sock")
    with pytest.raises(Unreachable, match="^DPU 'groningen' cannot be reached: "):
        session.dpu.get_status()
    assert session.lines == []


def test_an_unknown_token_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, Script()) as address:
        session = Session(tmp_path, Script(), address, secret="guessed")  # noqa: S106 (known to nobody)
        with pytest.raises(NotLoggedIn, match="the token is unknown to this DPU: log in again"):
            session.dpu.get_jobids()
        session.dpu.close()


def test_a_connection_that_is_lost_is_one_line_and_another_try_that_makes_no_second_job(session):
    assert session.dpu.get_jobids() == []
    session.script.unavailable = 2
    assert session.dpu.get_sequence_identifiers() == ["HotPixels", "Bias"]
    assert session.lines == [
        "[schmidt] 09:55:55 - The connection to DPU 'groningen' is lost: trying again for 20 seconds"
    ]


def test_a_submission_that_is_repeated_makes_one_job(session):
    submit = session.script.note

    def lose_the_answer(method: str, request: object) -> None:
        submit(method, request)
        if method == "SubmitJob" and not session.script.submitted:
            session.script.submitted.append(request)
            raise Unreachable("the answer was lost")

    session.script.note = lose_the_answer
    assert run(session, i="WFI", d="2000-04-28") == 82382
    assert len(session.asked("SubmitJob")) == 2
    assert len({request.request_id for request in session.asked("SubmitJob")}) == 1


def test_a_dpu_that_comes_back_is_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = Script(jobs={7: job(7)})
    with serving(tmp_path, script) as address:
        session = Session(tmp_path, script, address)
        session.dpu.get_status(7)
    starting = threading.Event()

    def restart() -> None:
        with serving(tmp_path, script):
            starting.wait(20)

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        session.dpu.get_status(7)
    finally:
        starting.set()
        thread.join()
        session.dpu.close()
    assert session.lines[0] == session.lines[-1] == status(7)


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose recipes describe one sequence."""
    package = tmp_path / "checkout" / "services" / "dpu_recipes"
    package.mkdir(parents=True)
    mine = catalogue_pb2.Catalogue(sequences=[catalogue_pb2.Sequence(name="Mine", stages=[{"recipe": "Mine"}])])
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"print({json_format.MessageToJson(mine)!r})\n")
    return tmp_path / "checkout"


def test_the_checkouts_code_is_described_shipped_once_and_named_by_the_job(session, checkout):
    session.checkout = checkout
    assert session.dpu.get_sequence_identifiers() == ["Mine"]
    session.dpu.run("Mine")
    session.dpu.run("Mine")
    (sent,) = [line for line in session.lines if "Sent" in line]
    name = session.script.submitted[0].code_digest[:12]
    assert re.fullmatch(rf"\[schmidt\] 09:55:55 - Sent 2 files of local code, \d+ bytes \({name}\)", sent)
    assert len({request.code_digest for request in session.script.submitted}) == 1
    assert len(session.script.submitted[0].code_digest) == 64
    with pytest.raises(UnknownSequence, match="there is no sequence 'Mine'"):
        session.dpu.run("Mine", send_code=False)


def test_a_checkout_that_cannot_be_described_is_one_error_and_nothing_is_sent(session, checkout):
    (checkout / "services" / "dpu_recipes" / "__main__.py").write_text("import absent\n")
    session.checkout = checkout
    with pytest.raises(
        BadTree, match="described: dpu_recipes/__main__.py, line 1: ModuleNotFoundError: No module named 'absent'"
    ):
        session.dpu.run("Mine")
    assert session.script.asked == []


def test_on_this_machine_packages_that_are_not_installed_are_refused_before_a_job_is_submitted(session, checkout):
    (checkout / "requirements.lock").write_text("absent-package==1.0\n")
    session.checkout = checkout
    session.dpu.link.is_local = True
    with pytest.raises(BadTree, match=r"requirements\.lock asks for absent-package==1\.0, and the DPU of this machine"):
        session.dpu.run("Mine")
    assert session.script.asked == []


def test_packages_that_a_dpu_will_not_have_are_refused_before_a_job_is_submitted(session, checkout):
    (checkout / "requirements.lock").write_text("absent-package==1.0\n")
    session.checkout = checkout
    # A worker of an older release does not say what it has: its first task does.
    assert session.dpu.run("Mine")
    packages = catalogue_pb2.Packages(installed={"numpy": "2.0"})
    session.script.catalogue = catalogue_pb2.Catalogue(packages=packages)
    with pytest.raises(BadTree, match=r"asks for absent-package==1\.0, and this DPU installs no packages for tasks"):
        session.dpu.run("Mine")
    assert len(session.script.submitted) == 1
    session.script.catalogue.packages.more = True
    assert session.dpu.run("Mine")


def test_a_checkout_without_recipes_is_refused(session, checkout):
    (checkout / "pyproject.toml").write_text('[tool.dpu]\nship = ["services"]\n')
    session.checkout = checkout
    with pytest.raises(BadTree, match=r"ships no dpu_recipes: name its folder in \[tool\.dpu\] ship"):
        session.dpu.run("Mine")


def status(jobid: int, state: str = "FINISHED", counts: str = "2/0/0/0/0") -> str:
    return f"[schmidt] 09:55:55 - Jobid {jobid} has status {state} N/E/A/S/U {counts}"


def test_get_status_prints_a_line_for_each_of_your_jobs_by_identifier(session):
    counts = job_pb2.TaskCounts(normal=70, error=1, aborted=2, submitted=3, unknown=4)
    now = datetime.now(UTC)
    session.script.jobs = {
        84820: job(84820, ended=now),
        84821: job(84821, state=job_pb2.JOB_STATE_RUNNING, counts=counts),
        84822: job(84822, user="somebody"),
        84823: job(84823, state=job_pb2.JOB_STATE_FAILED, ended=now - timedelta(days=8)),
        84824: job(84824, state=job_pb2.JOB_STATE_CANCELLED, ended=now - timedelta(days=6)),
    }
    session.dpu.get_status()
    assert session.lines == [
        status(84820),
        status(84821, "RUNNING", "70/1/2/3/4"),
        status(84824, "CANCELLED"),
    ]
    assert session.dpu.get_jobids() == [84820, 84821, 84824]
    assert session.dpu.get_jobids(all=True) == [84820, 84821, 84823, 84824]


def test_a_job_of_this_session_is_listed_however_long_ago_it_ended(session):
    jobid = run(session, i="WFI", d="2000-04-28")
    session.script.jobs[jobid] = job(jobid, ended=datetime.now(UTC) - timedelta(days=30))
    assert session.dpu.get_jobids() == [jobid]


def test_get_status_of_named_jobs_keeps_their_order_and_names_the_unknown(session):
    session.script.jobs = {1: job(1), 2: job(2), 3: job(3)}
    session.dpu.get_status([3, 99, 1, 2])
    assert session.lines == [status(3), status(1), status(2), "[schmidt] 09:55:55 - Jobid 99 is unknown"]


def test_get_status_without_jobs_says_so(session):
    session.dpu.get_status()
    assert session.lines == ["[schmidt] 09:55:55 - No jobs"]


@pytest.mark.parametrize("jobids", ["84820", True, [1, None], 1.0, 2**63])
def test_what_is_no_job_identifier_is_refused(session, jobids):
    with pytest.raises(UsageError, match="must be a job identifier"):
        session.dpu.get_status(jobids)


def script_logs(session: Session) -> None:
    session.script.jobs = {84820: job()}
    session.script.tasks = [
        task(0, "", plan=True),
        task(1, "ccd50", failure=job_pb2.Failure(message="worker x was lost")),
        task(2, "ccd51", job_pb2.TASK_STATE_FAILED, failure=job_pb2.Failure(message="all pixels are saturated")),
        task(3, "ccd52", job_pb2.TASK_STATE_ABORTED),
        task(4, "ccd53", job_pb2.TASK_STATE_RUNNING),
    ]
    session.script.logs = [
        batch(1, "Making ReadNoise object", "The read noise (ADU) for ccd ccd50 is : 2.34", offset=1),
        batch(2, "Making ReadNoise object", offset=2),
        task_end(1, 3),
        task_end(2, 4, job_pb2.TASK_STATE_FAILED, missing="3 lines: its worker was lost"),
        job_end(5),
    ]


LOG = [
    *block(
        1,
        f"{LOGGED} - Making ReadNoise object",
        "09:55:55 - the log is not complete: 3 lines: its worker was lost",
        "09:55:55 - all pixels are saturated",
    ),
    *block(0, f"{LOGGED} - Making ReadNoise object", f"{LOGGED} - The read noise (ADU) for ccd ccd50 is : 2.34"),
    *block(2),
    *block("none yet, it has not ended"),
]


def test_get_logs_prints_and_returns_a_block_a_task_and_keeps_them_in_the_sessions_file(session, tmp_path):
    script_logs(session)
    text = session.dpu.get_logs(84820)
    assert session.lines == LOG
    assert text == "".join(f"{line}\n" for line in LOG)
    session.dpu.get_logs([84820])
    assert (tmp_path / "2000-04-29T09-55-55.log").read_text() == text + text


def test_logs_that_break_off_come_whole_and_once(session):
    script_logs(session)
    session.script.break_logs_after = 1
    session.dpu.get_logs(84820)
    assert [line for line in session.lines if "is lost" not in line] == LOG
    assert [request.offset for request in session.asked("Read")] == [0, 1]


def test_logs_are_printed_where_they_cannot_be_kept(session, tmp_path):
    script_logs(session)
    (tmp_path / "2000-04-29T09-55-55.log").mkdir()
    session.dpu.get_logs(84820)
    path = f"{tmp_path}/2000-04-29T09-55-55.log"
    assert session.lines[:-1] == LOG
    assert session.lines[-1] == (
        f"[schmidt] 09:55:55 - The logs cannot be kept in {path!r} (Is a directory): they are only printed"
    )


def test_logs_of_an_unknown_job_are_an_error(session):
    with pytest.raises(NotFound, match="^there is no job 5$"):
        session.dpu.get_logs(5)
    assert session.lines == []


def test_following_shows_lines_with_their_task_then_how_it_ended(session):
    script_logs(session)
    session.script.tasks = session.script.tasks[:2]
    session.script.logs = [session.script.logs[0], task_end(1, 3), job_end(5)]
    session.script.becomes = [
        job(82382, state=job_pb2.JOB_STATE_RUNNING, counts=job_pb2.TaskCounts(submitted=1)),
        job(82382, counts=job_pb2.TaskCounts(normal=1)),
    ]
    assert run(session, i="WFI", d="2000-04-28", follow=True) == 82382
    shown = session.lines[3:]
    assert [line for line in shown if not line.startswith("[schmidt]")] == [
        f"{LOGGED} - ccd50: Making ReadNoise object",
        f"{LOGGED} - ccd50: The read noise (ADU) for ccd ccd50 is : 2.34",
        "09:55:55 - ccd50: ++++++++++++++++++++++++++++++++++++++++++++",
        "09:55:55 - ccd50: job_status = 0",
        "09:55:55 - ccd50: ++++++++++++++++++++++++++++++++++++++++++++",
    ]
    assert [line for line in shown if line.startswith("[schmidt]")] == [
        status(82382, "QUEUED", "0/0/0/1/0"),
        status(82382, "RUNNING", "0/0/0/1/0"),
        status(82382, "FINISHED", "1/0/0/0/0"),
    ]


def test_ctrl_c_leaves_following_and_nothing_else(session):
    def interrupt(method: str, request: object) -> None:
        if method == "WaitJob":
            # What a terminal does: the main thread, blocked in the call, gets the signal.
            os.kill(os.getpid(), 2)
        session.script.asked.append((method, request))

    session.script.note = interrupt
    assert run(session, i="WFI", d="2000-04-28", follow=True) == 82382
    assert session.lines[-1] == (
        "[schmidt] 09:55:55 - Job 82382 goes on: dpu.wait(82382), dpu.get_logs(82382), dpu.cancel_job(82382)"
    )
    assert session.asked("CancelJobs") == []
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("log of")] == []


def test_wait_returns_the_state_at_the_end(session):
    session.script.jobs = {5: job(5, state=job_pb2.JOB_STATE_RUNNING)}
    session.script.becomes = [job(5, state=job_pb2.JOB_STATE_FAILED, counts=job_pb2.TaskCounts(error=1))]
    assert session.dpu.wait(5) == "FAILED"
    assert session.lines == [status(5, "RUNNING"), status(5, "FAILED", "0/1/0/0/0")]


def test_wait_says_what_failed_first(session):
    failure = job_pb2.Failure(message="no read noise of ccd51\nTraceback")
    session.script.jobs = {5: job(5, state=job_pb2.JOB_STATE_FAILED, failure=failure)}
    assert session.dpu.wait(5) == "FAILED"
    assert session.lines[-1] == "[schmidt] 09:55:55 - The first failure: no read noise of ccd51"


def test_ctrl_c_leaves_waiting_and_says_that_the_job_goes_on(session, monkeypatch):
    session.script.jobs = {5: job(5, state=job_pb2.JOB_STATE_RUNNING)}

    def pressed(*_given, **_words):
        raise KeyboardInterrupt

    monkeypatch.setattr("dpu.follow.watch", pressed)
    with pytest.raises(KeyboardInterrupt):
        session.dpu.wait(5)
    goes_on = "Job 5 goes on: dpu.wait(5), dpu.get_logs(5), dpu.cancel_job(5)"
    assert session.lines == [f"[schmidt] 09:55:55 - {goes_on}"]


def test_wait_has_an_end_of_its_own(session):
    session.script.jobs = {5: job(5, state=job_pb2.JOB_STATE_RUNNING)}
    with pytest.raises(TimedOut, match=r"^job 5 has not ended after 0\.2 s: it is RUNNING$"):
        session.dpu.wait(5, timeout=0.2)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "10"])
def test_a_time_that_is_none_is_not_waited_for(session, timeout):
    session.script.jobs = {5: job(5, state=job_pb2.JOB_STATE_RUNNING)}
    with pytest.raises(BadOption, match=rf"^timeout={timeout!r}: must be a number of seconds, or None"):
        session.dpu.wait(5, timeout=timeout)


def test_cancel_says_what_it_did(session):
    session.script.jobs = {5: job(5, state=job_pb2.JOB_STATE_RUNNING), 6: job(6)}
    session.dpu.cancel_job(5, "wrong night")
    session.dpu.cancel_job(6)
    assert session.lines == [
        "[schmidt] 09:55:55 - Cancelling job 5",
        "[schmidt] 09:55:55 - Job 6 is not cancelled: it has ended as FINISHED",
    ]
    assert [request.reason for request in session.asked("CancelJobs")] == ["wrong night", ""]
    with pytest.raises(NotFound):
        session.dpu.cancel_job(7)


def test_several_jobs_are_cancelled_by_list_by_sequence_or_all(session):
    running = {"state": job_pb2.JOB_STATE_RUNNING}
    session.script.jobs = {number: job(number, **running) for number in (5, 6)}
    session.script.jobs[7] = job(7, sequence="HotPixels", **running)
    session.dpu.cancel_job([5, 6])
    session.dpu.cancel_job(sequence="HotPixels")
    session.dpu.cancel_job(all=True)
    assert [line.split(" - ")[1] for line in session.lines] == [
        f"Cancelling job {number}" for number in (5, 6, 7, 5, 6, 7)
    ]
    session.script.jobs.clear()
    session.dpu.cancel_job(all=True)
    assert session.lines[-1].endswith("No jobs to cancel")
    for ways in ({}, {"all": True, "sequence": "Bias"}):
        with pytest.raises(UsageError, match="name the jobs to cancel in one way"):
            session.dpu.cancel_job(**ways)


def product(chip: str, number: int, **changes: object) -> archive_pb2.Frame:
    values = {"READNOISE": 2.5} | changes.pop("values", {})
    ref = job_pb2.TaskRef(job_id=84820, task=number, attempt=1)
    known = {"frame_class": "ReadNoise", "instrument": "WFI", "night": "2000-04-28", "is_valid": True}
    known |= {"file_name": f"Cal-{chip}.fits", "published": True, "ref": ref, "chip": chip}
    return archive_pb2.Frame(id=f"id-{chip}", values=to_map(values), **(known | changes))


def test_results_are_the_last_stages_committed_objects_by_chip(session):
    session.script.jobs = {84820: job()}
    session.script.tasks = [
        task(0, "ccd51"),
        task(1, "ccd51", stage=1),
        task(2, "ccd50", stage=1),
        task(3, "x", stage=1),
    ]
    session.script.frames = [
        product("ccd51", 0, frame_class="BiasFrame"),
        product("ccd51", 1, quality_flags=4),
        product("ccd50", 2, path="/data/a.fits"),
        product("ccd52", 3, published=False),
    ]
    assert [
        (item.frame_class, item.chip, item.file_name, item.path, item.values, item.quality_flags)
        for item in session.dpu.get_job_result(84820)
    ] == [
        ("ReadNoise", "ccd50", "Cal-ccd50.fits", Path("/data/a.fits"), {"READNOISE": 2.5}, 0),
        ("ReadNoise", "ccd51", "Cal-ccd51.fits", None, {"READNOISE": 2.5}, 4),
    ]
    assert all(isinstance(item, Product) for item in session.dpu.get_job_result(84820))
    first, second = map(repr, session.dpu.get_job_result(84820))
    assert first == "<ReadNoise WFI ccd50 2000-04-28: Cal-ccd50.fits>"
    assert second == "<ReadNoise WFI ccd51 2000-04-28: Cal-ccd51.fits, quality_flags 4>"
    assert all(request.only_job and request.job_id == 84820 for request in session.asked("ListFrames"))


def test_a_job_without_commit_has_no_results_and_an_unknown_one_is_an_error(session):
    session.script.jobs = {84820: job(commit=False)}
    session.script.frames = [product("ccd50", 0)]
    assert session.dpu.get_job_result(84820) == []
    with pytest.raises(NotFound, match="^there is no job 1$"):
        session.dpu.get_job_result(1)


def test_options_of_a_sequence_are_shown_as_ever(session):
    session.script.catalogue = CATALOGUE
    assert session.dpu.get_sequence_options("HotPixels") == [
        *("i", "d", "c", "p", "C"),
        *("instrument", "date", "chip", "pars", "commit"),
    ]
    session.dpu.show_sequence_options("HotPixels")
    assert session.out.getvalue() == (
        "Recognized options for the OptionsParser are:\n"
        '  "i" or "instrument" (default: )\n'
        '  "d" or "date" (default: )\n'
        '  "c" or "chip" (default: )\n'
        '  "p" or "pars" (default: {})\n'
        '  "C" or "commit" (default: 0)\n'
    )
    with pytest.raises(UnknownSequence, match="did you mean 'Bias'"):
        session.dpu.get_sequence_options("bias")


def test_sequences_are_listed(session):
    session.dpu.show_sequence_identifiers()
    assert session.lines == ["Known sequences are:", "  HotPixels  Make a HotPixelMap", "  Bias       Make a BiasFrame"]


def test_dpus_are_listed_and_chosen(session):
    assert session.dpu.get_dpu_identifiers() == ["local", "groningen"]
    session.dpu.show_dpu_identifiers()
    assert session.lines == ["Known DPUs are:", "  local (on this machine)", f"* groningen ({session.address})"]
    with pytest.raises(UsageError, match="^there is no DPU 'leiden'; known are local, groningen$"):
        session.dpu.select_dpu("leiden")
    session.dpu.select_dpu("groningen")


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("0.2.7", ["is of version 0.2.7, newer than this client (0.1.0): pip install -U dpu"]),
        ("0.0.9", ["is of version 0.0.9, older than this client (0.1.0): what it does not know, it refuses"]),
        ("", ["is of version unknown, older than this client (0.1.0): what it does not know, it refuses"]),
        ("0.1.9", []),
    ],
)
def test_a_newer_and_an_older_dpu_are_told_apart_and_once(session, version, told):
    session.script.version = version
    session.dpu.get_jobids()
    session.dpu.get_jobids()
    assert session.lines == [f"[schmidt] 09:55:55 - DPU 'groningen' {line}" for line in told]


def test_many_threads_may_use_one_processor(session):
    session.script.jobs = {number: job(number, ended=datetime.now(UTC)) for number in range(1, 6)}
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(session.dpu.get_jobids())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [[1, 2, 3, 4, 5]] * 8


def test_help_names_every_method(session):
    session.dpu.help()
    methods = [line for line in session.lines if line.startswith("dpu.")]
    assert "dpu.get_job_result(jobid)" in methods
    known = [name for name, member in vars(Processor).items() if callable(member) and not name.startswith("_")]
    assert len(methods) == len(known)


def test_every_error_is_one_of_the_tree(session):
    session.script.note = lambda _method, _request: 1 / 0
    with pytest.raises(DpuError, match="ZeroDivisionError"):
        session.dpu.get_jobids()
