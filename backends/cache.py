"""The folder of built kernels: content-addressed files, written whole or not at all.

`PLAIT_CACHE_DIR` moves it (default ~/.cache/plait). Libraries are named by the hash of source, flags
and compiler; the index leads from a program's text, the request and plait's own sources to a pickled
`Executable`. It is as private as the libraries beside it: this user's, never shipped.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import tempfile
from functools import cache
from pathlib import Path
from threading import RLock
from typing import TypeVar

from ..dsl.mistakes import UnwritableCache

T = TypeVar("T")

COMPILING = RLock()
"""Held while anything is traced, derived or built: threads that ask for one thing make it once. A fork
waits for it, so that no child inherits a lock whose holder stayed with the parent."""

os.register_at_fork(
    before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release
)

PACKAGE = Path(__file__).resolve().parent.parent
DSL = ("text", "constructors", "shapes", "proofs", "printing", "python", "elaboration")
ROOMS = ("meaning", "rewrites", "fusion", "algorithms", "gradient", "kernels", "schedules", "report")
SOURCES = (
    *("", "dsl", *(f"dsl/{room}" for room in DSL)),
    *("compiler", *(f"compiler/{room}" for room in ROOMS)),
    *("backends", "backends/cpp", "backends/triton"),
)
"""The folders whose sources decide what a kernel is: programs say what comes from `stdlib`."""


def cache_dir() -> Path:
    """The folder, made if need be. Raises UnwritableCache."""
    given = os.environ.get("PLAIT_CACHE_DIR")
    path = Path(given) if given else Path.home() / ".cache" / "plait"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise unwritable(path, problem.strerror) from problem
    return path


def unwritable(path: Path, reason: str | None) -> UnwritableCache:
    """What to say of a folder that takes no file."""
    return UnwritableCache(
        f"the folder of built kernels, `{path}`, cannot be written: {(reason or 'error').lower()}",
        helps=[
            "PLAIT_CACHE_DIR names another folder",
            'or ask for backend="reference", which builds nothing',
        ],
    )


def digest(*parts: str | bytes) -> str:
    """A name for contents."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:40]


@cache
def sources_digest() -> str:
    """A digest of plait's own sources: another compiler writes other kernels."""
    parts: list[bytes] = []
    for folder in SOURCES:
        path = os.path.join(PACKAGE, folder)
        for name in sorted(name for name in os.listdir(path) if name.endswith((".py", ".lark", ".h"))):
            # 200 files at every start of a process: pathlib would take twice the time
            with open(os.path.join(path, name), "rb", buffering=0) as file:
                parts += [name.encode(), file.read()]
    return digest(*parts)


@cache
def machine_digest() -> str:
    """What `-march=native` means here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return digest(platform.machine(), flags)


def optimisation() -> str:
    """-O3, or what PLAIT_CXX_LEVEL says: tests of meaning build quicker at -O1."""
    return os.environ.get("PLAIT_CXX_LEVEL", "-O3")


def compiler_asked() -> str:
    """The compiler that CXX names, or "" where plait looks for one."""
    return os.environ.get("CXX", "")


def makers() -> tuple[str, ...]:
    """What makes kernels of a program: other makers, other kernels."""
    return sources_digest(), machine_digest(), optimisation(), compiler_asked()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it. Raises UnwritableCache."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, data)
    except OSError as problem:
        raise unwritable(path.parent.parent, problem.strerror) from problem


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_index(key: str, kind: type[T]) -> T | None:
    """The entry of the index, or None; an entry that cannot be read counts as none."""
    path = cache_dir() / "index" / f"{key}.pickle"
    try:
        entry = pickle.loads(path.read_bytes())
    except (
        OSError,
        EOFError,
        AttributeError,
        ImportError,
        IndexError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ):
        return None
    return entry if isinstance(entry, kind) else None


def write_index(key: str, entry: object) -> None:
    write_whole(cache_dir() / "index" / f"{key}.pickle", pickle.dumps(entry))


def clear() -> int:
    """Remove every file of the cache; the number of files that went."""
    count = 0
    for path in sorted(cache_dir().rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
            count += 1
    return count
