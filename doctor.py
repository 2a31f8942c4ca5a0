"""What works here: one line for each thing that plait needs, with what to do where it is missing."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from .backends.cache import cache_dir
from .backends.cpp.build import build, find_compiler
from .backends.cpp.rates import this_machine
from .compiler.schedules.target import this_cpu
from .dsl.errors import CompilerFault, PlaitError
from .dsl.mistakes import InvalidArgument, MissingCompiler

PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "sympy",
    "networkx",
    "lark",
    "hypothesis",
    "rich",
    "click",
    "safetensors",
)
"""What plait needs; tests/test_cli.py holds the list to pyproject.toml."""
SIMPLEST = '#include <cstring>\nextern "C" int one() { return 1; }\n'
"""What every compiler that plait can use makes a library of."""
LEAST_PYTHON = (3, 11)
LEAST = {"torch": (2, 11), "triton": (3, 6)}
"""The versions below which something is known to be missing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. What is `needed` and not good keeps plait from running on the CPU."""

    good: bool
    text: str
    needed: bool = True

    def __str__(self) -> str:
        return f"{'ok' if self.good else '--'}  {self.text}"


def findings() -> Iterator[Finding]:
    """Every finding, in the order in which one would mend them."""
    yield _python()
    for name in PACKAGES:
        yield _package(name)
    yield _compiler()
    target, threads = this_cpu(), torch.get_num_threads()
    yield Finding(
        True,
        f"CPU: {target.name}, vectors of {target.vector_bytes} bytes, {threads} threads (OMP_NUM_THREADS sets them)",
    )
    yield _rates()
    yield _cuda()
    yield _cache()


def _python() -> Finding:
    text = f"Python {platform.python_version()} on {platform.machine()}"
    if sys.version_info >= LEAST_PYTHON:
        return Finding(True, text)
    return Finding(False, f"{text}: plait needs {'.'.join(map(str, LEAST_PYTHON))} or newer")


def _package(name: str) -> Finding:
    needed = name != "triton"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(False, f"{name} is missing: pip install {name}", needed)
    least = LEAST.get(name, ())
    numbers = tuple(int(part) for part in re.findall(r"\d+", found)[:2])
    if numbers >= least:
        return Finding(True, f"{name} {found}", needed)
    wanted = ".".join(map(str, least))
    return Finding(False, f"{name} {found} is too old: pip install '{name}>={wanted}'", needed)


def _compiler() -> Finding:
    """Whether there is one, and whether it makes a library: one without its headers answers `--version` too."""
    try:
        compiler = find_compiler()
        build(SIMPLEST, this_cpu())
    except MissingCompiler as problem:
        tried = "".join(f" ({note})" for note in problem.notes[:1])
        return Finding(False, ": ".join((f"{problem.message}{tried}", *problem.helps[:1])))
    except (CompilerFault, OSError) as problem:
        return Finding(False, f"the C++ compiler makes no library: {problem}; CXX names another one")
    return Finding(True, f"C++ compiler {' '.join(compiler.command)}: {compiler.version.splitlines()[0]}")


def _rates() -> Finding:
    """What the cost model of `explain` believes of this machine."""
    try:
        machine = this_machine()
    except (MissingCompiler, CompilerFault, InvalidArgument, OSError) as problem:
        return Finding(False, f"no figures of this machine for `explain`: {problem.args[0]}", needed=False)
    figures = (
        f"{machine.products / 1e9:.3g}e9 multiply-adds, {machine.bytes / 1e9:.3g} GB of memory and "
        f"{machine.functions / 1e9:.3g}e9 exponentials a second"
    )
    return Finding(True, f"measured ({machine.name}): {figures} (PLAIT_MACHINE says others)")


def _cuda() -> Finding:
    if torch.cuda.is_available():
        return Finding(True, f"CUDA {torch.version.cuda}: {torch.cuda.get_device_name()}", needed=False)
    if torch.version.cuda is None and torch.version.hip is None:
        why = "this torch is a CPU build; for a GPU install one from https://pytorch.org/get-started/locally"
    else:
        why = "torch sees no device; is there a driver (nvidia-smi)?"
    rest = "; Triton kernels can be compiled without one (plait aot)" if find_spec("triton") else ""
    return Finding(False, f"no CUDA: {why}{rest}", needed=False)


def _cache() -> Finding:
    named = os.environ.get("PLAIT_CACHE_DIR") or str(Path.home() / ".cache" / "plait")
    try:
        folder = cache_dir()
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
    except PlaitError as problem:
        return Finding(False, f"cache: {problem.message}; PLAIT_CACHE_DIR names another folder")
    except OSError as problem:
        return Finding(False, f"cache {named}: {problem.strerror}; PLAIT_CACHE_DIR names another folder")
    if not os.access(folder, os.W_OK):
        return Finding(False, f"cache {folder} cannot be written; PLAIT_CACHE_DIR names another folder")
    return Finding(
        True, f"cache {folder}: {len(files)} files, {size:.1f} MB (plait cache --clear empties it)"
    )
