"""`awe`: the prompt of the Astro-WISE environment, and what runs there from the command line."""

from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dpu
from dpu.errors import BadTree, DpuError, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dpu.config import Config
    from dpu.processor import Processor

WELL, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 4
INTERRUPTED = 130

DESCRIPTION = "The prompt of the Astro-WISE environment, with the Distributed Processing Unit as `dpu`."
EPILOG = """\
awe                        open the prompt
awe -c CODE                run CODE, with dpu
awe FILE.py [ARGUMENT...]  run a file, with dpu
awe plot JOBID [FILE]      save a picture of what a job has made
awe env                    show the settings, and where each comes from
awe login [DPU]            log in to a DPU that is not on this machine; awe logout [DPU]
awe ingest PATH...         bring raw FITS files into the archive (awe ingest --help)
awe query CLASS [WHAT...]  list frames of the archive (awe query --help)
awe ingest-catalogue FILE  bring in a list of stars (awe ingest-catalogue --help)
awe instrument check FILE  say how a FITS file is understood (awe instrument --help)
awe version list           show which versions of the recipes there are (awe version --help)
awe archive COMMAND        pack frames away that are seldom used (awe archive --help)
awe web                    show the queue page of your DPU in a browser
awe demo                   reduce a night of calibrations on a DPU of its own (awe demo --help)

exit codes: 0 well, 1 failed, 2 used wrongly, 4 the DPU cannot be reached"""

#: What `awe WORD` runs: the `main` of a module. A file of such a name is run as ./WORD.
COMMANDS = {
    "archive": "dpu.tiers",
    "demo": "dpu.demo",
    "env": "dpu.env",
    "ingest": "dpu.ingest_command",
    "ingest-catalogue": "dpu.ingest_catalogue",
    "instrument": "dpu.instrument",
    "login": "dpu.login",
    "logout": "dpu.logout",
    "plot": "dpu.figures",
    "query": "dpu.query",
    "version": "dpu.versions",
    "web": "dpu.web",
}

WELCOME = """\
                 Welcome to the Astro-WISE Environment

Importing Astro-WISE packages. Please wait...
Initializing Distributed Processing Unit...
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `awe` and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    match given:
        case []:
            return guarded(run_prompt)
        case ["-c", code, *rest]:
            return guarded(lambda: run_code(code, rest))
        case [command, *rest] if command in COMMANDS:
            return guarded(lambda: int(import_module(COMMANDS[command]).main(rest)))
        case [file, *rest] if not file.startswith("-"):
            return guarded(lambda: run_file(Path(file), rest))
        case _:
            return explain(given)


def explain(given: list[str]) -> int:
    """Answer --help and --version; anything else is used wrongly."""
    parser = _parser()
    parser.parse_args(given)
    parser.error(f"cannot make sense of {' '.join(given)}")


def guarded(action: Callable[[], int], program: str = "awe") -> int:
    """Return the exit code of `action`; an error of the DPU is one line on standard error, never a traceback."""
    try:
        return action()
    except DpuError as error:
        print(f"{program}: {one_line(error)}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED


def exit_code(error: DpuError) -> int:
    """Return the exit code that tells scripts what kind of error it was."""
    match error:
        case Unreachable():
            return UNREACHABLE
        case UsageError():
            return USAGE
        case _:
            return FAILED


def namespace() -> dict[str, Any]:
    """Return the names that are there at the prompt."""
    from dpu.context import Context
    from dpu.env import Env
    from dpu.lpu import Lpu
    from dpu.processor import Processor

    processor = Processor()
    lpu = Lpu(processor.config.home / "lpu")
    names = {"dpu": processor, "lpu": lpu, "Env": Env(processor), "context": Context(processor), "Pars": processor.pars}
    return _frame_classes(processor) | names


def _frame_classes(processor: Processor) -> dict[str, Any]:
    """Return the classes of raw frames, and of the products that the recipes installed here make, by name."""
    from dpu.catalogue import describe_installed
    from dpu.query import frame_classes

    try:
        catalogue = describe_installed(processor.config.catalogues)
    except BadTree:
        catalogue = None
    return {**frame_classes(lambda: processor.link, catalogue)}


def run_code(code: str, arguments: list[str]) -> int:
    """Run a piece of code as `python -c` does."""
    sys.argv = ["-c", *arguments]
    sys.path.insert(0, "")
    return _run(lambda: exec(compile(code, "<awe -c>", "exec"), {"__name__": "__main__", **namespace()}))  # noqa: S102 (what it is for)


def run_file(path: Path, arguments: list[str]) -> int:
    """Run a file as `python FILE` does. Raises UsageError where it cannot be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be run: {error.strerror} (`awe --help` lists the commands)") from error
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.absolute().parent))
    return _run(lambda: runpy.run_path(str(path), init_globals=namespace(), run_name="__main__"))


