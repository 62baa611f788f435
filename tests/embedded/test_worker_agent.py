"""A worker with real task processes, in scripted surroundings."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from dpu.errors import NotAllowed, UsageError
from dpu.values import from_map, to_map
from dpu_api.v1 import job_pb2
from dpu_api.v1.archive_pb2 import Frame
from dpud.hosting.settings import BadSetting, Peer
from dpud.worker.leases import key_of
from dpud.worker.main import run
from fakes_worker import Rig, surroundings, tree_of, until, working

Category = job_pb2.FailureCategory

RECIPES = """
def Greet(options, archive, scratch, spec):
    print("to", spec.label)
    logging.getLogger("dpu_recipes").warning("careful with %s", options["instrument"])
    warnings.warn("deprecated")
    print("done", end="")

def Split(options, archive, scratch, spec):
    return [TaskSpec(label=chip, inputs=("a", "b"), arguments={"n": 1}, seconds=2.5) for chip in options["chips"]]

def Hang(options, archive, scratch, spec):
    print("hanging")
    time.sleep(600)

def Nap(options, archive, scratch, spec):
    time.sleep(0.6)

def Where(options, archive, scratch, spec):
    print(json.dumps({"pid": os.getpid(), "environment": dict(os.environ), "cwd": os.getcwd(), "path": sys.path[0],
                      "scratch": str(scratch), "numpy": "numpy" in sys.modules,
                      "descriptors": len(os.listdir("/proc/self/fd"))}))

def Broken(options, archive, scratch, spec):
    import dpu_recipes.nowhere

def Use(options, archive, scratch, spec):
    frames = archive.select("RawBiasFrame", Selection(instrument="WFI"))
    print(*[frame.file_name for frame in frames])
    bias = archive.calibration("BiasFrame", frames[0])
    print(archive.open(frames[0]).read_bytes()[:5], archive.find(bias.id).values["MEAN"])
    made = scratch / "made.fits"
    made.write_bytes(b"pixels" * 1000)
    first = archive.save(bias.evolve(values={"MEAN": 1.5, "N": 3}, inputs=(frames[0].id,)), made)
    second = archive.save(bias.evolve(values={"NAN": 1}))
    print(first.id, first.file_name, second.id)

def Inputs(options, archive, scratch, spec):
    frames = [archive.find(name) for name in spec.inputs]
    print(*[archive.open(frame).read_text() for frame in frames * 2])

def Missing(options, archive, scratch, spec):
    archive.calibration("ReadNoise", archive.find("raw-0"))

def Sneak(options, archive, scratch, spec):
    archive.save(archive.find("raw-0"), Path("/etc/hostname"))
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with working(tmp_path) as running:
        yield running


def bias(name: str, **changes: object) -> Frame:
    frame = Frame(id=name, frame_class="RawBiasFrame", instrument="WFI", chip="ccd50", night="2000-04-28")
    frame.file_name = f"{name}.fits"
    frame.date_obs.FromJsonString("2000-04-28T22:01:03.000250Z")
    frame.MergeFrom(Frame(**changes))
    return frame


async def test_a_worker_says_what_it_is_and_what_its_recipes_can(rig: Rig) -> None:
    await until(lambda: rig.scheduler.registered, "a registration")
    said = rig.scheduler.registered[0]
    assert (said.name, said.slots, said.memory_mib) == ("anvil", 1, 4096)
    assert "Bias" in {sequence.name for sequence in said.catalogue.sequences}
    told = said.catalogue.packages
    assert (told.installed["numpy"], told.more) == (version("numpy"), False)
    assert told.markers["sys_platform"] == sys.platform


async def test_a_task_runs_and_its_lines_arrive_in_order(rig: Rig) -> None:
    lease = rig.lease("Greet", rig.ship(RECIPES), options={"instrument": "WFI"})
    report = await rig.done(lease)
    assert not report.HasField("failure")
    assert (report.token, report.log_lines, report.products) == (lease.token, 4, 0)
    assert report.run_s > 0
    assert report.peak_memory_mib > 5
    lines = rig.logs.lines[key_of(lease.ref)]
    assert [lines[number] for number in range(4)] == [
        (2, 1, "to ccd50"),
        (3, 3, "careful with WFI"),
        (3, 3, "UserWarning: deprecated"),
        (2, 1, "done"),
    ]
    assert rig.logs.projects == {"survey"}


