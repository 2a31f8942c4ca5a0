"""Every refusal of the Python spelling with its whole text: the page tests/python_refusals.txt."""

from __future__ import annotations

import linecache
from dataclasses import dataclass

import pytest

import plait
from plait import PlaitError, Value, axes
from plait.dsl.program import Leaf
from tree import ROOT

PAGE = ROOT / "tests" / "python_refusals.txt"
FILE = "user.py"


@dataclass(frozen=True)
class Case:
    title: str
    code: str
    message: str


def cases(page: str) -> list[Case]:
    found: list[Case] = []
    for part in page.split("\n=== ")[1:]:
        title, rest = part.split("\n", 1)
        code, message = rest.split("\n---", 1)
        found.append(Case(title, code + "\n", message.strip("\n")))
    return found


def written(head: str, all_cases: list[Case]) -> str:
    parts = [f"=== {case.title}\n{case.code}---\n{case.message}" for case in all_cases]
    return "\n".join([head, *parts]) + "\n"


def scope() -> dict[str, object]:
    """What the page says is in scope."""
    h, w, d = axes("h w d")
    names = {name: getattr(plait, name) for name in plait.__all__}
    names |= {name: axes(name) for name in ("b", "c", "h", "w", "d", "t")}
    names["x"] = Value(Leaf("input", "x", (h.axis, w.axis, d.axis)))
    names["i"] = Value(Leaf("input", "i", (h.axis,), "int"))
    names["p"] = Value(Leaf("input", "p", (h.axis,), "bool"))
    names["s"] = Value(Leaf("input", "s", ()))
    return names


def refused(code: str) -> PlaitError:
    """The mistake that the code ends in, run as a file whose text is known."""
    linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
    with pytest.raises(PlaitError) as caught:
        exec(compile(code, FILE, "exec"), scope())
    return caught.value


CASES = cases(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_a_refusal_has_this_text(case: Case, accept: bool) -> None:
    error = refused(case.code)
    if not accept:
        assert str(error) == case.message
    builtins = [base for base in type(error).__mro__ if base.__module__ == "builtins"]
    assert len(builtins) > 3  # itself a fitting builtin beside Exception, BaseException and object


def test_accepting_writes_the_page(accept: bool) -> None:
    head = PAGE.read_text(encoding="utf-8").split("\n=== ")[0]
    again = [
        Case(case.title, case.code, str(refused(case.code)) if accept else case.message) for case in CASES
    ]
    text = written(head, again)
    if accept:
        PAGE.write_text(text, encoding="utf-8")
    assert text == PAGE.read_text(encoding="utf-8")
