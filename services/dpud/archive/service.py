"""ArchiveService: messages in, messages out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.channel import CHUNK
from dpu.errors import BadFrame, BadOption, MissingCalibration, NotAllowed, NotFound
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceServicer
from dpu_recipes import validity
from dpu_recipes.archive import MissingCalibration as NoneValid
from dpud.archive import wire
from dpud.archive.metrics import ArchiveMetrics
from dpud.archive.preview import Previews, check_night
from dpud.archive.records import Query, Record, View, position
from dpud.hosting.caller import current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from grpc import aio

    from dpu_recipes.instrument import Instruments
    from dpud.archive.catalogue import Catalogue
    from dpud.archive.corrections import Corrections
    from dpud.archive.ingest import Intake
    from dpud.archive.products import Products
    from dpud.archive.store import Store

    Context = aio.ServicerContext[Any, Any]


class ArchiveService(ArchiveServiceServicer):
    """The database server and the data server."""

    def __init__(
        self,
        *,
        instruments: Instruments,
        catalogue: Catalogue,
        store: Store,
        intake: Intake,
        products: Products,
        corrections: Corrections,
    ) -> None:
        self._instruments = instruments
        self._catalogue = catalogue
        self._store = store
        self._intake = intake
        self._products = products
        self._corrections = corrections
        self._previews = Previews(catalogue, instruments)
        self.metrics = ArchiveMetrics()

    async def ListInstruments(
        self,
        _request: pb.ListInstrumentsRequest,
        _context: Context,
    ) -> pb.ListInstrumentsResponse:
        """Name the instruments."""
        return wire.to_instruments(self._instruments.values())

    async def Ingest(self, request_iterator: AsyncIterator[pb.IngestRequest], context: Context) -> pb.IngestResponse:
        """Take in a raw exposure."""
        messages = aiter(request_iterator)
        first = await anext(messages, None)
        if first is None or first.WhichOneof("item") != "file":
            raise BadFrame("the first message must say which file comes")
        name = first.file.name or first.file.path
        if not first.file.path:
            ingested = await self._intake.receive(current_caller(), name, _chunks(messages))
        elif context.peer().startswith("unix:"):
            ingested = await self._intake.read(current_caller(), name, Path(first.file.path))
        else:
            raise NotAllowed(f"{name}: the archive reads files in place only for callers on its Unix socket: send it")
        self.metrics.ingested(ingested.records, already=ingested.already)
        return pb.IngestResponse(frames=map(self._message, ingested.records), already=ingested.already)

    async def Preview(self, request: pb.PreviewRequest, _context: Context) -> pb.PreviewResponse:
        """Count what a selection would find."""
        query = Query(
            view=View(current_caller().project),
            frame_class=request.frame_class,
            selection=wire.to_selection(request.selection),
        )
        found = await asyncio.to_thread(self._previews.preview, query, request.makers)
        return pb.PreviewResponse(frames_by_chip=found)

    async def ListFrames(self, request: pb.ListFramesRequest, _context: Context) -> pb.ListFramesResponse:
        """List frames, a page at a time."""
        query = wire.to_query(request, current_caller().project)
        if request.ids:
            return pb.ListFramesResponse(frames=map(self._message, await self._find(query.view, request.ids)))
        check_night(query.selection)
        size, after = wire.page_size(request), wire.from_token(request)
        records = await asyncio.to_thread(self._catalogue.select, query, after=after, limit=size + 1)
        page, more = records[:size], len(records) > size
        token = wire.to_token(position(page[-1], only_job=query.only_job), request) if more else ""
        return pb.ListFramesResponse(frames=map(self._message, page), next_page_token=token)

    async def FindCalibration(
        self,
        request: pb.FindCalibrationRequest,
        _context: Context,
    ) -> pb.FindCalibrationResponse:
        """Find the calibration that is valid for a frame."""
        view = View(current_caller().project, request.job_id)
        (record,) = await self._find(view, [request.frame_id])
        wanted = request.frame_class
        if wanted not in validity.CALIBRATIONS:
            raise BadOption(f"{wanted!r} is no class of calibrations: {', '.join(validity.CALIBRATIONS)}")
        candidates = await asyncio.to_thread(self._catalogue.calibrations, view, wanted, record.frame)
        overscan = None if request.overscan < 0 else request.overscan
        frames = [candidate.frame for candidate in candidates]
        try:
            chosen, why = validity.choose(wanted, record.frame, frames, overscan)
        except NoneValid as error:
            raise MissingCalibration(str(error)) from error
        of = next(candidate for candidate in candidates if candidate.frame is chosen)
        return pb.FindCalibrationResponse(frame=self._message(of), why=why)

    async def UpdateValidity(
        self,
        request: pb.UpdateValidityRequest,
        _context: Context,
    ) -> pb.UpdateValidityResponse:
        """Say otherwise until when, or whether, a product may be used."""
        caller = current_caller()
        (record,) = await self._find(View(caller.project), [request.id])
        changed = await asyncio.to_thread(
            self._corrections.validity,
            caller,
            record,
            is_valid=request.is_valid if request.HasField("is_valid") else None,
            timestamp_end=wire.to_time(request.timestamp_end) if request.HasField("timestamp_end") else None,
        )
        return pb.UpdateValidityResponse(frame=self._message(changed))

    async def FetchFrame(
        self,
        request: pb.FetchFrameRequest,
        _context: Context,
    ) -> AsyncIterator[pb.FetchFrameResponse]:
        """Send a frame's file, or say where it is."""
        (record,) = await self._find(View(current_caller().project, request.job_id), [request.id])
        message = self._message(record)
        yield pb.FetchFrameResponse(frame=message)
        if not record.frame.digest or (request.in_place and message.path):
            return
        with await asyncio.to_thread(self._store.open, record.frame.digest) as reading:
            while chunk := await asyncio.to_thread(reading.read, CHUNK):
                self.metrics.sent(len(chunk))
                yield pb.FetchFrameResponse(chunk=chunk)

    async def StageProduct(
        self,
        request_iterator: AsyncIterator[pb.StageProductRequest],
        _context: Context,
    ) -> pb.StageProductResponse:
        """Take in a task's product."""
        messages = aiter(request_iterator)
        first = await anext(messages, None)
        if first is None or first.WhichOneof("item") != "product":
            raise BadFrame("the first message must say which product comes")
        record = wire.to_staged(first.product)
        if first.product.path:
            staged = await self._products.read(record, Path(first.product.path))
        elif record.frame.digest:
            staged = await self._products.receive(record, _chunks(messages))
        else:
            staged = await self._products.stage(record, None)
        self.metrics.staged(staged)
        return pb.StageProductResponse(frame=self._message(staged))

    async def Publish(self, request: pb.PublishRequest, _context: Context) -> pb.PublishResponse:
        """Settle that an attempt ended well."""
        records = await self._products.publish(wire.to_attempt(request.ref), commit=request.commit)
        self.metrics.settled(records, commit=request.commit)
        return pb.PublishResponse(products=len(records))

    async def Discard(self, request: pb.DiscardRequest, _context: Context) -> pb.DiscardResponse:
        """Settle that an attempt counts for nothing."""
        await self._products.discard(wire.to_attempt(request.ref))
        self.metrics.discarded()
        return pb.DiscardResponse()

    async def _find(self, view: View, ids: Sequence[str]) -> list[Record]:
        """Return the records in the order of `ids`. Raises NotFound for one that the view does not show."""
        if len(ids) > wire.PAGE:
            raise BadOption(f"{len(ids)} identifiers are too many for one call: ask for {wire.PAGE} at a time")
        found = await asyncio.to_thread(self._catalogue.find, view, list(ids))
        by_id = {record.frame.id: record for record in found}
        for identifier in ids:
            if identifier not in by_id:
                raise NotFound(f"project {view.project!r} has no frame with identifier {identifier!r}")
        return [by_id[identifier] for identifier in ids]

    def _message(self, record: Record) -> pb.Frame:
        digest = record.frame.digest
        return wire.to_frame(record, self._store.path(digest) if digest else None)


async def _chunks(
    messages: AsyncIterator[pb.IngestRequest] | AsyncIterator[pb.StageProductRequest],
) -> AsyncIterator[bytes]:
    async for message in messages:
        if message.WhichOneof("item") != "chunk":
            raise BadFrame("after the first message only chunks of its file may come")
        yield message.chunk
