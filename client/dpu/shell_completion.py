"""The Tab key in a shell: scripts for bash and zsh, which ask `dpu completion` what fits there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpu.errors import DpuError
from dpu.options import find_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpu.processor import Processor

BASH = """\
_dpu() {
    local IFS=$'\\n' word=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=($(compgen -W "$(dpu completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "$word"))
}
complete -o default -F _dpu dpu
"""
ZSH = """\
#compdef dpu
_dpu() {
    local -a known
    known=("${(@f)$(dpu completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -a known
}
compdef _dpu dpu
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}
JOB_VERBS = frozenset({"cancel", "explain", "fetch", "logs", "plot", "retry", "show", "status", "wait"})


def candidates(words: Sequence[str], verbs: Sequence[str], processor: Processor) -> list[str]:
    """Return what the last of `words`, which stand behind `dpu`, may become; nothing where no DPU can tell."""
    *before, begun = words or [""]
    try:
        known = _known(before, begun, verbs, processor)
    except DpuError:
        return []
    return [word for word in known if word.startswith(begun)]


def _known(before: Sequence[str], begun: str, verbs: Sequence[str], processor: Processor) -> list[str]:
    match before:
        case []:
            return list(verbs)
        case ["run" | "sequences"]:
            return processor.get_sequence_identifiers()
        case ["run", sequence, *_] if begun.startswith("-"):
            return _flags(processor, sequence)
        case [verb, *_] if verb in JOB_VERBS and not begun.startswith("-"):
            return [str(jobid) for jobid in processor.get_jobids()]
        case ["completion"]:
            return list(SCRIPTS)
        case _:
            return []


def _flags(processor: Processor, sequence: str) -> list[str]:
    """Return the flags of `dpu run SEQUENCE`, as its own help knows them."""
    import argparse

    from dpu.shell_options import add_options

    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser, find_sequence(processor.catalogue, sequence))
    return [flag for action in parser._actions for flag in action.option_strings]  # noqa: SLF001 (argparse tells nobody else)
