"""What a worker says on a stream, as much at once as has come: a scheduler that is behind hears it in larger pieces."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from typing import TypeAlias

    from dpud.scheduler.commands import WorkCall

    #: What was said at once, and the number of the last answer that had been heard by then.
    Words: TypeAlias = tuple[WorkCall, int]

#: So much may have come and not been heard: then the worker has to wait.
MOST = 64


async def gathered(words: AsyncIterator[Words]) -> AsyncGenerator[Words, None]:
    """Yield what is said, in order: what came while the last was taken is taken together, as far as it can be."""
    arrived: asyncio.Queue[Words | None] = asyncio.Queue(MOST)
    reading = asyncio.create_task(_read(words, arrived))
    try:
        said = await arrived.get()
        while said is not None:
            while not arrived.empty():
                more = arrived.get_nowait()
                if more is None or not _is_brief(said) or not _is_brief(more):
                    yield said
                    said = more
                    break
                said = _together(said, more)
            else:
                yield said
                said = await arrived.get()
        await reading
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def _read(words: AsyncIterator[Words], arrived: asyncio.Queue[Words | None]) -> None:
    try:
        async for said in words:
            await arrived.put(said)
    except asyncio.CancelledError:
        raise  # nobody hears the end
    except BaseException:
        await arrived.put(None)
        raise
    await arrived.put(None)


def _is_brief(said: Words) -> bool:
    """Return whether something names no leases that are held: those hold for the moment at which they were named."""
    return not said[0].renewal.held


def _together(earlier: Words, later: Words) -> Words:
    """Return both as one: all that ended, and the room that there is now."""
    call, heard = later
    reports, plans = earlier[0].reports + call.reports, earlier[0].plans + call.plans
    return replace(call, reports=reports, plans=plans), heard
