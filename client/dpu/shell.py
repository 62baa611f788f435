"""`dpu` in the shell: the verbs of the prompt, with exit codes that scripts can use."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dpu
from dpu.errors import NotFound, UsageError
from dpu.prompt import FAILED, WELL, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dpu.processor import Processor
    from dpu_api.v1.job_pb2 import Job

CANCELLED = 3

EPILOG = """\
dpu run Bias -i WFI -d 2000-04-28 -C --wait   submit a job and wait; `dpu run Bias --help` lists its options
dpu status --json                             your jobs, for programs
dpu logs -f 82382                             the log of a job while it is written
source <(dpu completion bash)                 let the Tab key complete all this

exit codes: 0 well, or the job has finished; 1 failed; 2 used wrongly; 3 cancelled; 4 the DPU cannot be reached"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dpu` and return its exit code."""
    return guarded(partial(_main, list(sys.argv[1:] if arguments is None else arguments)), "dpu")


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that `dpu` does."""

    about: str
    action: Callable[[Processor, argparse.Namespace], int]
    arguments: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = ()
    #: Whether its answer is for programs: what else is said goes to standard error.
    answers: bool = False


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs but `run`, whose arguments the sequence says."""
    made = argparse.ArgumentParser(
        prog="dpu",
        description="The Distributed Processing Unit: submit jobs, and see what became of them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"dpu {dpu.__version__}")
    verbs = made.add_subparsers(metavar="VERB", dest="verb", required=True)
    for name, verb in VERBS.items():
        own = verbs.add_parser(name, help=verb.about, description=verb.about)
        for names, form in verb.arguments:
            own.add_argument(*names, **form)
    return made


def _main(arguments: list[str]) -> int:
    match arguments:
        case ["run", sequence, *rest] if not sequence.startswith("-"):
            with closing(_processor(answers=True)) as processor:
                return _run(processor, sequence, rest)
        case _:
            asked = parser().parse_args(arguments)
            verb = VERBS[asked.verb]
            with closing(_processor(answers=verb.answers)) as processor:
                return verb.action(processor, asked)


def _processor(*, answers: bool) -> Processor:
    from dpu.processor import Processor
    from dpu.report import Reporter

    return Processor(reporter=Reporter(out=sys.stderr if answers else None))


def _run(processor: Processor, name: str, arguments: Sequence[str]) -> int:
    """Submit a job and print its identifier; with --wait or --follow, tell its end by the exit code."""
    from dpu.options import find_sequence
    from dpu.shell_options import add_options, given

    sequence = find_sequence(processor.catalogue, name)
    options = argparse.ArgumentParser(prog=f"dpu run {name}", description=sequence.summary)
    add_options(options, sequence)
    chosen = options.parse_args(arguments)
    jobid = processor.run(name, **given(sequence, chosen))
    if not jobid:
        return WELL
    print(jobid, flush=True)
    if chosen.follow:
        return _followed(processor, jobid)
    return _ended(processor.wait(jobid)) if chosen.wait else WELL


def _run_what(_processor: Processor, _asked: argparse.Namespace) -> int:
    raise UsageError("name a sequence, as in `dpu run Bias`; `dpu sequences` lists them")


def _wait(processor: Processor, asked: argparse.Namespace) -> int:
    return max(_ended(processor.wait(jobid, asked.timeout)) for jobid in asked.jobids)


def _status(processor: Processor, asked: argparse.Namespace) -> int:
    from dpu.joblist import mine, named

    if not asked.json:
        processor.get_status(asked.jobids or (processor.get_jobids(all=True) if asked.all else None))
        return WELL
    everything = partial(mine, processor.link, processor.config.username, everything=asked.all)
    jobs = named(processor.link, asked.jobids) if asked.jobids else everything()
    print(json.dumps([as_json(job) for job in jobs], indent=1))
    if missing := set(asked.jobids) - {job.id for job in jobs}:
        raise NotFound(f"there is no job {', '.join(map(str, sorted(missing)))}")
    return WELL


def as_json(job: Job) -> dict[str, Any]:
    """Return a job as plain data; times are ISO 8601 in UTC, or None."""
    from dpu import report
    from dpu.values import from_map

    times = {
        name: getattr(job, name).ToJsonString() if job.HasField(name) else None
        for name in ("submitted", "started", "ended")
    }
    counts = {name: getattr(job.counts, name) for name in ("normal", "error", "aborted", "submitted", "unknown")}
    who = {"id": job.id, "sequence": job.sequence, "state": report.state_of(job), "user": job.user}
    return who | {"project": job.project, "options": from_map(job.options), "counts": counts} | times


def _logs(processor: Processor, asked: argparse.Namespace) -> int:
    words = {"tail": asked.tail, "grep": asked.grep, "chip": asked.chip, "level": asked.level}
    if not asked.follow:
        processor.get_logs(asked.jobids or None, **words)
        return WELL
    jobids = asked.jobids or processor.get_jobids()
    return max((_followed(processor, jobid, **words) for jobid in jobids), default=WELL)


def _followed(processor: Processor, jobid: int, **words: Any) -> int:
    """Follow a job until its end, or Ctrl-C; return the exit code of its state."""
    processor.get_logs(jobid, follow=True, **words)
    return _ended(processor.job(jobid).state)


def _ended(state: str) -> int:
    """Return the exit code of a job's state; of one that goes on, that all is well so far."""
    return {"FAILED": FAILED, "CANCELLED": CANCELLED}.get(state, WELL)


def _cancel(processor: Processor, asked: argparse.Namespace) -> int:
    processor.cancel_job(asked.jobids or None, asked.reason, sequence=asked.sequence, all=asked.all)
    return WELL


def _explain(processor: Processor, asked: argparse.Namespace) -> int:
    processor.explain(asked.jobid)
    return WELL


def _retry(processor: Processor, asked: argparse.Namespace) -> int:
    print(processor.retry(asked.jobid, only="failed" if asked.failed else ""))
    return WELL


def _show(processor: Processor, asked: argparse.Namespace) -> int:
    if asked.json:
        print(json.dumps(asdict(processor.job(asked.jobid)), indent=1))
    else:
        processor.show(asked.jobid)
    return WELL


def _watch(processor: Processor, _asked: argparse.Namespace) -> int:
    processor.watch()
    return WELL


def _fetch(processor: Processor, asked: argparse.Namespace) -> int:
    for path in processor.fetch(asked.jobid, asked.folder):
        print(path)
    return WELL


def _plot(processor: Processor, asked: argparse.Namespace) -> int:
    print(processor.plot(asked.jobid, asked.file, quality=asked.quality))
    return WELL


def _sequences(processor: Processor, asked: argparse.Namespace) -> int:
    if asked.sequence:
        processor.show_sequence_options(asked.sequence)
    else:
        processor.show_sequence_identifiers()
    return WELL


def _code(processor: Processor, _asked: argparse.Namespace) -> int:
    processor.show_code()
    return WELL


def _completion(processor: Processor, asked: argparse.Namespace) -> int:
    from dpu.shell_completion import SCRIPTS, candidates

    if asked.shell in SCRIPTS:
        print(SCRIPTS[asked.shell], end="")
    else:
        print("\n".join(candidates(asked.words, list(VERBS), processor)))
    return WELL


JOB = (("jobid",), {"type": int, "metavar": "JOBID"})
JOBS = (("jobids",), {"type": int, "metavar": "JOBID", "nargs": "+"})
ANY_JOBS = (("jobids",), {"type": int, "metavar": "JOBID", "nargs": "*", "help": "default: all of yours"})
JSON = (("--json",), {"action": "store_true", "help": "as JSON, for programs"})

VERBS = {
    "run": Verb("submit a job; `dpu run SEQUENCE --help` lists its options", _run_what),
    "wait": Verb(
        "wait for the end of jobs; the exit code tells it",
        _wait,
        (JOBS, (("--timeout",), {"type": float, "metavar": "SECONDS", "help": "give up after so long"})),
    ),
    "status": Verb(
        "print a line for each job",
        _status,
        (ANY_JOBS, JSON, (("--all",), {"action": "store_true", "help": "every job that the DPU remembers"})),
    ),
    "logs": Verb(
        "print the logs of jobs",
        _logs,
        (
            ANY_JOBS,
            (("-f", "--follow"), {"action": "store_true", "help": "while they are written"}),
            (("--tail",), {"type": int, "default": 0, "metavar": "N", "help": "only the last N lines"}),
            (("--grep",), {"default": "", "metavar": "PATTERN", "help": "only lines in which it is found (RE2)"}),
            (("--chip",), {"action": "append", "default": [], "help": "only those of a chip; as often as needed"}),
            (("--level",), {"default": "", "help": "only those of at least: debug, info, warning, error"}),
        ),
    ),
    "cancel": Verb(
        "cancel jobs, also while they run",
        _cancel,
        (
            (("jobids",), {"type": int, "metavar": "JOBID", "nargs": "*"}),
            (("--sequence",), {"default": "", "help": "yours of this sequence"}),
            (("--all",), {"action": "store_true", "help": "all of yours"}),
            (("--reason",), {"default": "", "help": "for the record"}),
        ),
    ),
    "explain": Verb("say what a job waits for, or how it has ended", _explain, (JOB,)),
    "retry": Verb(
        "do again what a job did, and print the identifier of the new one",
        _retry,
        (JOB, (("--failed",), {"action": "store_true", "help": "only the tasks that failed"})),
        answers=True,
    ),
    "show": Verb("show the tasks of a job", _show, (JOB, JSON)),
    "watch": Verb("show all your jobs, live", _watch),
    "fetch": Verb(
        "bring the FITS files that a job has made",
        _fetch,
        (JOB, (("folder",), {"nargs": "?", "default": ".", "help": "where to (default: here)"})),
        answers=True,
    ),
    "plot": Verb(
        "save a picture of what a job has made, as PNG",
        _plot,
        (
            JOB,
            (("file",), {"nargs": "?", "default": "", "help": "where to (default: job-JOBID.png)"}),
            (("--quality",), {"action": "store_true", "help": "the figures of quality that the recipes drew"}),
        ),
        answers=True,
    ),
    "sequences": Verb(
        "list the sequences, or the options of one", _sequences, ((("sequence",), {"nargs": "?", "default": ""}),)
    ),
    "code": Verb("show what a job would be shipped of the checkout here", _code),
    "completion": Verb(
        "print what makes the Tab key work: source <(dpu completion bash)",
        _completion,
        (
            (("shell",), {"choices": ["bash", "zsh", "words"]}),
            (("words",), {"nargs": "*", "help": "words: what stands behind `dpu` so far"}),
        ),
    ),
}
