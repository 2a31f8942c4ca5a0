"""Reductions over several domains at once: a union under one operation or one normaliser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..constructors import build
from ..errors import PlaitError
from ..mistakes import InvalidArgument
from ..program import Axis, Form
from ..source import Span
from .refusals import no_axes
from .trace import here, report
from .value import POISON, Over, Value, axes_in, made

Listed = list[tuple[Form, tuple[Axis, ...]]]
"""The pieces in core terms."""


@dataclass(frozen=True, slots=True)
class Union:
    """Pieces (value, axes) reduced as one: absent pieces are skipped, as absent entries are.

    `pieces` is None after a mistake.
    """

    pieces: tuple[tuple[Value, tuple[Axis, ...]], ...] | None

    def sum(self, *, where: object = None) -> Value:
        """The sum of the present entries of all pieces."""
        return self._reduced("sum", where)

    def mean(self, *, where: object = None) -> Value:
        """The mean of the present entries of all pieces."""
        return self._reduced("mean", where)

    def max(self, *, where: object = None) -> Value:
        """The largest present entry of all pieces."""
        return self._reduced("max", where)

    def min(self, *, where: object = None) -> Value:
        """The smallest present entry of all pieces."""
        return self._reduced("min", where)

    def prod(self, *, where: object = None) -> Value:
        """The product of the present entries of all pieces."""
        return self._reduced("prod", where)

    def lse(self, *, where: object = None) -> Value:
        """`log(sum(exp(v)))` over the present entries of all pieces."""
        return self._reduced("lse", where)

    def any(self, *, where: object = None) -> Value:
        """Whether a present entry of a piece is true."""
        return self._reduced("any", where)

    def all(self, *, where: object = None) -> Value:
        """Whether every present entry of all pieces is true."""
        return self._reduced("all", where)

    def count(self, *, where: object = None) -> Value:
        """How many entries of all pieces are present."""
        return self._reduced("count", where)

    def _reduced(self, op: str, where: object) -> Value:
        def make(listed: Listed, mask: Form | None, span: Span | None) -> Form:
            if op == "mean":
                return build.mean(listed, mask, span)
            return build.reduce(op, listed, mask, span=span)

        return self.made(make, where)

    def made(self, make: Callable[[Listed, Form | None, Span | None], Form], where: object) -> Value:
        """The value that `make` builds of the pieces' forms and the mask; poisoned after a mistake."""
        pieces = self.pieces
        if pieces is None:
            return POISON

        def of_forms(*forms: Form, span: Span | None) -> Form:
            listed = [(form, axes) for form, (_, axes) in zip(forms, pieces, strict=False)]
            return make(listed, forms[-1] if len(forms) > len(pieces) else None, span)

        return made(of_forms, *(value for value, _ in pieces), *_given(where))


def union(*pieces: tuple[Value, Over]) -> Union:
    """Domains reduced as one: `union((text, t), (image, (dh, dw))).sum()`."""
    found: list[tuple[Value, tuple[Axis, ...]]] = []
    for piece in pieces:
        if not _is_pair(piece):
            report(_not_a_piece(piece))
            return Union(None)
        value, over = piece
        axes = axes_in((over,))
        if axes is None or value.poisoned:
            return Union(None)
        found.append((value, axes))
    if not found:
        report(InvalidArgument("`union` needs at least one piece", at=here(), label="here"))
        return Union(None)
    return Union(tuple(found))


def _is_pair(piece: Sequence[object]) -> bool:
    return isinstance(piece, tuple) and len(piece) == 2 and isinstance(piece[0], Value)


def _not_a_piece(piece: object) -> PlaitError:
    return InvalidArgument(
        f"a piece of a union is a value and its axes, and this is {type(piece).__name__}", at=here(),
        label="here", helps=["write `union((x, h), (y, (u, v)))`"],
    )  # fmt: skip


def softmax(value: Value | Union, over: Over = (), where: object = None) -> Any:
    """`exp(s - lse(s))` over the axes, absent where s is absent: nothing more.

    Of a union, a tuple with the weights of each piece under one normaliser (hence `Any`).
    """
    if isinstance(value, Union):
        return tuple(_weight(value, number, where) for number in range(len(value.pieces or (None,))))
    axes = axes_in((over,))
    if axes is None:
        return POISON

    def make(form: Form, mask: Form | None = None, *, span: Span | None) -> Form:
        if not axes:
            raise no_axes("softmax", form, span)
        return build.softmax([(form, axes)], mask, span)[0]

    return made(make, value, *_given(where))


def _weight(union: Union, number: int, where: object) -> Value:
    return union.made(lambda listed, mask, span: build.softmax(listed, mask, span)[number], where)


def _given(where: object) -> tuple[object, ...]:
    return () if where is None else (where,)
