"""Between messages and a task's JSON: frames, selections and plans as dpu_recipes writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

from dpu.errors import DpuError, UsageError
from dpu.values import from_map, to_map
from dpu_api.v1 import archive_pb2, job_pb2, logs_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpud.worker.lines import Lines

#: Fields that a Frame and its JSON form share, name and type.
_SAME = (
    "id",
    "frame_class",
    "instrument",
    "chip",
    "filter",
    "object",
    "night",
    "readout",
    "overscan",
    "file_name",
    "digest",
    "size",
    "is_valid",
    "quality_flags",
)
#: The same, of products; a tree of recipes from before there was an identity does not name them.
_SAME_OF_PRODUCTS = ("identity", "consulted", "making")
_TIMES = ("date_obs", "timestamp_start", "timestamp_end", "creation_date")
_MAPS = ("values", "parameters")
#: The same, that a tree of recipes from before there was one does not name.
_MAPS_OF_PRODUCTS = ("limits",)
#: Anything that a task's process got wrong in what it sent.
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, DpuError)


def frame_to_json(frame: archive_pb2.Frame) -> dict[str, Any]:
    """Return a frame as dpu_recipes.frames.Frame.to_dict writes it."""
    record: dict[str, Any] = {name: getattr(frame, name) for name in (*_SAME, *_SAME_OF_PRODUCTS)}
    record |= {name: _moment(getattr(frame, name)) for name in _TIMES}
    record |= {name: from_map(getattr(frame, name)) for name in (*_MAPS, *_MAPS_OF_PRODUCTS)}
    return record | {"exptime": frame.exptime_s, "inputs": list(frame.inputs)}


def frame_from_json(record: Mapping[str, Any]) -> archive_pb2.Frame:
    """Return the frame of a task's JSON. Raises UsageError where it is none."""
    try:
        fields: dict[str, Any] = {name: record[name] for name in _SAME}
        fields |= {name: record.get(name, "") for name in _SAME_OF_PRODUCTS}
        fields |= {name: _timestamp(record[name]) for name in _TIMES}
        fields |= {name: to_map(record[name]) for name in _MAPS}
        fields |= {name: to_map(record.get(name, {})) for name in _MAPS_OF_PRODUCTS}
        return archive_pb2.Frame(**fields, exptime_s=record["exptime"], inputs=record["inputs"])
    except _MALFORMED as error:
        raise UsageError(f"the product is no frame: {type(error).__name__}: {error}") from error


def selection_from_json(record: Mapping[str, Any]) -> archive_pb2.Selection:
    """Return the selection of a task's JSON. Raises UsageError where it is none."""
    try:
        return archive_pb2.Selection(**record)
    except _MALFORMED as error:
        raise UsageError(f"the selection is none: {error}") from error


def spec_to_json(spec: job_pb2.TaskSpec) -> dict[str, Any]:
    """Return a task's description as dpu_recipes.task.TaskSpec.to_dict writes it."""
    return {
        "label": spec.label,
        "inputs": list(spec.inputs),
        "arguments": from_map(spec.arguments),
        "seconds": spec.seconds,
        "memory_mib": spec.memory_mib,
    }


def spec_from_json(record: Mapping[str, Any]) -> job_pb2.TaskSpec:
    """Return the description of a planned task. Raises UsageError where it is none."""
    try:
        return job_pb2.TaskSpec(
            label=record["label"],
            inputs=record["inputs"],
            arguments=to_map(record["arguments"]),
            seconds=record["seconds"],
            memory_mib=record["memory_mib"],
        )
    except _MALFORMED as error:
        raise UsageError(f"a planned task is no TaskSpec: {type(error).__name__}: {error}") from error


def batch(ref: job_pb2.TaskRef, first: int, lines: Lines) -> logs_pb2.LogBatch:
    """Return lines as they travel."""
    return logs_pb2.LogBatch(
        ref=ref,
        first=first,
        time_us=lines.time_us,
        levels=bytes(lines.levels),
        streams=bytes(lines.streams),
        texts=lines.texts,
    )


def _moment(stamp: Timestamp) -> str:
    return stamp.ToDatetime(UTC).isoformat()


def _timestamp(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.fromisoformat(text).astimezone(UTC))
    return stamp
