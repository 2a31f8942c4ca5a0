"""What forms are drawn with: a `Writer` draws choices, and has the axes and tensors of a program.

Which forms there are is said by its `Rules` (`write_rules.py`): `Writer(...).real(depth, axes)` is a form over some
of these axes. Every choice lists the simpler alternatives first, which is where hypothesis shrinks to. What could
be decided differently by a rounding error (a comparison of computed reals, their floor, their argmax) is not
written, so that backends of another precision can run the same programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, TypeVar

from hypothesis import strategies as st

from plait.dsl.constructors import build
from plait.dsl.ops import TOTAL_REDUCTIONS, Kind
from plait.dsl.program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Item,
    Leaf,
    Otherwise,
    Place,
    Reduce,
    Role,
    Size,
    Update,
    When,
    children,
    walk,
)
from plait.dsl.shapes.size_forms import Sizes, axis_range

Axes = tuple[Axis, ...]
T = TypeVar("T")

MOST_ENTRIES = 3000
"""The largest box that a value may have: a new axis that would make a larger one is not made."""
MOST_LEAVES = 5


def add(a: Form, b: Form) -> Form:
    return build.apply("add", a, b)


def mul(a: Form, b: Form) -> Form:
    return build.apply("mul", a, b)


def sub(a: Form, b: Form) -> Form:
    return build.apply("sub", a, b)


@cache
def below(count: int) -> st.SearchStrategy[int]:
    """One of so many numbers. Making a strategy takes longer than drawing from it."""
    return st.integers(0, count - 1)


Rule = Callable[["Writer", int, Axes], Form]
"""What makes a form over some of the axes, of forms that are at most so deep."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a form of each kind may be, and what it may be with nothing below it; what stands twice is drawn twice
    as often."""

    deep: Mapping[Kind, Sequence[Rule]]
    flat: Mapping[Kind, Sequence[Rule]]


class Writer:
    """What a program under construction has: tensors, axes with sizes, updates, and values made so far."""

    def __init__(
        self,
        draw: Callable[[st.SearchStrategy[Any]], Any],
        sizes: Sizes,
        fixed: Sequence[Axis] = (),
        rules: Rules | None = None,
    ) -> None:
        self.draw_any = draw
        self.sizes = sizes
        self.fixed = tuple(fixed)
        self.rules = rules or Rules({}, {})
        self.signature: Axes = tuple(sizes)
        self.declarations: list[Declaration] = []
        self.updates: list[Update] = []
        self.made: list[Form] = []
        self.numbers: dict[str, int] = {}

    # --- drawing

    def draw(self, strategy: st.SearchStrategy[T]) -> T:
        return self.draw_any(strategy)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.draw(below(len(choices)))] if len(choices) > 1 else choices[0]

    def some(self, choices: Sequence[T], least: int = 0) -> tuple[T, ...]:
        """Some of the choices, in any order."""
        chosen = (
            self.draw(st.lists(st.sampled_from(range(len(choices))), unique=True, min_size=least, max_size=3))
            if choices
            else []
        )
        return tuple(choices[number] for number in chosen)

    def chance(self, percent: int) -> bool:
        return self.draw(below(100)) >= 100 - percent

    def shuffled(self, choices: Sequence[T]) -> tuple[T, ...]:
        return tuple(self.draw(st.permutations(list(choices))))

    def name(self, stem: str) -> str:
        """A name that the program does not have yet."""
        self.numbers[stem] = self.numbers.get(stem, 0) + 1
        return f"{stem}{self.numbers[stem]}"

    # --- forms

    def form(self, kind: Kind, depth: int, axes: Axes) -> Form:
        """A value of the kind over some of `axes`."""
        rules = self.rules.deep if depth > 0 else self.rules.flat
        made = self.pick(rules[kind])(self, max(depth - 1, 0), axes)
        self.made.append(made)
        return made

    def real(self, depth: int, axes: Axes) -> Form:
        return self.form("real", depth, axes)

    def whole(self, depth: int, axes: Axes) -> Form:
        return self.form("int", depth, axes)

    def truth(self, depth: int, axes: Axes) -> Form:
        """A predicate, decided by integers, masks and tensors alone."""
        return self.form("bool", depth, axes)

    def again(self, kind: Kind, axes: Axes) -> Form | None:
        """A value that was made before: sharing."""
        fitting = [form for form in self.made if form.kind == kind and set(form.axes) <= set(axes)]
        return self.pick(fitting) if fitting else None

    def may_be_absent(self, form: Form) -> bool:
        """Whether a form has no plain reason to be total. Reductions of total values over axes that cannot
        be empty are total."""
        optional = {each.leaf for each in self.declarations if each.optional}
        absent: dict[Form, bool] = {}
        for each in walk((form,)):
            match each:
                case When() | At() | Place():
                    absent[each] = True
                case Otherwise(fallback=fallback):
                    absent[each] = absent[fallback]
                case Reduce(op=op) if op in TOTAL_REDUCTIONS:
                    absent[each] = False
                case Reduce(op="argmax", pieces=pieces) if len(pieces) > 1:
                    absent[each] = True
                case Reduce(pieces=pieces):
                    absent[each] = all(absent[piece.value] or BATCH in piece.axes for piece in pieces)
                case _:
                    absent[each] = each in optional or any(absent[child] for child in children(each))
        return absent[form]

    # --- axes

    def extent(self, axis: Axis) -> int:
        return len(axis_range(axis, self.sizes))

    def entries(self, axes: Sequence[Axis]) -> int:
        return prod(max(1, self.extent(axis)) for axis in axes)

    def bound_axis(self, axes: Axes) -> Axis | None:
        """An axis that is not one of `axes`, to be reduced; None where the box would grow too large."""
        ways: list[Callable[[], Axis]] = [
            lambda: build.near_axis(self.name("r"), Const(self.pick([1, 0, 2]))),
            lambda: build.make_axis(self.name("n"), Const(0), Const(self.pick([2, 1, 3])), "axis"),
            lambda: build.span_axis(self.name("s"), Const(self.pick([-1, 0, 1])), Const(self.pick([2, 3]))),
        ]
        others = [axis for axis in self.signature if axis not in axes]
        ways = [*(lambda axis=axis: axis for axis in others), *ways]
        for axis in self.signature:
            if axis != BATCH:
                half = build.apply("floordiv", add(Size(axis), Const(1)), Const(2))
                ways.append(lambda axis=axis: build.like_axis(axis, self.name(f"{axis.name}_")))
                ways.append(lambda half=half: build.make_axis(self.name("n"), Const(0), half, "axis"))
        axis = self.pick(ways)()
        return axis if self.entries((*axes, axis)) <= MOST_ENTRIES else None

    # --- leaves

    def leaf(self, kind: Kind, axes: Axes, index_of: Axis | None = None) -> Leaf:
        """A tensor over some of `axes`: one that there is already, or a new one."""
        fitting = [
            each.leaf
            for each in self.declarations
            if each.leaf.declared == kind
            and set(each.leaf.over) <= set(axes)
            and each.leaf.ranges_over == index_of
        ]
        if fitting and (len(self.declarations) >= MOST_LEAVES or self.chance(50)):
            return self.pick(fitting)
        outside = tuple(axis for axis in axes if axis in self.signature)
        over = self.some(axes if kind == "real" else outside)
        return self.declare(
            kind, over if BATCH not in over else tuple(a for a in over if a in outside), index_of
        ).leaf

    def declare(self, kind: Kind, over: Axes, index_of: Axis | None = None) -> Declaration:
        """A new tensor: an input where all axes have sizes from outside, which is sometimes optional; otherwise a
        parameter or a draw, which have no `...` and are real."""
        known = all(axis in self.signature for axis in over)
        if known and (kind != "real" or BATCH in over or not self.chance(25)):
            return self.stored("input", kind, over, index_of, optional=self.chance(5))
        return self.stored("draw" if self.chance(30) else "parameter", kind, over)

    def stored(
        self, role: Role, kind: Kind, over: Axes, index_of: Axis | None = None, *, optional: bool = False
    ) -> Declaration:
        """A new tensor of a role."""
        stem = {"input": "x", "parameter": "block.w", "buffer": "seen", "draw": "noise"}[role]
        leaf = Leaf(role, self.name(stem), over, kind, index_of)
        parameter = role == "parameter"
        init = self.pick(["gumbel()", "bernoulli(0.5)"]) if role == "draw" else None
        if parameter and self.chance(20):
            init = "normal(0.0, 0.5)"
        declaration = Declaration(
            leaf, self.packed(over, inputs=True), optional, parameter and not self.chance(10), init,
            (f"old.{leaf.name}",) if parameter and self.chance(5) else (),
        )  # fmt: skip
        self.declarations.append(declaration)
        return declaration

    def declare_input(self, over: Axes) -> Leaf:
        """A new real input over these axes, each by itself."""
        leaf = Leaf("input", self.name("x"), over)
        self.declarations.append(Declaration(leaf, tuple((axis,) for axis in over)))
        return leaf

    def declare_parameter(self, over: Axes) -> Leaf:
        return self.stored("parameter", "real", over).leaf

    def packed(self, over: Axes, *, inputs: bool) -> tuple[Item, ...]:
        """Dimensions: mostly one axis each. A packed input leaves only one size to find."""
        items: list[Item] = []
        for axis in over:
            last = items[-1] if items else ()
            known = sum(each in self.fixed or each.size is not None for each in (*last, axis))
            fits = last and BATCH not in (*last, axis) and (not inputs or known >= len(last))
            if fits and self.chance(15):
                items[-1] = (*last, axis)
            else:
                items.append((axis,))
        if self.chance(5):
            items.insert(self.draw(st.integers(0, len(items))), ())
        return tuple(items)

    def over(self, form: Form, axis: Axis) -> Form:
        """The form, made to have the axis."""
        if axis in form.axes:
            return form
        if form.kind == "bool":
            other = (
                self.stored("input", "bool", (axis,)).leaf
                if axis == BATCH
                else build.apply("ne", Coordinate(axis), Const(1))
            )
            return build.apply(self.pick(["or", "and"]), form, other)
        if form.kind == "int":
            return add(form, self.stored("input", "int", (axis,)).leaf if axis == BATCH else Coordinate(axis))
        if axis == BATCH:
            return mul(form, self.stored("input", "real", (axis,)).leaf)
        return mul(form, add(Coordinate(axis), Const(0.5)))
