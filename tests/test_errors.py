"""docs/errors.md, the classes of dsl/mistakes.py and what plait really says, held together.

Every class has an entry with its anchor; every entry has a program that makes the mistake; and every word
of every message on the page is compared with the one that comes. `--accept` writes what was found.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from documents import accepted, blocks, run
from plait.dsl import mistakes
from plait.dsl.errors import MOST_MISTAKES, CompilerFault, Label, PlaitError, raise_all, render
from plait.dsl.mistakes import InvalidSize, KindMismatch, UnknownAxis, UnknownName
from plait.dsl.source import Source, Span
from tree import ROOT

PAGE = ROOT / "docs" / "errors.md"
CLASSES = {
    name: value
    for name, value in vars(mistakes).items()
    if isinstance(value, type) and issubclass(value, PlaitError) and value is not PlaitError
}

RAISED_ELSEWHERE: dict[str, str] = {}
"""A class whose entry has no program yet -> why. One that has a program must not stand here."""


def entries() -> dict[str, str]:
    """The text of each entry, by the name of its class."""
    text = PAGE.read_text(encoding="utf-8")
    parts = re.split(r'^<a id="([\w-]+)"></a>\n## (\w+)\n', text, flags=re.MULTILINE)[1:]
    found = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    named = list(found)
    assert [anchor for anchor, name, _ in named] == [CLASSES[name].anchor() for _, name, _ in named]
    return {name: body for _, name, body in named}


def messages(entry: str) -> list[str]:
    """What the programs of an entry are said to answer."""
    return [block.text for block in blocks(entry) if block.language == "text"]


def test_every_class_has_its_entry() -> None:
    assert list(entries()) == list(CLASSES)


def test_every_word_of_the_page_is_what_plait_says(tmp_path: Path, accept: bool) -> None:
    text = PAGE.read_text(encoding="utf-8")
    differences = run(PAGE, tmp_path)
    if accept and differences:
        PAGE.write_text(accepted(text, differences), encoding="utf-8")
        pytest.fail(f"{len(differences)} messages of docs/errors.md replaced; read the diff")
    shown = "\n".join(map(str, differences))
    assert not differences, f"\n{shown}\n\npytest tests/test_errors.py --accept writes what was found"


@pytest.mark.parametrize("name", CLASSES)
def test_an_entry_shows_the_mistake(name: str) -> None:
    found = [message for message in messages(entries()[name]) if message.startswith(f"{name}: ")]
    if name in RAISED_ELSEWHERE:
        assert not found, f"{name} has a program now: take it out of RAISED_ELSEWHERE"
        return
    assert found
    for message in found:
        assert message.rstrip().endswith(f"see: docs/errors.md#{CLASSES[name].anchor()}")


def test_the_table_names_every_class() -> None:
    text = PAGE.read_text(encoding="utf-8")
    linked = re.findall(r"\[(\w+)\]\(#([\w-]+)\)", text)
    assert sorted(linked) == sorted((name, value.anchor()) for name, value in CLASSES.items())


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_the_builtin_that_fits(name: str) -> None:
    bases = CLASSES[name].__mro__
    assert PlaitError in bases
    builtins = [base for base in bases if base.__module__ == "builtins"]
    assert builtins[0] not in (Exception, BaseException, object), f"{name} is no builtin error"
    assert CLASSES[name].__doc__


# --- the renderer

TEXT = """mixer scores(q[b, t, d], k[b, s, d]) -> o[b, t, s]:
\to = sum[e](q * k)   # 漢字
  wide = 漢字 + e
