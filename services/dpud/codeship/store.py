"""Where code is kept: the port, and the adapter that keeps it in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dpu.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeVar

    from dpud.codeship.blobs import Packed

    Thing = TypeVar("Thing")


class CodeStore(Protocol):
    """Blobs and trees by digest. A project sees what it put itself; the project None sees everything."""

    async def sizes(self, project: str, digests: Iterable[str]) -> dict[str, int]:
        """Return the sizes of those blobs that the project has put."""

    async def put_blobs(self, project: str, blobs: Iterable[Packed]) -> None:
        """Keep blobs, already verified, durable on return. Raises StorageFull, or Exhausted above a quota."""

    async def blob(self, project: str | None, digest: str) -> Packed:
        """Return a blob. Raises NotFound."""

    async def put_tree(self, project: str, digest: str, tree: bytes, blobs: Iterable[Packed] = ()) -> None:
        """Keep a serialised tree and blobs that came with it, as put_blobs does: all of them or none."""

    async def tree(self, project: str | None, digest: str) -> bytes:
        """Return a serialised tree. Raises NotFound."""


class VersionStore(Protocol):
    """Versions by name, serialised; the trees that they name stay."""

    async def versions(self) -> dict[str, bytes]:
        """Return all of them, in the order of their names."""

    async def put_version(self, name: str, version: bytes) -> None:
        """Keep a version, durable on return; one of that name is replaced."""

    async def remove_version(self, name: str) -> None:
        """Remove a version; one that is not there is no error."""


class MemoryCodeStore:
    """Keeps code and versions as long as the process lives."""

    def __init__(self) -> None:
        self._blobs: dict[str, dict[str, Packed]] = {}
        self._trees: dict[str, dict[str, bytes]] = {}
        self._versions: dict[str, bytes] = {}

    async def sizes(self, project: str, digests: Iterable[str]) -> dict[str, int]:
        """Return the sizes of those blobs that the project has put."""
        mine = self._blobs.get(project, {})
        return {digest: mine[digest].size for digest in digests if digest in mine}

    async def put_blobs(self, project: str, blobs: Iterable[Packed]) -> None:
        """Keep blobs."""
        self._blobs.setdefault(project, {}).update({packed.digest: packed for packed in blobs})

    async def blob(self, project: str | None, digest: str) -> Packed:
        """Return a blob."""
        return _find(self._blobs, project, digest, "blob")

    async def put_tree(self, project: str, digest: str, tree: bytes, blobs: Iterable[Packed] = ()) -> None:
        """Keep a tree, and blobs that came with it."""
        await self.put_blobs(project, blobs)
        self._trees.setdefault(project, {})[digest] = tree

    async def tree(self, project: str | None, digest: str) -> bytes:
        """Return a tree."""
        return _find(self._trees, project, digest, "tree of code")

    async def versions(self) -> dict[str, bytes]:
        """Return all versions."""
        return dict(sorted(self._versions.items()))

    async def put_version(self, name: str, version: bytes) -> None:
        """Keep a version."""
        self._versions[name] = version

    async def remove_version(self, name: str) -> None:
        """Remove a version."""
        self._versions.pop(name, None)


def _find(shelves: Mapping[str, Mapping[str, Thing]], project: str | None, digest: str, kind: str) -> Thing:
    for owner, shelf in shelves.items():
        if project in {None, owner} and digest in shelf:
            return shelf[digest]
    raise unknown(kind, digest)


def unknown(kind: str, digest: str) -> NotFound:
    """Return the error for what is not there, or not to be seen."""
    return NotFound(f"there is no {kind} {digest}: ship it again")
