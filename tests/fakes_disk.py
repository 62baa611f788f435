"""A disk that takes no more."""

import resource
import signal
from contextlib import contextmanager


@contextmanager
def files_of_at_most(size):
    """Let no file of this process grow beyond `size` bytes, as on a full disk, until the block ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
