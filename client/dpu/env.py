"""`Env` at the prompt: the session's settings, each with where it comes from."""

from __future__ import annotations

import argparse
from collections.abc import MutableMapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dpu.config import PLACES, Config
from dpu.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dpu.processor import Processor

#: May be changed, and what is only shown.
CHANGEABLE = tuple(PLACES)
SHOWN = (*CHANGEABLE, "home")


class UnknownKey(UsageError, KeyError):
    """There is no such setting."""

    __str__ = UsageError.__str__


class Env(MutableMapping[str, str]):
    """The Environment: what the session goes by. `Env['dpu_name'] = 'groningen'` changes the default DPU.

    Keys are dpu_name, project, username, and home, which is only shown.
    """

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def __getitem__(self, key: str) -> str:
        return str(getattr(self._processor.config, _known(key)))

    def __setitem__(self, key: str, value: str) -> None:
        """Change a setting for this session. Raises UsageError for what cannot be changed, or not to that."""
        if _known(key) not in CHANGEABLE:
            raise UsageError(f"Env[{key!r}] is set before the session: DPU_{key.upper()} in the shell")
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"Env[{key!r}] = {value!r}: must be a text")
        self._processor.config = self._processor.config.evolve("this session", **{key: value})

    def __delitem__(self, key: str) -> None:
        raise UsageError(f"Env[{key!r}] cannot be without a value: give it another")

    def __iter__(self) -> Iterator[str]:
        return iter(SHOWN)

    def __len__(self) -> int:
        return len(SHOWN)

    def __repr__(self) -> str:
        return "\n".join(rows(self._processor.config))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: FBT001 (IPython's)
        """Show the settings, for IPython."""
        printer.text("..." if cycle else repr(self))

    def _ipython_key_completions_(self) -> list[str]:
        """Return what IPython offers behind `Env['`."""
        return list(SHOWN)


def rows(config: Config) -> list[str]:
    """Return a line for each setting: its name, its value, and where that comes from."""
    values = {key: str(getattr(config, key)) for key in SHOWN}
    names, width = max(map(len, values)), max(map(len, values.values()))
    return [f"{key:{names}}  {value:{width}}  {config.origins.get(key, 'default')}" for key, value in values.items()]


def main(arguments: Sequence[str]) -> int:
    """Run `awe env` and return its exit code."""
    import os

    parser = argparse.ArgumentParser(prog="awe env", description="Show the settings, and where each comes from.")
    parser.parse_args(arguments)
    config = Config.read(os.environ)
    print("\n".join(rows(config)))
    for name, known in config.dpus.items():
        print(f"{'*' if name == config.dpu_name else ' '} DPU {name} ({known.place})")
    return 0


def _known(key: str) -> str:
    if key in SHOWN:
        return key
    close = get_close_matches(str(key), SHOWN, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UnknownKey(f"Env has no {key!r}{hint}; it knows {', '.join(SHOWN)}")
