"""Keys: the reduced axes of a stream, solved for the axes of the tensors that move with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...dsl.constructors.build import apply, low, size
from ...dsl.ops import Kind
from ...dsl.program import At, Axis, Const, Coordinate, Form, Map, Reduce, When
from ..rewrites.affine import affine, is_positive, polynomial
from ..rewrites.residues import remainder
from .contraction import factors_of


class Unfit(Exception):
    """Why a reduction is not in the family."""


ONE, ZERO = Const(1), Const(0)


@dataclass(frozen=True, slots=True)
class Key:
    """One streaming axis, solved: it runs over the range of `axis`, the axis that is read at `index`;
    the reduced axis `over` is then sign * (key - rest).

    With a `step` other than 1 what is read is the coordinate low + step * key + residue, and the key runs over
    the places of one class of coordinates. `exact`: the reduced axis is sign * (coordinate - rest) instead, where
    a predicate says that only one class is met."""

    over: Axis
    axis: Axis
    index: Form
    sign: int
    rest: Form
    step: Form = ONE
    residue: Form = ZERO
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """A stored tensor read once a key: which form it is, and the index of each of its axes."""

    form: Form
    indices: Mapping[Axis, Form]


def peel(form: Form) -> tuple[tuple[Form, ...], Form]:
    """The predicates of the `when`s around a form, and what is inside."""
    masks: list[Form] = []
    while isinstance(form, When):
        masks.append(form.predicate)
        form = form.value
    return tuple(masks), form


def key_and_query(dot: Reduce, over: set[Axis]) -> tuple[Form, Form, tuple[Axis, ...]]:
    """The query side and the key side of the contraction, and its channels."""
    piece = dot.pieces[0]
    factors = factors_of(piece.value)
    keys = [each for each in factors if set(each.axes) & over]
    queries = [each for each in factors if not set(each.axes) & over]
    if len(keys) != 1 or not queries:
        raise Unfit("the contraction does not pair one read of the keys with queries")
    query = queries[0]
    for each in queries[1:]:
        query = Map("mul", (query, each))
    return query, keys[0], piece.axes


def solve(axes: Sequence[Axis], reads: Sequence[Form], whole: bool = True) -> tuple[Key, ...]:
    """For each reduced axis the read that it moves, solved for the axis that is read. An axis that is read
    at other steps than one, by indices of nothing but reduced axes, is its own key, and one that moves no read is
    so unless reads move all axes on the `whole`."""
    solved: dict[Axis, Key] = {}
    apart: set[Axis] = set()
    for read in reads:
        for axis, index in indices_of(read).items():
            moved = [each for each in axes if each in index.axes]
            if not moved:
                continue
            if set(moved) == set(index.axes) and not _steps_by_one(index):
                apart |= set(moved)
                continue
            if len(moved) > 1:
                raise Unfit(f"one index moves with several reduced axes: {', '.join(a.name for a in moved)}")
            key = _solved(moved[0], axis, index)
            known = solved.setdefault(moved[0], key)
            if known.index != index or known.axis.name != axis.name and _range(known.axis) != _range(axis):
                raise Unfit(f"keys and values are read at different indices along `{axis.name}`")
    missing = [axis.name for axis in axes if axis not in solved and axis not in apart]
    if missing and whole:
        raise Unfit(f"no read moves with the reduced axis {', '.join(f'`{name}`' for name in missing)}")
    return tuple(solved.get(axis) or itself(axis) for axis in axes)


def itself(axis: Axis) -> Key:
    """A reduced axis as its own key."""
    return Key(axis, axis, Coordinate(axis), 1, Const(0))


def _steps_by_one(index: Form) -> bool:
    """Whether an index moves with one axis alone, by one."""
    form = affine(index)
    if form is None or len(form.coefficients) != 1:
        return False
    (coefficient,) = form.coefficients.values()
    return coefficient in (Const(1), Const(-1))


def _range(axis: Axis) -> tuple[Form, Form]:
    return (low(axis), size(axis))


def _solved(over: Axis, axis: Axis, index: Form) -> Key:
    form = affine(index)
    coefficient = form.coefficients.get(over) if form is not None else None
    stepped = _step(coefficient) if coefficient is not None else None
    if form is None or stepped is None:
        raise Unfit(f"the index along `{axis.name}` does not move with `{over.name}` by equal steps")
    rest: Form = form.rest
    for other, factor in form.coefficients.items():
        if other != over:
            term = Coordinate(other) if factor == ONE else Map("mul", (factor, Coordinate(other)))
            rest = term if rest == Const(0) else Map("add", (rest, term))
    step, sign = stepped
    if step == ONE:
        return Key(over, axis, index, sign, rest)
    start = apply("sub", rest, low(axis))
    return Key(over, axis, index, sign, apply("floordiv", start, step), step, remainder(start, step))


def _step(coefficient: Form) -> tuple[Form, int] | None:
    """A coefficient as a number that is certainly greater than 0 and its sign; None where it may be 0."""
    terms = polynomial(coefficient)
    if not terms or not all(is_positive(atom) for monomial in terms for atom in monomial):
        return None
    if all(factor > 0 for factor in terms.values()):
        return coefficient, 1
    return (apply("neg", coefficient), -1) if all(factor < 0 for factor in terms.values()) else None


def indices_of(read: Form) -> dict[Axis, Form]:
    """The index of every axis of the tensor that a read reads."""
    match read:
        case At(value=value, indices=indices):
            found = {axis: Coordinate(axis) for axis in value.axes}
            return found | dict(indices)
        case _:
            return {axis: Coordinate(axis) for axis in read.axes}


def side_of(read: Form, keys: tuple[Key, ...], over: set[Axis], kinds: tuple[Kind, ...] = ("real",)) -> Side:
    """A read of the keys alone, of a value of one of these kinds."""
    value = read.value if isinstance(read, At) else read
    indices = indices_of(read)
    solved = {key.index for key in keys}
    for axis, index in indices.items():
        if index not in solved and set(index.axes) & over and not set(index.axes) <= over:
            raise Unfit(f"the index along `{axis.name}` mixes keys and queries")
    if value.kind not in kinds:
        raise Unfit(f"keys and values must be real, and one is {value.kind}")
    return Side(value, indices)


def read_of(form: Form, keys: tuple[Key, ...], over: Collection[Axis]) -> Side | None:
    """A read of the keys alone, of a value of any kind; None where an index mixes keys and queries: what stands
    there is loaded entry by entry."""
    try:
        return side_of(form, keys, set(over), ("real", "bool", "int"))
    except Unfit:
        return None


def depends(side: Side | None, keys: tuple[Key, ...]) -> set[Axis]:
    """The axes other than the keys' that a side is read at."""
    if side is None:
        return set()
    solved = {key.index for key in keys}
    return {axis for index in side.indices.values() if index not in solved for axis in index.axes}
