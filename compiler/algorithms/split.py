"""Sums made ready to stream.

    sum[d](when(p, a) * b) -> when(p, sum[d](a * b))      p without d, over axes that a lacks
    sum[t](when(p, a) * b) -> sum[t](when(p, a * b))      p with t, over axes that a lacks
    sum[t, s](w) -> sum[t](sum[s](w))                     w with contractions in every entry, as in `sum_family`
    sum[t, s](a * sum[b](w)) -> sum[b, t](sum[s](a * w))  the same

The first two take a mask over queries and keys off the one or the other, as the gradient of `sum[s | s <= t](p * v)`
has it in sum[e](when(s <= t, g) * v): a contraction pairs plain queries with keys. In the last the keys
stream, the sums of all queries are stored.
So the gradient of a temperature, which is one number a head, needs no scores in memory: what is stored has
one number a query. Over which axes keys pass is read off the other streaming sums of the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce

from ...dsl.constructors.build import apply
from ...dsl.program import Axis, Form, Piece, Program, Reduce
from ..fusion.attention_family import Attention, match_attention
from ..fusion.contraction import factors_of
from ..fusion.keys import peel
from ..fusion.sum_family import StreamedSum, match_sum
from ..rewrites.conditions import Conditions, optional_leaves
from ..rewrites.rewrite import guarded, spread
from ..rewrites.simplify import Rewriter, rewrite_program


def split_sums(program: Program) -> Program:
    """The program with masks before contractions, and sums taken apart where the inner one then streams."""
    conditions = Conditions(optional_leaves(program))
    program = rewrite_program(program, Rewriter({Reduce: (mask_after,)}, conditions))
    domains = tuple(dict.fromkeys(_domains(program)))
    if not domains:
        return program

    def rule(form: Form, _conditions: Conditions) -> Form | None:
        """sum[t, s](w) -> sum[t](sum[s](w))"""
        return _split(form, domains)

    return rewrite_program(program, Rewriter({Reduce: (rule,)}, Conditions(optional_leaves(program))))


def mask_after(form: Form, _conditions: Conditions) -> Form | None:
    """sum[d](when(p, a) * b) -> when(p, sum[d](a * b)), or sum[d](when(p, a * b)) for p with d; p over axes that
    a lacks"""
    if not isinstance(form, Reduce) or form.op != "sum" or len(form.pieces) != 1:
        return None
    piece = form.pieces[0]
    around, body = peel(piece.value)
    masks: list[Form] = []
    plain: list[Form] = []
    for each in factors_of(body):
        found, inner = peel(each)
        pairs = len(found) > 0 and all(set(p.axes) - set(inner.axes) for p in found)
        masks += found if pairs else ()
        plain.append(inner if pairs else each)
    value = reduce(lambda a, b: apply("mul", a, b), plain)
    if not masks or set(value.axes) != set(body.axes) or len(plain) == 1:
        return None
    over = set(piece.axes)
    inside = [p for p in masks if set(p.axes) & over]
    value = guarded(value, dict.fromkeys((*inside, *reversed(around))))
    made = replace(form, pieces=(Piece(value, piece.axes),))
    return guarded(made, dict.fromkeys(p for p in masks if p not in inside))


def _domains(program: Program) -> Iterator[tuple[Axis, ...]]:
    """The axes that keys pass over."""
    for form in program.forms:
        streams = isinstance(match_sum(form), StreamedSum) or isinstance(match_attention(form), Attention)
        if isinstance(form, Reduce) and len(form.pieces) == 1 and streams:
            yield form.pieces[0].axes


def _split(form: Form, domains: tuple[tuple[Axis, ...], ...]) -> Form | None:
    if not isinstance(form, Reduce) or form.op != "sum" or len(form.pieces) != 1:
        return None
    if isinstance(match_sum(form), StreamedSum):
        return None
    flat = _flat(form.pieces[0])
    for piece in (form.pieces[0], *((flat,) if flat is not None else ())):
        for keys in domains:
            rest = tuple(axis for axis in piece.axes if axis not in keys)
            if not rest or len(rest) + len(keys) != len(piece.axes):
                continue
            inner = Reduce("sum", (Piece(spread(piece.value, keys), keys),), span=form.span)
            if isinstance(match_sum(inner), StreamedSum):
                return Reduce("sum", (Piece(spread(inner, rest), rest),), span=form.span)
    return None


def _flat(piece: Piece) -> Piece | None:
    """The piece of sum[I](a * sum[J](x)) as that of sum[I, J](a * x); None where it holds no sum, or several."""
    masks, body = peel(piece.value)
    factors = list(factors_of(body))
    sums = [each for each in factors if isinstance(each, Reduce) and each.op == "sum"]
    if len(sums) != 1 or len(sums[0].pieces) != 1 or isinstance(match_sum(sums[0]), StreamedSum):
        return None
    nested = sums[0].pieces[0]
    others = {axis for each in (*masks, *factors) for axis in each.axes}
    if others & set(nested.axes):
        return None
    factors[factors.index(sums[0])] = nested.value
    value = guarded(reduce(lambda a, b: apply("mul", a, b), factors), reversed(masks))
    return Piece(value, (*piece.axes, *nested.axes))
