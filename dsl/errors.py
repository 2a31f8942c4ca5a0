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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .source import Span

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

    Fields: `message` (one sentence, lower case, no full stop), `labels`, `notes`, `helps`, and
    `others`: further mistakes of the same program, printed below this one.
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
    ) -> None:
        super().__init__(message)
        first = (Label(at, label, primary=True),) if at is not None else ()
        self.message = message
        self.labels: tuple[Label, ...] = (*first, *labels)
        self.notes = tuple(notes)
        self.helps = tuple(helps)
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
    first, rest = mistakes[0], _distinct(mistakes)[1:]
    first.others = tuple(rest)
    raise first


def _distinct(mistakes: Iterable[PlaitError]) -> list[PlaitError]:
    seen: dict[str, PlaitError] = {}
    for mistake in mistakes:
        seen.setdefault(render(mistake), mistake)
    return list(seen.values())


def render(error: PlaitError) -> str:
    """The message in full: sentence, place, source lines with carets, notes, help, link."""
    lines = [f"{type(error).__name__}: {error.message}"]
    if error.span is not None:
        lines += [f"  --> {error.span.place}", *_excerpt(error.labels)]
    lines += [f"  = {note}" for note in error.notes]
    lines += [f"  help: {text}" for text in error.helps]
    lines.append(f"  see: docs/errors.md#{error.anchor()}")
    return "\n".join(lines)


def _excerpt(labels: Sequence[Label]) -> list[str]:
    primary = next(label.span.source for label in labels if label.primary)
    here = [label for label in labels if label.span.source == primary]
    numbers = sorted({label.span.line for label in here})
    width = max(3, len(str(numbers[-1])))
    margin = " " * width
    out = [f"{margin} |"]
    for number in numbers:
        text = primary.line_text(number)
        out.append(f"{number:>{width}} | {_clip(text)}".rstrip())
        for label in sorted((x for x in here if x.span.line == number), key=lambda x: x.span.column):
            out.append(f"{margin} | {_underline(label, text)}".rstrip())
    return [*out, f"{margin} |"]


def _underline(label: Label, text: str) -> str:
    column = min(label.span.column - 1, MOST_COLUMNS)
    wide = max(1, min(label.span.end - label.span.start, len(text) - column, MOST_COLUMNS))
    mark = ("^" if label.primary else "-") * wide
    tabs = "".join("\t" if character == "\t" else " " for character in text[:column])
    return f"{tabs}{mark} {label.text}"


MOST_COLUMNS = 160


def _clip(text: str) -> str:
    return text if len(text) <= MOST_COLUMNS else text[: MOST_COLUMNS - 3] + "..."
