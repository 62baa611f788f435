"""The words of a job: what a search finds it by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dpu_api.v1.job_pb2 import Value, ValueMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpud.scheduler.model import Job

#: Of a job with thousands of names in its options the first are found; of a long word its begin counts.
MOST_WORDS = 64
LONGEST = 64
#: What separates words; a database takes no NUL.
_WORD = re.compile(r"[^\s\x00-\x1f]+")


def words_in(text: str) -> frozenset[str]:
    """Return the words of a text, as they are compared."""
    return frozenset(word[:LONGEST].casefold() for word in _WORD.findall(text))


def words_of(job: Job) -> frozenset[str]:
    """Return the words of a job: user, sequence, how it ended, and what its options say in words."""
    ending = job.state.name if job.state.ended else ""
    found = set(words_in(f"{job.user} {job.sequence} {ending}"))
    for text in _texts(Value(map_value=ValueMap.FromString(job.options))):
        if len(found) >= MOST_WORDS:
            break
        found |= words_in(text)
    return frozenset(found)


def has_words(job: Job, words: frozenset[str]) -> bool:
    """Return whether all these are words of a job."""
    if not words:
        return True
    # Most jobs are ruled out without looking into their options.
    there = job.options.lower() + f" {job.user} {job.sequence} {job.state.name}".casefold().encode()
    if not all(word.encode() in there for word in words if word.isascii()):
        return False
    return words <= words_of(job)


def _texts(value: Value) -> Iterator[str]:
    match value.WhichOneof("kind"):
        case "string_value":
            yield value.string_value
        case "list_value":
            for item in value.list_value.values:
                yield from _texts(item)
        case "map_value":
            for name in sorted(value.map_value.entries):
                yield from _texts(value.map_value.entries[name])
