"""What happens between `run` and a job: code, options and frames are checked, code is shipped, the job is submitted."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpu import tracing
from dpu.catalogue import describe_checkout, describe_installed
from dpu.errors import BadTree, NothingSelected, Unreachable, UsageError
from dpu.options import CURRENT, DpuOptions, check, find_sequence
from dpu.tree import LOCK
from dpu.values import Plain, to_map
from dpu_api.v1.archive_pb2 import PreviewRequest, Selection
from dpu_api.v1.catalogue_pb2 import Sequence
from dpu_api.v1.job_pb2 import Limits
from dpu_api.v1.scheduler_pb2 import GetCatalogueRequest, SubmitJobRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dpu.bundle import Bundle
    from dpu.link import Link
    from dpu_api.v1.catalogue_pb2 import Catalogue, Stage
    from dpu_api.v1.job_pb2 import Job

#: Reading a night's headers, or writing a large job to the journal, may take its time.
SLOW_S = 60.0
#: Long names of options that give file names: they override the rest of a selection.
FILE_OPTIONS = ("raw_filenames", "red_filenames", "reg_filenames")

#: Makes missing inputs first, and for which stages; the second is ours to give, as are the last two.
DEEP, TARGETS, DRYRUN, PRIVILEGES = "deep", "targets", "dryrun", "privileges"

#: Long names of options that the call which makes what is missing has in common with this one.
KEPT = ("instrument", "date", "chip", "filter")


@dataclass(frozen=True, slots=True)
class Recipes:
    """The recipes that a job is to use: the local checkout's, or those of the cluster."""

    catalogue: Catalogue
    #: None: the cluster's own.
    bundle: Bundle | None = None
    #: Of a version that is installed there under a name; '': what the workers have.
    digest: str = ""

    @property
    def description(self) -> str:
        """What this checkout is called, for a person; '' for what is there already."""
        return self.bundle.description if self.bundle is not None else ""


def find_recipes(link: Link, checkout: Path | None, cache: Path, version: str = CURRENT) -> Recipes:
    """Return the recipes of the checkout; without one the cluster's, as it or else this machine describes them.

    Raises BadTree when a checkout cannot be described, BadOption for a version that is not installed, Unreachable when
    nobody can describe any recipes.
    """
    if version != CURRENT:
        from dpu.versions import find_version

        found = find_version(link, version)
        return Recipes(found.catalogue, digest=found.digest)
    if checkout is not None:
        from dpu.bundle import bundle

        packed = bundle(checkout)
        return Recipes(describe_checkout(checkout, cache), packed)
    try:
        asked = _cluster_recipes(link)
    except Unreachable as unreachable:
        try:
            return Recipes(describe_installed(cache))
        except BadTree:
            raise unreachable from None
    return Recipes(asked if asked.sequences else describe_installed(cache))


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One call of `run`, checked: nothing of it is wrong that can be known before it is submitted."""

    sequence: Sequence
    options: Mapping[str, Plain]
    dpu_options: DpuOptions
    recipes: Recipes

    @classmethod
    def checked(
        cls, link: Link, recipes: Recipes, name: str, given: Mapping[str, object], *, privileges: int = 0
    ) -> Submission:
        """Return the submission of sequence `name` with the options `given`; 0: with the privileges of any product.

        Raises a UsageError for a wrong name or value, NothingSelected where no frame fits.
        """
        sequence, options = asked(recipes.catalogue, name, given)
        if recipes.bundle is not None:
            _check_packages(link, recipes.bundle)
        preview(link, recipes.catalogue, sequence, options)
        own = DpuOptions.of(given)
        told = {DRYRUN: int(own.dpu_dryrun), PRIVILEGES: privileges}
        for option in (name for name, value in told.items() if value):
            if option not in {known.long_name for known in sequence.options}:
                raise UsageError(
                    f"these recipes are too old for {option}: update the checkout, or give send_code=False"
                )
            options[option] = told[option]
        return cls(sequence=sequence, options=options, dpu_options=own, recipes=recipes)

    def submit(self, link: Link, say: Callable[[str], None]) -> Job:
        """Ship the code, submit, and return the job."""
        with tracing.root(f"submit {self.sequence.name}"):
            return self._submitted(link, say)

    def _submitted(self, link: Link, say: Callable[[str], None]) -> Job:
        request = SubmitJobRequest(
            request_id=str(uuid.uuid4()),
            sequence=self.sequence,
            options=to_map(self.options),
            code_digest=self._ship(link, say),
            code_description=self.recipes.description,
            limits=Limits(time_s=self.dpu_options.dpu_time, memory_mib=self.dpu_options.dpu_mem),
            priority=self.dpu_options.dpu_priority,
            commit=bool(self.options.get("commit")),
        )
        # May be repeated: the request_id makes one job of it.
        return link.ask(lambda services: services.scheduler.SubmitJob, request, deadline=SLOW_S).job

    def _ship(self, link: Link, say: Callable[[str], None]) -> str:
        """Send what the cluster does not have of the code; return its digest, or that of the cluster's own."""
        packed = self.recipes.bundle
        if packed is None:
            return self.recipes.digest
        from dpu.bundle import ship

        shipped = link.attempt(lambda services: ship(packed, services.code, services.shipped))
        if shipped.files:
            files = f"{shipped.files} file{'' if shipped.files == 1 else 's'}"
            say(f"Sent {files} of local code, {shipped.bytes:,} bytes ({packed.description})")
        return shipped.digest


