"""Recognise a reduction that streams: sum over J of softmax over J of scores, times values.

    sum[J](exp(s - lse[J](s)) * v)        s = when(predicate, f(sum[d](q * k)))

Any number of streaming axes J, in any of two guises that are one after solving the read's index:
keys over axes of their own (`k[{t: s}]`, s in J) or in a window (`k[h + dh]`, dh in J): with
y = h + dh running over the range of h, dh is y - h, the read is k[y], and what R(dh) says is a
predicate over y - h. What the family does not cover gets a reason, which `explain` prints.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dsl.program import (
    Axis,
    Form,
    Leaf,
    Map,
    Piece,
    Reduce,
    When,
    walk,
)
from .contraction import factors_of
from .keys import Key, Side, Unfit, depends, key_and_query, peel, side_of, solve

MOST_CHANNELS = 512
"""Channels that are resident for a whole tile of queries."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a match is made of. `score` is the unmasked score, in which `dot` (if any) is the contraction
    of `query` with `key_side` over `channels`; `predicates` mask it; `factors` scale the result."""

    root: Reduce
    keys: tuple[Key, ...]
    predicates: tuple[Form, ...]
    score: Form
    dot: Reduce | None
    query: Form | None
    key_side: Side | None
    channels: tuple[Axis, ...]
    value_side: Side
    factors: tuple[Form, ...]


@dataclass(frozen=True, slots=True)
class Attention(Parts):
    """A match, and the roles of the axes of its result: shared with the keys, of queries only (they
    lie in the lanes), of values only."""

    batch: tuple[Axis, ...]
    lanes: tuple[Axis, ...]
    outputs: tuple[Axis, ...]


def match_attention(form: Form) -> Attention | str:
    """The match of a reduction, or the reason that there is none ("" where it is no softmax sum)."""
    try:
        return _match(form)
    except Unfit as reason:
        return str(reason)


def _match(form: Form) -> Attention:
    if not isinstance(form, Reduce) or form.op != "sum" or len(form.pieces) != 1:
        raise Unfit("")
    piece = form.pieces[0]
    over = set(piece.axes)
    outer_masks, body = peel(piece.value)
    factors = list(factors_of(body))
    weights = [each for each in factors if _softmax(each, over) is not None]
    if not weights:
        raise Unfit("")
    if outer_masks:
        raise Unfit("the weighted values have a mask of their own")
    score_form = _softmax(weights[0], over)
    assert score_form is not None
    rest = [each for each in factors if each is not weights[0]]
    predicates, score = peel(score_form)
    moving = [each for each in rest if set(each.axes) & over]
    if len(moving) != 1:
        raise Unfit(
            f"the softmax weights meet {len(moving)} factors that depend on the reduced axes, not one"
        )
    dot = _contraction(score, over)
    query, key_form, channels = key_and_query(dot, over) if dot is not None else (None, None, ())
    reads = [each for each in (key_form, moving[0]) if each is not None]
    keys = solve(piece.axes, reads)
    key_side = side_of(key_form, keys, over) if key_form is not None else None
    value_side = side_of(moving[0], keys, over)
    fixed = tuple(each for each in rest if each is not moving[0])
    return _roles(Parts(form, keys, predicates, score, dot, query, key_side, channels, value_side, fixed))


def _softmax(form: Form, over: set[Axis]) -> Form | None:
    """s, if the form is exp(s - lse[over](s))."""
    match form:
        case Map(
            op="exp", args=(Map(op="sub", args=(s, Reduce(op="lse", pieces=(Piece(value=t, axes=axes),)))),)
        ):
            return s if s == t and set(axes) == over else None
        case _:
            return None


def _contraction(score: Form, over: set[Axis]) -> Reduce | None:
    """The one sum inside the score that depends on the reduced axes."""
    found = [
        each
        for each in walk((score,), _operands)
        if isinstance(each, Reduce) and set(each.axes) & over
    ]  # fmt: skip
    if len(found) > 1:
        raise Unfit("the score holds more than one contraction over the keys")
    if found and (found[0].op != "sum" or len(found[0].pieces) != 1):
        raise Unfit(f"the score holds a {found[0].op} over the keys, not a plain sum of products")
    return found[0] if found else None


def _operands(form: Form) -> tuple[Form, ...]:
    match form:
        case Map(args=args):
            return args
        case When(predicate=p, value=x):
            return (p, x)
        case _:
            return ()


def _roles(parts: Parts) -> Attention:
    """Sort the outer axes: shared with the keys (batch), of queries only (lanes), of values only."""
    root, keys = parts.root, parts.keys
    scored = set(parts.score.axes) | {axis for each in parts.predicates for axis in each.axes}
    of_values = depends(parts.value_side, keys)
    outputs = tuple(axis for axis in root.axes if axis in of_values and axis not in scored)
    shared = (depends(parts.key_side, keys) - set(parts.channels)) | (of_values - set(outputs))
    batch = tuple(axis for axis in root.axes if axis in shared and axis not in outputs)
    lanes = tuple(axis for axis in root.axes if axis not in batch and axis not in outputs)
    if not lanes:
        raise Unfit("every axis of the queries is also one of the keys: nothing lies in the lanes")
    if len(outputs) > 1 or len(parts.channels) > 1:
        raise Unfit("more than one channel axis")
    for key in keys:
        if not set(key.rest.axes) <= set(root.axes):
            raise Unfit(f"the window of `{key.over.name}` is placed by something else than the query")
    return Attention(
        root, keys, parts.predicates, parts.score, parts.dot, parts.query, parts.key_side, parts.channels,
        parts.value_side, parts.factors, batch, lanes, outputs,
    )  # fmt: skip


def must_store(match: Attention) -> tuple[Form, ...]:
    """The values that the stream reads in place, so they must be tensors: what the keys and values
    are read from, where that is not a leaf already."""
    sides = [side.form for side in (match.key_side, match.value_side) if side is not None]
    return tuple(form for form in sides if not isinstance(form, Leaf))
