"""Sums of products that several results have in common.

The gradient of a layer's scale is sum[t](g * sum[e](w * a)), t the tokens: it makes the whole layer again. That of
its weights is sum[t](g * s * a) with the same g and a. Both are made of one sum,

    m = sum[t](g * a)      sum[t](g * sum[e](w * a)) = sum[e](w * m)      sum[t](g * s * a) = s * m

for w and s without t, by the laws that `order.py` names. So is what the bias adds: sum[t](g * b) = b * sum[t](g). It
is done where something else asks for m, so that the inner sum is saved and nothing new is made; all that takes part
is present everywhere. Sums that differ in the order of their factors and axes are one before that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...dsl.program import Axis, Form, Map, Piece, Program, Reduce
from ..fusion.contraction import factors_of
from ..rewrites.simplify import replaced
from ..rewrites.total import Totality


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum over `axes` of the product of `moving`, which have some of them, times that of `fixed`."""

    form: Reduce
    axes: tuple[Axis, ...]
    moving: tuple[Form, ...]
    fixed: tuple[Form, ...]

    @property
    def key(self) -> tuple[frozenset[Axis], frozenset[Form]]:
        return frozenset(self.axes), frozenset(self.moving)


def share(program: Program) -> Program:
    """The program with sums made of one that several of its results need."""
    program = _alike(program)
    total, sums = Totality(program), _sums(program)
    mapping: dict[Form, Form] = {}
    for each in sums:
        for made, apart in _opened(each):
            others = [other for other in sums if other.key == made.key and other.form != each.form]
            taking_part = [
                made.form,
                each.form,
                *(other.form for other in others),
                *each.moving,
                *made.moving,
            ]
            if others and all(map(total.of, taking_part)):
                mapping |= {other.form: _times(other.fixed, made.form) for other in others}
                mapping |= _beside(apart, sums, total)
                mapping[each.form] = _times(each.fixed, apart.form)
                break
    return replaced(program, mapping)


def _alike(program: Program) -> Program:
    """The program with one sum for all those of the same factors over the same axes."""
    first: dict[object, Form] = {}
    mapping: dict[Form, Form] = {}
    for each in _sums(program):
        kept = first.setdefault((each.key, frozenset(Counter(each.fixed).items())), each.form)
        if kept != each.form:
            mapping[each.form] = kept
    return replaced(program, mapping)


def _sums(program: Program) -> list[Sum]:
    return [found for form in program.forms if (found := _sum(form)) is not None]


def _sum(form: Form) -> Sum | None:
    """A form as a sum of products over one piece."""
    if not isinstance(form, Reduce) or form.op != "sum" or form.kind != "real" or len(form.pieces) != 1:
        return None
    (piece,) = form.pieces
    factors, over = factors_of(piece.value), set(piece.axes)
    moving = tuple(each for each in factors if over & set(each.axes))
    fixed = tuple(each for each in factors if not over & set(each.axes))
    if len(set(moving)) < len(moving) or not over <= {axis for each in moving for axis in each.axes}:
        return None
    return Sum(form, piece.axes, moving, fixed)


@dataclass(frozen=True, slots=True)
class Apart:
    """What a sum comes to, and the plain sum of its other factors that this reads, if it does."""

    form: Form
    rest: Sum | None


def _opened(each: Sum) -> Iterator[tuple[Sum, Apart]]:
    """The sums that the inner sums of a product would be made of, and what it then comes to without its fixed
    factors."""
    over = set(each.axes)
    for factor in each.moving:
        others = tuple(other for other in each.moving if other != factor)
        terms = _terms(factor)
        for term in terms:
            inner = _sum(term)
            if (
                inner is None
                or not others
                or set(inner.axes) & {axis for other in others for axis in other.axes}
            ):
                continue
            held = tuple(part for part in (*inner.moving, *inner.fixed) if over & set(part.axes))
            free = tuple(part for part in (*inner.moving, *inner.fixed) if not over & set(part.axes))
            if not free or not set(inner.axes) <= {axis for part in held for axis in part.axes}:
                continue
            made = _plain((*others, *held), each.axes)
            if made is None:
                continue
            swapped = Reduce("sum", (Piece(_times(free, made.form), inner.axes),))
            rest = [other for other in terms if other != term]
            yield made, _added(swapped, rest, others, each.axes)


def _terms(form: Form) -> list[Form]:
    if isinstance(form, Map) and form.op == "add":
        return [term for arg in form.args for term in _terms(arg)]
    return [form]


def _plain(factors: tuple[Form, ...], axes: tuple[Axis, ...]) -> Sum | None:
    return _sum(Reduce("sum", (Piece(_times(factors[:-1], factors[-1]), axes),)))


def _added(swapped: Form, rest: list[Form], others: tuple[Form, ...], axes: tuple[Axis, ...]) -> Apart:
    """The swapped sum with what the other terms of the factor add to it."""
    made, plain = swapped, _plain(others, axes)
    for term in rest:
        alone = not set(axes) & set(term.axes) and plain is not None
        more = _times((term,), plain.form) if alone and plain is not None else None
        made = Map("add", (made, more or Reduce("sum", (Piece(_times(others, term), axes),))))
    return Apart(made, plain if rest else None)


def _beside(apart: Apart, sums: list[Sum], total: Totality) -> Mapping[Form, Form]:
    """Other sums that are the plain sum of the other factors times what is fixed."""
    if apart.rest is None or not total.of(apart.rest.form):
        return {}
    return {
        each.form: _times(each.fixed, apart.rest.form)
        for each in sums
        if each.key == apart.rest.key and each.fixed and total.of(each.form)
    }


def _times(factors: tuple[Form, ...], form: Form) -> Form:
    for factor in reversed(factors):
        form = Map("mul", (factor, form))
    return form
