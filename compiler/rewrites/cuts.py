"""Along which axes a program may run part by part: its results for a part of an axis are that part of its results,
or they add up.

    no other axis is as long as it, or as long as a formula of its size; no value is its size or its index
    no read replaces it, nothing is placed along it, no reduction takes it
    but sums: those that a result is made of by nothing that does not distribute over them

Results are present everywhere, so that a sum without `otherwise` is not over nothing in any part either: which
entries there are cannot depend on the index, and what depends on data is never proved.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    Otherwise,
    Place,
    Program,
    Reduce,
    Size,
    When,
    walk,
)
from ...dsl.shapes.size_forms import program_axes


@dataclass(frozen=True, slots=True)
class Cut:
    """An axis of the signature, and the results (updates as `update:NAME`) that add up over its parts."""

    axis: Axis
    sums: frozenset[str]


def cuts(program: Program) -> tuple[Cut, ...]:
    """The cuts of a program whose batch is explicit, outermost axes of its tensors first."""
    ends = [end for axis in program_axes(program) for end in (axis.lo, axis.size) if end is not None]
    counted = {form.axis for form in walk(ends) if isinstance(form, Size)}
    given = dict.fromkeys(axis for each in program.declarations for axis in each.leaf.over)
    roots = {each.name: each.value for each in program.outputs}
    roots |= {f"update:{each.buffer.name}": each.value for each in program.updates}
    found: list[Cut] = []
    for axis in given:
        if axis.size is None and axis not in counted:
            sums = _sums(roots, axis)
            if sums is not None:
                found.append(Cut(axis, sums))
    return tuple(found)


def varies(form: Form, axis: Axis) -> bool:
    """Whether a value may differ between parts of the axis."""
    return any(axis in each.axes or each == Size(axis) for each in walk((form,)))


def _sums(roots: dict[str, Form], axis: Axis) -> frozenset[str] | None:
    """The results that are sums along the axis; None where it is no cut."""
    found: set[str] = set()
    for name, root in roots.items():
        adding = _adding(root, axis)
        if adding is not None:
            found.add(name)
        for form in walk((root,)):
            if not _pointwise(form, axis) and form not in (adding or ()):
                return None
    return frozenset(found)


def _adding(form: Form, axis: Axis) -> frozenset[Form] | None:
    """The sums along the axis that a value is made of, if over parts of the axis it adds up to itself."""
    match form:
        case Reduce(op="sum", pieces=pieces) if all(axis in piece.axes for piece in pieces):
            return frozenset((form,))
        case Reduce(op="sum", pieces=(piece,)):
            return _adding(piece.value, axis)
        case Otherwise(value=value, fallback=Const(value=zero)) if zero == 0:
            return _adding(value, axis)
        case When(predicate=other, value=value):
            return _adding(value, axis) if _alike(other, axis) else None
        case At(value=value, indices=indices):
            return _adding(value, axis) if all(_alike(index, axis) for _, index in indices) else None
        case Map(op="mul", args=args):
            other = [each for each in args if not _alike(each, axis)]
            return _adding(other[0], axis) if len(other) == 1 else None
        case _:
            return None


def _alike(form: Form, axis: Axis) -> bool:
    """Whether a value is the same for every part of the axis."""
    return not varies(form, axis)


def _pointwise(form: Form, axis: Axis) -> bool:
    """Whether the form at an index of the axis is made of its operands at that index."""
    match form:
        case Const() | Leaf() | Map() | When() | Otherwise() | AsIf():
            return True
        case Size(axis=other) | Coordinate(axis=other):
            return other != axis
        case At(value=value, indices=indices):
            return axis not in value.axes or all(target != axis for target, _ in indices)
        case Place(value=value, indices=indices, keep=keep):
            inside = {each for operand in (value, *(index for _, index in indices)) for each in operand.axes}
            return all(target != axis for target, _ in indices) and (axis not in inside or axis in keep)
        case Reduce(pieces=pieces):
            return all(axis not in piece.axes for piece in pieces)
        case _:
            return False
