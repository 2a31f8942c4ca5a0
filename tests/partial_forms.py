"""Random forms over random partial values, for properties that every form must have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st

from partials import Bench, sized, union
from plait.dsl.program import Axis
from plait.dsl.python.functions import axes, axis, clamp, near, place, reflect, select, when
from plait.dsl.python.pointwise import exp, maximum, minimum, tanh
from plait.dsl.python.value import AxisValue, Value

h, k = axes("h k")
dh = near("dh", 1)
i = axis("i", 2)
AXES = (h, k, dh, i)
MOST_AXES = 3


class Grower:
    """Draws a form step by step. `smooth`: only what has derivatives almost everywhere, and no data that
    would move a tie."""

    def __init__(self, draw: Callable[..., Any], bench: Bench, smooth: bool = False) -> None:
        self.draw, self.bench, self.smooth = draw, bench, smooth
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"x{self.count}"

    def choose(self, *options: object) -> int:
        return self.draw(st.integers(0, len(options) - 1))

    def some_axes(self, least: int = 0) -> list[AxisValue]:
        return self.draw(st.lists(st.sampled_from(AXES), min_size=least, max_size=2, unique_by=id))

    def axes_of(self, value: Value) -> list[AxisValue]:
        return [AxisValue(each) for each in value.form.axes]

    def index(self, over: AxisValue) -> Value:
        """An index for an axis: affine, strided, flipped, clamped, on a circle, split, or data."""
        other = self.draw(st.sampled_from(AXES))
        extent = over.size
        match self.draw(st.integers(0, 11)):
            case 0:
                return over + 1
            case 1:
                return over - 2
            case 2:
                return extent - 1 - over
            case 3:
                return over + other
            case 4:
                return 2 * other - over + 1
            case 5:
                return clamp(over + other, 0, extent - 1)
            case 6:
                return (over - other) % extent
            case 7:
                return reflect(over + other, extent)
            case 8:
                return 3 * other + 1
            case 9:
                return (other + over) // 2
            case 10:
                return self.bench.whole(self.name(), *self.some_axes(1), low=-1, high=4)
            case _:
                return other + 0

    def predicate(self, value: Value) -> Value:
        one, other = self.draw(st.sampled_from(AXES)), self.draw(st.sampled_from(AXES))
        match self.draw(st.integers(0, 4)):
            case 0:
                return self.bench.mask(self.name(), *self.some_axes())
            case 1:
                return one + other < 2
            case 2:
                return (one == 1) & ~(other > 1)
            case 3:
                return one * one + other * other < 3
            case _:
                return value > 0

    def leaf(self) -> Value:
        if self.smooth or self.draw(st.booleans()):
            return self.bench.total(self.name(), *self.some_axes(1))
        return self.bench.partial(self.name(), *self.some_axes(1))

    def grow(self, depth: int) -> Value:
        if depth == 0:
            return self.leaf()
        x = self.grow(depth - 1)
        if len(x.form.axes) > MOST_AXES:
            return self.reduced(x)
        match self.draw(st.integers(0, 6)):
            case 0:
                return self.mapped(x, depth)
            case 1:
                return when(self.predicate(x), x)
            case 2:
                y = self.grow(self.draw(st.integers(0, depth - 1)))
                return x.otherwise(y) if self.draw(st.booleans()) else select(self.predicate(x), x, y)
            case 3 | 4 if x.form.axes:
                over = self.draw(st.sampled_from(self.axes_of(x)))
                return x[{over: self.index(over)}]
            case 5 if x.form.axes:
                return self.placed(x)
            case _:
                return self.reduced(x)

    def mapped(self, x: Value, depth: int) -> Value:
        y = self.grow(self.draw(st.integers(0, depth - 1)))
        match self.draw(st.integers(0, 6)):
            case 0:
                return x + y
            case 1:
                return x * y
            case 2:
                return x - y * x
            case 3:
                return tanh(-x)
            case 4:
                return maximum(x, y)
            case 5:
                return minimum(x, 0.5) * 1 + 0
            case _:
                return exp(tanh(x)) / (y * y + 1)

    def reduced(self, x: Value) -> Value:
        over = [each for each in self.axes_of(x) if self.draw(st.booleans())]
        op = self.draw(st.sampled_from(["sum", "prod", "max", "min", "lse", "union", "count"]))
        if op == "union":
            y = self.leaf()
            pieces = ((x, over), (y, [each for each in self.axes_of(y) if self.draw(st.booleans())]))
            return union(self.draw(st.sampled_from(["sum", "lse", "max", "prod"])), *pieces)
        if op == "count":
            return x.count(*over) * 0.5 + 0.25 if not self.smooth and over else x
        return union(op, (x, over))

    def placed(self, x: Value) -> Value:
        target = self.draw(st.sampled_from([h, k]))
        over = self.draw(st.sampled_from(self.axes_of(x)))
        index = self.index(over)
        used = {*x.form.axes, *index.form.axes}
        keep = [each for each in map(AxisValue, used) if each.axis not in (over.axis, target.axis)]
        keep = [each for each in sorted(keep, key=lambda a: a.axis.key) if self.draw(st.booleans())]
        return place(x, {target: index}, tuple(keep))


def sizes_of(h_size: int, k_size: int) -> dict[Axis, int | tuple[int, ...]]:
    return dict(sized(h=h_size, k=k_size))


@st.composite
def cases(draw: st.DrawFn, depth: int = 4, smooth: bool = False) -> tuple[Bench, Value]:
    """A bench and a form over its leaves. Sizes from 1; windows larger than the axis occur."""
    sizes = sizes_of(draw(st.sampled_from([4, 3, 1, 5])), draw(st.sampled_from([3, 2, 1])))
    bench = Bench(sizes, draw(st.integers(0, 2**16)), draw(st.sampled_from([0.6, 0.9, 0.3])))
    return bench, Grower(draw, bench, smooth).grow(draw(st.integers(1, depth)))
