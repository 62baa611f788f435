"""ArchiveService: messages in, messages out."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.channel import CHUNK
from dpu.errors import BadFrame, BadOption, NotAllowed, NotFound
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.archive_pb2_grpc import ArchiveServiceServicer
from dpu_recipes.frames import QUALITY_FIGURE
from dpud.archive import wire
from dpud.archive.choices import Choice, Choices
from dpud.archive.metrics import ArchiveMetrics
from dpud.archive.parts import parts_of
from dpud.archive.preview import Previews, check_night
from dpud.archive.records import Query, Record, View, position
from dpud.archive.trends import Trends
from dpud.hosting.caller import Role, current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from grpc import aio

    from dpu_recipes.instruments import Instruments
    from dpud.archive.catalogue import Catalogue, Lineages
    from dpud.archive.corrections import Corrections
    from dpud.archive.ingest import Intake
    from dpud.archive.pictures import Pictures
    from dpud.archive.products import Products
    from dpud.archive.tiers import Tiers

    Context = aio.ServicerContext[Any, Any]


#: Frames of a lineage that travel in one message.
_FAMILY = 200


class ArchiveService(ArchiveServiceServicer):
    """The database server and the data server."""

    def __init__(
        self,
        *,
        instruments: Instruments,
        catalogue: Catalogue,
        lineages: Lineages,
        tiers: Tiers,
        intake: Intake,
        products: Products,
        corrections: Corrections,
        pictures: Pictures,
    ) -> None:
        self._instruments = instruments
        self._catalogue = catalogue
        self._lineages = lineages
        self._tiers = tiers
        self._store = tiers.holdings.store
        self._intake = intake
        self._products = products
        self._corrections = corrections
        self._pictures = pictures
        self._previews = Previews(catalogue, instruments)
        self._choices = Choices(catalogue)
        self._trends = Trends(catalogue)
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
        exposure = wire.to_offered(first.file)
        if first.file.path and not context.peer().startswith("unix:"):
            raise NotAllowed(
                f"{exposure.name}: the archive reads files in place only for callers on its Unix socket: send it"
            )
        if exposure.frame_class:
            ingested = await self._intake.adopt(current_caller(), exposure, parts_of(first.file, messages))
        elif first.file.path:
            ingested = await self._intake.read(current_caller(), exposure, Path(first.file.path))
        else:
            ingested = await self._intake.receive(current_caller(), exposure, _chunks(messages))
        self.metrics.ingested(ingested.records, already=ingested.already)
        return pb.IngestResponse(frames=map(self._message, ingested.records), already=ingested.already)

    async def Preview(self, request: pb.PreviewRequest, _context: Context) -> pb.PreviewResponse:
        """Count what a selection would find."""
        query = Query(
            view=_view(),
            frame_class=request.frame_class,
            selection=wire.to_selection(request.selection),
        )
        found = await asyncio.to_thread(self._previews.preview, query, request.makers)
        return pb.PreviewResponse(frames_by_chip=found)

    async def ListFrames(self, request: pb.ListFramesRequest, _context: Context) -> pb.ListFramesResponse:
        """List frames, a page at a time."""
        view = _view(request.job_id, request.user)
        if request.ids:
            return pb.ListFramesResponse(frames=map(self._message, await self._find(view, request.ids)))
        query = wire.to_query(request, view)
        check_night(query.selection)
        if query.first is not None:
            best = await asyncio.to_thread(self._catalogue.select, query, limit=1)
            return pb.ListFramesResponse(frames=map(self._message, best))
        size, after = wire.page_size(request), wire.from_token(request)
        records = await asyncio.to_thread(self._catalogue.select, query, after=after, limit=size + 1)
        page, more = records[:size], len(records) > size
        token = wire.to_token(position(page[-1], only_job=query.only_job), request) if more else ""
        if request.standing_only:
            page = await asyncio.to_thread(self._choices.standing, view, page)
        frames = map(self._message, page)
        return pb.ListFramesResponse(frames=frames, next_page_token=token, standing_only=request.standing_only)

    async def FindCalibration(
        self,
        request: pb.FindCalibrationRequest,
        _context: Context,
    ) -> pb.FindCalibrationResponse:
        """Find the calibration that is valid for a frame."""
        view = _view(request.job_id, request.user)
        (record,) = await self._find(view, [request.frame_id])
        overscan = None if request.overscan < 0 else request.overscan
        choose = self._choices.choose
        choice = await asyncio.to_thread(choose, view, request.frame_class, record.frame, overscan)
        chosen = self._choice(choice)
        return pb.FindCalibrationResponse(frame=chosen.frame, why=chosen.why)

    async def ListCalibrations(
        self,
        request: pb.ListCalibrationsRequest,
        _context: Context,
    ) -> pb.ListCalibrationsResponse:
        """Say of every class of calibrations which is valid for a frame, and why."""
        view = _view(request.job_id)
        (record,) = await self._find(view, [request.frame_id])
        choices = await asyncio.to_thread(self._choices.every, view, record.frame)
        return pb.ListCalibrationsResponse(choices=map(self._choice, choices))

    async def TraceLineage(
        self,
        request: pb.TraceLineageRequest,
        _context: Context,
    ) -> AsyncIterator[pb.TraceLineageResponse]:
        """Send a frame and all that it was made from, or that was made from it."""
        view = _view(request.job_id)
        await self._find(view, [request.id])
        trace = self._lineages.progeny if request.progeny else self._lineages.ancestry
        family = await asyncio.to_thread(trace, view, request.id)
        links = list(wire.to_links(family))
        for begin in range(0, max(len(family.records), len(links)), _FAMILY):
            part = slice(begin, begin + _FAMILY)
            yield pb.TraceLineageResponse(frames=map(self._message, family.records[part]), links=links[part])

    async def UpdateValidity(
        self,
        request: pb.UpdateValidityRequest,
        _context: Context,
    ) -> pb.UpdateValidityResponse:
        """Say otherwise until when, or whether, a product may be used."""
        caller = current_caller()
        (record,) = await self._find(_view(), [request.id])
        changed = await asyncio.to_thread(
            self._corrections.validity,
            caller,
            record,
            is_valid=request.is_valid if request.HasField("is_valid") else None,
            timestamp_end=wire.to_time(request.timestamp_end) if request.HasField("timestamp_end") else None,
        )
        return pb.UpdateValidityResponse(frame=self._message(changed))

    async def SetPrivileges(self, request: pb.SetPrivilegesRequest, _context: Context) -> pb.SetPrivilegesResponse:
        """Say how far a frame is seen, and its figure."""
        (record,) = await self._find(_view(), [request.id])
        level = partial(self._corrections.privileges, current_caller(), level=request.privileges)
        changed = await asyncio.to_thread(level, record)
        for figure in await self._figures(record):
            await asyncio.to_thread(level, figure)
        return pb.SetPrivilegesResponse(frame=self._message(changed))

    async def DeleteProduct(self, request: pb.DeleteProductRequest, _context: Context) -> pb.DeleteProductResponse:
        """Delete a product that nothing was made from, and its figure."""
        (record,) = await self._find(_view(), [request.id])
        figures = await self._figures(record)
        for each in (record, *figures):
            await self._corrections.delete(current_caller(), each)
        return pb.DeleteProductResponse()

    async def DrawFrame(self, request: pb.DrawFrameRequest, _context: Context) -> pb.DrawFrameResponse:
        """Draw a frame."""
        (record,) = await self._find(_view(request.job_id), [request.id])
        return wire.to_picture(await self._pictures.draw(record.frame, request.size))

    async def ReadHeader(self, request: pb.ReadHeaderRequest, _context: Context) -> pb.ReadHeaderResponse:
        """Read a frame's header."""
        (record,) = await self._find(_view(request.job_id), [request.id])
        return pb.ReadHeaderResponse(cards=await self._pictures.header(record.frame))

    async def ListTrend(
        self,
        request: pb.ListTrendRequest,
        _context: Context,
    ) -> AsyncIterator[pb.ListTrendResponse]:
        """Follow a measured value from night to night."""
        pages = self._trends.pages(wire.to_trend_query(request, _view()), request.value)
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            yield wire.to_trend(page)

    async def FetchFrame(
        self,
        request: pb.FetchFrameRequest,
        _context: Context,
    ) -> AsyncIterator[pb.FetchFrameResponse]:
        """Send a frame's file, or say where it is."""
        (record,) = await self._find(_view(request.job_id, request.user), [request.id])
        if not record.frame.digest:
            yield pb.FetchFrameResponse(frame=self._message(record))
            return
        async with self._tiers.reading(record.frame.digest) as reading:
            message = self._message(record)
            yield pb.FetchFrameResponse(frame=message)
            if request.in_place and message.path:
                return
            while chunk := await asyncio.to_thread(reading.read, CHUNK):
                self.metrics.sent(len(chunk))
                yield pb.FetchFrameResponse(chunk=chunk)

    async def FreezeFrames(
        self,
        request: pb.FreezeFramesRequest,
        _context: Context,
    ) -> AsyncIterator[pb.FreezeFramesResponse]:
        """Pack files away that are seldom used."""
        async for moved in self._tiers.freeze(current_caller(), wire.to_seldom(request.which), trial=request.trial):
            yield pb.FreezeFramesResponse(file=wire.to_moved(moved))

    async def ThawFrames(
        self,
        request: pb.ThawFramesRequest,
        _context: Context,
    ) -> AsyncIterator[pb.ThawFramesResponse]:
        """Bring packed files back."""
        async for moved in self._tiers.thaw(current_caller(), wire.to_seldom(request.which), trial=request.trial):
            yield pb.ThawFramesResponse(file=wire.to_moved(moved))

    async def GetTiers(self, _request: pb.GetTiersRequest, _context: Context) -> pb.GetTiersResponse:
        """Say how much there is in each tier."""
        return wire.to_tiers(await self._tiers.totals(current_caller().project))

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

    async def GetHighestJob(self, _request: pb.GetHighestJobRequest, _context: Context) -> pb.GetHighestJobResponse:
        """Name the highest job."""
        return pb.GetHighestJobResponse(job_id=await asyncio.to_thread(self._products.memory.highest_job))

    async def count_tiers(self) -> None:
        """Show how much there is in each tier."""
        self.metrics.counted(await self._tiers.totals())

    async def _figures(self, record: Record) -> list[Record]:
        """Return the figures of quality that were drawn of a product."""
        if record.attempt is None:
            return []
        query = Query(view=_view(record.attempt.job), frame_class=QUALITY_FIGURE, only_job=True)
        found = await asyncio.to_thread(self._catalogue.select, query, limit=sys.maxsize)
        return [figure for figure in found if figure.frame.inputs == (record.frame.id,)]

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

    def _choice(self, choice: Choice) -> pb.CalibrationChoice:
        frame = None if choice.record is None else self._message(choice.record)
        return pb.CalibrationChoice(frame_class=choice.frame_class, frame=frame, why=choice.why)

    def _message(self, record: Record) -> pb.Frame:
        digest = record.frame.digest
        return wire.to_frame(record, self._store.path(digest) if digest else None)


def _view(job_id: int = 0, user: str = "") -> View:
    """Return what the caller sees; a worker sees what the user sees whose job it works for."""
    caller = current_caller()
    return View(caller.project, job_id, user if Role.WORKER in caller.roles else caller.user)


async def _chunks(
    messages: AsyncIterator[pb.IngestRequest] | AsyncIterator[pb.StageProductRequest],
) -> AsyncIterator[bytes]:
    async for message in messages:
        if message.WhichOneof("item") != "chunk":
            raise BadFrame("after the first message only chunks of its file may come")
        yield message.chunk
