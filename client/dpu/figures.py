"""Pictures of products: drawn here, or the figures of quality that the recipes drew of them, brought here."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from dpu.config import Config
from dpu.errors import NothingSelected, UsageError
from dpu.fetch import read
from dpu.jobids import one
from dpu.link import Link
from dpu.products import Product, figures_of, made
from dpu.report import Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence


def picture(link: Link, what: int | Product, file: str | Path, *, quality: bool) -> tuple[str, Path]:
    """Write the picture of a job, or of a product its figure, as PNG; return what it shows and its path.

    With `quality`, of a job the figures of its products, one below the other. Raises NothingSelected where there is
    nothing to see, UsageError where it cannot be written.
    """
    if isinstance(what, Product):
        return what.file_name, _saved([_bytes(link, what)], _path(file, f"{what.file_name.removesuffix('.fits')}.png"))
    job_id = one(what)
    if quality:
        return f"The quality of job {job_id}", _saved(_all(link, job_id), _path(file, f"job-{job_id}-quality.png"))
    from dpu import plot

    return f"Job {job_id}", plot.save(plot.plot(link, job_id), _path(file, f"job-{job_id}.png"))


def main(arguments: Sequence[str]) -> int:
    """Run `awe plot` and return its exit code."""
    parser = argparse.ArgumentParser(prog="awe plot", description="Save a picture of what a job has made, as PNG.")
    parser.add_argument("jobid", type=int)
    parser.add_argument("file", nargs="?", default="", help="where to (default: job-JOBID.png)")
    parser.add_argument("--quality", action="store_true", help="the figures of quality that the recipes drew")
    asked = parser.parse_args(arguments)
    say = Reporter().say
    with closing(Link.of(Config.read(os.environ), say)) as link:
        shown, path = picture(link, asked.jobid, asked.file, quality=asked.quality)
    say(f"{shown} is drawn in {path}")
    return 0


def _path(file: str | Path, default: str) -> Path:
    return Path(file or default).expanduser()


def _saved(pictures: list[bytes], file: Path) -> Path:
    """Write pictures, one below the other, and return their path. Raises UsageError."""
    try:
        file.write_bytes(pictures[0] if len(pictures) == 1 else _stacked(pictures))
    except OSError as error:
        raise UsageError(f"{str(file)!r} cannot be written: {error.strerror}") from error
    return file


def _bytes(link: Link, product: Product) -> bytes:
    found = figures_of(link, product.job) if product.job else {}
    if product.id not in found:
        raise NothingSelected(f"no figure was drawn of {product.frame_class} {product.file_name}")
    content = BytesIO()
    read(link, found[product.id], content)
    return content.getvalue()


def _all(link: Link, job_id: int) -> list[bytes]:
    figures = figures_of(link, job_id)
    drawn = [figures[frame.id] for frame in made(link, job_id) if frame.id in figures]
    if not drawn:
        raise NothingSelected(f"job {job_id} has made nothing that a figure was drawn of (so far)")
    contents = [BytesIO() for _ in drawn]
    for figure, content in zip(drawn, contents, strict=True):
        read(link, figure, content)
    return [content.getvalue() for content in contents]


def _stacked(pictures: list[bytes]) -> bytes:
    """Return pictures one below the other as one."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("Pillow is not installed here: pip install 'dpu[plot]'") from error

    sheets = [Image.open(BytesIO(picture)) for picture in pictures]
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    png = BytesIO()
    whole.save(png, "PNG")
    return png.getvalue()
