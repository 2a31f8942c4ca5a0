"""What works here: one line for each thing that plait needs, with what to do where it is missing."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from .backends.cache import cache_dir
from .backends.cpp.build import find_compiler
from .compiler.target import this_cpu
from .dsl.mistakes import MissingCompiler

PACKAGES = (
    "torch",
    "triton",
    "sympy",
    "networkx",
    "lark",
    "hypothesis",
    "numpy",
    "click",
    "rich",
    "safetensors",
)


def findings() -> Iterator[str]:
    """The lines, good ones marked `ok`, others `--`."""
    yield f"ok  Python {platform.python_version()} on {platform.machine()}"
    for name in PACKAGES:
        try:
            yield f"ok  {name} {version(name)}"
        except PackageNotFoundError:
            yield f"--  {name} is missing: pip install {name}"
    yield _compiler()
    target = this_cpu()
    yield f"ok  CPU target {target.name}: vectors of {target.vector_bytes} bytes, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        yield f"ok  CUDA: {torch.cuda.get_device_name()}"
    else:
        rest = (
            "Triton kernels can be compiled ahead of time (plait aot)"
            if find_spec("triton")
            else "no triton either"
        )
        yield f"--  no CUDA device; {rest}"
    files = [path for path in cache_dir().rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    yield f"ok  cache {cache_dir()}: {len(files)} files, {size:.1f} MB (plait cache --clear empties it)"


def _compiler() -> str:
    try:
        compiler = find_compiler()
    except MissingCompiler as problem:
        return f"--  {problem.message}: {problem.helps[0]}"
    return f"ok  C++ compiler {' '.join(compiler.command)}: {compiler.version.splitlines()[0]}"
