"""The object `dpu` at the prompt."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dpu import report
from dpu.config import Config
from dpu.jobids import one, only, several
from dpu.report import Reporter
from dpu.sessionlog import Logs, SessionLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from dpu.jobids import JobIds
    from dpu.jobview import JobView
    from dpu.lineage import Lineage
    from dpu.link import Link
    from dpu.pars import Pars
    from dpu.products import Product
    from dpu.reproduction import Reproduction
    from dpu.submission import Recipes
    from dpu_api.v1.catalogue_pb2 import Catalogue, Sequence
    from dpu_api.v1.job_pb2 import Job


class Processor:
    """The Distributed Processing Unit: submits jobs, and tells what became of them.

        dpu.run('Bias', i='WFI', d='2000-04-28', C=1)   submit a job; its identifier is returned
        dpu.get_status()                                a line for each of your jobs
        dpu.get_logs(82382)                             what its tasks printed
        dpu.get_job_result(82382)                       what it has made and committed
        dpu.cancel_job(82382)                           stop it, also while it runs
        dpu.wait(82382)                                 wait for its end

    Nothing is connected before the first call that needs it. May be used by several threads.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        reporter: Reporter | None = None,
        find_checkout: Callable[[], Path | None] | None = None,
    ) -> None:
        self.config = config or Config.read(environ)
        self._find_checkout = find_checkout or partial(_find_checkout, environ)
        self._reporter = reporter or Reporter()
        self._links: dict[tuple[str, str], Link] = {}
        self._submitted: list[int] = []
        self._log = SessionLog.of(Path.cwd(), self._reporter.clock())

    def __repr__(self) -> str:
        where = f"DPU {self.config.dpu_name!r}, project {self.config.project!r}"
        return f"<Processor of {where}: dpu.help() tells what it can do>"

    def help(self) -> None:
        """Print what `dpu` can do."""
        from dpu.manual import manual

        self._reporter.show(manual(Processor))

    # Jobs

    def run(self, sequence: str, *, follow: bool = False, **options: object) -> int:
        """Submit a job and return its identifier.

        `options` are those of the sequence, by short or long name (`show_sequence_options`), and those of the DPU:
        send_code, dpu_time, dpu_mem, dpu_priority, dpu_dryrun, dpu_aweversion. With `follow` it shows progress and
        logs until the job has ended; Ctrl-C leaves the following, and the job goes on. With `dryrun=True` the DPU only
        plans it: what would run, what exists already, what is missing, how long it would take; 0 is returned.
        Raises a UsageError, or NothingSelected, before anything is submitted.
        """
        from dpu.submission import Submission

        link = self.link
        privileges = self.config.privileges
        submission = Submission.checked(link, self._recipes(options), sequence, options, privileges=privileges)
        self._reporter.say(report.calling(sequence, self.config.project, options))
        if submission.dpu_options.dpu_dryrun:
            from dpu.rehearsal import rehearsed

            for line in rehearsed(link, submission, self._reporter.say):
                self._reporter.say(line)
            self._reporter.say("Dry run: nothing was made")
            return 0
        job = submission.submit(link, self._reporter.say)
        self._submitted.append(job.id)
        self._reporter.say(report.estimate(job.estimate_s))
        self._reporter.say(f"Sending job with identifier {job.id} to DPU")
        if follow:
            from dpu.follow import lines_followed

            lines_followed(link, job.id, self._reporter)
        return job.id

    def wait(self, jobid: int, timeout: float | None = None) -> str:
        """Wait until a job has ended and return its state: 'FINISHED', 'FAILED' or 'CANCELLED'.

        Shows its progress, and what failed first; Ctrl-C leaves the waiting, and the job goes on. Raises TimedOut after
        `timeout` seconds, NotFound for an unknown job.
        """
        from dpu.follow import waited

        return report.state_of(waited(self.link, one(jobid), self._reporter, timeout))

    def get_jobids(self, *, all: bool = False) -> list[int]:  # noqa: A002 (the prompt's own word)
        """Return the identifiers of your jobs: those that have not ended, of this session, and of the last 7 days.

        With `all`, every one that the DPU remembers.
        """
        return [job.id for job in self._jobs(everything=all)]

    def get_status(self, jobids: JobIds = None) -> None:
        """Print a line for each of your jobs, or for those given.

        N/E/A/S/U counts a job's tasks: ended normally, with an error, aborted, submitted (waiting or running), unknown.
        """
        from dpu.joblist import named, told

        wanted = [] if jobids is None else several(jobids)
        for line in told(self._jobs() if jobids is None else named(self.link, wanted), wanted):
            self._reporter.say(line)

    def get_logs(
        self,
        jobids: JobIds = None,
        *,
        all: bool = False,  # noqa: A002 (the prompt's own word)
        follow: bool = False,
        tail: int = 0,
        grep: str = "",
        chip: str | Iterable[str] = "",
        level: str = "",
    ) -> Logs:
        """Print the logs of all your jobs, or of those given, and return them; a block a task, a failure's first.

        Only the last `tail` lines, those in which the pattern `grep` is found, those of a `chip` (or several), those of
        at least a `level` (debug, info, warning, error). With `follow`, the lines of one job as they come, until it has
        ended; Ctrl-C leaves the following, and the job goes on.
        They are also appended to the session's log file in the folder where the session was started.
        Raises NotFound for an unknown job, BadOption.
        """
        from dpu.follow import lines_followed
        from dpu.joblog import blocks
        from dpu.logquestion import LogQuestion

        question = LogQuestion.of(tail=tail, grep=grep, chip=chip, level=level)
        if follow:
            lines = lines_followed(self.link, only(jobids), self._reporter, question)
        else:
            wanted = self.get_jobids(all=all) if jobids is None else several(jobids)
            lines = [line for jobid in wanted for line in blocks(self.link, jobid, self._reporter.clock(), question)]
            if lines:
                self._reporter.show("\n".join(lines))
            else:
                self._reporter.say("No logs")
        text = "".join(f"{line}\n" for line in lines)
        if text:
            self._log.append(text, self._reporter.say)
        return Logs(text)

    def cancel_job(
        self,
        jobids: JobIds = None,
        reason: str = "",
        *,
        sequence: str = "",
        all: bool = False,  # noqa: A002 (the prompt's own word)
    ) -> None:
        """Cancel a job or several, also while they run; or all of yours, or those of yours of one sequence.

        Jobs that have ended stay as they are. Raises NotFound, and nothing is cancelled; UsageError.
        """
        from dpu.cancel import cancelled

        for line in cancelled(self.link, jobids, sequence=sequence, all=all, reason=reason):
            self._reporter.say(line)

    def retry(self, jobid: int, only: str = "") -> int:
        """Do again what a job that has ended did, as a new job whose identifier is returned.

        With only='failed', just the tasks that failed, and what comes after them. Raises NotFound, UsageError.
        """
        from dpu.explain import again

        job = again(self.link, one(jobid), only)
        self._submitted.append(job.id)
        self._reporter.say(f"Sending job with identifier {job.id} to DPU, which does job {jobid} again")
        return job.id

    def explain(self, jobid: int) -> None:
        """Print what a job waits for, or how it has ended. Raises NotFound."""
        from dpu.explain import explained

        for line in explained(self.link, one(jobid)):
            self._reporter.say(line)

    def get_job_result(self, jobid: int) -> list[Product]:
        """Return the main objects that a job has committed, sorted by chip: what is there so far while it runs.

        Empty for a job without commit (C=0). Raises NotFound for an unknown job.
        """
        from dpu.products import results

        return results(self.link, one(jobid))

    def job(self, jobid: int) -> JobView:
        """Return a job with its tasks as they stand; the prompt and notebooks show it as a table. Raises NotFound."""
        from dpu.jobview import look

        return look(self.link, one(jobid))

    def show(self, jobid: int) -> None:
        """Print a job's tasks as a table: chip, stage, state, attempt, worker, times, first error. Raises NotFound."""
        from rich.console import Console

        Console(file=self._reporter.out).print(self.job(jobid))

    def watch(self) -> None:
        """Show all your jobs, live, until the last has ended. Ctrl-C leaves it, and the jobs go on."""
        from dpu.board import watch

        watch(self._jobs, self._reporter)

    # Products

    def fetch(self, jobid: int, folder: str | Path = ".") -> list[Path]:
        """Bring the FITS files of a job's main objects into `folder`, committed or not; return their paths.

        A file is there whole or not at all. Raises NothingSelected where the job has made no file.
        """
        from dpu.fetch import fetch, files_of

        return fetch(self.link, files_of(self.link, one(jobid)), Path(folder).expanduser())

    def open(self, jobid: int) -> list[Any]:
        """Return the FITS files of a job's main objects as astropy.io.fits.HDUList, sorted by chip.

        Raises NothingSelected where the job has made no file.
        """
        from dpu.fetch import files_of
        from dpu.lab import opened

        return opened(self.link, files_of(self.link, one(jobid)))

    def plot(self, what: int | Product, file: str | Path = "", *, quality: bool = False) -> Path:
        """Draw what a job has made and return the PNG: images as a focal plane, measured values against time.

        Of a product, or with `quality` of a job, the figures that the recipes drew: what it was held to. Written to
        `file`, by default job-JOBID.png, and shown in a notebook. Raises NothingSelected.
        """
        from dpu.figures import picture

        shown, path = picture(self.link, what, file, quality=quality)
        self._reporter.say(f"{shown} is drawn in {path}")
        self._reporter.picture(path)
        return path

    def lineage(self, product: object, *, progeny: bool = False) -> Lineage:
        """Return what a product was made from, back to raw frames, as a tree; with `progeny`, what was made from it.

        `product` is one, its identifier or its file name. `.plot(file)` draws it. Raises NotFound.
        """
        from dpu.lineage import trace

        return trace(self.link, product, progeny=progeny)

    def reproduce(self, product: object) -> Reproduction:
        """Make a product again with the same code and inputs, uncommitted; return how the two compare by pixel."""
        from dpu.reproduction import reproduce

        return reproduce(self.link, self.catalogue, product, self.wait)

    def calibrations(self, frame: object) -> None:
        """Print which calibrations a raw frame would be reduced with, and why these. Raises NotFound."""
        from dpu.choices import explained

        self._reporter.show("\n".join(explained(self.link, frame)))

    # Sequences

    def get_sequence_identifiers(self) -> list[str]:
        """Return the known sequences."""
        return [sequence.name for sequence in self.catalogue.sequences]

    def show_sequence_identifiers(self) -> None:
        """Print the known sequences, a line each."""
        sequences = self.catalogue.sequences
        width = max((len(sequence.name) for sequence in sequences), default=0)
        self._reporter.show("Known sequences are:")
        for sequence in sequences:
            self._reporter.show(f"  {sequence.name:{width}}  {sequence.summary}")

    def get_sequence_options(self, sequence: str) -> list[str]:
        """Return the options of a sequence: all short names, then all long names. Raises UnknownSequence."""
        from dpu.options import names_of

        return names_of(self._sequence(sequence))

    def show_sequence_options(self, sequence: str) -> None:
        """Print the options of a sequence with their defaults. Raises UnknownSequence."""
        for line in report.recognised(self._sequence(sequence)):
            self._reporter.show(line)

    def pars(self, what: object, instrument: str = "", chip: str = "", filter: str = "") -> Pars:  # noqa: A002, ARG002 (the prompt's own words; no default depends on chip or filter yet)
        """Return the process parameters of a product class, a task or a sequence, to show and to change.

        `what` is its name or the class itself. At the prompt this is also called `Pars`. Raises UnknownOption.
        """
        from dpu.pars import Pars

        return Pars(self.catalogue, what, instrument)

    def show_code(self) -> None:
        """Print which files of the local checkout would travel with a job, and which stay behind and why."""
        from dpu.contents import described

        self._reporter.show(described(self._find_checkout()))

    # DPUs

    def get_dpu_identifiers(self) -> list[str]:
        """Return the known DPUs."""
        return list(self.config.dpus)

    def show_dpu_identifiers(self) -> None:
        """Print the known DPUs; '*' is the one in use."""
        self._reporter.show("Known DPUs are:")
        for name, known in self.config.dpus.items():
            self._reporter.show(f"{'*' if name == self.config.dpu_name else ' '} {name} ({known.place})")

    def select_dpu(self, name: str) -> None:
        """Use another DPU from now on. Raises UsageError that lists the known ones."""
        self.config = self.config.evolve("this session", dpu_name=name)

    @property
    def link(self) -> Link:
        """The way to the DPU in use, in the project in use."""
        from dpu.link import Link

        config = self.config
        way = (config.dpu_name, config.project)
        if way not in self._links:
            # One step, so that two threads get the same.
            self._links.setdefault(way, Link.of(config, self._reporter.say))
        return self._links[way]

    @property
    def catalogue(self) -> Catalogue:
        """What the recipes in use can do."""
        return self._recipes().catalogue

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for link in list(self._links.values()):
            link.close()

    def _recipes(self, options: Mapping[str, object] | None = None) -> Recipes:
        from dpu.options import DpuOptions
        from dpu.submission import find_recipes

        own = DpuOptions.of(options or {})
        checkout = self._find_checkout() if own.send_code else None
        return find_recipes(self.link, checkout, self.config.catalogues, own.dpu_aweversion)

    def _sequence(self, name: str) -> Sequence:
        from dpu.options import find_sequence

        return find_sequence(self.catalogue, name)

    def _jobs(self, *, everything: bool = False) -> list[Job]:
        """Return your jobs by identifier, as `get_jobids` says."""
        from dpu.joblist import mine

        return mine(self.link, self.config.username, self._submitted, everything=everything)


def _find_checkout(environ: Mapping[str, str]) -> Path | None:
    from dpu.bundle import find_checkout

    return find_checkout(environ)
