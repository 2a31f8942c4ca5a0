"""Every mistake a user can make is an object: a class, its labels in the user's source, its remedy.

The shape of a message (docs/errors.md shows each):

    UnknownAxis: axis `e` is used but never bound in `scores`
      --> scores.plait:2:12
        |
      2 |   s = sum[e](q * k)
        |           ^ not an axis of the summed value
        |
      = axes in scope: b, h, d
      help: did you mean `d`?
      see: docs/errors.md#unknown-axis
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from .source import Source, Span

MOST_MISTAKES = 10
"""How many mistakes of one program a message shows; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Label:
    """A remark under some characters of the source; the primary one is where the mistake is."""

    span: Span
    text: str = ""
    primary: bool = False


class PlaitError(Exception):
    """Base of every mistake that is the user's to mend. `str()` is the whole message.

    Fields: `message` (one sentence, lower case, no full stop), `labels`, `notes`, `helps`, `facts`
    (what a tool may want without reading the text: `axis`, `sizes`, ...), and `others`: further
    mistakes of the same program, printed below this one.
    """

    def __init__(
        self,
        message: str,
        *,
        at: Span | None = None,
        label: str = "",
        labels: Sequence[Label] = (),
        notes: Sequence[str] = (),
        helps: Sequence[str] = (),
        facts: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        first = (Label(at, label, primary=True),) if at is not None else ()
        self.message = message
        self.labels: tuple[Label, ...] = (*first, *labels)
        self.notes = tuple(notes)
        self.helps = tuple(helps)
        self.facts: Mapping[str, object] = dict(facts)  # a mapping proxy would not pickle
        self.others: tuple[PlaitError, ...] = ()

    @property
    def span(self) -> Span | None:
        """Where the mistake is, if it has a place in a source."""
        return next((label.span for label in self.labels if label.primary), None)

    @classmethod
    def anchor(cls) -> str:
        """The class's entry in docs/errors.md: UnknownAxis -> unknown-axis."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    def __str__(self) -> str:
        if not self.others:
            return render(self)
        mistakes = (self, *self.others)
        shown = "\n\n".join(render(each) for each in mistakes[:MOST_MISTAKES])
        rest = len(mistakes) - MOST_MISTAKES
        more = f"\n\nand {rest} more" if rest > 0 else ""
        return f"{len(mistakes)} mistakes\n\n{shown}{more}"


class CompilerFault(Exception):
    """A mistake of plait itself, never of the user: names the pass and prints the program."""

    def __init__(self, step: str, problem: str, program: str = "") -> None:
        shown = f"\nthe program that reproduces it:\n\n{program}\n" if program else ""
        super().__init__(
            f"compiler fault in '{step}': {problem}{shown}\n"
            "this is a fault of plait, not of your program; please report it with the text above"
        )
        self.step = step
        self.program = program


def raise_all(mistakes: Sequence[PlaitError]) -> None:
    """Raise the first mistake with the others attached; do nothing where there is none."""
    if not mistakes:
        return
    first, *rest = _distinct(each for mistake in mistakes for each in (mistake, *mistake.others))
    first.others = tuple(rest)
    raise first


def _distinct(mistakes: Iterable[PlaitError]) -> list[PlaitError]:
    seen: dict[str, PlaitError] = {}
    for mistake in mistakes:
        seen.setdefault(render(mistake), mistake)
    return list(seen.values())


def counted(number: int, noun: str) -> str:
    """`1 input`, `2 inputs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def render(error: PlaitError) -> str:
    """The message in full: sentence, place, source lines with carets, notes, help, link."""
    lines = [_block(f"{type(error).__name__}: ", error.message, "  ")]
    if error.span is not None:
        lines += [f"  --> {error.span.place}", *_excerpts(error.labels)]
    lines += [_block("  = ", note, "  =   ") for note in error.notes]
    lines += [_block("  help: ", text, "        ") for text in error.helps]
    lines.append(f"  see: docs/errors.md#{error.anchor()}")
    return "\n".join(lines)


def _block(first: str, text: str, further: str) -> str:
    """A remark after `first`; its further lines, if it has some, after `further`."""
    head, *rest = text.split("\n")
    return "\n".join([first + _plain(head), *((further + _plain(line)).rstrip() for line in rest)])


# --- the lines of the source

MOST_COLUMNS = 160
"""A longer source line is shown in part, around its labels."""

BEFORE = 40
"""How much of a long line is shown before its first label."""


def _excerpts(labels: Sequence[Label]) -> list[str]:
    """The labelled lines, those of the primary label's source first, then each further source."""
    primary = next(label.span.source for label in labels if label.primary)
    sources = list(dict.fromkeys([primary, *(label.span.source for label in labels)]))
    highest = max(label.span.line for label in labels)
    width = max(3, len(str(highest)))
    out: list[str] = []
    for source in sources:
        here = [label for label in labels if label.span.source == source]
        if source != primary:
            out.append(f"{' ' * (width - 1)}::: {here[0].span.place}")
        out += _excerpt(source, here, width)
    return [*out, f"{' ' * width} |"]


def _excerpt(source: Source, labels: Sequence[Label], width: int) -> list[str]:
    margin = " " * width
    out = [f"{margin} |"]
    for number in sorted({label.span.line for label in labels}):
        text = source.line_text(number).removesuffix("\r")
        on_line = sorted((x for x in labels if x.span.line == number), key=lambda x: x.span.column)
        shown, hidden = _window(text, on_line)
        out.append(f"{number:>{width}} | {_plain(shown)}".rstrip())
        out += [f"{margin} | {_underline(label, shown, hidden)}".rstrip() for label in on_line]
    return out


def _window(text: str, labels: Sequence[Label]) -> tuple[str, int]:
    """The part of a line that is shown, and how many characters before it are hidden."""
    if len(text) <= MOST_COLUMNS:
        return text, 0
    last = max(label.span.column for label in labels)
    start = 0 if last < MOST_COLUMNS - BEFORE else max(0, labels[0].span.column - 1 - BEFORE)
    end = start + MOST_COLUMNS
    before, after = "..." if start else "", "..." if end < len(text) else ""
    return f"{before}{text[start:end]}{after}", start - len(before)


def _underline(label: Label, shown: str, hidden: int) -> str:
    """The mark below a label's characters (those of its first line), and its remark."""
    start = min(max(0, label.span.column - 1 - hidden), len(shown))
    under = shown[start : start + label.span.end - label.span.start]
    mark = ("^" if label.primary else "-") * max(1, sum(map(_columns, under)))
    before = "".join("\t" if character == "\t" else " " * _columns(character) for character in shown[:start])
    return f"{before}{mark} {_plain(label.text)}"


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _plain(text: str) -> str:
    """The text with nothing in it that a terminal would act on."""
    return "".join(c if c == "\t" or unicodedata.category(c) not in ("Cc", "Cf") else "\ufffd" for c in text)