def _check_packages(link: Link, packed: Bundle) -> None:
    """Raise BadTree where a tree asks for packages that its tasks will not have, as far as it can be known."""
    for entry in packed.tree.entries:
        if entry.path == LOCK:
            from dpu import packages

            tree = Path(packed.blobs[entry.digest]).parent
            if link.is_local:
                # The embedded DPU runs on what is installed here.
                packages.check_here(tree)
            elif (told := _cluster_recipes(link)).HasField("packages"):
                packages.check_there(tree, told.packages)


def _cluster_recipes(link: Link) -> Catalogue:
    """Return what the workers' own recipes can do; empty before the first worker has registered."""
    return link.ask(lambda services: services.scheduler.GetCatalogue, GetCatalogueRequest()).catalogue


def asked(catalogue: Catalogue, name: str, given: Mapping[str, object]) -> tuple[Sequence, dict[str, Plain]]:
    """Return the sequence that is meant and its options, checked; with deep=True, stages before its own are added.

    Raises a UsageError for a wrong name or value.
    """
    sequence = find_sequence(catalogue, name)
    if not given.get(DEEP):
        return sequence, check(sequence, given)
    targets = [stage.recipe for stage in sequence.stages]
    whole = deepened(catalogue, sequence)
    return whole, check(whole, {**given, TARGETS: targets})


def deepened(catalogue: Catalogue, sequence: Sequence) -> Sequence:
    """Return a sequence with stages before its own that make what these may miss, each after what it needs itself.

    What is there already is not made: their plans find out what is missing (dpu_recipes.deep).
    """
    makers = {stage.makes: stage for item in catalogue.sequences for stage in item.stages}
    own = {stage.recipe for stage in sequence.stages}
    before: dict[str, Stage] = {}

    def need(stage: Stage) -> None:
        for frame_class in (*stage.needs, stage.selects, *stage.instead, *stage.selects_with.values()):
            maker = makers.get(frame_class)
            if maker is not None and maker.recipe not in own | set(before):
                need(maker)
                before[maker.recipe] = maker

    for stage in sequence.stages:
        need(stage)
    whole = Sequence()
    whole.CopyFrom(sequence)
    del whole.stages[:]
    whole.stages.extend([*before.values(), *sequence.stages])
    return whole


def preview(link: Link, catalogue: Catalogue, sequence: Sequence, options: Mapping[str, Plain]) -> None:
    """Raise what the archive answers where there is no frame that a stage could start from.

    Stages that start from what an earlier stage makes are not asked for, nor those that make what may be missing.
    """
    made: set[str] = set()
    targets = options.get(TARGETS) or [stage.recipe for stage in sequence.stages]
    for stage in sequence.stages:
        if isinstance(targets, list) and stage.recipe in targets and stage.selects and stage.selects not in made:
            _preview_of_any(link, catalogue, stage, options)
        made |= {stage.selects, stage.makes}


def _preview_of_any(link: Link, catalogue: Catalogue, stage: Stage, options: Mapping[str, Plain]) -> None:
    """Raise what the archive answers of each class that a stage may start from, where none of them has frames."""
    nothing = []
    for frame_class in _starts_from(stage, options):
        request = PreviewRequest(
            frame_class=frame_class,
            selection=selection_of(options),
            makers=maker_of(catalogue, frame_class, options),
        )
        try:
            link.ask(lambda services: services.archive.Preview, request, deadline=SLOW_S)
        except NothingSelected as error:
            nothing.append(error)
        else:
            return
    raise NothingSelected("; and ".join(map(str, nothing))) from nothing[0]


def _starts_from(stage: Stage, options: Mapping[str, Plain]) -> tuple[str, ...]:
    """Return the classes that a stage may start from with these options, the best first."""
    said = {f"{name}={value}" for name, value in options.items()}
    chosen = tuple(frame_class for key, frame_class in stage.selects_with.items() if key in said)
    return chosen or (stage.selects, *stage.instead)


def selection_of(options: Mapping[str, Plain]) -> Selection:
    """Return the frames that the options of a sequence select."""
    names = [name for option in FILE_OPTIONS for name in _texts(options.get(option))]
    return Selection(
        instrument=_text(options.get("instrument")),
        night=_text(options.get("date")),
        chips=_texts(options.get("chip")),
        filter=_text(options.get("filter")),
        object=_text(options.get("object")),
        file_names=names,
    )


def maker_of(catalogue: Catalogue, frame_class: str, options: Mapping[str, Plain]) -> str:
    """Return the call that makes frames of a class, or '' where none does."""
    for sequence in catalogue.sequences:
        if sequence.stages and sequence.stages[-1].makes == frame_class:
            shown = [
                f"{option.short_name}={options[option.long_name]!r}"
                for option in sequence.options
                if option.long_name in KEPT and option.long_name in options
            ]
            return f"dpu.run({', '.join([repr(sequence.name), *shown, 'C=1'])})"
    return ""


def _text(value: Plain) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Plain) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return [value] if isinstance(value, str) and value else []
