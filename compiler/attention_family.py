"""Recognise a reduction that streams: sum over J of softmax over J of scores, times values.

    sum[J](exp(s - lse[J](s)) * v)        s = when(predicate, f(sum[d](q * k)))

Any number of streaming axes J, in any of two guises that are one after solving the read's index:
keys over axes of their own (`k[{t: s}]`, s in J) or in a window (`k[h + dh]`, dh in J): with
y = h + dh running over the range of h, dh is y - h, the read is k[y], and what R(dh) says is a
predicate over y - h. What the family does not cover gets a reason, which `explain` prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..dsl.program import (
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    Piece,
    Reduce,
    When,
    walk,
)
from .affine import affine

MOST_CHANNELS = 512
"""Channels that are resident for a whole tile of queries."""


class Unfit(Exception):
    """Why a reduction is not in the family."""


@dataclass(frozen=True, slots=True)
class Key:
    """One streaming axis, solved: it runs over the range of `axis`, the axis that is read at `index`;
    the reduced axis `over` is then sign * (key - rest)."""

    over: Axis
    axis: Axis
    index: Form
    sign: int
    rest: Form


@dataclass(frozen=True, slots=True)
class Side:
    """A stored tensor read once a key: which form it is, and the index of each of its axes."""

    form: Form
    indices: Mapping[Axis, Form]


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
    outer_masks, body = _peel(piece.value)
    factors = _factors(body)
    weights = [each for each in factors if _softmax(each, over) is not None]
    if not weights:
        raise Unfit("")
    if outer_masks:
        raise Unfit("the weighted values have a mask of their own")
    score_form = _softmax(weights[0], over)
    assert score_form is not None
    rest = [each for each in factors if each is not weights[0]]
    predicates, score = _peel(score_form)
    moving = [each for each in rest if set(each.axes) & over]
    if len(moving) != 1:
        raise Unfit(
            f"the softmax weights meet {len(moving)} factors that depend on the reduced axes, not one"
        )
    dot = _contraction(score, over)
    query, key_form, channels = _sides(dot, over) if dot is not None else (None, None, ())
    reads = [each for each in (key_form, moving[0]) if each is not None]
    keys = _solve(piece.axes, reads)
    key_side = _side(key_form, keys, over) if key_form is not None else None
    value_side = _side(moving[0], keys, over)
    fixed = tuple(each for each in rest if each is not moving[0])
    return _roles(Parts(form, keys, predicates, score, dot, query, key_side, channels, value_side, fixed))


def _peel(form: Form) -> tuple[tuple[Form, ...], Form]:
    """The predicates of the `when`s around a form, and what is inside."""
    masks: list[Form] = []
    while isinstance(form, When):
        masks.append(form.predicate)
        form = form.value
    return tuple(masks), form


def _factors(form: Form) -> list[Form]:
    """The factors of a product, left to right."""
    done: list[Form] = []
    stack = [form]
    while stack:
        each = stack.pop()
        if isinstance(each, Map) and each.op == "mul":
            stack += reversed(each.args)
        else:
            done.append(each)
    return done


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


def _sides(dot: Reduce, over: set[Axis]) -> tuple[Form, Form, tuple[Axis, ...]]:
    """The query side and the key side of the contraction, and its channels."""
    piece = dot.pieces[0]
    factors = _factors(piece.value)
    keys = [each for each in factors if set(each.axes) & over]
    queries = [each for each in factors if not set(each.axes) & over]
    if len(keys) != 1 or not queries:
        raise Unfit("the contraction does not pair one read of the keys with queries")
    query = queries[0]
    for each in queries[1:]:
        query = Map("mul", (query, each))
    return query, keys[0], piece.axes


def _solve(axes: Sequence[Axis], reads: Sequence[Form]) -> tuple[Key, ...]:
    """For each reduced axis the read that it moves, solved for the axis that is read."""
    solved: dict[Axis, Key] = {}
    for read in reads:
        for axis, index in _indices(read).items():
            moved = [each for each in axes if each in index.axes]
            if not moved:
                continue
            if len(moved) > 1:
                raise Unfit(f"one index moves with several reduced axes: {', '.join(a.name for a in moved)}")
            key = _solved(moved[0], axis, index)
            known = solved.setdefault(moved[0], key)
            if known.index != index or known.axis.name != axis.name and _range(known.axis) != _range(axis):
                raise Unfit(f"keys and values are read at different indices along `{axis.name}`")
    missing = [axis.name for axis in axes if axis not in solved]
    if missing:
        raise Unfit(f"no read moves with the reduced axis {', '.join(f'`{name}`' for name in missing)}")
    return tuple(solved[axis] for axis in axes)


def _range(axis: Axis) -> object:
    return (axis.lo, axis.size) if axis.serial else axis.key


def _solved(over: Axis, axis: Axis, index: Form) -> Key:
    form = affine(index)
    coefficient = form.coefficients.get(over) if form is not None else None
    if form is None or not isinstance(coefficient, Const) or coefficient.value not in (1, -1):
        raise Unfit(f"the index along `{axis.name}` does not step by one with `{over.name}`")
    rest: Form = form.rest
    for other, factor in form.coefficients.items():
        if other != over:
            term = Coordinate(other) if factor == Const(1) else Map("mul", (factor, Coordinate(other)))
            rest = term if rest == Const(0) else Map("add", (rest, term))
    sign = 1 if coefficient.value == 1 else -1
    return Key(over, axis, index, sign, rest)


def _indices(read: Form) -> dict[Axis, Form]:
    """The index of every axis of the tensor that a read reads."""
    match read:
        case At(value=value, indices=indices):
            found = {axis: Coordinate(axis) for axis in value.axes}
            return found | dict(indices)
        case _:
            return {axis: Coordinate(axis) for axis in read.axes}


def _side(read: Form, keys: tuple[Key, ...], over: set[Axis]) -> Side:
    value = read.value if isinstance(read, At) else read
    indices = _indices(read)
    solved = {key.index for key in keys}
    for axis, index in indices.items():
        if set(index.axes) & over and index not in solved:
            raise Unfit(f"the index along `{axis.name}` mixes keys and queries")
    if value.kind != "real":
        raise Unfit(f"keys and values must be real, and one is {value.kind}")
    return Side(value, indices)


def _depends(side: Side | None, keys: tuple[Key, ...]) -> set[Axis]:
    """The axes other than the keys' that a side is read at."""
    if side is None:
        return set()
    solved = {key.index for key in keys}
    return {axis for index in side.indices.values() if index not in solved for axis in index.axes}


def _roles(parts: Parts) -> Attention:
    """Sort the outer axes: shared with the keys (batch), of queries only (lanes), of values only."""
    root, keys = parts.root, parts.keys
    scored = set(parts.score.axes) | {axis for each in parts.predicates for axis in each.axes}
    of_values = _depends(parts.value_side, keys)
    outputs = tuple(axis for axis in root.axes if axis in of_values and axis not in scored)
    shared = (_depends(parts.key_side, keys) - set(parts.channels)) | (of_values - set(outputs))
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


def compiled_axes(match: Attention) -> tuple[Axis, ...]:
    """The axes whose sizes shape the code."""
    return tuple(dict.fromkeys((*match.channels, *match.outputs)))
