"""Keys at steps other than one: which axes of queries are taken class by class, and which keys a class meets.

A window `h + 2*dh` meets keys of the residue of its query, so a tile has queries of one residue only, and its keys
pass by place after place. A predicate `(t - s) % 4 == 0` says the same of keys s that would pass one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...dsl.constructors.build import apply, low
from ...dsl.program import Axis, Const, Coordinate, Form, Map, Size, walk
from ...dsl.proofs.presence import terms
from ..rewrites.affine import affine
from ..rewrites.residues import Classes, classes_of, only_residues, placed, remainder, residue
from ..rewrites.rewrite import in_range
from .keys import ONE, Key, Unfit

Met = tuple[tuple[Key, ...], tuple[Form, ...]]
"""The keys of a stream and the predicates that they meet."""


def settled(streams: Sequence[Met], lanes: Sequence[Axis]) -> tuple[tuple[Met, ...], Mapping[Axis, Classes]]:
    """The streams with keys solved for the classes of the queries, and these. What predicates say of residues is
    used where it fits; raises Unfit where steps do not."""
    by_predicates = tuple(_congruent(*each) for each in streams)
    try:
        return _settled(by_predicates, lanes)
    except Unfit:
        if by_predicates == tuple(streams):
            raise
    return _settled(streams, lanes)


def _settled(streams: Sequence[Met], lanes: Sequence[Axis]) -> tuple[tuple[Met, ...], Mapping[Axis, Classes]]:
    steps: dict[Axis, Form] = {}
    for key in (key for keys, _ in streams for key in keys if key.step != ONE):
        if not all(isinstance(each, Const | Size | Coordinate | Map) for each in walk((key.residue,))):
            raise Unfit(f"which residue the index along `{key.axis.name}` has is data")
        for axis in (axis for axis in key.residue.axes if axis in lanes):
            if not only_residues(key.residue, axis):
                raise Unfit(f"the residue of the index along `{key.axis.name}` is not that of `{axis.name}`")
            if steps.setdefault(axis, key.step) != key.step:
                raise Unfit(f"windows of `{axis.name}` have different steps")
    classes = {axis: classes_of(axis, step) for axis, step in steps.items()}
    return tuple(
        (tuple(_placed(key, classes) for key in keys), _left(keys, masks)) for keys, masks in streams
    ), classes


def _left(keys: tuple[Key, ...], predicates: tuple[Form, ...]) -> tuple[Form, ...]:
    """The predicates that say more than that a key lies on its axis."""
    known = {each for key in keys if key.step != ONE for each in in_range(key.index, key.axis)}
    return tuple(each for each in predicates if each not in known)


def _placed(key: Key, classes: Mapping[Axis, Classes]) -> Key:
    if key.step == ONE:
        return key
    rest = key.rest if key.exact else placed(key.rest, classes)
    return replace(key, rest=rest, residue=residue(placed(key.residue, classes), key.step, classes))


def placed_by(root: Form, classes: Mapping[Axis, Classes], keys: Sequence[Key]) -> None:
    """Raises Unfit where the queries do not say where the keys of one lie."""
    known = {*root.axes, *(axis for each in classes.values() for axis in (each.place, each.residue))}
    for key in keys:
        if not {*key.rest.axes, *key.residue.axes} <= known:
            raise Unfit(f"the window of `{key.over.name}` is placed by something else than the query")


def _congruent(keys: tuple[Key, ...], predicates: tuple[Form, ...]) -> Met:
    """The keys with what equations of residues say of them, and the other predicates."""
    left: list[Form] = []
    for predicate in (part for each in predicates for part in terms("and", each)):
        solved = [_solved(key, predicate, keys) for key in keys]
        if any(solved):
            keys = tuple(found or key for key, found in zip(keys, solved, strict=True))
        else:
            left.append(predicate)
    return keys, tuple(left) if any(key.exact for key in keys) else predicates


def _solved(key: Key, predicate: Form, keys: tuple[Key, ...]) -> Key | None:
    """The key, if the predicate is (.. + over) % step == number."""
    match predicate:
        case Map(
            op="eq", args=(Map(op="mod", args=(value, Const(value=int() as step))), Const(value=int() as n))
        ):
            pass
        case _:
            return None
    rest = affine(remainder(value, Const(step)))
    coefficient = rest.coefficients.get(key.over) if rest is not None else None
    if key.step != ONE or not 0 <= n < step or coefficient not in (ONE, Const(step - 1)):
        return None
    sign = 1 if coefficient == ONE else -1
    others = apply("sub", value, apply("mul", Const(sign), Coordinate(key.over)))
    over = apply("mul", Const(sign), apply("sub", Const(n), others))
    at = apply("add", apply("mul", Const(key.sign), over), key.rest)
    found = remainder(apply("sub", at, low(key.axis)), Const(step))
    if set(found.axes) & {each.over for each in keys}:
        return None
    return replace(key, step=Const(step), residue=found, exact=True)
