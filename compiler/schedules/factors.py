"""Sums with the factors that they do not run over taken out, and what sums over nothing come to."""

from __future__ import annotations

from collections.abc import Collection

from ...dsl.program import Const, Form, Otherwise, Piece, Reduce
from ..fusion.contraction import factors_of, product

ZEROS = (Const(0), Const(0.0))


def is_zero_of_nothing(form: Otherwise, stored: Collection[Form]) -> bool:
    """Whether a kernel computes a value that may be absent as the fallback: a sum begins at 0, which is what is
    left of one over nothing."""
    value = form.value
    if (
        form in stored
        or not isinstance(value, Reduce)
        or (value.op, value.kind) != ("sum", "real")
        or value in stored
    ):
        return False
    return form.fallback in ZEROS and pulled(value, stored) is None


def pulled(form: Reduce, stored: Collection[Form]) -> Form | None:
    """sum[k](c * x) -> c * sum[k](x), for factors c without k; None where there is none."""
    if form.op != "sum" or form.kind != "real" or len(form.pieces) != 1:
        return None
    (piece,) = form.pieces
    over = set(piece.axes)
    factors = factors_of(piece.value, stored)
    moving = [each for each in factors if over & set(each.axes)]
    fixed = [each for each in factors if not over & set(each.axes)]
    if not fixed or not moving or len({axis for each in moving for axis in each.axes} & over) < len(over):
        return None
    return product((Reduce("sum", (Piece(product(moving), piece.axes),)), *fixed))
