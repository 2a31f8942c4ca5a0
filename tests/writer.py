"""Draws well-typed forms: `Writer(draw, ...).real(depth, axes)` is a form over some of these axes.

Every choice lists the simpler alternatives first, which is where hypothesis shrinks to. What could be
decided differently by a rounding error (a comparison of computed reals, their floor, their argmax) is not
written, so that backends of another precision can run the same programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeVar

from hypothesis import strategies as st

from plait.dsl import build, build_special
from plait.dsl.ops import Kind
from plait.dsl.program import (
    BATCH,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Item,
    Leaf,
    Otherwise,
    Reduce,
    Size,
    When,
    children,
    walk,
)
from plait.dsl.size_forms import Sizes, axis_range

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


def may_be_absent(form: Form) -> bool:
    """Whether a form has no plain reason to be total. Reductions of total values over axes that cannot
    be empty are total."""
    absent: dict[Form, bool] = {}
    for each in walk((form,)):
        match each:
            case When():
                absent[each] = True
            case Otherwise(fallback=fallback):
                absent[each] = absent[fallback]
            case Reduce(op="count" | "any" | "all"):
                absent[each] = False
            case Reduce(pieces=pieces):
                absent[each] = all(absent[piece.value] or BATCH in piece.axes for piece in pieces)
            case _:
                reads = type(each).__name__ in ("At", "Place")
                absent[each] = reads or any(absent[child] for child in children(each))
    return absent[form]


class Writer:
    """What a program under construction has: leaves, axes with sizes, and values made so far."""

    def __init__(
        self, draw: Callable[[st.SearchStrategy[T]], T], sizes: Sizes, fixed: Sequence[Axis]
    ) -> None:
        self.draw_any = draw
        self.sizes = sizes
        self.fixed = tuple(fixed)
        self.signature: Axes = tuple(sizes)
        self.declarations: list[Declaration] = []
        self.made: list[Form] = []
        self.numbers: dict[str, int] = {}

    # --- drawing

    def draw(self, strategy: st.SearchStrategy[T]) -> T:
        return self.draw_any(strategy)  # type: ignore[arg-type]

    def pick(self, choices: Sequence[T]) -> T:
        return self.draw(st.sampled_from(choices))

    def some(self, choices: Sequence[T], least: int = 0) -> tuple[T, ...]:
        """Some of the choices, in any order."""
        chosen = (
            self.draw(st.lists(st.sampled_from(range(len(choices))), unique=True, min_size=least, max_size=3))
            if choices
            else []
        )
        return tuple(choices[number] for number in chosen)

    def chance(self, percent: int) -> bool:
        return self.draw(st.integers(0, 99)) >= 100 - percent

    def shuffled(self, choices: Sequence[T]) -> tuple[T, ...]:
        return tuple(self.draw(st.permutations(list(choices))))

    def name(self, stem: str) -> str:
        """A name that the program does not have yet."""
        self.numbers[stem] = self.numbers.get(stem, 0) + 1
        return f"{stem}{self.numbers[stem]}"

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
            and each.leaf.role != "buffer"
        ]
        if fitting and (len(self.declarations) >= MOST_LEAVES or self.chance(50)):
            return self.pick(fitting)
        outside = tuple(axis for axis in axes if axis in self.signature)
        over = self.some(axes if kind == "real" else outside)
        return self.declare(
            kind, over if BATCH not in over else tuple(a for a in over if a in outside), index_of
        ).leaf

    def declare(self, kind: Kind, over: Axes, index_of: Axis | None = None) -> Declaration:
        """A new tensor: an input where all axes have sizes from outside, otherwise a parameter, which
        has no `...` and is real."""
        known = all(axis in self.signature for axis in over)
        input = known and (kind != "real" or BATCH in over or not self.chance(20))
        name = self.name("x") if input else self.name("block.w")
        leaf = Leaf("input" if input else "parameter", name, over, kind, index_of)
        declaration = Declaration(leaf, self.packed(over, inputs=True))
        self.declarations.append(declaration)
        return declaration

    def declare_input(self, over: Axes) -> Leaf:
        """A new real input over these axes, each by itself."""
        leaf = Leaf("input", self.name("x"), over)
        self.declarations.append(Declaration(leaf, tuple((axis,) for axis in over)))
        return leaf

    def declare_parameter(self, over: Axes) -> Leaf:
        leaf = Leaf("parameter", self.name("block.w"), over)
        self.declarations.append(Declaration(leaf, self.packed(over, inputs=True)))
        return leaf

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

    # --- reals

    def real(self, depth: int, axes: Axes) -> Form:
        """A real value over some of `axes`."""
        if depth <= 0:
            form = self.simple_real(axes)
        else:
            form = self.pick(REALS)(self, depth - 1, axes)
        self.made.append(form)
        return form

    def simple_real(self, axes: Axes) -> Form:
        if self.chance(25):
            return Const(self.pick([1.0, -0.5, 2.0, 0.0]))
        return self.leaf("real", axes)

    def leaf_real(self, depth: int, axes: Axes) -> Form:
        return self.leaf("real", axes)

    def again(self, depth: int, axes: Axes) -> Form:
        """A value that was made before: sharing."""
        fitting = [form for form in self.made if form.kind == "real" and set(form.axes) <= set(axes)]
        return self.pick(fitting) if fitting else self.leaf("real", axes)

    def unary(self, depth: int, axes: Axes) -> Form:
        name = self.pick(
            [
                "neg",
                "abs",
                "tanh",
                "sigmoid",
                "sin",
                "cos",
                "erf",
                "precise",
                "sign",
                "exp",
                "log1p",
                "sqrt",
                "expm1",
                "log",
            ]
        )
        form = self.real(depth, axes)
        if name in ("exp", "expm1"):
            form = build.apply("minimum", form, Const(2.0))
        if name in ("log1p", "sqrt"):
            form = build.apply("abs", form)
        if name == "log":
            form = add(mul(form, form), Const(0.5))
        return build.apply(name, form) if name != "sign" else build.apply("sign", self.leaf("real", axes))

    def binary(self, depth: int, axes: Axes) -> Form:
        name = self.pick(["add", "mul", "sub", "maximum", "minimum", "div", "pow"])
        a = self.real(depth, axes)
        if name == "pow":
            return build.apply("pow", a, Const(self.pick([2, 3, 0])))
        b = self.real(depth, axes)
        return build.apply(name, a, add(Const(1.0), mul(b, b)) if name == "div" else b)

    def of_whole(self, depth: int, axes: Axes) -> Form:
        form = self.whole(depth, axes)
        return mul(form, Const(0.5)) if self.chance(50) else build.apply("to_real", form)

    def masked(self, depth: int, axes: Axes) -> Form:
        return build.when(self.truth(depth, axes), self.real(depth, axes))

    def filled(self, depth: int, axes: Axes) -> Form:
        return build.otherwise(self.real(depth, axes), self.real(depth, axes))

    def selected(self, depth: int, axes: Axes) -> Form:
        return build.select(self.truth(depth, axes), self.real(depth, axes), self.real(depth, axes))

    def complex_part(self, depth: int, axes: Axes) -> Form:
        return build.apply(self.pick(["real", "imag"]), self.complex(depth, axes))

    def complex(self, depth: int, axes: Axes) -> Form:
        """A complex value over some of `axes`: products, sums and functions of what two reals make and of tensors."""
        made = build.apply("cplx", self.real(depth, axes), self.real(depth, axes))
        other = self.leaf("complex", axes) if self.chance(50) else build.apply("conj", made)
        way = self.pick(["mul", "sub", "div", "exp", "sum", "read"])
        bound = self.bound_axis(axes) if way == "sum" else None
        own = [axis for axis in axes if axis != BATCH]
        if way == "exp":
            return mul(build.apply("exp", build.apply("div", made, self.bounded(made))), other)
        if way == "div":
            return build.apply("div", made, self.bounded(other))
        if bound is not None and bound != BATCH:
            weight = self.over(self.real(0, (*axes, bound)), bound)
            return build.reduce("sum", [(mul(mul(made, other), weight), (bound,))])
        if way == "read" and any(axis in made.axes for axis in own):
            axis = self.pick([axis for axis in own if axis in made.axes])
            moved = build.at(made, {axis: add(Coordinate(axis), Const(self.pick([1, -1])))})
            return build.otherwise(moved, other)
        return build.apply("sub" if way == "sub" else "mul", made, other)

    @staticmethod
    def bounded(form: Form) -> Form:
        """A number that a complex one is at most, so that its exponential stays of the size of one."""
        return add(Const(1.0), build.apply("real", mul(form, build.apply("conj", form))))

    def marked(self, depth: int, axes: Axes) -> Form:
        value = self.real(depth, axes)
        surrogate = self.real(depth, axes)
        if self.chance(30):
            cotangent = Leaf("bound", self.name("g"), value.axes)
            factor = surrogate if set(surrogate.axes) <= set(value.axes) else Const(0.5)
            return build_special.on_gradient(
                value, cotangent, mul(cotangent, build.otherwise(factor, Const(2.0)))
            )
        if not set(surrogate.axes) <= set(value.axes):
            return build_special.stop(value)
        return build_special.as_if(value, surrogate)

    # --- reads and places

    def read(self, depth: int, axes: Axes) -> Form:
        """A value over any axes, read so that only `axes` are left."""
        wide = tuple(dict.fromkeys((*axes, *self.signature)))
        value = self.real(depth, wide if self.entries(wide) <= MOST_ENTRIES else axes)
        if BATCH in value.axes and BATCH not in axes:
            value = build.reduce("sum", [(value, (BATCH,))])
        outside = [axis for axis in value.axes if axis not in axes]
        inside = [axis for axis in value.axes if axis in axes and axis != BATCH]
        chosen = (*outside, *self.some(inside, least=0 if outside or not inside else 1))
        return build.at(value, {axis: self.index(axis, depth, axes) for axis in dict.fromkeys(chosen)})

    def index(self, axis: Axis, depth: int, axes: Axes) -> Form:
        """An integer that is an index of `axis` at least sometimes."""
        own = [Coordinate(each) for each in axes if each != BATCH]
        last = sub(add(build.low(axis), build.size(axis)), Const(1))
        first = self.pick(own) if own else build.low(axis)
        shifted = add(first, Const(self.pick([1, -1, 0, 2])))
        ways: list[Callable[[], Form]] = [
            lambda: shifted,
            lambda: add(build.low(axis), Const(self.pick([0, 1]))),
            lambda: sub(last, first),
            lambda: add(mul(Const(self.pick([2, 3])), first), Const(self.pick([0, -1]))),
            lambda: add(first, self.pick(own) if own else Const(0)),
            lambda: build.clamp(shifted, build.low(axis), last),
            lambda: add(build.low(axis), build.apply("mod", shifted, build.size(axis))),
            lambda: build.reflect(shifted, build.size(axis)),
            lambda: build.apply(self.pick(["floordiv", "mod"]), first, Const(self.pick([2, 3]))),
            lambda: self.leaf("int", axes, axis if axis in self.signature else None),
            lambda: self.whole(depth, axes),
        ]
        return self.pick(ways)()

    def placed(self, depth: int, axes: Axes) -> Form:
        """Entries added up where an index says."""
        targets = [axis for axis in axes if axis != BATCH and axis in self.signature]
        if not targets:
            return self.real(depth, axes)
        target = self.pick(targets)
        bound = self.bound_axis(axes)
        source = axes if bound is None or bound == BATCH else (*axes, bound)
        value = self.real(depth, source)
        index = self.index(target, depth, tuple(axis for axis in source if axis != BATCH))
        keep = tuple(axis for axis in value.axes if axis in axes and axis != target)
        return build.place(value, {target: index}, keep)

    def joined(self, depth: int, axes: Axes) -> Form:
        """Two parts one after another along an axis of their own, and a read or a sum of it."""
        lengths = [self.pick([1, 2]), self.pick([2, 1, 3])]
        owns = [build.make_axis(self.name("n"), Const(0), Const(length), "axis") for length in lengths]
        along = build.make_axis(self.name("n"), Const(0), Const(sum(lengths)), "axis")
        parts = [(self.over(self.real(depth, (*axes, own)), own), own) for own in owns]
        whole = build.cat(along, parts)
        if self.chance(50):
            return build.reduce("sum", [(whole, (along,))])
        return build.at(whole, {along: self.index(along, depth, axes)})

    def over(self, form: Form, axis: Axis) -> Form:
        """The form, made to have the axis."""
        if axis in form.axes:
            return form
        if axis == BATCH:
            return mul(form, self.declare("real", (axis,)).leaf)
        return mul(form, add(Coordinate(axis), Const(0.5)))

    # --- reductions

    def bodies(self, depth: int, axes: Axes) -> tuple[Form, Axes] | None:
        """A value over `axes` and further ones that are to be reduced."""
        bound = self.bound_axis(axes)
        if bound is None:
            return None
        second = self.bound_axis((*axes, bound)) if self.chance(20) else None
        reduced = (bound,) if second in (None, bound) else (bound, second)
        body = self.real(depth, (*axes, *reduced))
        for axis in reduced:
            body = self.over(body, axis)
        return body, reduced

    def reduced(self, depth: int, axes: Axes) -> Form:
        name = self.pick(["sum", "mean", "max", "min", "lse", "prod"])
        found = self.bodies(depth, axes)
        if found is None:
            return self.real(depth, axes)
        body, over = found
        where = self.truth(depth, (*axes, *over)) if self.chance(30) else None
        if name == "mean":
            return build.mean([(body, over)], where)
        return build.reduce(name, [(body, over)], where)

    def of_union(self, depth: int, axes: Axes) -> Form:
        pieces = [found for found in (self.bodies(depth, axes), self.bodies(depth, axes)) if found]
        if not pieces:
            return self.real(depth, axes)
        return build.reduce(self.pick(["sum", "max", "lse", "min", "prod"]), pieces)

    def attended(self, depth: int, axes: Axes) -> Form:
        """A softmax and what it weighs."""
        found = self.bodies(depth, axes)
        if found is None:
            return self.real(depth, axes)
        scores, over = found
        where = self.truth(depth, (*axes, *over)) if self.chance(40) else None
        (weights,) = build.softmax([(scores, over)], where)
        return build.reduce("sum", [(mul(weights, self.real(depth, (*axes, *over))), over)])

    # --- integers

    def whole(self, depth: int, axes: Axes) -> Form:
        """An integer value over some of `axes`."""
        own = [axis for axis in axes if axis != BATCH]
        if depth <= 0:
            return (
                Coordinate(self.pick(own)) if own and not self.chance(25) else Const(self.pick([1, 0, -2, 3]))
            )
        return self.pick(WHOLES)(self, depth - 1, axes)

    def counted(self, depth: int, axes: Axes) -> Form:
        found = self.bodies(depth, axes)
        if found is None:
            return self.whole(depth, axes)
        where = self.truth(depth, (*axes, *found[1])) if self.chance(60) else None
        return build.reduce("count", [found], where)

    def arithmetic(self, depth: int, axes: Axes) -> Form:
        name = self.pick(["add", "sub", "mul", "minimum", "maximum"])
        return build.apply(name, self.whole(depth, axes), self.whole(depth, axes))

    def divided(self, depth: int, axes: Axes) -> Form:
        return build.apply(
            self.pick(["floordiv", "mod"]), self.whole(depth, axes), Const(self.pick([2, 3, -2]))
        )

    def sized(self, depth: int, axes: Axes) -> Form:
        own = [axis for axis in self.signature if axis != BATCH]
        return build.size(self.pick(own)) if own else Const(1)

    def rounded(self, depth: int, axes: Axes) -> Form:
        name = self.pick(["floor", "round", "ceil", "trunc", "to_int"])
        return build.apply(name, mul(self.leaf("real", axes), Const(2.0)))

    def numbered(self, depth: int, axes: Axes) -> Form:
        return build.apply("to_int", self.truth(depth, axes))

    def data_whole(self, depth: int, axes: Axes) -> Form:
        return self.leaf("int", axes)

    def extreme_whole(self, depth: int, axes: Axes) -> Form:
        """argmax of tensors, or max of integers, over one axis."""
        bound = self.bound_axis(axes)
        if bound is None:
            return self.whole(depth, axes)
        if self.chance(50) and bound in self.signature and bound != BATCH:
            leaf = self.declare("real", (*self.some(axes), bound)).leaf
            return build.reduce("argmax", [(leaf, (bound,))])
        body = self.whole(depth, (*axes, bound))
        if bound not in body.axes:
            body = add(body, Const(1) if bound == BATCH else Coordinate(bound))
        over = (bound,) if bound in body.axes else ()
        return build.reduce(self.pick(["max", "min", "sum"]), [(body, over)]) if over else body

    # --- truth values

    def truth(self, depth: int, axes: Axes) -> Form:
        """A predicate over some of `axes`, decided by integers, masks and tensors alone."""
        if depth <= 0:
            return self.pick(TRUTHS[:3])(self, 0, axes)
        return self.pick(TRUTHS)(self, depth - 1, axes)

    def compared(self, depth: int, axes: Axes) -> Form:
        name = self.pick(["lt", "le", "eq", "ne", "ge", "gt"])
        return build.apply(name, self.whole(depth, axes), self.whole(depth, axes))

    def compared_leaf(self, depth: int, axes: Axes) -> Form:
        return build.apply(
            self.pick(["gt", "le"]), self.leaf("real", axes), Const(self.pick([0.0, -0.5, 0.25]))
        )

    def mask(self, depth: int, axes: Axes) -> Form:
        return self.leaf("bool", axes)

    def combined(self, depth: int, axes: Axes) -> Form:
        name = self.pick(["and", "or", "not", "eq"])
        first = self.truth(depth, axes)
        return (
            build.apply("not", first) if name == "not" else build.apply(name, first, self.truth(depth, axes))
        )

    def is_present(self, depth: int, axes: Axes) -> Form:
        return build.present(self.real(depth, axes))

    def quantified(self, depth: int, axes: Axes) -> Form:
        bound = self.bound_axis(axes)
        if bound is None or bound == BATCH:
            return self.truth(depth, axes)
        body = self.truth(depth, (*axes, bound))
        if bound not in body.axes:
            body = build.apply("and", body, build.apply("ge", Coordinate(bound), Const(0)))
        return build.reduce(self.pick(["any", "all"]), [(body, (bound,))])


Rule = Callable[[Writer, int, Axes], Form]

REALS: list[Rule] = [
    Writer.leaf_real,
    Writer.unary,
    Writer.binary,
    Writer.binary,
    *[Writer.read] * 4,
    *[Writer.reduced] * 3,
    *[Writer.placed] * 2,
    *[Writer.attended] * 2,
    Writer.masked,
    Writer.filled,
    Writer.selected,
    Writer.of_whole,
    Writer.again,
    Writer.of_union,
    Writer.joined,
    Writer.marked,
    Writer.complex_part,
]
"""What a real may be; what stands here more than once is drawn more often."""
WHOLES: list[Rule] = [
    lambda writer, depth, axes: writer.whole(0, axes),
    Writer.arithmetic,
    Writer.sized,
    Writer.divided,
    Writer.counted,
    Writer.numbered,
    Writer.rounded,
    Writer.data_whole,
    Writer.extreme_whole,
]
TRUTHS: list[Rule] = [
    Writer.compared,
    Writer.mask,
    Writer.compared_leaf,
    Writer.combined,
    Writer.is_present,
    Writer.quantified,
]
