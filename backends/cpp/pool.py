"""Our own runner, built at first use, for a torch without libgomp."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib import resources

from ...compiler.schedules.target import BASELINE
from .build import build


@cache
def pool() -> int:
    """The address of `plait_pool`. Raises MissingCompiler."""
    source = resources.files(__name__.rpartition(".")[0]).joinpath("pool.cpp").read_text()
    library = ctypes.CDLL(str(build(source, BASELINE)))
    address = ctypes.cast(library.plait_pool, ctypes.c_void_p).value
    assert address is not None
    return address
