"""docs/stdlib.md lists every layer with its law, which is the first sentence of its docstring.

`--accept` writes the tables anew.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator

import pytest

from plait import stdlib
from plait.dsl.python.layers import Layer
from tree import ROOT

PAGE = ROOT / "docs" / "stdlib.md"
START = "\n## All layers\n"
SECTIONS = {
    "norms": "Norms",
    "linears": "Linear maps and gates",
    "activations": "Activations",
    "convolutions": "Convolutions",
    "pooling": "Pools",
    "resampling": "Changes of resolution",
    "attention": "Attention",
    "positions": "Positions and masks",
    "stochastic": "Randomness",
}
"""Each module of layers, in the order of the page."""

OF_PAPERS = {"Operator", "catalogue", "from_official"}
OUR_OWN = {"windows"}
"""What follows no paper and no function of PyTorch."""


def layers(module: str) -> dict[str, Callable[..., object]]:
    """The public layers of a module, in the order of its text."""
    home = importlib.import_module(f"plait.stdlib.{module}")
    tree = ast.parse(inspect.getsource(home))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {name: getattr(home, name) for name in names if name in vars(stdlib)}


def law(function: Callable[..., object]) -> str:
    """The first sentence or two: the docstring up to its first empty line, on one line."""
    first = (inspect.getdoc(function) or "").split("\n\n")[0]
    return " ".join(first.split())


def tables() -> Iterator[str]:
    for module, title in SECTIONS.items():
        home = importlib.import_module(f"plait.stdlib.{module}")
        yield f"\n### {title}\n\n[`{module}`](../stdlib/{module}.py). {' '.join((home.__doc__ or '').split())}\n\n"
        yield "| layer | law |\n| --- | --- |\n"
        for name, function in layers(module).items():
            shown = f"`{name}`" + ("" if not isinstance(function, Layer) else ", `name=`")
            yield f"| {shown} | {law(function).replace('|', chr(92) + '|')} |\n"


def test_the_page_lists_every_law(accept: bool) -> None:
    text = PAGE.read_text(encoding="utf-8")
    prose, _, found = text.partition(START)
    expected = "".join(tables())
    if accept and found != expected:
        PAGE.write_text(prose + START + expected, encoding="utf-8")
        pytest.fail("the tables of docs/stdlib.md are replaced; read the diff")
    assert found == expected, "pytest tests/test_stdlib_page.py --accept writes the tables"


EVERY = {name: function for module in SECTIONS for name, function in layers(module).items()}


def test_every_public_function_is_on_the_page() -> None:
    """Beside the tables: what comes from the language itself, and what is about papers."""
    public = {name for name, value in vars(stdlib).items() if callable(value) and not name.startswith("_")}
    own = {name for name in public if getattr(vars(stdlib)[name], "__module__", "").startswith("plait.dsl")}
    assert own - {*EVERY} == {"relu", "sigmoid", "tanh"}
    assert public - own - {*EVERY} - OF_PAPERS <= {"import_module"}


@pytest.mark.parametrize("name", EVERY)
def test_a_docstring_has_law_source_and_example(name: str) -> None:
    text = inspect.getdoc(EVERY[name]) or ""
    assert re.match(r"(Tap d .*)?`.+`", text), "the first line is the law, in code"
    assert ">>> " in text
    assert "Source: " in " ".join(text.split()) or name in OUR_OWN


@pytest.mark.parametrize("name", EVERY)
def test_an_example_stands_beside_pytorch(name: str) -> None:
    """Sizes and windows have none; every other example says what PyTorch, or the formula in it, gives."""
    text = inspect.getdoc(EVERY[name]) or ""
    assert "torch" in text.partition(">>> ")[2] or name in ("window_size", "transposed_size", "windows")
