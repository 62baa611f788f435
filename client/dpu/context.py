"""`context` at the prompt: the project in which you work, and what becomes of its frames."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, overload

from dpu.env import Env
from dpu.errors import BadOption, NotAllowed, Unreachable
from dpu.products import Product, find_frame, to_product
from dpu_api.v1 import archive_pb2 as pb

if TYPE_CHECKING:
    from dpu.processor import Processor


class Context:
    """The project in which you work, and what becomes of its frames.

    A frame is a product, as queries and `dpu.get_job_result` give them, its identifier or its file name.
    """

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def __repr__(self) -> str:
        seen = f", privileges {level}" if (level := self.privileges) else ""
        return f"<project {self.project!r}{seen}: context.set_project(name), context.set_privileges(level) change them>"

    @property
    def project(self) -> str:
        """The project in which you work."""
        return self._processor.config.project

    @property
    def privileges(self) -> int:
        """How far what this session commits is seen; 0: as set_privileges was not called, in the project."""
        return self._processor.config.privileges

    def set_project(self, name: str, privileges: int = 0) -> None:
        """Work in another project from now on, committing at a level of privileges, where one is given.

        Raises NotAllowed where you are no member of it, and everything is as before. A DPU that cannot be reached
        cannot refuse: its first answer will.
        """
        from dpu_api.v1.scheduler_pb2 import GetDpuRequest

        before = self._processor.config
        after = before.with_privileges(privileges) if privileges else before
        Env(self._processor)["project"] = name
        self._processor.config = replace(self._processor.config, privileges=after.privileges)
        try:
            self._processor.link.ask(lambda services: services.scheduler.GetDpu, GetDpuRequest())
        except NotAllowed:
            self._processor.config = before
            raise
        except Unreachable:
            pass

    def update_is_valid(self, product: object, is_valid: int) -> Product:
        """Set a product valid (1) or invalid (0) and return it.

        Nobody chooses an invalid one, and what was made with it is outdated. Raises NotFound, NotAllowed, BadOption.
        """
        if is_valid not in (0, 1):
            raise BadOption(f"is_valid={is_valid!r}: must be 0 or 1")
        return self._update(pb.UpdateValidityRequest(id=self._id(product), is_valid=bool(is_valid)))

    def update_timestamp_end(self, product: object, timestamp_end: str | date | datetime) -> Product:
        """Set until when, UTC, a product may be used, and return it. Raises NotFound, NotAllowed, BadOption."""
        request = pb.UpdateValidityRequest(id=self._id(product))
        request.timestamp_end.FromDatetime(_moment(timestamp_end))
        return self._update(request)

    @overload
    def set_privileges(self, level: int, /) -> None: ...

    @overload
    def set_privileges(self, product: object, level: int, /) -> Product: ...

    def set_privileges(self, what: object, level: int | None = None, /) -> Product | None:
        """Set how far is seen what this session commits from now on; of a frame, how far that is seen, and return it.

            context.set_privileges(3)            every product that jobs submitted from now on commit
            context.set_privileges(product, 3)   this one

        1: by its maker, 2: in its project, 3 to 5: by everybody. Raises NotFound, NotAllowed, BadOption.
        """
        config = self._processor.config
        if level is None:
            self._processor.config = config.with_privileges(what)  # type: ignore[arg-type]  # it refuses what is none
            return None
        request = pb.SetPrivilegesRequest(id=self._id(what), privileges=config.with_privileges(level).privileges)
        return to_product(self._processor.link.ask(lambda services: services.archive.SetPrivileges, request).frame)

    def delete(self, product: object) -> None:
        """Delete a product of your own, of level 1 or 2, that nothing was made from.

        Raises NotFound, NotAllowed, Conflict.
        """
        request = pb.DeleteProductRequest(id=self._id(product))
        self._processor.link.ask(lambda services: services.archive.DeleteProduct, request)

    def _id(self, product: object) -> str:
        return product.id if isinstance(product, Product) else find_frame(self._processor.link, product).id

    def _update(self, request: pb.UpdateValidityRequest) -> Product:
        return to_product(self._processor.link.ask(lambda services: services.archive.UpdateValidity, request).frame)


def _moment(value: str | date | datetime) -> datetime:
    """Return a time; UTC where nothing else is said. Raises BadOption."""
    try:
        time = datetime.fromisoformat(value if isinstance(value, str) else value.isoformat())
    except (ValueError, AttributeError):
        raise BadOption(f"timestamp_end={value!r}: must be a time, UTC, 'CCYY-MM-DDThh:mm:ss'") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
