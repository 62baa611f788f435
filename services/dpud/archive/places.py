"""Where the files of each tier are: in folders of this machine, or in a bucket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dpud.archive.pairing import FolderLabel, Label
from dpud.archive.store_files import FolderStore
from dpud.hosting.settings import BadSetting

if TYPE_CHECKING:
    from dpud.archive.store import Store

_BUCKET = re.compile(r"s3://[^/]+(/.*)?")


class Place(NamedTuple):
    """Files, and what is written beside them."""

    store: Store
    label: Label


def parse_bucket(text: str) -> str:
    """Return the URL of a bucket, checked. Raises ValueError."""
    if not _BUCKET.fullmatch(text):
        raise ValueError("must be 's3://bucket' or 's3://bucket/prefix'")
    return text


def parse_cold(text: str) -> str:
    """Return where the cold tier is, checked: the URL of a bucket, or a folder's whole path. Raises ValueError."""
    if not _BUCKET.fullmatch(text) and not Path(text).is_absolute():
        raise ValueError("must be a folder's whole path, 's3://bucket' or 's3://bucket/prefix'")
    return text


def warm_place(state: Path, files: str) -> Place:
    """Return where files are as they came: in a bucket where one is said. Raises BadSetting and Unreachable."""
    if files:
        return _bucket(files, "DPU_FILES")
    return Place(FolderStore(state / "files"), FolderLabel(state, "DPU_STATE"))


def cold_place(state: Path, files: str, cold: str) -> Place:
    """Return where packed files are: beside the others, where nothing else is said. Raises as `warm_place` does."""
    where = cold or (f"{files.rstrip('/')}/cold" if files else str(state / "cold"))
    if _is_same(where, files or str(state / "files")):
        # What is taken from one of the tiers would be gone from both.
        raise BadSetting(f"DPU_COLD_FILES={cold!r}: the frames themselves are there: name another place, or none")
    if _BUCKET.fullmatch(where):
        return _bucket(where, "DPU_COLD_FILES")
    return Place(FolderStore(Path(where)), FolderLabel(Path(where), "DPU_COLD_FILES"))


def _is_same(one: str, other: str) -> bool:
    """Return whether two names are of one place."""
    if _BUCKET.fullmatch(one) or _BUCKET.fullmatch(other):
        return one.rstrip("/") == other.rstrip("/")
    return Path(one).resolve() == Path(other).resolve()


def _bucket(url: str, key: str) -> Place:
    try:
        from dpud.archive.store_s3 import open_bucket
    except ImportError as error:
        raise BadSetting(f"{key}={url!r}: {error}: install it with pip install 'dpu[s3]'") from error
    return Place(*open_bucket(url, key))
