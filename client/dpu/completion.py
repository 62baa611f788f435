"""What the Tab key offers inside a call at the prompt: sequences, their options, product classes, DPUs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dpu.errors import DpuError
from dpu.options import DPU_OPTIONS, OURS, SHORT, find_sequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpu.processor import Processor
    from dpu_api.v1.catalogue_pb2 import Catalogue

FIRST = r"""\(\s*(?:\w+\s*=\s*)?['"](?P<begun>[^'"]*)$"""
SEQUENCE = re.compile(r"\.(?:run|get_sequence_options|show_sequence_options)" + FIRST)
OPTION = re.compile(
    r"""\.run\(\s*['"](?P<sequence>[^'"]+)['"]\s*,(?P<given>(?:[^'"()]|'[^']*'|"[^"]*"|\([^()]*\))*?)(?<!\w)(?P<begun>\w*)$"""
)
OWNER = re.compile(r"\b[Pp]ars" + FIRST)
DPU = re.compile(r"""(?:\.select_dpu\(\s*|Env\[['"]dpu_name['"]\]\s*=\s*)['"](?P<begun>[^'"]*)$""")
#: Texts hide what looks like an option in them.
TEXT = re.compile(r"""'[^']*'|"[^"]*\"""")


def offers(text: str, processor: Processor) -> tuple[str, list[str]]:
    """Return what is begun at the end of `text`, and what it may become; nothing where no DPU can tell."""
    known: list[tuple[re.Pattern[str], Callable[[re.Match[str]], list[str]]]] = [
        (SEQUENCE, lambda _: processor.get_sequence_identifiers()),
        (OWNER, lambda _: _owners(processor.catalogue)),
        (DPU, lambda _: processor.get_dpu_identifiers()),
        (OPTION, lambda found: _options(processor.catalogue, found)),
    ]
    for pattern, names in known:
        if found := pattern.search(text):
            try:
                return found["begun"], [name for name in names(found) if name.startswith(found["begun"])]
            except DpuError:
                break
    return "", []


def install(shell: Any, processor: Processor) -> None:
    """Let an IPython shell offer these before everything else it knows."""
    from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

    @context_matcher()  # type: ignore[untyped-decorator]  # IPython's, partly typed
    def matcher(context: CompletionContext) -> Any:
        lines = context.full_text.split("\n")
        text = "\n".join([*lines[: context.cursor_line], context.text_until_cursor])
        begun, names = offers(text, processor)
        return {
            "completions": [SimpleCompletion(text=name, type="param") for name in names],
            "matched_fragment": begun,
            "suppress": bool(names),
        }

    shell.Completer.custom_matchers.append(matcher)


def _options(catalogue: Catalogue, found: re.Match[str]) -> list[str]:
    """Return the options of a sequence that are not given yet, as `name=`."""
    given = set(re.findall(r"(\w+)\s*=", TEXT.sub("", found["given"])))
    options = find_sequence(catalogue, found["sequence"]).options
    pairs = [(option.short_name, option.long_name) for option in options if option.long_name not in OURS]
    free = [pair for pair in pairs if not given.intersection(pair)]
    own = [name for name in (*DPU_OPTIONS, *SHORT, "follow") if name not in given]
    names = dict.fromkeys([*(short for short, _ in free), *(long for _, long in free), *own])
    return [f"{name}=" for name in names]


def _owners(catalogue: Catalogue) -> list[str]:
    """Return what has process parameters: product classes, then sequences."""
    classes = [stage.makes for sequence in catalogue.sequences for stage in sequence.stages]
    return list(dict.fromkeys([*classes, *(sequence.name for sequence in catalogue.sequences)]))