async def test_a_task_sees_nothing_of_its_worker(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPU_TOKEN_FILE", "/secret")
    digest = rig.ship(RECIPES)
    lease = rig.lease("Where", digest)
    await rig.done(lease)
    seen = json.loads(rig.logs.texts(lease.ref)[0])
    state = str(rig.settings.state)
    assert seen["path"] == f"{state}/code/trees/{digest}"
    assert seen["cwd"] == seen["scratch"] == seen["environment"]["HOME"]
    assert seen["scratch"].startswith(f"{state}/processes/")
    assert sorted(seen["environment"]) == [
        "HOME",
        "LANG",
        "MKL_NUM_THREADS",
        "MPLBACKEND",
        "NUMBA_CACHE_DIR",
        "NUMBA_CACHE_LOCATOR_CLASSES",
        "NUMBA_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "PYTHONHASHSEED",
        "TMPDIR",
        "TZ",
        "VECLIB_MAXIMUM_THREADS",
    ]
    # Standard input, output and error, the channel, the tickets, the measure of memory, and the listing's own.
    assert seen["descriptors"] == 7


async def test_numpy_is_loaded_before_a_task_comes(tmp_path: Path) -> None:
    async with working(tmp_path, preload=("numpy", "not.installed")) as rig:
        lease = rig.lease("Where", rig.ship(RECIPES))
        await rig.done(lease)
        assert json.loads(rig.logs.texts(lease.ref)[0])["numpy"]


async def test_a_process_is_used_again_by_one_user_and_one_tree_only(rig: Rig) -> None:
    ours, edited = rig.ship(RECIPES), rig.ship(RECIPES + "\n# edited\n")
    leases = [
        rig.lease("Where", ours),
        rig.lease("Where", ours),
        rig.lease("Where", edited),
        rig.lease("Where", ours, user="another"),
    ]
    pids = []
    for lease in leases:
        await rig.done(lease)
        pids.append(json.loads(rig.logs.texts(lease.ref)[0])["pid"])
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3


async def test_inputs_are_looked_up_together_and_are_there_for_the_next_task(rig: Rig) -> None:
    texts = {"raw-0": "one", "raw-1": "two", "raw-2": "three"}
    for name, text in texts.items():
        rig.archive.add(bias(name), text.encode())
    digest = rig.ship(RECIPES)
    for _ in range(2):
        lease = rig.lease("Inputs", digest, spec=job_pb2.TaskSpec(label="ccd50", inputs=list(texts)))
        report = await rig.done(lease)
        assert not report.HasField("failure"), report
        assert rig.logs.texts(lease.ref) == ["one two three one two three"]
    assert (rig.archive.looked_up, rig.archive.fetched) == ([list(texts)] * 2, list(texts))


async def test_an_input_that_is_gone_is_named(rig: Rig) -> None:
    rig.archive.add(bias("raw-0"), b"one")
    spec = job_pb2.TaskSpec(label="ccd50", inputs=["raw-0", "raw-1"])
    lease = rig.lease("Inputs", rig.ship(RECIPES), spec=spec)
    assert (await rig.done(lease)).failure.message == "there is no frame raw-1"
    assert rig.archive.looked_up == [["raw-0", "raw-1"], ["raw-0"], ["raw-1"]]


async def test_two_users_with_two_versions_of_a_recipe_at_once_each_get_their_own(tmp_path: Path) -> None:
    meet = """
def Meet(options, archive, scratch, spec):
    # Neither ends before the other has begun.
    print("{version}", flush=True)
    archive.find("raw-0")
"""
    async with working(tmp_path, slots=2) as rig:
        rig.archive.add(bias("raw-0"), b"FRAME")
        rig.archive.away = True
        leases = [rig.lease("Meet", rig.ship(meet.format(version=user)), user=user) for user in ("anna", "bert")]
        rig.scheduler.give(*leases)
        await until(lambda: all(rig.logs.texts(lease.ref) for lease in leases), "both at once")
        rig.archive.away = False
        reports = [await rig.report_of(lease) for lease in leases]
        assert not any(report.HasField("failure") for report in reports), reports
        assert [rig.logs.texts(lease.ref) for lease in leases] == [["anna"], ["bert"]]


async def test_only_changed_files_of_a_tree_are_fetched(rig: Rig) -> None:
    await rig.done(rig.lease("Greet", rig.ship(RECIPES), options={"instrument": "WFI"}))
    before = len(rig.code.sent)
    await rig.done(rig.lease("Greet", rig.ship(RECIPES + "\n# edited\n"), options={"instrument": "WFI"}))
    assert (before, len(rig.code.sent)) == (5, 6)


async def test_a_plan_is_reported_with_its_tasks(rig: Rig) -> None:
    lease = rig.lease("Split", rig.ship(RECIPES), plan=True, spec=None, options={"chips": ["ccd50", "ccd51"]})
    rig.scheduler.give(lease)
    plan = await until(lambda: rig.scheduler.plans.get(key_of(lease.ref)), "the plan")
    assert [spec.label for spec in plan] == ["ccd50", "ccd51"]
    assert (list(plan[0].inputs), from_map(plan[0].arguments), plan[0].seconds) == (["a", "b"], {"n": 1}, 2.5)
    await until(lambda: not rig.scheduler.calls[-1].held, "a call that holds nothing")
    assert rig.scheduler.reports == {}


async def test_a_plan_says_by_which_code_and_asks_only_where_nobody_said(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    changes = {"plan": True, "spec": None, "options": {"chips": ["ccd50"]}}
    unsaid = rig.lease("Split", digest, **changes)
    rig.scheduler.give(unsaid)
    await until(lambda: f"Using the code {digest[:12]}" in rig.logs.texts(unsaid.ref), "the digest of the code")
    asked = rig.code.asked
    said = rig.lease("Split", digest, code_description="4f1a, git 90ab", **changes)
    rig.scheduler.give(said)
    await until(lambda: "Using the code 4f1a, git 90ab" in rig.logs.texts(said.ref), "what the code is called")
    assert rig.code.asked == asked


async def test_with_a_scheduler_that_knows_no_streams_a_worker_works_by_calls(rig: Rig) -> None:
    await by_calls(rig)
    digest = rig.ship(RECIPES)
    plan = rig.lease("Split", digest, plan=True, spec=None, options={"chips": ["ccd50", "ccd51"]})
    rig.scheduler.give(plan)
    told = await until(lambda: rig.scheduler.plans.get(key_of(plan.ref)), "the plan")
    assert [spec.label for spec in told] == ["ccd50", "ccd51"]
    for _ in range(3):
        report = await rig.done(rig.lease("Greet", digest, options={"instrument": "WFI"}))
        assert not report.HasField("failure")


async def by_calls(rig: Rig) -> None:
    """Have the scheduler become one of the release before."""
    rig.scheduler.is_old = rig.scheduler.away = True
    await until(lambda: rig.scheduler.refused, "a stream that breaks")
    rig.scheduler.away = False


async def test_a_plan_that_is_refused_is_reported_as_failed(rig: Rig) -> None:
    await by_calls(rig)
    rig.scheduler.plan_error = UsageError("a plan of 3 tasks is too long")
    lease = rig.lease("Split", rig.ship(RECIPES), plan=True, spec=None, options={"chips": ["a", "b", "c"]})
    report = await rig.done(lease)
    assert report.failure == job_pb2.Failure(
        category=Category.FAILURE_CATEGORY_RECIPE, message="a plan of 3 tasks is too long"
    )


async def test_code_that_cannot_be_loaded_is_told_from_a_recipe_that_fails(rig: Rig) -> None:
    missing = await rig.done(rig.lease("Broken", rig.ship(RECIPES)))
    wrong = await rig.done(rig.lease("Greet", rig.ship("def broken(:\n")))
    unknown = await rig.done(rig.lease("Greet", "ab" * 32))
    assert [report.failure.category for report in (missing, wrong, unknown)] == [Category.FAILURE_CATEGORY_CODE] * 3
    assert "No module named 'dpu_recipes.nowhere'" in missing.failure.message
    assert "SyntaxError: invalid syntax" in wrong.failure.message
    assert "there is no tree abab" in unknown.failure.message


BIAS = b"""
def stack(frames):
    return frames["ccd51"]

def Bias(options, archive, scratch, spec):
    stack({})
"""


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("from dpu_recipes.bias import Bias", ["bias.py", "bias.py", "KeyError: 'ccd51'"]),
        (
            "def Bias(options, archive, scratch, spec):\n    spec.chip",
            ["registry.py", "registry.py", "AttributeError: "],
        ),
        ("from dpu_recipes.bias import Dark", ["registry.py", "ImportError: "]),
        ("from dpu_recipes.nowhere import Bias", ["registry.py", "ModuleNotFoundError: "]),
        ("def Bias(:", ["registry.py", "SyntaxError: "]),
    ],
)
async def test_a_traceback_begins_with_the_shipped_code(rig: Rig, source: str, shown: list[str]) -> None:
    lease = rig.lease("Bias", rig.code.put(tree_of(source) | {"dpu_recipes/bias.py": BIAS}))
    report = await rig.done(lease)
    trace = report.failure.detail.splitlines()
    places = [line for line in trace if line.lstrip().startswith("File ")]
    assert [Path(place.split('"')[1]).name for place in places] == shown[:-1]
    assert trace[-1].startswith(shown[-1])
    assert rig.logs.texts(lease.ref)[:-1] == trace


