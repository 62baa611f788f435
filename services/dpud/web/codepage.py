"""The code of a job: which it is, and what it does otherwise than the installed one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dpu
from dpu.errors import NotFound
from dpud.web.calls import answered, found
from dpud.web.code import changes, differences, tree_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from dpud.web.visit import Route, Visit


async def code(visit: Visit) -> Response:
    """Show the code of a job."""
    job = (await answered(found(visit.services, visit.job))).job
    if not job.code_digest:
        raise NotFound(f"job {visit.job} runs the workers' own code, {dpu.__version__}")
    tree = await tree_of(visit.services, job.code_digest)
    changed = changes(tree.entries)
    return visit.show(
        "code.html",
        number=visit.job,
        digest=job.code_digest,
        description=tree.description,
        files=len(tree.entries),
        changes=changed,
        differences=await differences(visit.services, changed),
    )


ROUTES: tuple[Route, ...] = (("GET", "/jobs/{job:int}/code", code),)
