"""What a read that mixes axes is pushed into, and what stays one value that is read."""

from __future__ import annotations

from ...dsl.program import At, Coordinate, Form, Indices, Map, Reduce
from ..fusion.contraction import factors_of, is_of_parameters
from ..fusion.sum_family import StreamedSum, match_sum
from ..rewrites.rewrite import surely_present

MOST_RECOMPUTED = 300
"""How many forms one place may compute anew at its reads."""


class Skewed:
    """Which forms are computed anew at a read, in place of being read: those over pairs, where an index
    mixes two axes of the form (`p[{h: h - dh}]`, p over h and dh), and where the read asks for no more
    entries than there are. All else stays one value that is read, and so does what comes after
    `MOST_RECOMPUTED` forms: shifts of shifts would otherwise double with each level. A linear map that is read
    once for each channel of a group (`k[{g: c // 16, h: h - dh}]`) is made once, not for each channel; a sum
    that streams has fewer entries than there are pairs, and is made once."""

    def __init__(self) -> None:
        self.left = MOST_RECOMPUTED

    def __call__(self, form: Form, indices: Indices) -> bool:
        if isinstance(form, At) or surely_present(form):
            return True
        mixed = any(set(index.axes) & set(form.axes) - {axis} for axis, index in indices)
        if not mixed or len(At(form, indices).axes) > len(form.axes) or self.left == 0:
            return False
        if _repeats(indices) and _linear(form) or isinstance(match_sum(form), StreamedSum):
            return False
        self.left -= 1
        return True


def _repeats(indices: Indices) -> bool:
    """Whether several indices read one entry: `c // n` of an axis, without `c % n` beside it."""
    read = {index for _, index in indices}
    return any(
        isinstance(index, Map)
        and index.op == "floordiv"
        and isinstance(index.args[0], Coordinate)
        and Map("mod", index.args) not in read
        for index in read
    )


def _linear(form: Form) -> bool:
    """Whether a form sums products with weights: a factor that is made of parameters alone."""
    if not isinstance(form, Reduce) or form.op != "sum":
        return False
    return any(is_of_parameters(factor) for piece in form.pieces for factor in factors_of(piece.value))