def _run(action: Callable[[], object]) -> int:
    """Run a user's code; a fault of theirs is shown as Python shows it, without our own frames."""
    try:
        action()
    except DpuError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever the user's code raises)
        frames = error.__traceback__
        while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
        return FAILED
    return WELL


def _is_ours(file: str) -> bool:
    return file == __file__ or "runpy" in file


def run_prompt() -> int:
    """Open the prompt and return when it is left."""
    from IPython.terminal.interactiveshell import TerminalInteractiveShell

    from dpu.completion import install

    names = namespace()
    shell: Any = TerminalInteractiveShell.instance(
        banner1=banner(names["dpu"]),
        confirm_exit=False,
        enable_tip=False,
        prompts_class=_prompts(),
        separate_in="",
        term_title_format="awe: {cwd}",
        user_ns=names,
    )
    install(shell, names["dpu"])
    shell.set_custom_exc((DpuError, KeyboardInterrupt), _show)
    shell.show_banner()
    shell.mainloop()
    return WELL


def banner(processor: Processor) -> str:
    """Return what the prompt begins with: Python's own banner, then ours."""
    hint = 'Type "help", "copyright", "credits" or "license" for more information.'
    return f"Python {sys.version} on {sys.platform}\n{hint}\n\n{WELCOME}\n{profile(processor.config)}\n"


def profile(config: Config) -> str:
    """Return the current profile."""
    known = config.find(config.dpu_name)
    rows = {
        "username": config.username,
        "database": known.archive or known.address or known.name,
        "project": config.project,
    }
    return "\n".join(["Current profile:", *(f"  - {name:8} : {value}" for name, value in rows.items()), ""])


def _prompts() -> type:
    """Return IPython's prompts, reading 'awe> '. Made here, since IPython takes its time to import."""
    from IPython.terminal.prompts import Prompts
    from pygments.token import Token  # type: ignore[import-untyped]  # ships no types

    class AwePrompts(Prompts):
        """The prompts of `awe`: values are shown as they are, without a number."""

        def in_prompt_tokens(self) -> list[tuple[Any, str]]:
            return [(Token.Prompt, "awe> ")]

        def continuation_prompt_tokens(self, *_where: object, **_more: object) -> list[tuple[Any, str]]:
            return [(Token.Prompt, ".... ")]

        def out_prompt_tokens(self) -> list[tuple[Any, str]]:
            return []

    return AwePrompts


def _show(shell: Any, kind: type, error: BaseException, frames: Any, tb_offset: int | None = None) -> None:  # noqa: ARG001 (IPython's)
    """Show an error of the DPU, or Ctrl-C, at the prompt: one line."""
    print(f"{kind.__name__}: {one_line(error)}" if error.args else kind.__name__, file=sys.stderr)


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="awe",
        usage="awe [--help] [--version] [-c CODE | FILE.py | COMMAND] [ARGUMENT...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"awe {dpu.__version__}")
    parser.add_argument("-c", metavar="CODE", help="run CODE, with dpu, and end")
    return parser
