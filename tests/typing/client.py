"""The public client as a user's program: checked by mypy --strict and never run."""

from pathlib import Path
from typing import Any, assert_type

from dpu import Processor, __version__
from dpu.config import Config
from dpu.context import Context
from dpu.env import Env
from dpu.errors import DpuError, NothingSelected
from dpu.jobview import JobView
from dpu.pars import Pars
from dpu.products import Product
from dpu.sessionlog import Logs

version: str = __version__
dpu = Processor()
assert_type(dpu.config, Config)

job = dpu.run("Bias", i="WFI", d="2000-04-28", C=1, p={"BiasFrame.process_params.SIGMA_CLIP": 5.0})
assert_type(job, int)
assert_type(dpu.run("Bias", follow=True, instrument="WFI", raw=["a.fits"]), int)
assert_type(dpu.wait(job, timeout=60.0), str)
assert_type(dpu.get_jobids(all=True), list[int])
dpu.get_status()
dpu.get_status(job)
dpu.get_status([job])
assert_type(dpu.get_logs(job), Logs)
dpu.cancel_job(job, reason="wrong night")

products = dpu.get_job_result(job)
assert_type(products, list[Product])
assert_type(products[0].path, Path | None)
assert_type(dpu.job(job), JobView)
dpu.show(job)
dpu.watch()
assert_type(dpu.fetch(job, "folder"), list[Path])
assert_type(dpu.open(job), list[Any])
assert_type(dpu.plot(job, Path("bias.png")), Path)

assert_type(dpu.get_sequence_identifiers(), list[str])
assert_type(dpu.get_sequence_options("Bias"), list[str])
assert_type(dpu.get_dpu_identifiers(), list[str])
dpu.select_dpu("groningen")

pars = dpu.pars("BiasFrame", instrument="OMEGACAM", chip="ESO_CCD_#77")
assert_type(pars, Pars)
pars.BiasFrame.process_params.SIGMA_CLIP = 5.0
dpu.run("Bias", i="WFI", p=pars.get())

env = Env(dpu)
env["dpu_name"] = "groningen"
assert_type(env["dpu_name"], str)
Context(dpu).set_project("KIDS")

try:
    dpu.fetch(job)
except NothingSelected as nothing:
    assert_type(nothing.message, str)
except DpuError:
    pass

dpu.run(7)  # type: ignore[arg-type]  # a sequence is a text
dpu.wait("7")  # type: ignore[arg-type]  # a job identifier is a number
dpu.get_job_result()  # type: ignore[call-arg]  # of which job?
