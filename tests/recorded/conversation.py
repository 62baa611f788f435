"""What is said in a recording: a night, code, a job that runs, one that is cancelled, and mistakes."""

import time

from google.protobuf.duration_pb2 import Duration

from dpu.values import to_map
from dpu_api.v1 import archive_pb2, codeship_pb2, dispatch_pb2, job_pb2, logs_pb2, scheduler_pb2
from dpud.archive.records import Attempt
from fakes_archive import a_product, announced, write_bias
from fakes_codeship import digest, entry
from fakes_house import BIAS

CODE = b"print('hello')\n"
#: The zstd frame of CODE: its one block as it is.
PACKED = bytes.fromhex("28b52ffd200f790000") + CODE
NOW = Duration()


async def converse(say, folder):
    """Say it all."""
    raw = await _night(say, folder)
    tree = await _code(say)
    worker = await _worker(say)
    job = await _job(say, worker, tree, raw)
    await _log(say, job)
    await _others(say, worker)
    await _mistakes(say)


async def _night(say, folder):
    data = write_bias(folder / "r001.fits", chips=1).read_bytes()
    file = archive_pb2.IngestRequest(file=archive_pb2.IngestFile(name="r001.fits"))
    await say("anna", "ArchiveService.ListInstruments", archive_pb2.ListInstrumentsRequest())
    for _ in range(2):
        await say("anna", "ArchiveService.Ingest", file, archive_pb2.IngestRequest(chunk=data))
    biases = {"frame_class": "RawBiasFrame", "selection": {"instrument": "WFI", "night": "2000-04-28"}}
    await say("anna", "ArchiveService.Preview", archive_pb2.PreviewRequest(**biases))
    (listed,) = await say("anna", "ArchiveService.ListFrames", archive_pb2.ListFramesRequest(**biases))
    await say("worker", "ArchiveService.FetchFrame", archive_pb2.FetchFrameRequest(id=listed.frames[0].id))
    return listed.frames[0]


async def _code(say):
    blob = codeship_pb2.BlobChunk(digest=digest(CODE), size=len(CODE), zstd=PACKED, last=True)
    await say("anna", "CodeService.FindMissing", codeship_pb2.FindMissingRequest(digests=[digest(CODE)]))
    await say("anna", "CodeService.UploadBlobs", codeship_pb2.UploadBlobsRequest(chunk=blob))
    tree = codeship_pb2.Tree(entries=[entry("dpu_recipes/hello.py", CODE)])
    (put,) = await say("anna", "CodeService.PutTree", codeship_pb2.PutTreeRequest(tree=tree))
    await say("worker", "CodeService.GetTree", codeship_pb2.GetTreeRequest(digest=put.digest))
    return put.digest


async def _worker(say):
    catalogue = {"version": "7", "sequences": [BIAS]}
    register = dispatch_pb2.RegisterWorkerRequest(name="w1", slots=2, memory_mib=8_000, catalogue=catalogue)
    (registered,) = await say("worker", "DispatchService.RegisterWorker", register)
    await say("anna", "SchedulerService.GetDpu", scheduler_pb2.GetDpuRequest())
    await say("anna", "SchedulerService.GetCatalogue", scheduler_pb2.GetCatalogueRequest())
    await say("anna", "SchedulerService.ListWorkers", scheduler_pb2.ListWorkersRequest())
    return registered.session


def _work(session, room=0, **particulars):
    return dispatch_pb2.WorkRequest(session=session, room=room, memory_mib=8_000, wait=NOW, **particulars)


def _submission(**particulars):
    values = {"sequence": BIAS, "options": to_map({"instrument": "WFI"}), "commit": True} | particulars
    return scheduler_pb2.SubmitJobRequest(**values)


