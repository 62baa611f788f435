"""Objects in a bucket of any S3, the parts that were read last in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as NoSuchObject

from dpu.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    from obstore.store import ObjectStore

    Answer = TypeVar("Answer")

#: Bytes of objects that stay in memory: what followers of a running job read was written a moment ago.
CACHE_BYTES = 32 * 1024 * 1024
#: An object up to this size is fetched whole.
WHOLE = 1024 * 1024


class Bucket:
    """Puts, reads and deletes objects; may be used by several threads. Raises Unreachable where that fails."""

    def __init__(self, store: ObjectStore, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._store = store
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        """Store an object; durable on return."""
        self._asked(lambda: obstore.put(self._store, key, data), f"{key} cannot be written")
        if len(data) <= WHOLE:
            self._remember((key, 0, len(data)), data)

    def read(self, key: str, start: int, stop: int, size: int) -> bytes:
        """Return the bytes [start, stop) of an object of `size` bytes."""
        if size <= WHOLE:
            return self._range(key, 0, size)[start:stop]
        return self._range(key, start, stop)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the names of the objects that begin with `prefix`."""
        for page in self._asked(lambda: list(obstore.list(self._store, prefix)), f"{prefix} cannot be listed"):
            for found in page:
                yield found["path"]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error."""
        if keys:
            self._asked(lambda: obstore.delete(self._store, list(keys)), f"{keys[0]} cannot be deleted")

    def _range(self, key: str, start: int, stop: int) -> bytes:
        place = (key, start, stop)
        with self._lock:
            if place in self._cache:
                self._cache.move_to_end(place)
                return self._cache[place]
        data = self._asked(
            lambda: bytes(obstore.get_range(self._store, key, start=start, end=stop)), f"{key} cannot be read"
        )
        self._remember(place, data)
        return data

    def _remember(self, place: tuple[str, int, int], data: bytes) -> None:
        with self._lock:
            if place in self._cache:
                return
            self._cache[place] = data
            self._cached += len(data)
            while self._cached > self._cache_bytes:
                self._cached -= len(self._cache.popitem(last=False)[1])

    def _asked(self, ask: Callable[[], Answer], what: str) -> Answer:
        try:
            return ask()
        except (NoSuchObject, FileNotFoundError) as error:
            raise FileNotFoundError(what) from error
        except (BaseError, OSError) as error:
            # Of what the library says only the first line is for people.
            raise Unreachable(f"the bucket of the logs: {what}: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, slots=True)
class ObjectSource:
    """The bytes of an object."""

    bucket: Bucket
    key: str
    size: int

    def __str__(self) -> str:
        return self.key

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        return self.bucket.read(self.key, start, stop, self.size)
