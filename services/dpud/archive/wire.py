"""Messages to values and back; nothing else here knows both."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import asdict
from datetime import UTC, date
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from dpu.errors import BadFrame, BadOption
from dpu.values import from_map, from_value, to_map
from dpu_api.v1 import archive_pb2, job_pb2
from dpu_recipes.archive import Selection
from dpu_recipes.frames import Frame
from dpud.archive.conditions import ALWAYS, AllOf, AnyOf, Comparison, Condition, Operator, kind_of, of_project, of_user
from dpud.archive.records import Attempt, Family, First, Level, Position, Query, Record, View
from dpud.archive.seldom import Seldom
from dpud.archive.splitter import REDUCED, Offered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from dpu_recipes.instrument import Instrument
    from dpud.archive.coldlist import Totals
    from dpud.archive.picture import Picture
    from dpud.archive.tiers import Moved
    from dpud.archive.trends import Point

#: The largest page of a list.
PAGE = 1000


def to_frame(record: Record, path: Path | None = None) -> archive_pb2.Frame:
    """Return a record as a message; `path` is where its file can be read in place."""
    frame = record.frame
    return archive_pb2.Frame(
        id=frame.id,
        frame_class=frame.frame_class,
        instrument=frame.instrument,
        chip=frame.chip,
        filter=frame.filter,
        object=frame.object,
        night=frame.night.isoformat(),
        date_obs=to_timestamp(frame.date_obs),
        exptime_s=frame.exptime,
        readout=frame.readout,
        overscan=frame.overscan,
        file_name=frame.file_name,
        digest=frame.digest,
        size=frame.size,
        values=to_map(frame.values),
        timestamp_start=to_timestamp(frame.timestamp_start),
        timestamp_end=to_timestamp(frame.timestamp_end),
        is_valid=frame.is_valid,
        quality_flags=frame.quality_flags,
        creation_date=to_timestamp(frame.creation_date),
        user=record.user,
        project=record.project,
        ref=to_ref(record.attempt),
        inputs=frame.inputs,
        parameters=to_map(frame.parameters),
        code_digest=record.code_digest,
        published=record.published,
        path=str(path or ""),
        identity=frame.identity,
        consulted=frame.consulted,
        making=frame.making,
        privileges=record.privileges,
        limits=to_map(frame.limits),
    )


def to_staged(product: archive_pb2.StagedProduct) -> Record:
    """Return the record of a product that a task announces. Raises BadFrame where it does not say enough."""
    frame = product.frame
    for name in ("frame_class", "instrument", "night"):
        if not getattr(frame, name):
            raise BadFrame(f"a product was announced without {name}")
    if not (product.user and product.project):
        raise BadFrame(f"a {frame.frame_class} was announced without the user and the project of its job")
    if frame.ref.attempt < 1:
        raise BadFrame(f"a {frame.frame_class} was announced without the attempt that made it")
    return Record(
        frame=_from_frame(frame),
        project=product.project,
        user=product.user,
        attempt=to_attempt(frame.ref),
        number=product.number,
        code_digest=frame.code_digest,
        published=False,
        privileges=_level(frame.privileges),
    )


def _level(said: int) -> Level:
    """Return how far a product is to be seen: in its project, where nobody said it. Raises BadFrame."""
    if said and said not in list(Level):
        raise BadFrame(f"a product was announced with privileges={said}: they go from 1 to 5")
    return Level(said or Level.PROJECT)


def _from_frame(frame: archive_pb2.Frame) -> Frame:
    try:
        night = date.fromisoformat(frame.night)
    except ValueError:
        raise BadFrame(f"a {frame.frame_class} was announced with night {frame.night!r}, which is none") from None
    return Frame(
        frame_class=frame.frame_class,
        instrument=frame.instrument,
        chip=frame.chip,
        filter=frame.filter,
        object=frame.object,
        night=night,
        date_obs=to_time(frame.date_obs),
        exptime=frame.exptime_s,
        readout=frame.readout,
        overscan=frame.overscan,
        digest=frame.digest,
        size=frame.size,
        values=from_map(frame.values),
        timestamp_start=to_time(frame.timestamp_start),
        timestamp_end=to_time(frame.timestamp_end),
        is_valid=frame.is_valid,
        quality_flags=frame.quality_flags,
        limits=from_map(frame.limits),
        inputs=tuple(frame.inputs),
        parameters=from_map(frame.parameters),
        identity=frame.identity,
        consulted=frame.consulted,
        making=frame.making,
    )


def to_timestamp(time: datetime) -> Timestamp:
    """Return a UTC time as a message."""
    message = Timestamp()
    message.FromDatetime(time)
    return message


def to_time(message: Timestamp) -> datetime:
    """Return a message as a UTC time; one that is not set is 1970."""
    return message.ToDatetime(tzinfo=UTC)


def to_attempt(ref: job_pb2.TaskRef) -> Attempt:
    """Return an attempt."""
    return Attempt(ref.job_id, ref.task, ref.attempt)


def to_ref(attempt: Attempt | None) -> job_pb2.TaskRef | None:
    """Return an attempt as a message, or None of a raw frame."""
    return attempt and job_pb2.TaskRef(job_id=attempt.job, task=attempt.task, attempt=attempt.attempt)


def to_selection(selection: archive_pb2.Selection) -> Selection:
    """Return a selection."""
    return Selection(
        instrument=selection.instrument,
        night=selection.night,
        chips=tuple(selection.chips),
        filter=selection.filter,
        object=selection.object,
        file_names=tuple(selection.file_names),
        identity=selection.identity,
    )


def to_query(request: archive_pb2.ListFramesRequest, view: View) -> Query:
    """Return what a list is asked for. Raises UnknownOption and BadOption."""
    return Query(
        view=view,
        frame_class=request.frame_class,
        selection=to_selection(request.selection),
        only_job=request.only_job,
        condition=_asked(request, view),
        first=_first(request),
    )


def to_offered(file: archive_pb2.IngestFile) -> Offered:
    """Return what a caller says of a file. Raises BadFrame for a class that no file is taken as."""
    name = file.name or file.path
    if file.frame_class not in ("", REDUCED):
        raise BadFrame(f"{name}: files are taken in as {REDUCED} or as raw exposures, not as {file.frame_class!r}")
    return Offered(name, file.instrument, file.catalogue, dict(file.columns), file.frame_class)


def to_trend_query(request: archive_pb2.ListTrendRequest, view: View) -> Query:
    """Return of which products a value is asked for. Raises BadOption."""
    nights = ((Operator.AT_LEAST, request.first_night), (Operator.AT_MOST, request.last_night))
    return Query(
        view=view,
        frame_class=request.frame_class,
        selection=Selection(instrument=request.instrument, chips=tuple(request.chips), filter=request.filter),
        condition=AllOf(tuple(Comparison.of("night", how, night) for how, night in nights if night)),
    )


def _asked(request: archive_pb2.ListFramesRequest, view: View) -> Condition:
    own = [
        condition
        for asked, condition in ((request.user_only, of_user(view)), (request.project_only, of_project(view)))
        if asked
    ]
    said = to_condition(request.condition)
    return AllOf((*own, said)) if own else said


def _first(request: archive_pb2.ListFramesRequest) -> First | None:
    if request.greatest_of and request.least_of:
        raise BadOption(f"greatest_of {request.greatest_of!r} and least_of {request.least_of!r}: ask for one of them")
    attribute = request.greatest_of or request.least_of
    if not attribute:
        return None
    kind_of(attribute)
    return First(attribute, greatest=bool(request.greatest_of))


def to_condition(condition: archive_pb2.Condition) -> Condition:
    """Return a condition. Raises UnknownOption and BadOption."""
    match condition.WhichOneof("kind"):
        case "comparison":
            said = condition.comparison
            if said.operator not in _OPERATORS:
                raise BadOption(f"{said.attribute!r} is compared by operator {said.operator}, which is none")
            return Comparison.of(said.attribute, _OPERATORS[said.operator], from_value(said.value))
        case "all_of":
            return AllOf(tuple(map(to_condition, condition.all_of.conditions)))
        case "any_of":
            return AnyOf(tuple(map(to_condition, condition.any_of.conditions)))
        case _:
            return ALWAYS


_OPERATORS = {getattr(archive_pb2, f"OPERATOR_{operator.name}"): operator for operator in Operator}


def to_links(family: Family) -> Iterator[archive_pb2.Link]:
    """Give the links of a family as messages."""
    for link in family.links:
        yield archive_pb2.Link(product=link.product, input=link.input, digest=link.digest)


def to_instruments(instruments: Iterable[Instrument]) -> archive_pb2.ListInstrumentsResponse:
    """Return the instruments as a message."""
    return archive_pb2.ListInstrumentsResponse(instruments=map(_instrument, instruments))


def _instrument(instrument: Instrument) -> archive_pb2.Instrument:
    return archive_pb2.Instrument(
        name=instrument.name,
        chips=instrument.chip_names(),
        telescope=instrument.telescope,
        places=[archive_pb2.ChipPlace(chip=chip.name, **asdict(instrument.place(chip))) for chip in instrument.chips],
        pixel_arcsec=instrument.pixel_arcsec,
    )


def to_seldom(said: archive_pb2.SeldomUsed) -> Seldom:
    """Return which frames are seldom used. Raises BadOption for a date that is none."""
    return Seldom(
        frame_class=said.frame_class,
        instrument=said.instrument,
        before=_day("before_night", said.before_night),
        came_before=_day("came_before", said.came_before),
        unused_since=_day("unused_since", said.unused_since),
    )


def _day(name: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise BadOption(f"{name}={text!r} is no date 'CCYY-MM-DD'") from None


def to_moved(moved: Moved) -> archive_pb2.MovedFile:
    """Return what became of a file as a message."""
    frame = moved.record.frame
    return archive_pb2.MovedFile(
        frame_class=frame.frame_class,
        file_name=frame.file_name,
        size=frame.size,
        stored=moved.stored,
        reason=moved.reason,
    )


def to_tiers(totals: Totals) -> archive_pb2.GetTiersResponse:
    """Return how much there is in each tier as a message."""
    warm, cold = (archive_pb2.Tier(**total._asdict()) for total in totals)
    return archive_pb2.GetTiersResponse(warm=warm, cold=cold)


def to_picture(picture: Picture) -> archive_pb2.DrawFrameResponse:
    """Return a picture as a message."""
    return archive_pb2.DrawFrameResponse(
        png=picture.png,
        black=picture.black,
        white=picture.white,
        width=picture.width,
        height=picture.height,
        binning=picture.binning,
    )


def to_trend(points: Iterable[Point]) -> archive_pb2.ListTrendResponse:
    """Return measured values as a message."""
    return archive_pb2.ListTrendResponse(points=[_point(*point) for point in points])


def _point(frame: Frame, value: float) -> archive_pb2.TrendPoint:
    return archive_pb2.TrendPoint(
        id=frame.id,
        night=frame.night.isoformat(),
        date_obs=to_timestamp(frame.date_obs),
        chip=frame.chip,
        filter=frame.filter,
        value=value,
        is_valid=frame.is_valid,
        quality_flags=frame.quality_flags,
    )


def page_size(request: archive_pb2.ListFramesRequest) -> int:
    """Return how many frames a page has. Raises BadOption."""
    if request.page_size < 0:
        raise BadOption(f"page_size {request.page_size} is negative: 0 asks for the largest page")
    return min(request.page_size or PAGE, PAGE)


def to_token(position: Position, request: archive_pb2.ListFramesRequest) -> str:
    """Return where a page ended, as text that only means something for the same request."""
    return base64.urlsafe_b64encode(json.dumps([_fingerprint(request), *position]).encode()).decode()


def from_token(request: archive_pb2.ListFramesRequest) -> Position | None:
    """Return where the page before ended; None for the first page. Raises BadOption for a token of another list."""
    if not request.page_token:
        return None
    wrong = BadOption(f"page_token {request.page_token!r} is not one that this list gave: begin at the first page")
    try:
        fingerprint, *position = json.loads(base64.urlsafe_b64decode(request.page_token.encode()))
    except (ValueError, TypeError, binascii.Error):
        raise wrong from None
    if fingerprint != _fingerprint(request) or [type(item) for item in position] != [int, str, int]:
        raise wrong
    return Position(*position)


def _fingerprint(request: archive_pb2.ListFramesRequest) -> str:
    same = archive_pb2.ListFramesRequest()
    same.CopyFrom(request)
    same.ClearField("page_token")
    same.ClearField("page_size")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).hexdigest()[:16]