async def _job(say, session, tree, raw):
    submission = _submission(request_id="00000000-0000-4000-8000-000000000001", code_digest=tree)
    dry = _submission(request_id="00000000-0000-4000-8000-000000000002", validate_only=True)
    await say("anna", "SchedulerService.SubmitJob", dry)
    for _ in range(2):
        (submitted,) = await say("anna", "SchedulerService.SubmitJob", submission)
    (offered,) = await say("worker", "DispatchService.Work", _work(session, 1))
    (plan,) = offered.leases
    report = dispatch_pb2.TaskReport(ref=plan.ref, token=plan.token, run_s=0.5, log_lines=0)
    first = dispatch_pb2.ReportPlanRequest(session=session, report=report)
    tasks = [job_pb2.TaskSpec(label=label, inputs=[raw.id]) for label in ("ccd50", "ccd51")]
    await say("worker", "DispatchService.ReportPlan", first, dispatch_pb2.ReportPlanRequest(tasks=tasks))
    (offered,) = await say("worker", "DispatchService.Work", _work(session, 2))
    well, badly = offered.leases
    await _product(say, well.ref)
    failure = job_pb2.Failure(category=job_pb2.FAILURE_CATEGORY_RECIPE, message="only 1 bias")
    ended = [
        dispatch_pb2.TaskReport(ref=well.ref, token=well.token, run_s=2.0, log_lines=2, products=1),
        dispatch_pb2.TaskReport(ref=badly.ref, token=badly.token, failure=failure, log_lines=0),
    ]
    await say("worker", "LogService.Append", _lines(well.ref))
    await say("worker", "DispatchService.Work", _work(session, ended=ended))
    get = scheduler_pb2.GetJobRequest(job_id=submitted.job.id)
    await say("anna", "SchedulerService.GetJob", get, until=lambda answer: answer.job.HasField("ended"))
    await say("anna", "SchedulerService.ListTasks", scheduler_pb2.ListTasksRequest(job_id=submitted.job.id))
    await say("anna", "ArchiveService.ListFrames", archive_pb2.ListFramesRequest(frame_class="BiasFrame"))
    return submitted.job.id


async def _product(say, ref):
    record = a_product(Attempt(ref.job_id, ref.task, ref.attempt), project="kids", digest="", size=0, inputs=())
    await say("worker", "ArchiveService.StageProduct", announced(record))


def _lines(ref):
    moment = time.time_ns() // 1000
    batch = logs_pb2.LogBatch(ref=ref, time_us=[moment, moment], levels=b"\2\2", streams=b"\1\1", texts=["one", "two"])
    return logs_pb2.AppendRequest(batch=batch, project="kids", user="anna", label="ccd50")


async def _log(say, job):
    await say("anna", "LogService.Read", logs_pb2.ReadRequest(job_id=job))


async def _others(say, session):
    tasks = [job_pb2.TaskSpec(label="ccd50"), job_pb2.TaskSpec(label="ccd51")]
    second = _submission(request_id="00000000-0000-4000-8000-000000000003", tasks=tasks, priority=9)
    (submitted,) = await say("anna", "SchedulerService.SubmitJob", second)
    number = submitted.job.id
    cordon = scheduler_pb2.CordonWorkerRequest(name="w1", cordoned=True)
    await say("ruth", "SchedulerService.CordonWorker", cordon)
    await say("worker", "DispatchService.Work", _work(session, 1))
    await say("anna", "SchedulerService.CancelJob", scheduler_pb2.CancelJobRequest(job_id=number, reason="no need"))
    every = scheduler_pb2.ListJobsRequest()
    await say("anna", "SchedulerService.ListJobs", every, until=lambda answer: answer.jobs[0].HasField("ended"))


async def _mistakes(say):
    await say("anna", "SchedulerService.GetJob", scheduler_pb2.GetJobRequest(job_id=999))
    await say("anna", "SchedulerService.CordonWorker", scheduler_pb2.CordonWorkerRequest(name="w1"))
    await say("worker", "DispatchService.Work", _work("no such session"))
    await say("anna", "CodeService.GetTree", codeship_pb2.GetTreeRequest(digest="0" * 64))
    await say("nobody", "SchedulerService.GetDpu", scheduler_pb2.GetDpuRequest())