async def test_a_task_reads_and_makes_frames_through_its_agent(rig: Rig) -> None:
    for number in range(3):
        rig.archive.add(bias(f"raw-{number}"), b"FRAME" * 1000)
    rig.archive.add(bias("master", frame_class="BiasFrame", values=to_map({"MEAN": 0.5})), b"MASTER")
    lease = rig.lease("Use", rig.ship(RECIPES))
    report = await rig.done(lease)
    assert not report.HasField("failure"), report
    assert rig.logs.texts(lease.ref) == [
        "raw-0.fits raw-1.fits raw-2.fits",
        "Using BiasFrame master.fits: same night, newest of 1",
        "b'FRAME' 0.5",
        "product-1-0 Cal-somebody.fits product-1-1",
    ]
    assert report.products == 2
    (first, data), (second, nothing) = (rig.archive.staged[(key_of(lease.ref), number)] for number in (0, 1))
    assert data == b"pixels" * 1000
    assert (first.user, first.project, first.frame.code_digest) == ("somebody", "survey", lease.code_digest)
    assert (first.frame.ref, list(first.frame.inputs)) == (lease.ref, ["raw-0"])
    assert from_map(first.frame.values) == {"MEAN": 1.5, "N": 3}
    assert first.frame.date_obs.ToJsonString() == "2000-04-28T22:01:03.000250Z"
    assert (nothing, second.frame.digest, second.frame.size) == (b"", "", 0)


