"""The public face: what `import plait` offers, what a type checker sees of it, and that the two agree."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys

import pytest

import plait
from tree import FACE, ROOT

TEXT = (ROOT / "__init__.py").read_text(encoding="utf-8")


def for_type_checkers(text: str) -> dict[str, tuple[str, str]]:
    """The names imported under `if TYPE_CHECKING:`, each with its module and its name there."""
    tree = ast.parse(text)
    guarded = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    found = [node for block in guarded for node in ast.walk(block) if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: (f"{FACE}.{node.module}" if node.module else FACE, alias.name)
        for node in found
        for alias in node.names
    }


def test_both_lists_agree() -> None:
    listed = [name for name in plait.__all__ if not name.startswith("__")]
    assert sorted(listed) == sorted(for_type_checkers(TEXT))
    assert len(plait.__all__) == len(set(plait.__all__))


@pytest.mark.parametrize("name", for_type_checkers(TEXT))
def test_a_public_name_is_what_the_type_checker_sees(name: str) -> None:
    module, original = for_type_checkers(TEXT)[name]
    try:
        seen = getattr(importlib.import_module(module), original)
    except AttributeError:
        seen = importlib.import_module(f"{module}.{original}")
    assert getattr(plait, name) is seen


def test_public_names_are_found_by_completion() -> None:
    assert set(plait.__all__) <= set(dir(plait))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(plait, "no_such_name")  # noqa: B009


def test_the_face_may_be_imported_twice() -> None:
    """pytest imports the root's `__init__` a second time, under the name of its folder."""
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("a_second_name", ROOT / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert {name for name in set(sys.modules) - before if name.startswith(FACE)} == set()


def test_the_list_of_the_type_checker_is_read() -> None:
    text = "if TYPE_CHECKING:\n  from .dsl.python.value import axes as axes, axis as one\n  from . import stdlib\n"
    assert for_type_checkers(text) == {
        "axes": ("plait.dsl.python.value", "axes"),
        "one": ("plait.dsl.python.value", "axis"),
        "stdlib": ("plait", "stdlib"),
    }
