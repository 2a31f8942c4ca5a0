"""A line of operands and operators made into a tree, by the levels of `dsl.ops`.

Operators of one level from left to right make one `Chain`, however long; only `**` goes from the
right. Iterative: a thousand terms or signs are no depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..mistakes import InvalidSyntax
from ..ops import LEVEL_COMPARE, LEVEL_POWER, OPS
from ..source import Span
from .syntax import Chain, Expression, Unary


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the text, prefix or infix."""

    name: str
    symbol: str
    level: int
    span: Span
    prefix: bool = False


Part = Operator | Expression

_INFIX = {op.symbol: op for op in OPS.values() if op.symbol and op.arity == 2}
_PREFIX = {op.symbol: op for op in OPS.values() if op.symbol and op.arity == 1}

LEVEL_OTHERWISE = 0


def infix(symbol: str, span: Span) -> Operator:
    if symbol == "otherwise":
        return Operator(symbol, symbol, LEVEL_OTHERWISE, span)
    op = _INFIX[symbol]
    return Operator(op.name, symbol, op.level, span)


def prefix(symbol: str, span: Span) -> Operator:
    op = _PREFIX[symbol]
    return Operator(op.name, symbol, op.level, span, prefix=True)


def joined(first: Span, last: Span) -> Span:
    """From the beginning of one to the end of the other."""
    return Span(first.source, first.start, last.end)


@dataclass(slots=True)
class _Open:
    """A chain that may still grow."""

    level: int
    first: Expression
    rest: list[tuple[str, Expression]]


def tree(parts: Iterable[Part]) -> Expression:
    """The tree of `operand operator operand ...`, prefix operators before their operands.

    Raises InvalidSyntax for two comparisons in a row and for `a + ~b`, which need parentheses.
    """
    values: list[Expression | _Open] = []
    waiting: list[Operator] = []
    for part in parts:
        if not isinstance(part, Operator):
            values.append(part)
        elif part.prefix:
            _check_prefix(waiting, part)
            waiting.append(part)
        else:
            while waiting and _binds_first(waiting[-1], part):
                _apply(waiting.pop(), values)
            if waiting and waiting[-1].level == part.level == LEVEL_COMPARE:
                raise _two_comparisons(waiting[-1], part)
            waiting.append(part)
    while waiting:
        _apply(waiting.pop(), values)
    return _closed(values[0])


def _binds_first(before: Operator, after: Operator) -> bool:
    if before.level == after.level:
        return before.level not in (LEVEL_POWER, LEVEL_COMPARE)
    return before.level > after.level


def _apply(operator: Operator, values: list[Expression | _Open]) -> None:
    right = _closed(values.pop())
    if operator.prefix:
        values.append(Unary(operator.name, right, joined(operator.span, right.span)))
        return
    left = values.pop()
    if isinstance(left, _Open) and left.level == operator.level:
        left.rest.append((operator.name, right))
        values.append(left)
    else:
        values.append(_Open(operator.level, _closed(left), [(operator.name, right)]))


def _closed(value: Expression | _Open) -> Expression:
    if not isinstance(value, _Open):
        return value
    _, last = value.rest[-1]
    return Chain(value.first, tuple(value.rest), joined(value.first.span, last.span))


def _check_prefix(waiting: Sequence[Operator], part: Operator) -> None:
    before = waiting[-1] if waiting else None
    if before is not None and before.level > part.level and before.level != LEVEL_POWER:
        raise InvalidSyntax(
            f"`{part.symbol}` behind `{before.symbol}` needs parentheses", at=part.span, label="here",
            helps=[f"write `{before.symbol} ({part.symbol}...)`"],
        )  # fmt: skip


def _two_comparisons(first: Operator, second: Operator) -> InvalidSyntax:
    return InvalidSyntax(
        "two comparisons in a row have no meaning", at=second.span, label="the second",
        helps=["write `0 <= i < n` as `(0 <= i) & (i < n)`"],
    )  # fmt: skip
