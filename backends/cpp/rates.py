"""What this CPU can do, measured once: the constants of the cost model.

Three loops of a tiny library (rates.cpp) are timed, in less than a second together: memory on torch's
threads, arithmetic on one of them and taken times their number, the best of many short runs, so that a busy
machine finds a quiet moment. The figures lie in the cache folder, one file for each machine and number of threads.
`PLAIT_MACHINE="products=1e11 bytes=2e10 functions=3e9"` says them instead (each a second, float32).
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from ...compiler.report.cost import Machine
from ...compiler.schedules.target import CpuTarget, this_cpu
from ...dsl.mistakes import InvalidArgument
from ..cache import cache_dir, digest, machine_digest, write_whole
from .build import build
from .emit import HEADER
from .launch import Built, runner

RATES = ("products", "bytes", "functions")
CHAINS, EXPONENTIALS = 12, 4
"""Multiply-adds and exponentials of a vector in one pass of the loops of rates.cpp."""
REALS = 1 << 24
"""The length of the vectors that are added up: 64 MiB each, beyond any cache."""
RUNS, SHORT = 60, 1e-3
"""A rate of arithmetic is the best of so many runs, each of at least so many seconds: less than a thread is
left alone for by any scheduler."""
PASSES = 12
"""Runs over memory, of some 10 ms each."""


def this_machine() -> Machine:
    """The figures that PLAIT_MACHINE says, those of the cache, or measured ones. Raises InvalidArgument
    where PLAIT_MACHINE is not readable, MissingCompiler where there is nothing to measure with."""
    given = os.environ.get("PLAIT_MACHINE")
    return read(given) if given else kept(this_cpu())


def read(text: str) -> Machine:
    """`products=... bytes=... functions=...` as a machine; `name=...` may say what it is called."""
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    try:
        numbers = {rate: float(words[rate]) for rate in RATES}
    except (KeyError, ValueError):
        numbers = {}
    if len(numbers) < len(RATES) or min(numbers.values()) <= 0:
        raise InvalidArgument(
            f"PLAIT_MACHINE is `{text}`, and says not how many {', '.join(RATES)} a second there are",
            helps=['for example PLAIT_MACHINE="products=1e11 bytes=2e10 functions=3e9"'],
        )
    return Machine(words.get("name", "as PLAIT_MACHINE says"), **numbers, **_cores(words))


def own_cache() -> int:
    """The bytes of the largest cache that a core has to itself, as Linux tells; 0 elsewhere."""
    most = 0
    for place in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            shared, held = ((place / name).read_text().strip() for name in ("shared_cpu_list", "size"))
        except OSError:
            continue
        if held.endswith("K") and "," not in shared and "-" not in shared:
            most = max(most, 1024 * _whole(held[:-1]))
    return most


def _cores(words: Mapping[str, str]) -> dict[str, int]:
    """What PLAIT_MACHINE may say of the cores: `cache` and `threads`."""
    return {name: _whole(words[name]) for name in ("cache", "threads") if name in words}


def _whole(text: str) -> int:
    """A number of bytes; 0 for what is none."""
    return int(text) if text.isdigit() else 0


def kept(target: CpuTarget) -> Machine:
    """From the cache, or measured now and put there."""
    threads = torch.get_num_threads()
    name = f"{target.name}, {threads} thread{'' if threads == 1 else 's'}"
    path = cache_dir() / "machine" / f"{digest(machine_digest(), target.name, str(threads))}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rates = {rate: float(found[rate]) for rate in RATES}
        return Machine(name, **rates, cache=own_cache(), threads=threads)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    machine = measured(target, name)
    figures = {rate: getattr(machine, rate) for rate in RATES}
    write_whole(path, json.dumps(figures, indent=1).encode())
    return machine


def loops(target: CpuTarget, real: str = "float") -> Path:
    """The library of the loops over vectors of `real`, a type of C. Raises MissingCompiler."""
    body = resources.files(__name__.rpartition(".")[0]).joinpath("rates.cpp").read_text()
    defines = [
        f"#define PLAIT_BYTES {target.vector_bytes}", f"#define PLAIT_REAL {real}",
        f"#define PLAIT_INT {'int' if real == 'float' else 'long'}", "#define PLAIT_NO_INTEGER (-1L)",
    ]  # fmt: skip
    return build("\n".join([*defines, HEADER, body]), target)


def measured(target: CpuTarget, name: str) -> Machine:
    """Time the loops. Raises MissingCompiler."""
    library = loops(target)
    threads, lanes = torch.get_num_threads(), target.vector_bytes // 4
    ends = [torch.zeros(lanes), torch.zeros(1)]
    vectors = [torch.zeros(REALS), torch.zeros(REALS)]
    memory = Loop(library, "bytes", vectors, threads)
    memory.time(REALS)
    return Machine(
        name,
        products=Loop(library, "products", ends, 1).rate() * CHAINS * lanes * threads,
        bytes=REALS * 3 * 4 / min(memory.time(REALS) for _ in range(PASSES)),
        functions=Loop(library, "functions", ends, 1).rate() * EXPONENTIALS * lanes * threads,
        cache=own_cache(),
        threads=threads,
    )


@dataclass(frozen=True, slots=True)
class Loop:
    """One of the loops of rates.cpp on so many threads."""

    library: Path
    what: str
    tensors: Sequence[Tensor]
    threads: int

    def rate(self) -> float:
        """Passes a second."""
        count = 1 << 10
        while self.time(count) < SHORT:
            count *= 2
        return count / min(self.time(count) for _ in range(RUNS))

    def time(self, count: int) -> float:
        """Seconds of `count` passes."""
        name = f"rate_{self.what}"
        function = Built(name, self.library, name).function()
        buffers = (ctypes.c_void_p * len(self.tensors))(*[tensor.data_ptr() for tensor in self.tensors])
        numbers = (ctypes.c_long * 1)(count)
        start = perf_counter()
        function(buffers, numbers, runner(self.threads), self.threads)
        return perf_counter() - start
