"""A scripted DPU: real gRPC services behind the real interceptor and tokens; only their answers are written down."""
# ruff: noqa: N802, ARG002 (gRPC names the methods and gives their arguments)

import asyncio
import hashlib
import io
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from astropy.io import fits

from dpu.config import Config, KnownDpu
from dpu.errors import MissingBlobs, NotFound, NothingSelected, UnknownChip, UnknownInstrument, Unreachable, UsageError
from dpu.tree import digest_of
from dpu.values import to_map, to_value
from dpu_api.v1 import (
    archive_pb2,
    archive_pb2_grpc,
    catalogue_pb2,
    codeship_pb2,
    codeship_pb2_grpc,
    job_pb2,
    logs_pb2,
    logs_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
)
from dpud.hosting.caller import current_caller
from dpud.hosting.server import listening
from dpud.hosting.settings import Address, Listening
from dpud.hosting.tokens import token_row

add_scheduler = scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server
add_archive = archive_pb2_grpc.add_ArchiveServiceServicer_to_server
add_logs = logs_pb2_grpc.add_LogServiceServicer_to_server
add_code = codeship_pb2_grpc.add_CodeServiceServicer_to_server

SECRET = secrets.token_hex(8)
NIGHT = "2000-04-28"
CHIPS = ("ccd50", "ccd51")
KIND = catalogue_pb2.OptionKind
ENDED = {job_pb2.JOB_STATE_FINISHED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}


def option(short: str, long: str, kind: int, default: object = "", **bounds: float) -> catalogue_pb2.Option:
    return catalogue_pb2.Option(short_name=short, long_name=long, kind=kind, default=to_value(default), **bounds)


OPTIONS = {
    "i": option("i", "instrument", KIND.OPTION_KIND_TEXT),
    "d": option("d", "date", KIND.OPTION_KIND_DATE),
    "c": option("c", "chip", KIND.OPTION_KIND_TEXT),
    "oc": option("oc", "overscan", KIND.OPTION_KIND_INTEGER, 6, minimum=0, maximum=10),
    "p": option("p", "pars", KIND.OPTION_KIND_PARAMETERS, {}),
    "C": option("C", "commit", KIND.OPTION_KIND_FLAG, 0),
    "raw": option("raw", "raw_filenames", KIND.OPTION_KIND_LIST, []),
    "gra": option("gra", "grid_ra", KIND.OPTION_KIND_FLOAT, minimum=0, maximum=360),
}

UNLISTED = [option(name, name, KIND.OPTION_KIND_INTEGER, 0) for name in ("dryrun", "privileges")]
for each in UNLISTED:
    each.unlisted = True


def sequence(name: str, options: str, selects: str, makes: str, one_of: tuple[str, ...] = ("date",)) -> Any:
    return catalogue_pb2.Sequence(
        name=name,
        summary=f"Make a {makes}",
        options=[*(OPTIONS[short] for short in options.split()), *UNLISTED],
        stages=[
            catalogue_pb2.Stage(
                recipe=name,
                selects=selects,
                makes=makes,
                seconds=10,
                parameters=to_map({f"{makes}.process_params.SIGMA_CLIP": 3.0, f"{makes}.process_params.ITERATIONS": 5}),
                parameter_bounds={
                    f"{makes}.process_params.SIGMA_CLIP": catalogue_pb2.Bounds(minimum=1),
                    f"{makes}.process_params.ITERATIONS": catalogue_pb2.Bounds(minimum=1, maximum=100),
                },
            )
        ],
        one_of=one_of,
    )


CATALOGUE = catalogue_pb2.Catalogue(
    version="0.1.0",
    sequences=[
        sequence("HotPixels", "i d c p C", "BiasFrame", "HotPixelMap"),
        sequence("Bias", "i d c oc p C raw gra", "RawBiasFrame", "BiasFrame", ("date", "raw_filenames")),
    ],
)


def job(jobid: int = 84820, **changes: Any) -> job_pb2.Job:
    counts = job_pb2.TaskCounts(normal=2)
    values = {
        "sequence": "Bias",
        "user": "osada",
        "state": job_pb2.JOB_STATE_FINISHED,
        "counts": counts,
        "commit": True,
        "estimate_s": 10.0,
        "revision": 1,
    }
    return job_pb2.Job(id=jobid, **(values | changes))


