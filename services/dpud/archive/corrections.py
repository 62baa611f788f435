"""What people say of a product after it was made: that it is not to be used, or not for so long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dpu.errors import BadOption, NotAllowed
from dpud.hosting.caller import Role

if TYPE_CHECKING:
    from datetime import datetime

    from dpud.archive.catalogue import Amendments
    from dpud.archive.records import Record
    from dpud.hosting.caller import Caller

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """Decides who may say what, and has it noted."""

    amendments: Amendments

    def validity(
        self, caller: Caller, record: Record, *, is_valid: bool | None, timestamp_end: datetime | None
    ) -> Record:
        """Set what is given, and return the product as it stands. Raises NotAllowed and BadOption."""
        frame = record.frame
        if is_valid is None and timestamp_end is None:
            raise BadOption(f"nothing was asked of {frame.file_name}: give is_valid, timestamp_end or both")
        if record.attempt is None:
            raise NotAllowed(f"{frame.file_name} is a raw frame: only products are set valid or invalid")
        if caller.user != record.user and Role.OPERATOR not in caller.roles:
            raise NotAllowed(f"{frame.file_name} is a product of {record.user}: only {record.user} or an operator may")
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
