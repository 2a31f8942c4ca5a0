"""The derivative of every scalar operation and of every reduction.

`PULLBACKS[op]` has one cell an argument: what the cotangent g of `y = op(args)` adds to the cotangent of
that argument, before `derive.Reverse.given` masks it and sums it to the argument's axes; None is no derivative. Complex
values use dL/dre + i dL/dim, so a holomorphic f pulls back by g * conj(f'). Conventions are those of
language.md decision 22.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ...dsl.constructors.build import apply, at, like_axis, otherwise, select, when
from ...dsl.mistakes import NotYet
from ...dsl.program import BATCH, Const, Coordinate, Form, Map, Piece, Reduce
from ...dsl.proofs.presence import conjunction

Pullback = Callable[[Form, Map], "Form | None"]


def conj(form: Form) -> Form:
    """The conjugate; a real value itself."""
    return apply("conj", form) if form.kind == "complex" else form


def _times(g: Form, derivative: Form) -> Form:
    return apply("mul", g, conj(derivative))


def _one_minus(form: Form) -> Form:
    return apply("sub", Const(1.0), form)


def _square(form: Form) -> Form:
    return apply("mul", form, form)


# --- cells that are more than a line


def _halves(better: str) -> tuple[Pullback, Pullback]:
    """Binary minimum and maximum: all to the better side, half to each at a tie."""

    def cell(own: int) -> Pullback:
        def pullback(g: Form, y: Map) -> Form:
            mine, other = y.args[own], y.args[1 - own]
            tie = select(apply("eq", mine, other), apply("mul", Const(0.5), g), Const(0.0))
            return select(apply(better, mine, other), g, tie)

        return pullback

    return cell(0), cell(1)


def clamped(g: Form, value: Form, lowest: Form, highest: Form) -> tuple[Form, Form, Form]:
    """What g, the cotangent of a clamp of reals, adds to those of the value, inside and on the ends, and of the ends,
    where the value lies beyond them."""
    nothing = Const(0.0)
    inside = apply("and", apply("le", lowest, value), apply("le", value, highest))
    below = apply("and", apply("lt", value, lowest), apply("lt", lowest, highest))
    neither = apply("and", apply("not", inside), apply("not", below))
    return select(inside, g, nothing), select(below, g, nothing), select(neither, g, nothing)


def _power_of_base(g: Form, y: Map) -> Form | None:
    """b * a**(b - 1); 0 where b is 0."""
    base, exponent = y.args
    if isinstance(exponent, Const):
        if exponent.value in (0, 1):
            return g if exponent.value == 1 else None
        lower = apply("pow", base, apply("sub", exponent, Const(1)))
        return _times(g, apply("mul", exponent, lower))
    lower = apply("mul", exponent, apply("pow", base, apply("sub", exponent, Const(1))))
    return _times(g, select(apply("eq", exponent, Const(0)), Const(0.0), lower))


def _power_of_exponent(g: Form, y: Map) -> Form:
    """a**b * log(a); 0 where a is 0 and b is not negative."""
    base, exponent = y.args
    zero = apply("eq", base, Const(0))
    if exponent.kind != "complex":
        zero = apply("and", zero, apply("ge", exponent, Const(0)))
    return _times(g, select(zero, Const(0.0), apply("mul", y, apply("log", base))))


_TWO_OVER_ROOT_PI = Const(2.0 / math.sqrt(math.pi), written="2 / sqrt(pi)")


def _erf(g: Form, y: Map) -> Form:
    bell = apply("exp", apply("neg", _square(y.args[0])))
    return _times(g, apply("mul", _TWO_OVER_ROOT_PI, bell))


PULLBACKS: Mapping[str, tuple[Pullback | None, ...]] = {
    "add": (lambda g, y: g, lambda g, y: g),
    "sub": (lambda g, y: g, lambda g, y: apply("neg", g)),
    "mul": (lambda g, y: _times(g, y.args[1]), lambda g, y: _times(g, y.args[0])),
    "div": (
        lambda g, y: apply("div", g, conj(y.args[1])),
        lambda g, y: apply("neg", apply("div", _times(g, y), conj(y.args[1]))),
    ),
    "neg": (lambda g, y: apply("neg", g),),
    "pow": (_power_of_base, _power_of_exponent),
    "minimum": _halves("lt"),
    "maximum": _halves("gt"),
    "abs": (lambda g, y: apply("mul", g, apply("sign", y.args[0])),),
    "exp": (lambda g, y: _times(g, y),),
    "log": (lambda g, y: apply("div", g, conj(y.args[0])),),
    "log1p": (lambda g, y: apply("div", g, apply("add", Const(1.0), y.args[0])),),
    "expm1": (lambda g, y: apply("mul", g, apply("add", y, Const(1.0))),),
    "sqrt": (lambda g, y: apply("div", g, apply("mul", Const(2.0), conj(y))),),
    "sin": (lambda g, y: _times(g, apply("cos", y.args[0])),),
    "cos": (lambda g, y: apply("neg", _times(g, apply("sin", y.args[0]))),),
    "tanh": (lambda g, y: apply("mul", g, _one_minus(_square(y))),),
    "erf": (_erf,),
    "sigmoid": (lambda g, y: apply("mul", g, apply("mul", y, _one_minus(y))),),
    "real": (lambda g, y: g,),
    "imag": (lambda g, y: apply("mul", Const(1j), g),),
    "conj": (lambda g, y: conj(g),),
    "cplx": (
        lambda g, y: apply("real", g),
        lambda g, y: apply("imag", g),
    ),
    "to_real": (lambda g, y: g,),
    "precise": (lambda g, y: g,),
}

NO_DERIVATIVE = frozenset((
    "or", "and", "not", "lt", "le", "gt", "ge", "eq", "ne", "floordiv", "mod", "sign", "floor", "ceil", "round",
    "trunc", "to_int",
))  # fmt: skip
"""Operations of whole numbers and truth values, and those that are constant between jumps."""


# --- reductions


Reduction = Callable[[Form, Reduce, int], Form]
"""What g, the cotangent of y = op(pieces), adds to that of the value of one piece, given by its place. It
may have the axes of y and those of the piece."""


def _sum(g: Form, y: Reduce, place: int) -> Form:
    return g


def _lse(g: Form, y: Reduce, place: int) -> Form:
    share = apply("exp", apply("sub", y.pieces[place].value, y))
    return apply("mul", share, g)


def _prod(g: Form, y: Reduce, place: int) -> Form:
    """g times the product of all other entries, so that zeros do no harm: the piece's own over copies
    k' of its axes with k' != k, the other pieces as they are."""
    piece = y.pieces[place]
    if BATCH in piece.axes:
        raise NotYet(
            "the derivative of a product over `...` is not there yet",
            at=y.span,
            label="this product",
            helps=["name the batch axes in the header, and multiply over them by name"],
        )
    copies = {axis: like_axis(axis) for axis in piece.axes}
    pieces = [each for i, each in enumerate(y.pieces) if i != place]
    if copies:
        apart: Form | None = None
        for axis, copy in copies.items():
            unequal = apply("ne", Coordinate(copy), Coordinate(axis))
            apart = unequal if apart is None else apply("or", apart, unequal)
        copied = at(piece.value, {axis: Coordinate(copy) for axis, copy in copies.items()})
        others = when(apart or Const(False), copied)
        pieces.insert(0, Piece(others, tuple(copies.values())))
    rest: Form = Const(1.0)
    if pieces:
        rest = otherwise(Reduce("prod", tuple(pieces), span=y.span), rest)
    return _times(g, rest)


def _extreme(g: Form, y: Reduce, place: int) -> Form:
    """g at the first best entry in row-major order of the listed axes; of several pieces, the first."""
    piece = y.pieces[place]
    chosen = [apply("eq", Coordinate(axis), _best(y, piece, i)) for i, axis in enumerate(piece.axes)]
    if len(y.pieces) > 1:
        chosen.append(apply("eq", piece.value, y))
        for before in y.pieces[:place]:
            best = Reduce(y.op, (before,), span=y.span)
            chosen.append(apply("not", otherwise(apply("eq", best, y), Const(False))))
    return when(conjunction(chosen), g)


def _best(y: Reduce, piece: Piece, component: int) -> Form:
    value = piece.value if y.op == "max" else apply("neg", piece.value)
    return Reduce("argmax", (Piece(value, piece.axes),), component, span=y.span)


REDUCTIONS: Mapping[str, Reduction] = {
    "sum": _sum,
    "prod": _prod,
    "max": _extreme,
    "min": _extreme,
    "lse": _lse,
}
"""The reductions with a derivative; `count`, `any`, `all` and `argmax` have none."""
