"""A real worker is drained while a task runs: the task goes back, the worker ends, and gets nothing when it is back."""

from dpu.channel import open_async_channel
from dpu_api.v1 import job_pb2, scheduler_pb2, scheduler_pb2_grpc
from fakes_house import specs, submission, until_ended
from fakes_programs import Others, Scheduler, patiently, worker_program
from fakes_scheduler import background, until
from fakes_worker import PROJECT

WAIT_S = 60


async def test_a_drained_worker_hands_back_what_it_runs_and_ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("d")
    others = Others(folder)
    scheduler = Scheduler(folder, "a", others.address)
    address = f"unix:{scheduler.socket}"
    worker = worker_program(folder, 0, address, others.address, DPU_WORKER_GRACE_S="0")
    async with (
        others.serving(),
        background(scheduler.run(), worker.run()),
        open_async_channel(address, "anna", PROJECT) as annas,
        open_async_channel(address, "ruth", PROJECT) as ruths,
    ):
        anna, ruth = (scheduler_pb2_grpc.SchedulerServiceStub(channel) for channel in (annas, ruths))
        request = submission(tasks=specs("long"), code_digest=others.ship())
        job = (await patiently(lambda: anna.SubmitJob(request, timeout=5))).job.id
        await until(lambda: others.logs.lines, worker.log.read_text, WAIT_S)
        await ruth.DrainWorker(scheduler_pb2.DrainWorkerRequest(name=worker.name))
        await until(lambda: worker.starts == 2, worker.log.read_text, WAIT_S)
        [task] = (await anna.ListTasks(scheduler_pb2.ListTasksRequest(job_id=job))).tasks
        assert (task.state, task.ref.attempt) == (job_pb2.TASK_STATE_QUEUED, 1)
        assert task.failure.category == job_pb2.FAILURE_CATEGORY_WORKER_DRAINED

        async def is_back():
            [listed] = (await ruth.ListWorkers(scheduler_pb2.ListWorkersRequest())).workers
            assert (listed.draining, listed.cordoned, listed.leases) == (False, True, 0)

        await patiently(is_back)
        [wait] = (await anna.ExplainJob(scheduler_pb2.ExplainJobRequest(job_id=job))).waits
        assert wait.message == "waiting for a worker: the only worker is cordoned"
        await anna.CancelJob(scheduler_pb2.CancelJobRequest(job_id=job))
        assert (await until_ended(anna, job)).state == job_pb2.JOB_STATE_CANCELLED