def task(number: int, label: str, state: int = job_pb2.TASK_STATE_SUCCEEDED, **changes: Any) -> job_pb2.Task:
    ref = job_pb2.TaskRef(job_id=changes.pop("job_id", 84820), task=number, attempt=1)
    return job_pb2.Task(ref=ref, label=label, state=state, **({"recipe": "Bias"} | changes))


def batch(number: int, *texts: str, time_us: int = 957_000_000_000_000, offset: int = 1) -> logs_pb2.ReadResponse:
    lines = logs_pb2.LogBatch(
        ref=job_pb2.TaskRef(job_id=84820, task=number, attempt=1),
        time_us=[time_us] * len(texts),
        texts=texts,
        levels=b"\2" * len(texts),
        streams=b"\3" * len(texts),
    )
    return logs_pb2.ReadResponse(batch=lines, offset=offset)


def task_end(number: int, offset: int, state: int = job_pb2.TASK_STATE_SUCCEEDED, missing: str = "") -> Any:
    ref = job_pb2.TaskRef(job_id=84820, task=number, attempt=1)
    end = logs_pb2.TaskEnd(ref=ref, state=state, complete=not missing, missing=missing)
    return logs_pb2.ReadResponse(task_end=end, offset=offset)


def job_end(offset: int, **more: Any) -> logs_pb2.ReadResponse:
    end = logs_pb2.JobEnd(state=job_pb2.JOB_STATE_FINISHED, complete=True, **more)
    return logs_pb2.ReadResponse(end=end, offset=offset)


def image(level: float) -> bytes:
    """Return a FITS file of 64 x 32 pixels at a level, with noise."""
    written = io.BytesIO()
    pixels = np.random.default_rng(1).normal(level, 2.0, (64, 32)).astype("float32")
    fits.PrimaryHDU(pixels).writeto(written)
    return written.getvalue()


def product(chip: str, content: bytes = b"", **changes: Any) -> archive_pb2.Frame:
    made = archive_pb2.Frame(
        id=f"id-{chip}",
        frame_class="BiasFrame",
        instrument="WFI",
        chip=chip,
        night=NIGHT,
        file_name=f"Bias-{chip}.fits",
        digest=hashlib.sha256(content).hexdigest() if content else "",
        size=len(content),
        ref=job_pb2.TaskRef(job_id=84820, task=1, attempt=1),
    )
    made.MergeFrom(archive_pb2.Frame(**changes))
    return made


@dataclass
class Script:
    """What the services answer, and what they were asked."""

    catalogue: catalogue_pb2.Catalogue = field(default_factory=lambda: CATALOGUE)
    version: str = "0.1.0"
    jobs: dict[int, job_pb2.Job] = field(default_factory=dict)
    #: What a job becomes, one state a WaitJob.
    becomes: list[job_pb2.Job] = field(default_factory=list)
    tasks: list[job_pb2.Task] = field(default_factory=list)
    frames: list[archive_pb2.Frame] = field(default_factory=list)
    explanation: scheduler_pb2.ExplainJobResponse = field(default_factory=scheduler_pb2.ExplainJobResponse)
    totals: scheduler_pb2.GetTotalsResponse = field(default_factory=scheduler_pb2.GetTotalsResponse)
    #: Jobs of a page.
    page: int = 2
    trends: dict[str, list[archive_pb2.TrendPoint]] = field(default_factory=dict)
    #: What FetchFrame sends, by the identifier of the frame.
    files: dict[str, bytes] = field(default_factory=dict)
    #: The header of every frame, and what was made from what.
    cards: list[str] = field(default_factory=list)
    links: list[archive_pb2.Link] = field(default_factory=list)
    logs: list[logs_pb2.ReadResponse] = field(default_factory=list)
    #: Takes the place of the end of the logs, which is open, once somebody follows.
    late_logs: list[logs_pb2.ReadResponse] = field(default_factory=list)
    #: Breaks the stream of logs once, behind this offset.
    break_logs_after: int | None = None
    #: Answers UNAVAILABLE so many times.
    unavailable: int = 0
    submitted: list[scheduler_pb2.SubmitJobRequest] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    ingested: list[tuple[str, str, bytes]] = field(default_factory=list)
    #: Digests of the code that was sent.
    blobs: set[str] = field(default_factory=set)
    #: Classes of which there are no frames.
    lacking: set[str] = field(default_factory=set)
    #: File names whose ingest is refused, with the error.
    refuse: dict[str, Exception] = field(default_factory=dict)

    #: Code that is there: trees by their digest, and the content of their files by that of each.
    trees: dict[str, codeship_pb2.Tree] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    def keep_tree(self, digest: str, description: str, files: dict[str, bytes]) -> None:
        """Have the code service know a tree."""
        digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        self.contents |= {digests[path]: content for path, content in files.items()}
        self.trees[digest] = codeship_pb2.Tree(
            entries=[
                codeship_pb2.TreeEntry(path=path, size=len(content), digest=digests[path])
                for path, content in files.items()
            ],
            description=description,
        )

    def note(self, method: str, request: Any) -> None:
        self.asked.append((method, request))
        if self.unavailable > 0:
            self.unavailable -= 1
            raise Unreachable("going down")

    def find(self, jobid: int) -> job_pb2.Job:
        if jobid not in self.jobs:
            raise NotFound(f"there is no job {jobid}")
        return self.jobs[jobid]