@pytest.mark.parametrize(("said", "announced"), [(3, 3), (0, 0), (6, 0)])
async def test_products_are_announced_at_the_privileges_of_their_job(rig: Rig, said: int, announced: int) -> None:
    rig.archive.add(bias("raw-0"), b"FRAME" * 1000)
    rig.archive.add(bias("master", frame_class="BiasFrame", values=to_map({"MEAN": 0.5})), b"MASTER")
    lease = rig.lease("Use", rig.ship(RECIPES), options={"privileges": said})
    assert not (await rig.done(lease)).HasField("failure")
    levels = [rig.archive.staged[(key_of(lease.ref), number)][0].frame.privileges for number in (0, 1)]
    assert levels == [announced, announced]


async def test_a_frame_is_fetched_once_for_all_tasks(rig: Rig) -> None:
    rig.archive.add(bias("raw-0"), b"FRAME" * 1000)
    rig.archive.add(bias("master", frame_class="BiasFrame", values=to_map({"MEAN": 0.5})), b"MASTER")
    digest = rig.ship(RECIPES)
    for _ in range(2):
        assert not (await rig.done(rig.lease("Use", digest))).HasField("failure")
    assert rig.archive.fetched == ["raw-0"]


async def test_what_the_archive_refuses_is_the_recipes_failure(rig: Rig) -> None:
    rig.archive.add(bias("raw-0"), b"FRAME")
    digest = rig.ship(RECIPES)
    missing = await rig.done(rig.lease("Missing", digest))
    sneaky = await rig.done(rig.lease("Sneak", digest))
    assert missing.failure.category == sneaky.failure.category == Category.FAILURE_CATEGORY_RECIPE
    assert missing.failure.message == "no ReadNoise: dpu.run('ReadNoise', ...)"
    assert sneaky.failure.message == "a product's file must be in the scratch folder: '/etc/hostname' is not"


