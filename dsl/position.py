"""Where the user stands: the span of the Python expression that called into plait.

The innermost frame outside plait's own modules is the user's; the programs of the papers and the
examples are users too, and the layers of the standard library are not: a mistake in a call of one is
shown where it is called. Python keeps the exact columns of every instruction (PEP 657), so the span is the
expression itself and not its line. A frame whose text is not to be had (`python -c`, `exec`, the
plain prompt) has no span, and messages go without a place.
"""

from __future__ import annotations

import linecache
import os
import sys
import warnings
from dataclasses import dataclass, field
from os.path import sep
from types import CodeType, FrameType

from .source import Source, Span

PACKAGE = __name__.split(".")[0]
USERS = ("stdlib.papers", "examples", "tests", "benchmarks")
"""The parts of the package that are written in the language, as a user's module is."""

Columns = tuple[int | None, int | None, int | None, int | None]
"""First line, last line, first column, last column: lines from 1, columns in bytes of UTF-8."""


@dataclass(slots=True)
class _Text:
    """A file's lines and where each begins."""

    source: Source
    lines: list[str]
    starts: list[int]


@dataclass(slots=True)
class _Known:
    """What is remembered about one code object; holding the object keeps its id its own."""

    code: CodeType
    text: _Text | None
    columns: list[Columns]
    spans: dict[int, Span | None] = field(default_factory=dict[int, "Span | None"])


_machinery: dict[str, bool] = {}
_texts: dict[str, _Text] = {}
_known: dict[int, _Known] = {}
MOST_KNOWN = 4096
"""Code objects remembered at once; beyond that the table starts again."""


def user_frame() -> FrameType | None:
    """The innermost frame of the call stack that is not plait's own."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def calling_frame() -> FrameType | None:
    """The innermost frame that is neither plait's nor torch's: who called into plait, through torch or not."""
    frame = user_frame()
    while frame is not None and (_is_ours(frame) or _module(frame).partition(".")[0] == "torch"):
        frame = frame.f_back
    return frame


def warn_caller(message: str) -> None:
    """A UserWarning at the line that called into plait."""
    frame = calling_frame()
    if frame is None:
        warnings.warn(message, stacklevel=2)
        return
    warnings.warn_explicit(
        message, UserWarning, frame.f_code.co_filename, frame.f_lineno, _module(frame),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )  # fmt: skip


def place_of_call() -> str:
    """`train.py:41`: the line that called into plait; "" where it is in no file."""
    frame = calling_frame()
    if frame is None or frame.f_code.co_filename.startswith("<"):
        return ""
    return f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}"


def span_of(frame: FrameType | None) -> Span | None:
    """The expression that `frame` is evaluating, or None where its text is not known."""
    if frame is None:
        return None
    known = _known.get(id(frame.f_code)) or _remember(frame)
    instruction = frame.f_lasti // 2
    if instruction not in known.spans:
        known.spans[instruction] = _span(known, instruction)
    return known.spans[instruction]


def user_span() -> Span | None:
    """The user's expression that is being evaluated now."""
    return span_of(user_frame())


def source_of(file: str) -> Source | None:
    """The text of a Python file as it stands now, or None."""
    text = _text_of(file, None)
    return text.source if text else None


def _module(frame: FrameType) -> str:
    module = frame.f_globals.get("__name__", "")
    if module == "__main__" and frame.f_globals.get("__package__") == PACKAGE:
        return PACKAGE  # python -m plait
    return module


def _is_ours(frame: FrameType) -> bool:
    module = _module(frame)
    own = _machinery.get(module)
    if own is None:
        own = _machinery[module] = _is_machinery(module)
    return own


def _is_machinery(module: str) -> bool:
    first, *rest = module.split(".")
    if first == "click":  # between the command line and plait stands nobody's own line
        return True
    inside = ".".join(rest)
    return first == PACKAGE and not any(inside == each or inside.startswith(f"{each}.") for each in USERS)


def _remember(frame: FrameType) -> _Known:
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    code = frame.f_code
    text = _text_of(code.co_filename, frame)
    known = _known[id(code)] = _Known(code, text, list(code.co_positions()))
    return known


def _text_of(file: str, frame: FrameType | None) -> _Text | None:
    linecache.checkcache(file)
    lines = linecache.getlines(file, frame.f_globals if frame else None)
    if not lines:
        return None
    text = "".join(lines)
    known = _texts.get(file)
    if known is None or known.source.text != text:
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        known = _texts[file] = _Text(Source(text, _shown(file)), lines, starts)
    return known


def _shown(file: str) -> str:
    """The path that a message prints: from the working folder where the file lies below it."""
    here = _working_folder()
    return file[len(here) + 1 :] if here and file.startswith(here + sep) else file


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _span(known: _Known, instruction: int) -> Span | None:
    if known.text is None or not 0 <= instruction < len(known.columns):
        return None
    first, last, left, right = known.columns[instruction]
    count = len(known.text.lines)
    if first is None or not 0 < first <= count:
        return None
    last = last if last is not None and first <= last <= count else first
    if left is None or right is None:
        return _whole_line(known.text, first)
    start = _offset(known.text, first, left)
    return Span(known.text.source, start, max(start + 1, _offset(known.text, last, right)))


def _whole_line(text: _Text, line: int) -> Span:
    """Python was told to keep no columns (`-X no_debug_ranges`)."""
    shown = text.lines[line - 1]
    start = text.starts[line - 1] + len(shown) - len(shown.lstrip())
    return Span(text.source, start, max(start + 1, text.starts[line - 1] + len(shown.rstrip())))


def _offset(text: _Text, line: int, column: int) -> int:
    """The character at a column that Python counts in bytes."""
    shown = text.lines[line - 1]
    if not shown.isascii():
        column = len(shown.encode()[:column].decode(errors="ignore"))
    return text.starts[line - 1] + column