class Scheduler(scheduler_pb2_grpc.SchedulerServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def GetDpu(self, request, context):
        return scheduler_pb2.GetDpuResponse(name="groningen", version=self.script.version, user=current_caller().user)

    async def GetCatalogue(self, request, context):
        self.script.note("GetCatalogue", request)
        return scheduler_pb2.GetCatalogueResponse(catalogue=self.script.catalogue)

    async def SubmitJob(self, request, context):
        self.script.note("SubmitJob", request)
        if request.validate_only:
            return scheduler_pb2.SubmitJobResponse(job=job(0))
        known = [item.request_id for item in self.script.submitted]
        if request.request_id not in known:
            self.script.submitted.append(request)
        new = job(
            82381 + len(self.script.submitted),
            user=current_caller().user,
            state=job_pb2.JOB_STATE_QUEUED,
            counts=job_pb2.TaskCounts(submitted=1),
            commit=request.commit,
        )
        self.script.jobs[new.id] = new
        return scheduler_pb2.SubmitJobResponse(job=new)

    async def GetJob(self, request, context):
        self.script.note("GetJob", request)
        return scheduler_pb2.GetJobResponse(job=self.script.find(request.job_id))

    async def ListJobs(self, request, context):
        """As many jobs a page as the script says, whatever was asked for."""
        self.script.note("ListJobs", request)
        after = request.ended_after.ToMicroseconds()
        jobs = [
            item
            for item in sorted(self.script.jobs.values(), key=lambda item: -item.id)
            if (not request.job_ids or item.id in request.job_ids)
            and (not request.user or item.user == request.user)
            and (not after or item.state not in ENDED or item.ended.ToMicroseconds() > after)
        ]
        first = int(request.page_token or 0)
        behind = first + self.script.page
        token = str(behind) if len(jobs) > behind else ""
        return scheduler_pb2.ListJobsResponse(jobs=jobs[first:behind], next_page_token=token)

    async def ListTasks(self, request, context):
        """One task a page."""
        self.script.note("ListTasks", request)
        self.script.find(request.job_id)
        first = int(request.page_token or 0)
        token = str(first + 1) if len(self.script.tasks) > first + 1 else ""
        return scheduler_pb2.ListTasksResponse(tasks=self.script.tasks[first : first + 1], next_page_token=token)

    async def CancelJobs(self, request, context):
        self.script.note("CancelJobs", request)
        wanted = [self.script.find(number) for number in request.job_ids] or [
            found
            for found in self.script.jobs.values()
            if found.state not in ENDED and request.sequence in ("", found.sequence)
        ]
        for found in wanted:
            if found.state not in ENDED:
                found.cancellation.by = "osada"
        return scheduler_pb2.CancelJobsResponse(jobs=wanted)

    async def WatchJobs(self, request, context):
        self.script.note("WatchJobs", request)
        seen = request.after_revision
        while True:
            changed = [found for found in self.script.jobs.values() if found.revision > seen]
            if changed:
                yield scheduler_pb2.WatchJobsResponse(jobs=changed)
            seen = max([seen, *(found.revision for found in changed)])
            await asyncio.sleep(0.02)

    async def GetTotals(self, request, context):
        self.script.note("GetTotals", request)
        return self.script.totals

    async def RetryJob(self, request, context):
        self.script.note("RetryJob", request)
        old = self.script.find(request.job_id)
        if old.state not in ENDED:
            raise UsageError(f"job {old.id} has not ended")
        new = job(90000 + old.id, state=job_pb2.JOB_STATE_QUEUED)
        self.script.jobs[new.id] = new
        return scheduler_pb2.RetryJobResponse(job=new)

    async def ExplainJob(self, request, context):
        self.script.note("ExplainJob", request)
        self.script.find(request.job_id)
        return self.script.explanation

    async def WaitJob(self, request, context):
        self.script.note("WaitJob", request)
        if self.script.becomes:
            self.script.jobs[request.job_id] = self.script.becomes.pop(0)
        elif self.script.find(request.job_id).state not in ENDED:
            await asyncio.sleep(request.timeout.ToMicroseconds() / 1e6)
        return scheduler_pb2.WaitJobResponse(job=self.script.find(request.job_id))


class Archive(archive_pb2_grpc.ArchiveServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def Preview(self, request, context):
        self.script.note("Preview", request)
        chosen = request.selection
        if chosen.instrument != "WFI":
            raise UnknownInstrument(f"instrument {chosen.instrument!r} is not one of WFI")
        for chip in chosen.chips:
            if chip not in CHIPS:
                raise UnknownChip(f"chip {chip!r} is not one of WFI's {', '.join(CHIPS)}")
        if chosen.night not in {"", NIGHT} or request.frame_class in self.script.lacking:
            raise NothingSelected(f"no {request.frame_class} of night {chosen.night};\nnights with some: {NIGHT}")
        return archive_pb2.PreviewResponse(frames_by_chip=dict.fromkeys(CHIPS, 5))

    async def ListInstruments(self, request, context):
        places = [
            archive_pb2.ChipPlace(chip=chip, x=2046 * at, y=0, width=2046, height=4098) for at, chip in enumerate(CHIPS)
        ]
        wfi = archive_pb2.Instrument(name="WFI", chips=CHIPS, places=places)
        omegacam = archive_pb2.Instrument(name="OMEGACAM")
        return archive_pb2.ListInstrumentsResponse(instruments=[omegacam, wfi])

    def find(self, identifier: str) -> archive_pb2.Frame:
        found = next((frame for frame in self.script.frames if frame.id == identifier), None)
        if found is None:
            raise NotFound(f"there is no frame {identifier}")
        return found

    async def DrawFrame(self, request, context):
        self.find(request.id)
        return archive_pb2.DrawFrameResponse(
            png=self.script.files[request.id], black=1.5, white=2.5, width=64, height=32, binning=4
        )

    async def ReadHeader(self, request, context):
        self.find(request.id)
        return archive_pb2.ReadHeaderResponse(cards=self.script.cards)

    async def TraceLineage(self, request, context):
        self.script.note("TraceLineage", request)
        frames = [self.find(request.id), *(frame for frame in self.script.frames if frame.id != request.id)]
        yield archive_pb2.TraceLineageResponse(frames=frames, links=self.script.links)

    async def ListFrames(self, request, context):
        self.script.note("ListFrames", request)
        if request.ids:
            return archive_pb2.ListFramesResponse(frames=map(self.find, request.ids))
        first = int(request.page_token or 0)
        token = str(first + 1) if len(self.script.frames) > first + 1 else ""
        return archive_pb2.ListFramesResponse(frames=self.script.frames[first : first + 1], next_page_token=token)

    async def ListTrend(self, request, context):
        """Return what was said of a class of products."""
        self.script.note("ListTrend", request)
        yield archive_pb2.ListTrendResponse(points=self.script.trends.get(request.frame_class, []))

    async def FetchFrame(self, request, context):
        self.script.note("FetchFrame", request)
        yield archive_pb2.FetchFrameResponse(frame=self.find(request.id))
        content = self.script.files[request.id]
        for first in range(0, len(content), 1000):
            yield archive_pb2.FetchFrameResponse(chunk=content[first : first + 1000])

    async def Ingest(self, request_iterator, context):
        file = (await anext(request_iterator)).file
        content = b"".join([item.chunk async for item in request_iterator])
        self.script.note("Ingest", file)
        name = Path(file.name).name
        if name in self.script.refuse:
            raise self.script.refuse[name]
        already = content in [known for _, _, known in self.script.ingested]
        self.script.ingested.append((file.name, file.path, content))
        frames = [archive_pb2.Frame(chip=chip) for chip in CHIPS]
        return archive_pb2.IngestResponse(frames=frames, already=already)


class Logs(logs_pb2_grpc.LogServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def Read(self, request, context) -> AsyncIterator[logs_pb2.ReadResponse]:
        self.script.note("Read", request)
        if request.follow and self.script.late_logs:
            self.script.logs[-1:], self.script.late_logs = self.script.late_logs, []
        for answer in self.script.logs:
            if answer.offset <= request.offset:
                continue
            yield answer
            if answer.offset == self.script.break_logs_after:
                self.script.break_logs_after = None
                raise Unreachable("going down")
        if request.follow and not (self.script.logs and self.script.logs[-1].HasField("end")):
            await asyncio.Event().wait()


class Code(codeship_pb2_grpc.CodeServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    async def FindMissing(self, request, context):
        self.script.note("FindMissing", request)
        return codeship_pb2.FindMissingResponse(digests=set(request.digests) - self.script.blobs)

    async def UploadBlobs(self, request_iterator, context):
        fresh = {chunk.digest async for item in request_iterator for chunk in (item.chunk, *item.more)}
        self.script.note("UploadBlobs", None)
        self.script.blobs |= fresh
        return codeship_pb2.UploadBlobsResponse(blobs=len(fresh))

    async def PutTree(self, request, context):
        self.script.note("PutTree", request)
        self.script.blobs |= {chunk.digest for chunk in request.blobs}
        if not {entry.digest for entry in request.tree.entries} <= self.script.blobs:
            raise MissingBlobs("some content was not uploaded")
        return codeship_pb2.PutTreeResponse(digest=digest_of(request.tree.entries))

    async def GetTree(self, request, context):
        if request.digest not in self.script.trees:
            raise NotFound(f"there is no code {request.digest}")
        return codeship_pb2.GetTreeResponse(tree=self.script.trees[request.digest])

    async def DownloadBlobs(self, request, context):
        for digest in request.digests:
            content = self.script.contents[digest]
            frame = zstandard.compress(content)
            for first in range(0, len(frame), 100):
                chunk = codeship_pb2.BlobChunk(digest=digest, size=len(content), zstd=frame[first : first + 100])
                yield codeship_pb2.DownloadBlobsResponse(chunk=chunk)


def images() -> Script:
    """Return a DPU whose job 84820 has made an image of each chip."""
    contents = {chip: image(level) for chip, level in zip(CHIPS, (100.0, 200.0), strict=True)}
    return Script(
        jobs={84820: job()},
        tasks=[task(1, "ccd50")],
        frames=[product(chip, content) for chip, content in contents.items()],
        files={f"id-{chip}": content for chip, content in contents.items()},
    )


@contextmanager
def serving(folder: Path, script: Script, more: str = "") -> Iterator[str]:
    """Serve a script in a thread of its own, to osada and whom `more` of a tokens file lets in; give the address."""
    (folder / "tokens.toml").write_text(f"{token_row(SECRET, 'osada', ['default', 'KIDS'], ['user'])}\n{more}")
    address = f"unix:{folder / 'dpu.sock'}"
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        settings = Listening(listen=Address.parse(address), tokens=folder / "tokens.toml", metrics=None)
        services = [
            ("dpu_api.v1.SchedulerService", partial(add_scheduler, Scheduler(script))),
            ("dpu_api.v1.ArchiveService", partial(add_archive, Archive(script))),
            ("dpu_api.v1.LogService", partial(add_logs, Logs(script))),
            ("dpu_api.v1.CodeService", partial(add_code, Code(script))),
        ]
        async with listening(settings, services) as server:
            ready.set()
            await stop.wait()
            await server.stop(0)

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    assert ready.wait(10), "the scripted DPU did not start"
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive(), "the scripted DPU did not stop"
        loop.close()


def configured(folder: Path, address: str, *, secret: str = SECRET, **changes: Any) -> Config:
    """Return a configuration whose default DPU is the one at `address`."""
    (folder / "token").write_text(secret)
    known = KnownDpu(name="groningen", address=address, token_file=folder / "token")
    values = {"home": folder / "home", "username": "osada", "dpu_name": "groningen"}
    return Config(**(values | {"dpus": {"local": KnownDpu(name="local"), "groningen": known}} | changes))
