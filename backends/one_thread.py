"""One thread of a CPU, for operations whose bits would follow the number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_ALONE = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_ALONE.acquire, after_in_parent=_ALONE.release, after_in_child=_ALONE.release)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch runs what is inside on one thread of the CPU, and has its number of threads again afterwards.

    One caller at a time, and the number is read by the one whose turn it is: a thread takes its first number from the
    one that was set last, wherever that was.
    """
    with _ALONE:
        threads = torch.get_num_threads()
        if threads > 1:
            torch.set_num_threads(1)
            try:
                yield
            finally:
                torch.set_num_threads(threads)
            return
    yield
