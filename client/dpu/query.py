"""Questions to the archive: classes of frames at the prompt, conditions on their attributes, `awe query`."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from dpu.errors import UnknownOption, UsageError
from dpu.options import listed, nearest
from dpu.products import QUALITY_FIGURE, Product, frames_asked, to_product
from dpu.values import to_value
from dpu_api.v1 import archive_pb2 as pb
from dpu_api.v1.scheduler_pb2 import GetCatalogueRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpu.link import Link
    from dpu_api.v1.catalogue_pb2 import Catalogue

#: What can be asked of a frame: docs/reference/query.md.
ATTRIBUTES = (
    *("instrument", "chip", "filter", "object", "night", "date_obs", "exptime", "readout", "overscan", "file_name"),
    *("size", "timestamp_start", "timestamp_end", "is_valid", "quality_flags", "creation_date", "user", "project"),
    *("privileges", "code_digest"),
)
#: Classes of frames that cameras write.
RAW_CLASSES = (
    *("RawBiasFrame", "RawDarkFrame", "RawDomeFlatFrame", "RawTwilightFlatFrame"),
    *("RawStandardFrame", "RawScienceFrame"),
)
#: Classes that neither a camera writes nor a sequence makes.
OTHER_CLASSES = ("ReducedScienceFrame", "WeightFrame", "MaskFrame", "PsfModel", QUALITY_FIGURE)
#: Of the fields of a selection, the options of `run` that have the same meaning.
SELECTION = {
    "instrument": ("i", "instrument"),
    "night": ("d", "date"),
    "chips": ("c", "chip"),
    "filter": ("f", "filter"),
    "object": ("o", "object"),
    "file_names": ("raw", "raw_filenames", "red", "red_filenames", "reg", "reg_filenames"),
}
OPERATORS = {
    "==": pb.OPERATOR_EQUAL,
    "!=": pb.OPERATOR_UNEQUAL,
    "<=": pb.OPERATOR_AT_MOST,
    ">=": pb.OPERATOR_AT_LEAST,
    "<": pb.OPERATOR_LESS,
    ">": pb.OPERATOR_GREATER,
    "~": pb.OPERATOR_LIKE,
    "=": pb.OPERATOR_EQUAL,
}
#: Frames that a query shows at the prompt.
SHOWN = 20


class Query(Sequence[Product]):
    """Frames of one class, as the archive has them when they are first looked at."""

    def __init__(self, link: Callable[[], Link], asked: pb.ListFramesRequest) -> None:
        self._link = link
        #: The request that it is.
        self.asked = asked
        self._found: list[Product] | None = None

    def user_only(self) -> Query:
        """Return those of them that you made or ingested."""
        return self._but(user_only=True)

    def project_only(self) -> Query:
        """Return those of them that are of the project in which you work."""
        return self._but(project_only=True)

    def max(self, attribute: str) -> Product:
        """Return the one with the greatest value of an attribute. Raises UsageError where there is none."""
        return self._first(self._but(greatest_of=attribute_of(attribute)))

    def min(self, attribute: str) -> Product:
        """Return the one with the least value of an attribute. Raises UsageError where there is none."""
        return self._first(self._but(least_of=attribute_of(attribute)))

    def __and__(self, other: Query) -> Query:
        """Return the frames that both find."""
        own, theirs = self._alike(other)
        both = pb.ListFramesRequest()
        both.MergeFrom(own)
        both.MergeFrom(theirs)
        if own.HasField("condition") and theirs.HasField("condition"):
            conditions = pb.Conditions(conditions=[own.condition, theirs.condition])
            both.condition.CopyFrom(pb.Condition(all_of=conditions))
        if own.HasField("selection") and theirs.HasField("selection"):
            raise UsageError("both sides of & select: give all of it to one select()")
        return Query(self._link, both)

    def __or__(self, other: Query) -> Query:
        """Return the frames that one of them finds at least."""
        own, theirs = self._alike(other)
        for side in (own, theirs):
            if side.HasField("selection") or side.user_only or side.project_only:
                raise UsageError("only conditions go with |: select afterwards, (A | B) & select(...)")
        conditions = pb.Conditions(conditions=[own.condition, theirs.condition])
        either = pb.ListFramesRequest(frame_class=own.frame_class, condition=pb.Condition(any_of=conditions))
        return Query(self._link, either)

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, which: Any) -> Any:
        return self._all()[which]

    def __bool__(self) -> bool:
        """Return whether there is any, so that `and` and `or` cannot pass for & and | unseen."""
        raise UsageError("a query is neither true nor false: combine conditions by & and |, count frames by len()")

    def __repr__(self) -> str:
        return "\n".join(rows(self._all()))

    def _all(self) -> list[Product]:
        if self._found is None:
            self._found = [to_product(frame) for frame in frames_asked(self._link(), self.asked)]
        return self._found

    def _first(self, best: Query) -> Product:
        for product in best:
            return product
        raise UsageError(f"no {self.asked.frame_class} is found, so none is first")

    def _but(self, **changes: Any) -> Query:
        asked = pb.ListFramesRequest()
        asked.CopyFrom(self.asked)
        asked.MergeFrom(pb.ListFramesRequest(**changes))
        return Query(self._link, asked)

    def _alike(self, other: object) -> tuple[pb.ListFramesRequest, pb.ListFramesRequest]:
        if not isinstance(other, Query):
            raise UsageError(f"{other!r} is no condition: put each comparison in brackets, (A == 1) & (B == 2)")
        if other.asked.frame_class != self.asked.frame_class:
            raise UsageError(f"a {self.asked.frame_class} is never a {other.asked.frame_class}")
        return self.asked, other.asked


@dataclass(frozen=True, eq=False)
class Attribute:
    """An attribute of a class of frames: compared with a value it is a query."""

    link: Callable[[], Link]
    frame_class: str
    name: str

    def __eq__(self, value: object) -> Query:  # type: ignore[override]  # a condition is what it answers here
        return self._compared("==", value)

    def __ne__(self, value: object) -> Query:  # type: ignore[override]  # as above
        return self._compared("!=", value)

    def __lt__(self, value: object) -> Query:
        return self._compared("<", value)

    def __le__(self, value: object) -> Query:
        return self._compared("<=", value)

    def __gt__(self, value: object) -> Query:
        return self._compared(">", value)

    def __ge__(self, value: object) -> Query:
        return self._compared(">=", value)

    __hash__ = None  # type: ignore[assignment]  # nothing is equal to it

    def like(self, pattern: str) -> Query:
        """Return what fits a pattern with * and ?."""
        return self._compared("~", pattern)

    def _compared(self, operator: str, value: object) -> Query:
        condition = comparison(self.name, operator, value)
        return Query(self.link, pb.ListFramesRequest(frame_class=self.frame_class, condition=condition))


class FrameClass(type):
    """The kind of RawBiasFrame and its like at the prompt."""

    link: Callable[[], Link]

    def __getattr__(cls, name: str) -> Attribute:
        """Return an attribute to compare, by its name in capitals or not."""
        if name.lower() not in ATTRIBUTES or name.startswith("_"):
            raise AttributeError(
                f"{cls.__name__} has no {name!r}{nearest(name, ATTRIBUTES)}; it has {listed(ATTRIBUTES)}"
            )
        return Attribute(cls.link, cls.__name__, name.lower())

    def __dir__(cls) -> list[str]:
        return ["select", *(name.upper() for name in ATTRIBUTES)]

    def select(cls, **asked: object) -> Query:
        """Return the frames that the options of `run` select, i, d, c, f, o and file names, or equal attributes.

        Without any, all that you see. Raises UnknownOption.
        """
        return Query(cls.link, selecting(cls.__name__, asked))


def frame_classes(link: Callable[[], Link], catalogue: Catalogue | None) -> dict[str, FrameClass]:
    """Return the raw classes, and those of products that the recipes start from or make, by name."""
    stages = [stage for sequence in catalogue.sequences for stage in sequence.stages] if catalogue else []
    docs = dict.fromkeys(RAW_CLASSES, "Frames as a camera wrote them, a chip each.")
    docs |= {stage.makes: f"What {stage.recipe} makes." for stage in stages}
    return {name: FrameClass(name, (), {"__doc__": doc, "link": staticmethod(link)}) for name, doc in docs.items()}


def selecting(frame_class: str, asked: dict[str, Any]) -> pb.ListFramesRequest:
    """Return the request of a selection. Raises UnknownOption."""
    fields: dict[str, Any] = {}
    equal = []
    for name, value in asked.items():
        field = next((key for key, names in SELECTION.items() if name in names), "")
        if field in {"chips", "file_names"}:
            fields[field] = [value] if isinstance(value, str) else list(value)
        elif field:
            fields[field] = value.isoformat() if isinstance(value, date) else str(value)
        else:
            equal.append(comparison(attribute_of(name), "==", value))
    request = pb.ListFramesRequest(frame_class=frame_class)
    if fields:
        request.selection.CopyFrom(pb.Selection(**fields))
    if equal:
        request.condition.CopyFrom(pb.Condition(all_of=pb.Conditions(conditions=equal)))
    return request


def comparison(name: str, operator: str, value: object) -> pb.Condition:
    """Return a comparison as it travels; dates and times as texts."""
    plain = value.isoformat() if isinstance(value, date) else value
    said = pb.Comparison(attribute=name, operator=OPERATORS[operator], value=to_value(plain))
    return pb.Condition(comparison=said)


def attribute_of(name: str) -> str:
    """Return an attribute as the archive calls it. Raises UnknownOption."""
    if name.lower() in ATTRIBUTES:
        return name.lower()
    raise UnknownOption(f"frames have no {name!r}{nearest(name, ATTRIBUTES)}; they have {listed(ATTRIBUTES)}")


def rows(products: Sequence[Product]) -> list[str]:
    """Return a line for each of the first products, aligned, and how many there are."""
    cells = [
        (
            item.frame_class,
            item.instrument,
            item.chip,
            item.filter,
            item.object,
            f"{item.date_obs:%F %T}",
            item.file_name,
        )
        for item in products[:SHOWN]
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    more = f" ({SHOWN} are shown)" if len(products) > SHOWN else ""
    return [*lines, f"{len(products)} frame{'' if len(products) == 1 else 's'}{more}"]


def main(arguments: Sequence[str]) -> int:
    """Run `awe query` and return its exit code."""
    from dpu.config import Config
    from dpu.link import Link
    from dpu.report import Reporter

    asked = _parser().parse_args(arguments)
    conditions = [_parsed(text) for text in asked.conditions]
    request = pb.ListFramesRequest(
        frame_class=asked.frame_class,
        condition=pb.Condition(all_of=pb.Conditions(conditions=conditions)) if conditions else None,
        user_only=asked.user_only,
        project_only=asked.project_only,
        greatest_of=attribute_of(asked.max) if asked.max else "",
        least_of=attribute_of(asked.min) if asked.min else "",
    )
    with closing(Link.of(Config.read(os.environ), Reporter().say)) as link:
        found = [to_product(frame) for frame in frames_asked(link, request)]
        if not found:
            _check_class(link, asked.frame_class)
    print(json.dumps([as_json(item) for item in found], indent=1) if asked.json else "\n".join(rows(found)))
    return 0


def _check_class(link: Link, name: str) -> None:
    """Raise UsageError for a class of which nobody knows, where the DPU's recipes are known."""
    catalogue = link.ask(lambda services: services.scheduler.GetCatalogue, GetCatalogueRequest()).catalogue
    known = [*frame_classes(lambda: link, catalogue), *OTHER_CLASSES]
    if catalogue.sequences and name not in known:
        raise UsageError(f"there is no frame of a class {name!r}{nearest(name, known)}; known are {listed(known)}")


