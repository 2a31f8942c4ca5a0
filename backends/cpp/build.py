"""C++ source -> shared library, by whichever compiler there is.

The library's name is the hash of the source, the flags and the compiler's version. Never -ffast-math:
linked into a shared object it switches subnormals off in the whole process.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ...compiler.schedules.target import CpuTarget
from ...dsl.errors import CompilerFault
from ...dsl.mistakes import MissingCompiler
from ..cache import cache_dir, digest, machine_digest, optimisation, unwritable, write_whole

FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-shared",
    "-fPIC",
    "-w",
)

GCC_FLAGS = ("-fno-version-loops-for-strides", "-fno-unswitch-loops")
"""Against copies of loops, which take a fifth of the building time and make no kernel quicker."""


ANOTHER = ("try another compiler: CXX=clang++", 'or ask for backend="reference"')

UNWRITABLE = ("No space left on device", "Disk quota exceeded", "Read-only file system", "Permission denied")
"""What compilers say where the folder is to blame."""


@dataclass(frozen=True, slots=True)
class Compiler:
    command: tuple[str, ...]
    version: str

    @property
    def flags(self) -> tuple[str, ...]:
        """FLAGS, and those that only this compiler knows."""
        return (*FLAGS, *GCC_FLAGS) if "Free Software Foundation" in self.version else FLAGS


def find_compiler() -> Compiler:
    """$CXX, g++, clang++, or the `ziglang` package. Raises MissingCompiler."""
    return _find(os.environ.get("CXX"), os.environ.get("PATH"))


@cache
def _find(given: str | None, path: str | None) -> Compiler:
    candidates = [tuple(shlex.split(given))] if given else [("g++",), ("clang++",)]
    for command in candidates:
        if command and shutil.which(command[0]):
            return Compiler(command, _version(command))
    if not given and find_spec("ziglang") is not None:
        zig = (sys.executable, "-m", "ziglang", "c++")
        return Compiler(zig, _version(zig))
    tried = given or "g++, clang++, the ziglang package"
    raise MissingCompiler(
        "no C++ compiler was found",
        notes=[f"tried: {tried}"],
        helps=[
            "install g++ or clang++, or `pip install ziglang`; CXX names another one",
            'or ask for backend="reference"',
        ],
    )


def _version(command: tuple[str, ...]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingCompiler(
            f"`{' '.join(command)} --version` fails", notes=done.stderr.splitlines()[:5], helps=ANOTHER
        )
    return done.stdout


def build(source: str, target: CpuTarget) -> Path:
    """The library of a source, built unless it is there. Raises MissingCompiler with the compiler's words,
    UnwritableCache."""
    compiler = find_compiler()
    flags = (*compiler.flags, optimisation(), *target.flags)
    native = machine_digest() if "-march=native" in flags else ""
    name = digest(source, " ".join(flags), native, " ".join(compiler.command), compiler.version)
    library = cache_dir() / "cpp" / f"{name}.so"
    if library.exists():
        return library
    text = library.with_suffix(".cpp")
    write_whole(text, source.encode())
    unfinished = library.with_suffix(f".{os.getpid()}.tmp")
    try:
        done = subprocess.run(
            [*compiler.command, *flags, str(text), "-o", str(unfinished)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise _refused(compiler, flags, done.stderr, text)
        os.replace(unfinished, library)
    finally:
        unfinished.unlink(missing_ok=True)
    return library


def _refused(compiler: Compiler, flags: tuple[str, ...], words: str, text: Path) -> Exception:
    """Whose fault it is that a source did not compile: the folder's, if it takes nothing more; the compiler's,
    if it cannot do the simplest."""
    full = next((reason for reason in UNWRITABLE if reason in words), None)
    if full is not None:
        return unwritable(text.parent.parent, full)
    trivial = subprocess.run(
        [*compiler.command, *flags, "-x", "c++", "-", "-o", os.devnull],
        input='#include <cstring>\nextern "C" int one() { return 1; }\n',
        capture_output=True,
        text=True,
        check=False,
    )
    if trivial.returncode:
        return MissingCompiler(
            f"`{' '.join(compiler.command)}` does not compile the simplest library",
            notes=trivial.stderr.splitlines()[:8],
            helps=ANOTHER,
        )
    lines = "\n".join(words.splitlines()[:20])
    return CompilerFault("cpp", f"`{compiler.command[0]}` refused the generated source {text}:\n{lines}")
