"""A Slurm of one node, from Debian's packages, in a folder of its own."""

import os
import socket
import subprocess
import time
from contextlib import contextmanager

import fakes_debian as debian

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")

CONFIGURATION = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MinJobAge=600
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking():
    """Return why no Slurm runs here; empty where one does. Installs what is missing where it may."""
    if os.geteuid() != 0:
        return "a Slurm of one's own needs root here"
    return debian.lacking("slurmctld", *PACKAGES)


class Slurm:
    """Its commands."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command, **environment):
        """Return what a command prints."""
        done = subprocess.run(
            command, env={**self.environment, **environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}{self.logs()}"
        return done.stdout.strip()

    def state(self, job):
        """Return the state of a job."""
        shown = self.run("scontrol", "show", "job", job)
        return next(word.removeprefix("JobState=") for word in shown.split() if word.startswith("JobState="))

    def logs(self):
        """Return the last lines of all that it writes."""
        return "".join(f"\n== {file.name}\n{file.read_text()[-2000:]}" for file in self.folder.glob("*.log"))


@contextmanager
def running(folder):
    """Run a Slurm in `folder` within the block."""
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=host, ports=_ports()))
    slurm = Slurm(folder)
    # All as this user: nobody else is on this Slurm.
    options = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", *options]
    daemons = []
    try:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with (folder / f"{command[0]}.log").open("w") as log:
                daemons.append(subprocess.Popen(command, env=slurm.environment, stdout=log, stderr=log))
            _until(lambda daemon=daemons[-1], name=command[0]: _is_up(slurm, daemon, name), slurm)
        yield slurm
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(60)


def _ports():
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _is_up(slurm, daemon, name):
    assert daemon.poll() is None, f"{name} ended: {slurm.logs()}"
    if name == "munged":
        return (slurm.folder / "munge.socket").exists()
    command = ["scontrol", "ping"] if name == "slurmctld" else ["sinfo", "--noheader", "--format=%T"]
    done = subprocess.run(command, env=slurm.environment, capture_output=True, text=True, check=False)
    return done.returncode == 0 and ("UP" in done.stdout or "idle" in done.stdout)


def _until(condition, slurm):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"Slurm does not start: {slurm.logs()}"
        time.sleep(0.1)
