"""Which names a text mentions, and the axes that it makes and never mentions again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import cast

from ..errors import PlaitError
from ..mistakes import UnusedName
from ..source import Source, Span
from .header import HeaderAxis
from .syntax import LikeStatement, MixerAst, Name, RangeStatement, Statement


def unused_axes(ast: MixerAst) -> Iterator[PlaitError]:
    """Every axis that a statement makes is mentioned elsewhere. Python's own linters say it of Python."""
    used = _mentioned((ast.header, ast.statics, *map(_uses, ast.body)))
    for statement in ast.body:
        if not isinstance(statement, RangeStatement | LikeStatement):
            continue
        for name in statement.names:
            if name.text not in used:
                yield UnusedName(
                    f"axis `{name.text}` is made in `{ast.name}` and never used", at=name.span, label="unused",
                    helps=["use it, or take it out of the statement"],
                )  # fmt: skip


def _uses(statement: Statement) -> object:
    """What a statement mentions, the axes that it makes left out."""
    match statement:
        case RangeStatement(first=first, second=second):
            return first, second
        case LikeStatement(of=of):
            return of
        case _:
            return statement


def _mentioned(parts: Iterable[object]) -> set[str]:
    """The names below some nodes. Iterative: a text may be long."""
    found: set[str] = set()
    waiting = list(parts)
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting.extend(cast("tuple[object, ...]", node))
        elif isinstance(node, Name):
            found.add(node.text)
        elif isinstance(node, HeaderAxis):
            found.add(node.name)
        elif is_dataclass(node) and not isinstance(node, type | Source | Span):
            waiting.extend(getattr(node, each.name) for each in fields(node))
    return found