async def test_an_archive_that_stays_away_is_no_fault_of_the_recipe(rig: Rig) -> None:
    rig.archive.away = True
    report = await rig.done(rig.lease("Use", rig.ship(RECIPES)))
    assert report.failure.category == Category.FAILURE_CATEGORY_INFRASTRUCTURE
    assert report.failure.message == "the archive is away"


async def test_a_task_waits_for_an_archive_that_comes_back(rig: Rig) -> None:
    rig.archive.away = True
    rig.archive.add(bias("raw-0"), b"FRAME")
    lease = rig.lease("Missing", rig.ship(RECIPES))
    rig.scheduler.give(lease)
    await until(lambda: any(call.held and call.held[0].started for call in rig.scheduler.calls), "its start")
    rig.archive.away = False
    assert (await rig.report_of(lease)).failure.message == "no ReadNoise: dpu.run('ReadNoise', ...)"


async def test_a_waiting_task_that_is_cancelled_never_starts(rig: Rig) -> None:
    digest = rig.ship(RECIPES)
    # A short task first, so that the worker fetches one ahead.
    await rig.done(rig.lease("Greet", digest, options={"instrument": "WFI"}))
    running, waiting = rig.lease("Hang", digest), rig.lease("Hang", digest)
    rig.scheduler.give(running, waiting)
    await until(lambda: len(rig.scheduler.calls[-1].held) == 2, "both leases held")
    rig.scheduler.tell(cancel=(waiting.ref,))
    report = await rig.report_of(waiting)
    assert (report.failure.category, report.run_s) == (Category.FAILURE_CATEGORY_CANCELLED, 0)
    rig.scheduler.tell(cancel=(running.ref,))
    assert (await rig.report_of(running)).failure.category == Category.FAILURE_CATEGORY_CANCELLED


async def test_a_stale_task_is_killed_and_never_reported(rig: Rig) -> None:
    lease = rig.lease("Hang", rig.ship(RECIPES))
    rig.scheduler.give(lease)
    await until(lambda: rig.logs.lines, "its first line")
    rig.scheduler.tell(stale=(lease.ref,))
    await until(lambda: not rig.scheduler.calls[-1].held, "a call that holds nothing")
    assert rig.scheduler.reports == {}


async def test_a_task_outlives_an_absence_of_the_scheduler_and_a_new_session(rig: Rig) -> None:
    lease = rig.lease("Nap", rig.ship(RECIPES))
    rig.scheduler.give(lease)
    await until(lambda: any(call.held for call in rig.scheduler.calls), "a call that holds it")
    rig.scheduler.away = True
    rig.scheduler.session = "forgotten"
    seen = len(rig.scheduler.calls)
    await until(lambda: rig.scheduler.refused, "a call that was refused")
    rig.scheduler.away = False
    report = await rig.report_of(lease)
    assert not report.HasField("failure")
    assert len(rig.scheduler.registered) == 2
    assert {call.session for call in rig.scheduler.calls[seen:]} == {"session-2"}


async def test_lines_wait_for_a_log_service_that_is_away(rig: Rig) -> None:
    rig.logs.away = True
    lease = rig.lease("Greet", rig.ship(RECIPES), options={"instrument": "WFI"})
    rig.scheduler.give(lease)
    await until(lambda: key_of(lease.ref) in rig.scheduler.reports, "the report")
    assert rig.logs.lines == {}
    rig.logs.away = False
    assert (await rig.report_of(lease)).log_lines == 4


async def test_a_worker_that_may_not_work_says_so(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as rig:
        settings = replace(rig.settings, scheduler=Peer(rig.settings.scheduler.address, "wrong"))
        with pytest.raises(NotAllowed, match="the token is unknown to this DPU"):
            await run(settings, rig.stop)


async def test_a_task_that_ends_within_the_grace_is_reported_as_ended(tmp_path: Path) -> None:
    async with working(tmp_path, grace_s=10.0) as rig:
        lease = rig.lease("Nap", rig.ship(RECIPES))
        rig.scheduler.give(lease)
        await until(lambda: any(call.held and call.held[0].started for call in rig.scheduler.calls), "its start")
        rig.stop.set()
        report = await rig.report_of(lease)
        assert not report.HasField("failure")


async def test_two_workers_never_share_a_folder(tmp_path: Path) -> None:
    async with working(tmp_path) as rig:
        await until(lambda: rig.scheduler.registered, "a registration")
        with pytest.raises(BadSetting, match="another worker runs there"):
            await run(rig.settings, asyncio.Event())
