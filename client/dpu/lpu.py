"""The object `lpu` at the prompt: sequences run in this very process, where a debugger reaches them."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpu.catalogue import PACKAGE, describe, describe_installed, import_root
from dpu.errors import UsageError
from dpu.products import QUALITY_FIGURE
from dpu.report import Reporter, calling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dpu_api.v1.catalogue_pb2 import Catalogue, Stage


class Lpu:
    """The local processing unit: runs sequences in this process, without a DPU, to see what a recipe does.

        lpu.ingest('night/raw')                     take raw FITS files in
        lpu.run('Bias', i='WFI', d='2000-04-28')    run; what was made is returned

    Recipes are those of the local checkout, read anew at each run; `breakpoint()` in one, or %debug after a failure,
    opens the debugger in it. Frames and products are kept in a folder of this machine, and no DPU sees them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        find_checkout: Callable[[], Path | None] | None = None,
        reporter: Reporter | None = None,
        cache: Path | None = None,
    ) -> None:
        self.folder = folder
        self._find_checkout = find_checkout or partial(_find_checkout, os.environ)
        self._reporter = reporter or Reporter()
        self._cache = cache

    def __repr__(self) -> str:
        return f"<Lpu in {str(self.folder)!r}: lpu.ingest(files) and lpu.run(sequence, ...) work here, without a DPU>"

    def ingest(self, *paths: str | Path) -> list[Any]:
        """Take raw FITS files, or the folders that hold them, in; return their frames. What is there stays."""
        from dpu.ingest import find_files

        files = find_files([Path(path).expanduser() for path in paths])
        with self._recipes():
            archive = self._archive()
            return [frame for file in files for frame in archive.ingest(file)]

    def run(self, sequence: str, **options: object) -> list[Any]:
        """Run a sequence, one task after the other, and return the products it has made.

        Options are those of `dpu.run`; what is made is kept, whatever `C` says. A recipe's own exception comes out as
        it is. Raises a UsageError for a wrong name or value.
        """
        from dpu.submission import asked

        chosen, checked = asked(self._catalogue(), sequence, options)
        self._reporter.say(calling(sequence, "this machine", options))
        with self._recipes(), self._logging():
            made: list[Any] = []
            archive = _Noting(self._archive(), made)
            for stage in chosen.stages:
                self._do(stage, checked, archive)
            return made

    def _do(self, stage: Stage, options: Mapping[str, Any], archive: Any) -> None:
        """Plan a stage, and do its tasks, each in an empty folder of its own."""
        registry = import_module(f"{PACKAGE}.registry")
        with tempfile.TemporaryDirectory(prefix="lpu-") as scratch:
            specs = registry.plan(stage.recipe, options, archive, Path(scratch))
        for spec in specs:
            self._reporter.say(f"{stage.recipe} of {spec.label}")
            with tempfile.TemporaryDirectory(prefix="lpu-") as scratch:
                registry.run(stage.recipe, options, archive, Path(scratch), spec)

    def _archive(self) -> Any:
        instruments = import_module(f"{PACKAGE}.instruments").load()
        return import_module(f"{PACKAGE}.archive_folder").FolderArchive(self.folder, instruments)

    def _catalogue(self) -> Catalogue:
        root = self._root()
        return describe_installed(self._cache) if root is None else describe(root, self._cache)

    def _root(self) -> Path | None:
        """Return the folder that holds the checkout's recipes."""
        checkout = self._find_checkout()
        return None if checkout is None else import_root(checkout)

    @contextmanager
    def _recipes(self) -> Iterator[None]:
        """Import the recipes anew during the block: a file saved a moment ago counts."""
        root, path, writes = self._root(), list(sys.path), sys.dont_write_bytecode
        _forget()
        if root is not None:
            sys.path.insert(0, str(root))
        # Bytecode is known by a time in whole seconds and a size: two saves within a second would look alike.
        sys.dont_write_bytecode = True
        try:
            if find_spec(PACKAGE) is None:
                raise UsageError("no recipes are installed here: pip install 'dpu[recipes]', or set AWEPIPE")
            yield
        finally:
            sys.path[:], sys.dont_write_bytecode = path, writes

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Print what the recipes log."""
        log, handler = logging.getLogger(PACKAGE), _Printing(self._reporter)
        level = log.level
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


class _Noting:
    """An archive, which also notes what is saved."""

    def __init__(self, archive: Any, made: list[Any]) -> None:
        self._archive = archive
        self._made = made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._archive, name)

    def save(self, product: Any, file: Path | None = None) -> Any:
        saved = self._archive.save(product, file)
        if saved.frame_class != QUALITY_FIGURE:
            self._made.append(saved)
        return saved


class _Printing(logging.Handler):
    """Prints records as lines."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.say(record.getMessage())


def _find_checkout(environ: Mapping[str, str]) -> Path | None:
    from dpu.checkout import find_checkout

    return find_checkout(environ)


def _forget() -> None:
    """Let go of the recipes that were imported before."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    invalidate_caches()
