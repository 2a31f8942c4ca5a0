"""A built library as a callable, run on torch's own threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .pool import pool

MANY = 65536
"""A launch of fewer operations runs on one thread: to call others takes some microseconds, and milliseconds where they
are busy elsewhere."""

_forked: list[bool] = []
"""Holds something in a child of a fork."""

os.register_at_fork(after_in_child=lambda: _forked.append(True))


def runner(threads: int) -> int:
    """The address of what runs a kernel on this many threads. In a forked child that is a pool of our own:
    libgomp's threads stayed with the parent, and it would wait for them for ever."""
    return pool() if _forked and threads > 1 else torchs_runner()


@cache
def torchs_runner() -> int:
    """The address of GOMP_parallel in the libgomp that torch has loaded, so that torch's threads and
    its thread settings hold; where torch brings none, a pool of our own with the same signature."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        library = ctypes.CDLL(str(path))
        address = ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
        if address:
            return address
    return pool()


@dataclass(slots=True)
class Built:
    """One kernel, ready to run: function `entry` of a library. `source` is read from the file that was compiled."""

    name: str
    library: Path
    entry: str
    backend: str = "cpp"
    _function: Callable[..., None] | None = field(default=None, repr=False)
    _effort: Callable[..., float] | None = field(default=None, repr=False)

    def __getstate__(self) -> tuple[str, Path, str]:
        return self.name, self.library, self.entry

    def __setstate__(self, state: tuple[str, Path, str]) -> None:
        self.name, self.library, self.entry = state
        self.backend, self._function, self._effort = "cpp", None, None

    @property
    def source(self) -> str:
        return self.library.with_suffix(".cpp").read_text()

    def function(self) -> Callable[..., None]:
        """The function of the library, loaded at its first use."""
        function = self._function
        if function is None:
            function = getattr(ctypes.CDLL(str(self.library)), self.entry)
            function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
            function.restype = None
            self._function = function
        return function

    def effort(self) -> Callable[..., float]:
        """The function that counts the operations of a launch (`effort.py`), loaded at its first use."""
        effort = self._effort
        if effort is None:
            effort = getattr(ctypes.CDLL(str(self.library)), f"{self.entry}_effort")
            effort.argtypes, effort.restype = [ctypes.c_void_p], ctypes.c_double
            self._effort = effort
        return effort

    def load(self) -> bool:
        """Whether the library is there and whole; what is broken is removed, so that it is built anew."""
        try:
            self.function()
        except (OSError, AttributeError):
            self.library.unlink(missing_ok=True)
            return False
        return True

    def by_address(
        self, strides: Sequence[Sequence[int]], sizes: Sequence[int]
    ) -> Callable[[Sequence[int]], None]:
        """A launch for tensors of these strides: it takes their addresses."""
        all_numbers = [*sizes, *(stride for each in strides for stride in each)]
        numbers = (ctypes.c_long * max(1, len(all_numbers)))(*all_numbers)
        function, held = self.function(), ctypes.c_void_p * len(strides)
        alone = self.effort()(numbers) < MANY

        def launch(addresses: Sequence[int]) -> None:
            threads = 1 if alone else torch.get_num_threads()
            function(held(*addresses), numbers, runner(threads), threads)

        return launch

    def __call__(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
        launch = self.by_address([tensor.stride() for tensor in tensors], sizes)
        launch([tensor.data_ptr() for tensor in tensors])
