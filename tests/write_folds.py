"""Rules of the reductions: each of them over one axis, over several, over the batch and over a union."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from plait.dsl.constructors import build
from plait.dsl.ops import ORDER, REDUCTIONS, Kind, reduce_kind
from plait.dsl.program import BATCH, Axis, Form
from writer import Axes, Rule, Writer, mul

SHAPES = ("one axis", "several axes", "a union", "...")


def bodies(
    writer: Writer, depth: int, axes: Axes, kind: Kind = "real", shape: str = "", *, given: bool = False
) -> tuple[Form, Axes] | None:
    """A value over `axes` and further ones that are to be reduced; a tensor as it is `given`, or any."""
    batch = (BATCH,) if shape == "..." and BATCH in writer.signature and BATCH not in axes else ()
    free = [axis for axis in writer.signature if axis not in axes and axis != BATCH]
    if given and free:  # the index along an axis that has a name, of a tensor over it and the batch
        bound = writer.pick(free)
    else:
        bound = writer.bound_axis(axes) if not batch or writer.chance(50) else None
    if bound is None and not batch or given and bound == BATCH:
        return None
    reduced = tuple(dict.fromkeys((*batch, *(() if bound is None else (bound,)))))
    if shape == "several axes" or (shape != "one axis" and writer.chance(20)):
        second = writer.bound_axis((*axes, *reduced))
        reduced = reduced if second in (None, *reduced) else (*reduced, second)
    outside = all(axis in writer.signature for axis in (*axes, *reduced))
    if given and kind == "real" and (BATCH not in reduced or outside):
        own = tuple(axis for axis in writer.some(axes) if axis != BATCH or outside)
        return writer.declare("real", writer.shuffled((*own, *reduced))).leaf, writer.shuffled(reduced)
    body = writer.form("int" if given else kind, depth, (*axes, *reduced))
    for axis in reduced:
        body = writer.over(body, axis)
    return body, writer.shuffled(reduced)


def folded(op: str, kind: Kind, shape: str, writer: Writer, depth: int, axes: Axes) -> Form:
    """The reduction of values of a kind; argmax of tensors and of whole numbers only."""
    if shape == "..." and BATCH in axes:
        axes = tuple(axis for axis in axes if axis != BATCH)
    given = op == "argmax"
    if given and shape == "...":
        axes = axes[1:]
    kinds: list[Kind] = [kind]
    if shape == "a union":
        kinds.append(writer.pick([kind, kind, "int"]) if kind in ("real", "complex") else kind)
    found = [bodies(writer, depth, axes, each, shape, given=given) for each in kinds]
    pieces = [each for each in found if each is not None]
    if not pieces:
        return writer.form("real", 0, axes)
    where = None
    if writer.chance(30):
        where = writer.truth(depth, axes if len(pieces) > 1 else (*axes, *pieces[0][1]))
    return build.reduce(op, pieces, where, component(writer, pieces) if given else 0)


def component(writer: Writer, pieces: Sequence[tuple[Form, Axes]]) -> int:
    """The place of an axis, among those of all pieces, that an argmax may answer for: one with a name."""
    listed = [axis for _, axes in pieces for axis in axes]
    return writer.pick([place for place, axis in enumerate(listed) if axis != BATCH])


def takes(op: str, kind: Kind) -> Kind | None:
    found = reduce_kind(op, kind)
    return None if " " in found else found  # type: ignore[return-value]


FOLDS: dict[str, Rule] = {
    f"{op} of {kind} over {shape}": partial(folded, op, kind, shape)
    for op in REDUCTIONS
    for kind in ORDER
    if takes(op, kind)
    for shape in SHAPES
}
"""A rule for each reduction, each kind that it takes, and each shape of what it runs over."""


def any_fold(made: Kind, ops: Sequence[str], writer: Writer, depth: int, axes: Axes) -> Form:
    """One of the reductions, of a kind that gives what is wanted, over what may be."""
    op = writer.pick(ops)
    kinds: list[Kind] = [kind for kind in reversed(ORDER) if takes(op, kind) == made]
    kind: Kind = made if made in kinds else writer.pick(kinds)
    form = folded(op, kind, writer.pick(["", "", "", "a union"]), writer, depth, axes)
    return form if form.kind == made else writer.form(made, 0, axes)


def averaged(writer: Writer, depth: int, axes: Axes) -> Form:
    """The mean of what there is, perhaps of a union."""
    found = [bodies(writer, depth, axes) for _ in range(2 if writer.chance(20) else 1)]
    pieces = [each for each in found if each is not None]
    if not pieces:
        return writer.real(depth, axes)
    where = writer.truth(depth, (*axes, *pieces[0][1])) if len(pieces) == 1 and writer.chance(30) else None
    return build.mean(pieces, where)


def attended(writer: Writer, depth: int, axes: Axes) -> Form:
    """A softmax, perhaps of a union, and what it weighs."""
    found = [bodies(writer, depth, axes) for _ in range(2 if writer.chance(20) else 1)]
    pieces = [each for each in found if each is not None]
    if not pieces:
        return writer.real(depth, axes)
    where = None
    if len(pieces) == 1 and writer.chance(40):
        where = writer.truth(depth, (*axes, *pieces[0][1]))
    weights = build.softmax(pieces, where)
    weighed: list[tuple[Form, tuple[Axis, ...]]] = []
    for weight, (_, over) in zip(weights, pieces, strict=True):
        weighed.append((mul(weight, writer.real(depth, (*axes, *over))), over))
    return build.reduce("sum", weighed)