def as_json(product: Product) -> dict[str, Any]:
    """Return a frame as JSON has it."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(product), default=str))
    return plain


def _parsed(text: str) -> pb.Condition:
    """Return the condition of an argument, 'exptime>10'. Raises UsageError."""
    found = re.fullmatch(r"\s*(\w+)\s*(==|!=|<=|>=|<|>|~|=)\s*(.*?)\s*", text)
    if found is None:
        raise UsageError(
            f"{text!r}: must be ATTRIBUTE OPERATOR VALUE, as in 'exptime>10', with one of {listed(OPERATORS)}"
        )
    name, operator, value = found.groups()
    attribute = attribute_of(name)
    return comparison(attribute, operator, _value(attribute, value))


def _value(attribute: str, text: str) -> object:
    """Return a value of a command line: a number for attributes that are numbers."""
    if attribute not in {"exptime", "overscan", "size", "is_valid", "quality_flags", "privileges"}:
        return text
    try:
        return float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        raise UsageError(f"{attribute} is a number, and {text!r} is none") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="awe query",
        description="List frames of a class of which all conditions hold, in order of DATE-OBS and chip.",
        epilog=f"attributes: {listed(ATTRIBUTES)}; operators: {listed(OPERATORS)} (~ is like a pattern with * and ?)",
    )
    parser.add_argument("frame_class", metavar="CLASS", help="RawBiasFrame, BiasFrame, ReadNoise ...")
    parser.add_argument(
        "conditions",
        metavar="CONDITION",
        nargs="*",
        # Else it is said to be required, too, where nothing is given.
        default=[],
        help="'instrument=WFI', 'object~CDF4*', 'exptime>10'",
    )
    parser.add_argument("--user-only", action="store_true", help="only those that you made or ingested")
    parser.add_argument("--project-only", action="store_true", help="only those of the project in which you work")
    first = parser.add_mutually_exclusive_group()
    first.add_argument("--max", metavar="ATTRIBUTE", help="only the one with the greatest value of an attribute")
    first.add_argument("--min", metavar="ATTRIBUTE", help="only the one with the least")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    return parser
