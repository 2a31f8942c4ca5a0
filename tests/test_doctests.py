"""Every module of the package imports on its own name, and its examples give what they say."""

from __future__ import annotations

import doctest
import importlib
import sys
import types

import pytest

from tree import full_name, module_paths

FLAGS = doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", module_paths())
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(full_name(name))
    done = doctest.testmod(module, optionflags=FLAGS, report=True)
    assert done.failed == 0


def test_a_wrong_example_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    module = types.ModuleType("planted", ">>> 1 + 1\n3\n")
    done = doctest.testmod(module, optionflags=FLAGS)
    assert (done.failed, done.attempted) == (1, 1)
    assert "Expected:\n    3\nGot:\n    2" in capsys.readouterr().out


def test_modules_are_the_installed_ones() -> None:
    """`plait` is this tree, and not another copy that happens to be installed."""
    assert {full_name(name) for name in module_paths()} >= {"plait", "plait.dsl.program"}
    file = sys.modules["plait"].__file__ or ""
    assert module_paths()["plait"].samefile(file)
