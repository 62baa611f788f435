"""Installed versions of the recipes: trees that an operator has named, for the users of all projects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from dpu.errors import Conflict, NotFound, UsageError
from dpu.options import CURRENT, listed, nearest
from dpu_api.v1.codeship_pb2 import Tree, Version
from dpud.codeship.store import CodeStore, VersionStore

if TYPE_CHECKING:
    from dpu_api.v1.catalogue_pb2 import Catalogue

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class Store(CodeStore, VersionStore, Protocol):
    """Trees, and the names of some."""


class Versions:
    """Names trees, and finds them by their names."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def install(self, project: str, name: str, digest: str, catalogue: Catalogue) -> Version:
        """Name a tree that a project has put. Raises NotFound, UsageError, Conflict where the name is another's."""
        if not _NAME.fullmatch(name) or name == CURRENT:
            raise UsageError(
                f"{name[:80]!r} is no name for a version: letters, digits and '._+-', at most 64, and not {CURRENT!r}"
            )
        tree = Tree.FromString(await self._store.tree(project, digest))
        known = (await self._store.versions()).get(name)
        if known is not None and (other := Version.FromString(known)).digest != digest:
            raise Conflict(f"version {name!r} is installed already, and is {other.description}: remove it first")
        version = Version(name=name, digest=digest, description=tree.description, catalogue=catalogue)
        await self._store.put_version(name, version.SerializeToString(deterministic=True))
        return version

    async def get(self, name: str) -> Version:
        """Return what is installed under a name. Raises NotFound, which says what is there."""
        known = await self._store.versions()
        if name not in known:
            there = listed([CURRENT, *known])
            raise NotFound(f"version {name[:80]!r} is not installed here: there is {there}{nearest(name, list(known))}")
        return Version.FromString(known[name])

    async def all(self) -> list[Version]:
        """Return all versions, without what they can do."""
        versions = [Version.FromString(version) for version in (await self._store.versions()).values()]
        for version in versions:
            version.ClearField("catalogue")
        return versions

    async def remove(self, name: str) -> None:
        """Remove a version. Raises NotFound."""
        await self.get(name)
        await self._store.remove_version(name)
