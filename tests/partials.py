"""What tests of the meaning share: programs by hand, random partial values, and when two are one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from plait.compiler.meaning.interpret import run
from plait.compiler.meaning.memory import plan
from plait.compiler.meaning.partial import KINDS, Partial, box, partial, spread
from plait.dsl.constructors import build
from plait.dsl.ops import Kind
from plait.dsl.program import (
    BATCH,
    Axis,
    Carry,
    Const,
    Declaration,
    Form,
    Item,
    Jvp,
    Leaf,
    Library,
    Output,
    Program,
    Scan,
    Vjp,
)
from plait.dsl.python.functions import when
from plait.dsl.python.value import AxisValue, Value, axes_in

Sized = Mapping[Axis, "int | tuple[int, ...]"]


def union(op: str, *pieces: tuple[Value, Sequence[AxisValue]], component: int = 0) -> Value:
    """One reduction over several pieces; also argmax, and pieces without axes."""
    made = [(value.form, tuple(each.axis for each in over)) for value, over in pieces]
    return Value(build.reduce(op, made, component=component))


def leaf(name: str, *over: AxisValue, kind: Kind = "real", index_of: AxisValue | None = None) -> Value:
    axes = tuple(each.axis for each in over)
    return Value(Leaf("input", name, axes, kind, None if index_of is None else index_of.axis))


def sized(**sizes: int | tuple[int, ...]) -> Sized:
    """Sizes of signature axes by name; `batch=(2, 3)` are those of `...`."""
    return {BATCH if name == "batch" else Axis(name): size for name, size in sizes.items()}


def same(one: Partial, other: Partial, *, exactly: bool = False) -> bool:
    """Present at the same places (over the union of their axes) and there equal, NaN to NaN."""
    axes = tuple(dict.fromkeys((*one.axes, *other.axes)))
    masks = torch.broadcast_tensors(spread(one.mask, one.axes, axes), spread(other.mask, other.axes, axes))
    if not torch.equal(*masks):
        return False
    data = torch.broadcast_tensors(one.over(axes), other.over(axes))
    first, second = (each[masks[0]] for each in data)
    if first.dtype.is_floating_point or first.is_complex():
        tolerance = 0.0 if exactly else 1e-9
        return torch.allclose(first, second.to(first.dtype), tolerance, tolerance, equal_nan=True)
    return torch.equal(first, second)


def items(*dims: object) -> tuple[Item, ...]:
    """Dimensions as a header writes them: an axis, `...`, 1, or a tuple of axes."""
    made: list[Item] = []
    for dim in dims:
        found = () if isinstance(dim, int) else axes_in((dim,))
        assert found is not None
        made.append(found)
    return tuple(made)


def declared(
    name: str, *dims: object, kind: Kind = "real", role: str = "input", optional: bool = False
) -> Declaration:
    """A tensor whose dimensions are these."""
    made = items(*dims)
    over = tuple(axis for item in made for axis in item)
    return Declaration(Leaf(role, name, over, kind), made, optional=optional)  # type: ignore[arg-type]


def program(inputs: Sequence[Declaration], value: Value, *dims: object) -> Program:
    return Program("test", tuple(inputs), (Output("o", value.form, items(*dims)),))


def of(declaration: Declaration) -> Value:
    return Value(declaration.leaf)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def not_yet_forms() -> dict[str, Form]:
    H, W = Axis("h"), Axis("w")
    x = Leaf("input", "x", (H,))
    previous = Leaf("bound", "previous", (H,))
    return {
        "scan": Scan(H, (Carry(previous, Const(0.0), build.apply("add", previous, x)),)),
        "sort_indices": Library("sort_indices", (x,), (H,), (W,), "int"),
        "jvp": Jvp(build.apply("exp", x), (x,), (x,)),
        "vjp": Vjp(build.apply("exp", x), x, x),
    }


class Bench:
    """Leaves with random values, made as a test goes.

    `bench.partial("x", h, k)` is `when(x_present, x)` of two leaves, as a program would write it, with
    NaN (or an absurd integer) under the mask; `bench.total` is a leaf that is present everywhere.
    """

    def __init__(self, sizes: Sized, seed: int = 0, density: float = 0.6) -> None:
        self.sizes, self.seed, self.density = sizes, seed, density
        self.random = torch.Generator().manual_seed(seed)
        self.leaves: dict[Form, Partial] = {}

    def __repr__(self) -> str:
        shown = ", ".join(f"{axis.name}={size}" for axis, size in self.sizes.items())
        return f"Bench({shown}; seed={self.seed}, density={self.density})"

    def again(self) -> Bench:
        """One that gives the same values, from the first on."""
        return Bench(self.sizes, self.seed, self.density)

    def given(self, name: str, *over: AxisValue, data: Tensor) -> Value:
        """A leaf with these data."""
        value = leaf(name, *over, kind=KINDS[data.dtype])
        self.leaves[value.form] = partial(value.form.axes, data, None, self.sizes)
        return value

    def shape(self, over: Sequence[AxisValue]) -> tuple[int, ...]:
        return box([each.axis for each in over], self.sizes)

    def mask(self, name: str, *over: AxisValue) -> Value:
        """A truth value that holds with the probability `density`."""
        return self.given(
            name, *over, data=torch.rand(self.shape(over), generator=self.random) < self.density
        )

    def total(self, name: str, *over: AxisValue) -> Value:
        data = torch.randn(self.shape(over), generator=self.random, dtype=torch.float64)
        return self.given(name, *over, data=data)

    def whole(self, name: str, *over: AxisValue, low: int, high: int) -> Value:
        """Integers from low to high."""
        return self.given(
            name, *over, data=torch.randint(low, high + 1, self.shape(over), generator=self.random)
        )

    def partial(self, name: str, *over: AxisValue) -> Value:
        """Half of the values are whole, so that ties and cancellations happen."""
        data = torch.randn(self.shape(over), generator=self.random, dtype=torch.float64)
        data = torch.where(torch.rand(data.shape, generator=self.random) < 0.5, data.round(), data)
        mask = self.mask(f"{name}_present", *over)
        return when(mask, self.given(name, *over, data=data.where(self.leaves[mask.form].data, torch.nan)))

    def values(self, *values: Value) -> list[Partial]:
        """What the interpreter makes of them."""
        roots = tuple(value.form for value in values)
        found = run(plan(roots), self.leaves, self.sizes)
        return [found[root] for root in roots]
