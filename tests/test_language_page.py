"""docs/language.md names every form and every function, and its table says each thing twice: a line is one
program in two spellings. The blocks of the page are run by test_docs.py.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator

import pytest

import plait
from plait.dsl import program, words
from plait.dsl.ops import OPS
from plait.dsl.program import Axis, Form, Leaf, Program
from plait.dsl.python.value import Value, form_of
from tree import ROOT

PAGE = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
TABLE, AROUND = PAGE.partition("\n## All forms and functions\n")[2].split("\nAround the programs:\n")

H, W, T = Axis("h"), Axis("w"), Axis("t")
INPUTS = {
    "x": ("x[h, w]", Leaf("input", "x", (H, W))),
    "y": ("y[h]", Leaf("input", "y", (H,))),
    "s": ("s[t]", Leaf("input", "s", (T,))),
    "m": ("m[h]: bool", Leaf("input", "m", (H,), "bool")),
    "i": ("i[h]: int", Leaf("input", "i", (H,), "int")),
    "z": ("z[h]: complex", Leaf("input", "z", (H,), "complex")),
}
"""The inputs of the table's lines."""

MADE = {
    "dh": ('near("dh", 1)', ["near dh: 1"]),
    "dw": ('near("dw", 1)', ["near dw: 1"]),
    "k": ('axis("k", 2)', ["axis k: 2"]),
    "a": ('axis("a", h.size // 2)', ["axis a: size(h) // 2"]),
    "n": ('axis("n", h.size + t.size)', ["axis n: size(h) + size(t)"]),
    "u": ('h.like("u")', ["like u: h"]),
    "f": ('axis("f", h.size // 2 + 1)', ["axis f: size(h) // 2 + 1"]),
    "p": ("previous(t, init=0.0)", ["previous p[t] = 0.0"]),
    "r": ("previous(t, init=0.0, reverse=True)", ["previous r[t] = 0.0"]),
    "q1, q2": ("previous(t, init=(0.0, 1.0))", ["previous q1[t] = 0.0", "previous q2[t] = 1.0"]),
    "l": ("None", ["axis l: size(h) * size(w)"]),
    "g": ("None", ["cotangent g = y"]),
}
"""What they use beside inputs: how Python makes it, and how text does."""


def lines() -> Iterator[tuple[str, str]]:
    """The pairs of the table: one thing in Python and in text."""
    for row in TABLE.splitlines():
        cells = re.split(r"(?<!\\)\|", row)[1:-1]
        if len(cells) == 3 and "`" in cells[0]:
            python, text = (re.findall(r"`([^`]+)`", cell.replace("\\|", "|")) for cell in cells[:2])
            yield from zip(python, text, strict=True)


LINES = list(lines())


def parts(line: str) -> tuple[list[str], str]:
    """The names that a line gives, and what it gives them."""
    found = re.fullmatch(r"(\w+(?:, \w+)*) = (.*)", line)
    return (found[1].split(", "), found[2]) if found else (["value"], line)


def names_in(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d]\w*", text))


def made_for(line: str) -> Iterator[tuple[str, str, list[str]]]:
    used = names_in(parts(line)[1])
    return ((names, python, text) for names, (python, text) in MADE.items() if used & names_in(names))


def forms_of(line: str) -> list[Form]:
    """What a line of Python makes, outside of any mixer."""
    targets, value = parts(line)
    names = {name: getattr(plait, name) for name in plait.__all__}
    names |= {axis.name: plait.axes(axis.name) for axis in (H, W, T)}
    names |= {name: Value(leaf) for name, (_, leaf) in INPUTS.items()}
    exec("\n".join(f"{made} = {python}" for made, python, _ in made_for(line)), names)
    result = eval(value, names)
    return [form_of(each) for each in (result if len(targets) > 1 else [result])]


def header_of(line: str) -> str:
    """All inputs; outputs that are present everywhere, and one that uses every input."""
    outputs = [
        f"out{number}[{', '.join(axis.name for axis in form.axes)}]: bool, "
        for number, form in enumerate(forms_of(line))
    ]
    inputs = ", ".join(declared for declared, _ in INPUTS.values())
    return f"{inputs} -> {''.join(outputs)}rest[h, w, t]: complex"


REST = "select(m, x + y + s + i + z, 0.0)"


def of_python(line: str) -> Program:
    targets, value = parts(line)
    body = [*(f"{made} = {python}" for made, python, _ in made_for(line)), f"{', '.join(targets)} = {value}"]
    body.append(f"return {', '.join(f'present({name})' for name in targets)}, {REST}")
    names = {name: getattr(plait, name) for name in plait.__all__}
    names |= {axis.name: plait.axes(axis.name) for axis in (H, W, T)}
    exec("\n  ".join([f"def line({', '.join(INPUTS)}):", *body]), names)
    function: Callable[..., object] = names["line"]
    return plait.mixer(header_of(line))(function).program()


def of_text(python: str, line: str) -> Program:
    targets, value = parts(line)
    inputs, outputs = header_of(python).split(" -> ")
    body = [statement for _, _, text in made_for(line) for statement in text]
    body.append(f"{', '.join(targets)} = {value}")
    body += [f"out{number} = present({name})" for number, name in enumerate(targets)]
    body.append(f"rest = {REST}")
    return plait.parse("\n  ".join([f"mixer line({inputs}) -> {outputs}:", *body]) + "\n").program()


@pytest.mark.parametrize(("python", "text"), LINES, ids=[python for python, _ in LINES])
def test_a_line_of_the_table_is_one_program_in_two_spellings(python: str, text: str) -> None:
    assert of_python(python) == of_text(python, text)


def test_the_lines_are_told_apart() -> None:
    assert of_python("x.sum(h)") != of_text("x.sum(h)", "max[h](x)")


# --- nothing is missing


def mentioned(page: str) -> set[str]:
    """The words in code, in blocks and in lines."""
    return names_in(" ".join(re.findall(r"`+[^`]+`+", page)))


@pytest.mark.parametrize("name", plait.__all__)
def test_every_public_name_is_in_the_table(name: str) -> None:
    assert name in mentioned(TABLE + AROUND)


FORMS = [
    name
    for name, kind in inspect.getmembers(program, inspect.isclass)
    if issubclass(kind, Form) and kind is not Form
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_its_law(form: str) -> None:
    laws = PAGE.partition("\n## Values and axes\n")[2].partition("\n## The text spelling\n")[0]
    assert f"`{form}`" in laws


@pytest.mark.parametrize("word", sorted(words.RESERVED | words.CALLS | set(words.CONSTANTS)))
def test_every_word_of_the_text_is_on_the_page(word: str) -> None:
    assert word in mentioned(PAGE)


@pytest.mark.parametrize("symbol", sorted({op.symbol for op in OPS.values() if op.symbol}))
def test_every_operator_is_in_the_table(symbol: str) -> None:
    assert any(symbol in text for _, text in LINES)


def test_each_section_is_in_the_contents() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    linked = re.findall(r"^- \[(.*)\]\(#(.*)\)$", PAGE, flags=re.MULTILINE)
    assert [title for title, _ in linked] == headings
    assert all(anchor == re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title, anchor in linked)
