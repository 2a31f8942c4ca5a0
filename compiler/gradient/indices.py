"""Index expressions brought into forms that an equation is solved for: a term beside a clamp goes into it, and an
axis that occurs by its parts only becomes two axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...dsl.constructors.build import apply, low, make_axis, size
from ...dsl.program import BATCH, Axis, Const, Coordinate, Form, Map, Program, children, walk
from ...dsl.proofs.presence import terms
from ..rewrites.affine import from_polynomial, is_positive, polynomial

TURNED: Mapping[str, str] = {"minimum": "maximum", "maximum": "minimum"}


def quotients(program: Program) -> frozenset[Form]:
    """The quotients of sizes of which the program requires that nothing is left over: they are at least 1."""
    found: set[Form] = set()
    for each in program.requires:
        for test in terms("and", each.predicate):
            match test:
                case Map(op="eq", args=(Map(op="mod", args=(whole, by)), Const(value=0))):
                    if is_positive(whole) and is_positive(by):
                        found.add(apply("floordiv", whole, by))
                case _:
                    pass
    return frozenset(found)


def into_clamp(index: Form, free: set[Axis]) -> Form:
    """min(u, hi) + c as min(u + c, hi + c), where c has free axes only; any other index as it is."""
    if index.kind != "int" or (isinstance(index, Map) and index.op in TURNED):
        return index
    terms = polynomial(index)
    for monomial, factor in terms.items():
        match monomial:
            case (Map(op=("minimum" | "maximum") as op, args=args) as atom,) if abs(factor) == 1:
                beside = from_polynomial({key: by for key, by in terms.items() if key != monomial})
                if free.issuperset(beside.axes) and not free.issuperset(atom.axes):
                    moved = (apply("add" if factor > 0 else "sub", beside, each) for each in args)
                    return Map(op if factor > 0 else TURNED[op], tuple(moved))
            case _:
                continue
    return index


@dataclass(frozen=True, slots=True)
class Parts:
    """An axis n that occurs as `n // by` and `n % by` only, and the axes of the two parts."""

    axis: Axis
    by: Form
    whole: Axis
    rest: Axis

    @property
    def solution(self) -> Form:
        return apply("add", apply("mul", self.by, Coordinate(self.whole)), Coordinate(self.rest))

    def replaced(self, form: Form) -> Form:
        """The form with the parts as coordinates."""
        made: dict[Form, Form] = {
            Map("floordiv", (Coordinate(self.axis), self.by)): Coordinate(self.whole),
            Map("mod", (Coordinate(self.axis), self.by)): Coordinate(self.rest),
        }
        for each in walk((form,), lambda form: () if form in made else children(form)):
            if each not in made:
                made[each] = (
                    Map(each.op, tuple(made[arg] for arg in each.args)) if isinstance(each, Map) else each
                )
        return made[form]


def parts(forms: Iterable[Form], summed: Iterable[Axis]) -> Parts | None:
    """Of the summed axes, one that occurs in these integers by its parts of one number only."""
    found = tuple(forms)
    for axis in summed:
        by = _divisor(axis, found)
        if by is not None:
            count = apply("floordiv", apply("add", size(axis), apply("sub", by, Const(1))), by)
            whole = make_axis(axis.name, Const(0), count, "axis")
            return Parts(axis, by, whole, make_axis(axis.name, Const(0), by, "axis"))
    return None


def _divisor(axis: Axis, forms: tuple[Form, ...]) -> Form | None:
    """The one number that an axis from 0 on is divided by wherever it occurs, under maps only."""
    if axis == BATCH or low(axis) != Const(0):
        return None
    divisors: set[Form] = set()
    stack = [form for form in forms if axis in form.axes]
    while stack:
        match stack.pop():
            case Map(op="floordiv" | "mod", args=(Coordinate(axis=own), by)) if own == axis:
                divisors.add(by)
            case Map(args=args):
                stack += (each for each in args if axis in each.axes)
            case _:
                return None
    by = divisors.pop() if len(divisors) == 1 else None
    return by if by is not None and not by.axes and is_positive(by) else None
