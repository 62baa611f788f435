"""What people say of a frame after it came: until when it is used, how far it is seen, that it goes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dpu.errors import BadOption, NotAllowed
from dpud.archive.records import Level
from dpud.hosting.caller import Role

if TYPE_CHECKING:
    from datetime import datetime

    from dpud.archive.catalogue import Amendments
    from dpud.archive.holdings import Holdings
    from dpud.archive.records import Record
    from dpud.hosting.caller import Caller

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """Decides who may say what, and has it noted."""

    amendments: Amendments
    holdings: Holdings

    def validity(
        self, caller: Caller, record: Record, *, is_valid: bool | None, timestamp_end: datetime | None
    ) -> Record:
        """Set what is given, and return the product as it stands. Raises NotAllowed and BadOption."""
        frame = record.frame
        if is_valid is None and timestamp_end is None:
            raise BadOption(f"nothing was asked of {frame.file_name}: give is_valid, timestamp_end or both")
        if record.attempt is None:
            raise NotAllowed(f"{frame.file_name} is a raw frame: only products are set valid or invalid")
        _check_own(caller, record)
        if timestamp_end is not None and timestamp_end <= frame.timestamp_start:
            raise BadOption(
                f"timestamp_end {timestamp_end:%F %T} of {frame.file_name} is not after its start, "
                f"{frame.timestamp_start:%F %T}"
            )
        said = {"is_valid": is_valid, "timestamp_end": timestamp_end}
        changes = {name: value for name, value in said.items() if value is not None}
        changed = self.amendments.amend(record.evolve(frame=frame.evolve(**changes)))
        log.info("validity", name=frame.file_name, user=caller.user, project=caller.project, **changes)
        return changed

    def privileges(self, caller: Caller, record: Record, level: int) -> Record:
        """Set how far a frame is seen, and return it as it stands. Raises NotAllowed and BadOption."""
        if level not in list(Level):
            raise BadOption(
                f"privileges={level}: must be 1 (its maker sees it), 2 (its project), or 3 to 5 (everybody)"
            )
        _check_own(caller, record)
        changed = self.amendments.amend(record.evolve(privileges=Level(level)))
        log.info("privileges", name=record.frame.file_name, user=caller.user, level=level, project=caller.project)
        return changed

    async def delete(self, caller: Caller, record: Record) -> None:
        """Delete a product and its file. Raises NotAllowed, and Conflict where something was made from it."""
        name = record.frame.file_name
        if record.attempt is None:
            raise NotAllowed(f"{name} is a raw frame: only products are deleted")
        if caller.user != record.user or caller.project != record.project:
            raise NotAllowed(
                f"{name} is a product of {record.user} in project {record.project}: only they may delete it"
            )
        if record.privileges > Level.PROJECT:
            raise NotAllowed(
                f"{name} is of level {record.privileges}, others may count on it: delete it after "
                "context.set_privileges(product, 2)"
            )
        change = await asyncio.to_thread(self.amendments.withdraw, record)
        await self.holdings.drop(change.freed)
        log.info("deleted", name=name, user=caller.user, project=caller.project)


def _check_own(caller: Caller, record: Record) -> None:
    if (caller.user, caller.project) != (record.user, record.project) and not (
        Role.OPERATOR in caller.roles and caller.project == record.project
    ):
        raise NotAllowed(
            f"{record.frame.file_name} is of {record.user} in project {record.project}: "
            f"only {record.user} or an operator may change it, there"
        )
