"""Two schedulers on one database, as real processes: one leads, the other takes over."""

import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dpu.channel import open_channel
from dpu_api.v1 import catalogue_pb2, scheduler_pb2, scheduler_pb2_grpc
from dpud.hosting.tokens import token_row
from fakes_network import proxied

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TAKE_OVER_S = 10.0


class Scheduler:
    """One scheduler process."""

    def __init__(self, folder, name, database):
        self.address = f"unix:{folder / name}.sock"
        self._log = (folder / f"{name}.log").open("wb")
        others = f"unix:{folder}/others.sock"
        settings = {
            "DPU_NAME": "trial",
            "DPU_STATE": str(folder / name),
            "DPU_DATABASE": database,
            "DPU_LISTEN": self.address,
            "DPU_TOKENS_FILE": str(folder / "tokens.toml"),
            "DPU_TOKEN_FILE": str(folder / "own.token"),
            **dict.fromkeys(("DPU_LOGS", "DPU_ARCHIVE", "DPU_CODE"), others),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dpud", "scheduler"], env=os.environ | settings, stderr=self._log
        )
        self.channel = open_channel(self.address, "anna's", "kids")

    def health(self, service="dpu_api.v1.SchedulerService"):
        """Return what the health service says; None where nobody answers."""
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            return health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=1).status
        except grpc.RpcError:
            return None

    def submit(self):
        """Submit a job and return its number."""
        sequence = catalogue_pb2.Sequence(name="Bias", stages=[catalogue_pb2.Stage(recipe="Bias", seconds=1)])
        request = scheduler_pb2.SubmitJobRequest(request_id=str(uuid.uuid4()), sequence=sequence)
        return scheduler_pb2_grpc.SchedulerServiceStub(self.channel).SubmitJob(request, timeout=5).job.id

    def jobs(self):
        request = scheduler_pb2.ListJobsRequest()
        listed = scheduler_pb2_grpc.SchedulerServiceStub(self.channel).ListJobs(request, timeout=5).jobs
        return [job.id for job in listed]

    def close(self):
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self._log.close()


class Agreeing(grpc.GenericRpcHandler):
    """Archive and logs that know nothing, and agree to everything."""

    def service(self, _call):
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tokens.toml").write_text(token_row("anna's", "anna", ["*"], ["user"]))
    (tmp_path / "own.token").write_text("scheduler's")
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Agreeing()])
    server.add_insecure_port(f"unix:{tmp_path}/others.sock")
    server.start()
    yield tmp_path
    server.stop(None).wait()


@pytest.fixture
def pair(folder, postgres):
    """Return a leader and a standby."""
    database = postgres.database()
    with closing(Scheduler(folder, "a", database)) as first:
        until(lambda: first.health() == SERVING, "the first leads", 20)
        with closing(Scheduler(folder, "b", database)) as second:
            until(lambda: second.health("") == SERVING, "the second is there", 20)
            yield first, second


def until(met, what, seconds=TAKE_OVER_S):
    """Return after how many seconds `met()` was true."""
    begun = time.monotonic()
    while not met():
        assert time.monotonic() < begun + seconds, f"still not after {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


def test_only_the_leader_serves(pair):
    leader, standby = pair
    assert leader.submit() == 1
    assert (standby.health(""), standby.health()) == (SERVING, NOT_SERVING)
    assert standby.health("dpu_api.v1.DispatchService") == NOT_SERVING
    with pytest.raises(grpc.RpcError) as refused:
        standby.submit()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "another one leads" in refused.value.details()


def test_the_standby_takes_over_from_a_dead_leader(pair):
    leader, standby = pair
    leader.submit()
    leader.process.kill()
    print(f"took over after {until(lambda: standby.health() == SERVING, 'the standby leads'):.1f} s")
    assert standby.jobs() == [1]
    assert standby.submit() == 2


def test_a_leader_that_is_asked_to_stop_hands_over_at_once(pair):
    leader, standby = pair
    leader.process.terminate()
    assert leader.process.wait(10) == 0
    until(lambda: standby.health() == SERVING, "the standby leads", 3)


def test_a_leader_that_was_stopped_cannot_append_and_ends(pair):
    leader, standby = pair
    leader.submit()
    leader.process.send_signal(signal.SIGSTOP)
    until(lambda: standby.health() == SERVING, "the standby leads")
    assert standby.submit() == 2
    leader.process.send_signal(signal.SIGCONT)
    with pytest.raises(grpc.RpcError):
        leader.submit()
    assert leader.process.wait(TAKE_OVER_S) != 0
    assert standby.jobs() == [2, 1]


def test_a_leader_that_is_cut_off_from_the_database_ends_and_the_standby_takes_over(folder, postgres):
    database = postgres.database()
    line = folder / "line"
    line.mkdir()
    with (
        proxied(f"{postgres.folder}/.s.PGSQL.5432", f"{line}/.s.PGSQL.5432") as proxy,
        closing(Scheduler(folder, "a", database.replace(str(postgres.folder), str(line)))) as leader,
    ):
        until(lambda: leader.health() == SERVING, "the first leads", 20)
        leader.submit()
        with closing(Scheduler(folder, "b", database)) as standby:
            until(lambda: standby.health("") == SERVING, "the second is there", 20)
            proxy.passing.clear()
            print(f"took over after {until(lambda: standby.health() == SERVING, 'the standby leads'):.1f} s")
            assert leader.process.wait(TAKE_OVER_S) != 0
            assert standby.jobs() == [1]
