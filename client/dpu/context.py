"""`context` at the prompt: the project in which you work, and what becomes of its frames."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

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
        return f"<project {self._processor.config.project!r}: context.set_project(name) changes it>"

    @property
    def project(self) -> str:
        """The project in which you work."""
        return self._processor.config.project

    def set_project(self, name: str) -> None:
        """Work in another project from now on. Raises NotAllowed where you are no member of it.

        A DPU that cannot be reached cannot refuse: its first answer will.
        """
        from dpu_api.v1.scheduler_pb2 import GetDpuRequest

        before = self._processor.config
        Env(self._processor)["project"] = name
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

    def set_privileges(self, product: object, level: int) -> Product:
        """Set how far a frame is seen and return it: 1 by its maker, 2 in its project, 3 to 5 by everybody.

        Raises NotFound, NotAllowed, BadOption.
        """
        if isinstance(level, bool) or not isinstance(level, int):
            raise BadOption(f"privileges={level!r}: must be a whole number from 1 to 5")
        request = pb.SetPrivilegesRequest(id=self._id(product), privileges=level)
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
