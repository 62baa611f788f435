"""The Distributed Processing Unit of the Astro-WISE environment, as its users call it.

`dpu.Processor` is the object that the `awe>` prompt calls `dpu`. What needs the network or the astronomy is
loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpu.processor import Processor

__all__ = ["Processor", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "Processor":
        from dpu.processor import Processor

        return Processor
    raise AttributeError(f"module 'dpu' has no attribute {name!r}")
