"""The folder of built kernels: what a hit costs, and what happens where it is full, read-only or damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agreement import nearly
from plait import axes, doctor, exp, mixer
from plait.backends import cache
from plait.backends.compiled import Compiled
from plait.backends.cpp.launch import Built
from plait.dsl.mistakes import UnwritableCache
from tree import module_paths

t, c = axes("t c")


@mixer("x[t, c] -> y[t, c]")
def total_exp(x):
    return exp(x)


CHILD = """
import sys, torch
from plait import axes, exp, mixer
t, c = axes("t c")
@mixer("x[t, c] -> y[t, c]")
def total_exp(x):
    return exp(x)
before = set(sys.modules)
total_exp(torch.ones(2, 3))
new = set(sys.modules) - before
heavy = "plait", "sympy", "networkx", "triton", "numpy"
print(sorted(each for each in new if each.startswith(heavy) and not each.startswith("plait.backends.cpp")))
"""


def test_a_hit_imports_no_compiler(cache_folder: Path) -> None:
    """In a fresh process that has torch and plait, the cached call imports what loads its library, and nothing
    that was needed to make it: that, and what waits for no import, is why it takes milliseconds."""
    program = cache_folder / "total_exp.py"
    program.write_text(CHILD)
    env = os.environ | {"PLAIT_CACHE_DIR": str(cache_folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    said = [
        subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert "plait.backends.assemble" in said[0]
    assert said[1].strip() == "['plait.compiler.schedules', 'plait.compiler.schedules.target']"


def test_the_digest_of_the_sources_sees_every_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in cache.SOURCES:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    monkeypatch.setattr(cache, "sources_digest", cache.sources_digest.__wrapped__)
    seen = {cache.sources_digest()}
    for source in ("api.py", "dsl/text/grammar.lark", "compiler/fusion/fuse.py", "backends/cpp/math.h"):
        (tmp_path / source).write_text("one")
        seen.add(cache.sources_digest())
        (tmp_path / source).write_text("two")
        seen.add(cache.sources_digest())
    assert len(seen) == 9


def test_the_sources_are_all_packages_but_those_of_programs() -> None:
    """A folder that is missing there would leave kernels of an older plait in use."""
    folders = {
        name.replace(".", "/") for name in module_paths() if module_paths()[name].name == "__init__.py"
    }
    assert {*cache.SOURCES} == {
        "",
        *(each for each in folders if each.startswith(("dsl", "compiler", "backends"))),
    }


def test_a_full_disk_is_not_the_compilers_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache_folder: Path
) -> None:
    full = tmp_path / "the compiler"
    full.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo full 1 && exit 0\n'
        "echo 'ld: final link failed: No space left on device' >&2\nexit 1\n"
    )
    full.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{full}'")
    with pytest.raises(UnwritableCache, match="cannot be written: no space left on device") as caught:
        Compiled(total_exp.program()).run({"x": torch.ones(2, 3)})
    assert isinstance(caught.value, OSError) and str(cache_folder) in caught.value.message


@pytest.mark.parametrize("folder", ["/dev/null", "/dev/null/kernels", "/proc/kernels"])
def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("PLAIT_CACHE_DIR", folder)
    with pytest.raises(UnwritableCache, match=f"`{folder}`, cannot be written") as caught:
        Compiled(total_exp.program()).run({"x": torch.ones(2, 3)})
    assert "PLAIT_CACHE_DIR names another folder" in caught.value.helps
    assert "cannot be written" in str(next(each for each in doctor.findings() if folder in str(each)))


def test_a_library_that_is_not_whole(tmp_path: Path) -> None:
    library = tmp_path / "cut.so"
    assert not Built("cut", library, "cut").load()
    library.write_bytes(b"\x7fELF")
    assert not Built("cut", library, "cut").load() and not library.exists()


def test_a_lost_library_is_built_again(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index still names it: somebody emptied the folder in part, or the machine went down."""
    tensors = {"x": torch.ones(2, 3)}
    Compiled(total_exp.program()).run(tensors)
    (library,) = cache_folder.rglob("*.so")
    library.unlink()
    monkeypatch.setattr(Built, "load", lambda self: self.library.exists())  # this process still has it
    (out,) = Compiled(total_exp.program()).run(tensors).values()
    nearly(out, tensors["x"].exp())
    assert library.exists()