"""
SOURCE = Source(TEXT, "scores.plait")


def span(text: str, source: Source = SOURCE, nth: int = 0) -> Span:
    start = -1
    for _ in range(nth + 1):
        start = source.text.index(text, start + 1)
    return Span(source, start, start + len(text))


def test_a_message_in_full() -> None:
    error = UnknownAxis(
        "axis `e` is reduced, but the value has no such axis",
        at=span("e", nth=2),
        label="not an axis of the summed value",
        labels=[Label(span("k[b, s, d]"), "has axes b, s, d"), Label(span("q[b, t, d]"), "has axes b, t, d")],
        notes=["axes in scope: b, t, s, d", "of two lines\nthis is the second"],
        helps=["did you mean `d`?"],
    )
    assert str(error) == (
        "UnknownAxis: axis `e` is reduced, but the value has no such axis\n"
        "  --> scores.plait:2:10\n"
        "    |\n"
        "  1 | mixer scores(q[b, t, d], k[b, s, d]) -> o[b, t, s]:\n"
        "    |              ---------- has axes b, t, d\n"
        "    |                          ---------- has axes b, s, d\n"
        "  2 | \to = sum[e](q * k)   # 漢字\n"
        "    | \t        ^ not an axis of the summed value\n"
        "    |\n"
        "  = axes in scope: b, t, s, d\n"
        "  = of two lines\n"
        "  =   this is the second\n"
        "  help: did you mean `d`?\n"
        "  see: docs/errors.md#unknown-axis"
    )


def test_wide_characters_take_two_columns() -> None:
    lines = str(UnknownName("no", at=span("e", nth=4))).splitlines()
    assert lines[3:5] == ["  3 |   wide = 漢字 + e", "    |                 ^"]


def test_labels_in_another_source_have_their_own_place() -> None:
    other = Source("layer = linear(x)\n", "model.py")
    error = KindMismatch(
        "kinds differ", at=span("q"), labels=[Label(span("linear(x)", other), "called here")]
    )
    assert str(error).splitlines()[:8] == [
        "KindMismatch: kinds differ",
        "  --> scores.plait:1:14",
        "    |",
        "  1 | mixer scores(q[b, t, d], k[b, s, d]) -> o[b, t, s]:",
        "    |              ^",
        "  ::: model.py:1:9",
        "    |",
        "  1 | layer = linear(x)",
    ]


def test_a_long_line_is_shown_around_its_labels() -> None:
    source = Source("y = " + " + ".join(f"x{k}" for k in range(1000)), "long.plait")
    lines = str(UnknownName("no", at=span("x500", source), label="this")).splitlines()
    assert all(len(line) < 180 for line in lines)
    mark = lines[4].index("^")
    assert lines[3][mark : mark + 4] == "x500"
    assert lines[4][mark:] == "^^^^ this"
    start = str(UnknownName("no", at=span("x1 ", source))).splitlines()
    assert start[3].startswith("  1 | y = x0 + x1 ")


def test_a_mark_under_several_lines_stays_on_the_first() -> None:
    source = Source("y = sum[h](\n  x)\n", "two.plait")
    lines = str(UnknownName("no", at=Span(source, 4, 16), label="this")).splitlines()
    assert lines[3:5] == ["  1 | y = sum[h](", "    |     ^^^^^^^ this"]


def test_nothing_reaches_the_terminal_but_text() -> None:
    source = Source("y = \x1b[31mred\r\n", "evil.plait")
    shown = str(UnknownName("`\x1b[31m` is unknown", at=Span(source, 4, 8)))
    assert "\x1b" not in shown
    assert "\r" not in shown


def test_a_message_without_a_place() -> None:
    assert str(InvalidSize("a size is at least 1")) == (
        "InvalidSize: a size is at least 1\n  see: docs/errors.md#invalid-size"
    )


def test_mistakes_are_raised_together_once_each() -> None:
    many = [UnknownName(f"name {k}") for k in range(MOST_MISTAKES + 3)]
    with pytest.raises(UnknownName) as caught:
        raise_all([*many, UnknownName("name 1")])
    shown = str(caught.value)
    assert shown.startswith(f"{MOST_MISTAKES + 3} mistakes\n\nUnknownName: name 0\n")
    assert shown.count("UnknownName: ") == MOST_MISTAKES
    assert shown.endswith("\n\nand 3 more")


def test_mistakes_of_mistakes_are_flat() -> None:
    first = UnknownName("a")
    first.others = (UnknownName("b"),)
    with pytest.raises(UnknownAxis) as caught:
        raise_all([UnknownAxis("c"), first])
    assert [error.message for error in caught.value.others] == ["a", "b"]
    raise_all([])


def test_every_label_is_rendered_once() -> None:
    error = UnknownName("no", at=span("q"), labels=[Label(span("k"), "one"), Label(span("d", nth=1), "two")])
    assert render(error).count("one") == 1
    assert [label.text for label in error.labels] == ["", "one", "two"]
    assert error.span == span("q")


def test_a_fault_of_plait_says_so() -> None:
    fault = CompilerFault("fuse", "an edge was lost", "mixer f(x[h]) -> y[h]:\n  y = x\n")
    assert not isinstance(fault, PlaitError)
    assert str(fault).startswith("compiler fault in 'fuse': an edge was lost\n")
    assert "mixer f(x[h]) -> y[h]:" in str(fault)
    assert str(fault).endswith("please report it with the text above")
