"""Where a tile value lies in a block: which tile axes share a dimension, and in which order.

A dimension of a block is a *group* of tile axes, flattened with the last one fastest:

    the lanes of the kernel | each other grid axis | the axes of each stream | each local axis

in that order. An axis of size 1 has no dimension: its coordinate is a number. A value over some
axes of a group fills the whole dimension, repeated along the others, since a repeated computation
is cheaper than a change of layout. Every axis is padded to a power of two, so that a dimension can
be split into its axes again; `NAME.valid` is false on the padding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from ...compiler.kernels.kernel import (
    Carry,
    Dot,
    Fold,
    Kernel,
    Let,
    Load,
    Operand,
    RealType,
    Statement,
    Store,
    Stream,
    Take,
    operands,
)
from ...dsl.errors import CompilerFault

LEAST = 16
"""The least rows, columns and depth of a `tl.dot` on every target."""
WORTHWHILE = 4096
"""Products from which on a contraction is padded to a `tl.dot`; fewer are multiplied and summed."""
MOST = 2**20
"""The most numbers that Triton lets a block have."""


def power_of_two(number: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << max(0, number - 1).bit_length()


@dataclass(slots=True, eq=False)
class Group:
    """One dimension of blocks. `padded` gives the room of each of its axes."""

    order: tuple[int, int]
    axes: tuple[str, ...]
    padded: dict[str, int]

    @property
    def size(self) -> int:
        return prod(self.padded.values())

    def inner(self, axis: str) -> int:
        """How many neighbours along the dimension share one coordinate of the axis."""
        return prod(self.padded[other] for other in self.axes[self.axes.index(axis) + 1 :])

    def grow(self, least: int) -> None:
        """Pad the last axis until the dimension has `least` places."""
        last = self.axes[-1]
        self.padded[last] *= max(1, least // self.size)


Dims = tuple[Group, ...]
Sort = Literal["grid", "stream", "local"]


@dataclass(frozen=True, slots=True)
class TileAxis:
    """A tile axis: how many coordinates a tile has of it, and its dimension (none where that is 1)."""

    name: str
    sort: Sort
    extent: int
    group: Group | None

    @property
    def overhangs(self) -> bool:
        """Whether coordinates of the tile may not exist."""
        if self.group is None:
            return False
        return self.sort != "local" or self.group.padded[self.name] != self.extent


@dataclass(frozen=True, slots=True)
class Product:
    """A Dot as a matrix product: operand names, and the groups in each role."""

    left: str
    right: str
    batch: Dims
    rows: Dims
    columns: Dims
    depth: Dims


@dataclass(slots=True)
class Layout:
    """The block of every value of a kernel whose names are unique."""

    kernel: Kernel
    axes: dict[str, TileAxis] = field(default_factory=dict[str, TileAxis])
    values: dict[str, Dims] = field(default_factory=dict[str, Dims])
    definitions: dict[str, Statement | Carry] = field(default_factory=dict[str, Statement | Carry])
    products: dict[str, Product] = field(default_factory=dict[str, Product])
    streams: int = 0

    def __post_init__(self) -> None:
        self._outer_axes()
        self.define(self.kernel.body)
        for name, dims in self.values.items():
            if self.places(dims) > MOST:
                shape = "x".join(str(group.size) for group in dims)
                raise CompilerFault(
                    "triton", f"`{name}` is a block of {shape}, more than Triton takes", str(self.kernel)
                )

    # --- axes

    def _outer_axes(self) -> None:
        kernel = self.kernel
        sorts: dict[str, Sort] = dict.fromkeys((grid.name for grid in kernel.grid), "grid")
        sorts |= dict.fromkeys((local.name for local in kernel.locals), "local")
        sizes = {grid.name: grid.tile for grid in kernel.grid} | {
            each.name: each.size for each in kernel.locals
        }
        lanes = {axis: sizes[axis] for axis in kernel.lanes if axis in sizes}
        self._group(lanes, sorts, (0, 0))
        for number, axis in enumerate(axis for axis in sizes if axis not in lanes):
            self._group({axis: sizes[axis]}, sorts, (1 if sorts[axis] == "grid" else 3, number))

    def _group(self, sizes: dict[str, int], sorts: Sort | dict[str, Sort], order: tuple[int, int]) -> None:
        """Put axes into one dimension."""
        wide = tuple(axis for axis in sizes if sizes[axis] != 1)
        group = Group(order, wide, {axis: power_of_two(sizes[axis]) for axis in wide})
        for axis, size in sizes.items():
            sort = sorts if isinstance(sorts, str) else sorts[axis]
            self.axes[axis] = TileAxis(axis, sort, size, group if axis in wide else None)

    def groups(self, axes: Iterable[str]) -> Dims:
        """The dimensions that these axes lie in."""
        return union([(group,) for axis in axes if (group := self.axes[axis].group) is not None])

    # --- values

    def dims(self, operand: Operand) -> Dims:
        """The dimensions of any operand."""
        if not isinstance(operand, str):
            return ()
        if operand in self.values:
            return self.values[operand]
        axis = operand.removesuffix(".valid")
        return self.groups((axis,)) if axis in self.axes else ()

    def join(self, *items: Operand) -> Dims:
        return union(self.dims(item) for item in items)

    def places(self, dims: Dims) -> int:
        return prod(group.size for group in dims)

    def define(self, body: tuple[Statement, ...]) -> None:
        """Lay out the values of statements that follow what is known."""
        for statement in body:
            match statement:
                case Stream(axes=axes, carries=carries, body=inner):
                    self.streams += 1
                    self._group({axis.name: axis.step for axis in axes}, "stream", (2, self.streams))
                    for carry in carries:
                        self.values[carry.name] = self.groups(carry.axes)
                        self.definitions[carry.name] = carry
                    self.define(inner)
                case Store():
                    pass
                case Let() | Load():
                    self._name(statement, self.join(*operands(statement)))
                case Fold():
                    inputs = union((self.join(*operands(statement)), self.groups(statement.over)))
                    self._name(statement, within(inputs, self.groups(statement.axes)))
                case Dot():
                    inputs = self.join(*operands(statement))
                    self._name(statement, within(inputs, self.groups(statement.axes)))
                    self._contract(statement)
                case Take():
                    raise CompilerFault(
                        "triton",
                        f"`{statement.name}` reads a staged tile, which a block in registers cannot be",
                        str(self.kernel),
                    )

    def _name(self, statement: Let | Load | Fold | Dot, dims: Dims) -> None:
        self.values[statement.name] = dims
        self.definitions[statement.name] = statement

    def _contract(self, dot: Dot) -> None:
        """Note how a dot becomes a matrix product, if it does, and make room for it."""
        found = self._roles(dot)
        if found is None:
            return
        sides = (found.rows, found.columns, found.depth)
        actual = [prod(self.axes[axis].extent for group in side for axis in group.axes) for side in sides]
        if min(actual) < 2 or prod(actual) < WORTHWHILE or len(found.batch) > 1:
            return
        for side in sides:
            side[-1].grow(LEAST // self.places(side[:-1]) or 1)
        self.products[dot.name] = found

    def _roles(self, dot: Dot) -> Product | None:
        left, right = self.dims(dot.left), self.dims(dot.right)
        over, result = set(dot.over), self.values[dot.name]
        depth = tuple(group for group in union((left, right)) if over & set(group.axes))
        whole = all(over >= set(group.axes) and group in left and group in right for group in depth)
        if not whole or self.groups(dot.over) != depth:
            return None
        batch = tuple(group for group in left if group in right and group not in depth)
        rows, columns = (
            tuple(g for g in side if g not in depth and g not in batch) for side in (left, right)
        )
        if not rows or not columns or not set(result) >= {*batch, *rows, *columns}:
            return None
        if rows[0].order < columns[0].order:
            return Product(dot.left, dot.right, batch, rows, columns, depth)
        return Product(dot.right, dot.left, batch, columns, rows, depth)

    # --- the operands of products

    def short(self, product: Product) -> RealType | None:
        """The 16-bit type that both operands of a product are given in: that of the kernel, or that of
        two buffers whose numbers come unchanged, since their products are exact in float32."""
        if self.kernel.real in ("bfloat16", "float16"):
            return self.kernel.real
        left, right = self._stored(product.left), self._stored(product.right)
        return left if left == right else None

    def split(self, product: Product) -> str | None:
        """The operand that float32 computed where the other one came from bfloat16 unchanged: it is the
        sum of three bfloat16 numbers, so that three products on matrix units are exact."""
        match self._stored(product.left), self._stored(product.right):
            case "bfloat16", None:
                return product.right
            case None, "bfloat16":
                return product.left
            case _:
                return None

    def rounded(self, product: Product) -> RealType | None:
        """The 16-bit type that one operand is stored in and that the other one, which float32 computed, may be
        rounded to: bfloat16, which has the range of float32, or float16 for weights of a softmax, which are at
        most 1."""
        if self.split(product) is not None:
            return "bfloat16"
        match self._stored(product.left), self._stored(product.right):
            case "float16", None if self._is_weight(product.right):
                return "float16"
            case None, "float16" if self._is_weight(product.left):
                return "float16"
            case _:
                return None

    def _is_weight(self, operand: Operand) -> bool:
        match self._definition(operand):
            case Let(op="select", args=(_, value, 0.0)):
                return self._is_weight(value)
            case Let() as let:
                return self.below_a_maximum(let) is not None
            case _:
                return False

    def _stored(self, operand: Operand) -> RealType | None:
        """The 16-bit type that all numbers of an operand have, if a float32 kernel loads them as they are."""
        definition = self.definitions.get(operand) if isinstance(operand, str) else None
        match definition:
            case Load(buffer=buffer, kind="real") if self.kernel.real == "float32":
                real = self.kernel.buffer(buffer).real
                return real if real in ("bfloat16", "float16") else None
            case Let(op="select", args=(_, value, 0.0)):
                return self._stored(value)
            case _:
                return None

    def reads_bools(self, operand: Operand) -> bool:
        """Whether truth values are loaded on the elementwise way to an operand, masks of loads included."""
        found: set[Operand] = set()
        waiting = [operand]
        while waiting:
            match self.definitions.get(str(waiting.pop())):
                case Load(buffer=buffer) if self.kernel.buffer(buffer).kind == "bool":
                    return True
                case Load() | Let() as statement:
                    new = set(operands(statement)) - found
                    found |= new
                    waiting += new
                case _:
                    pass
        return False

    def below_a_maximum(self, let: Let) -> tuple[str, Operand, float] | None:
        """The name of x - m, x and c of `exp((x - m) * c)` where m is a running maximum and c a number: what
        is larger than 0 there is not a number."""
        if let.op != "exp":
            return None
        lower, factor = let.args[0], 1.0
        match self._definition(lower):
            case Let(op="mul", args=(str() as plain, float() as number)) if number > 0:
                lower, factor = plain, number
            case _:
                pass
        match self._definition(lower):
            case Let(op="sub", args=(value, base)):
                match self._definition(base):
                    case Let(op="select", args=(_, 0.0, high)) if self._is_maximum(high):
                        return str(lower), value, factor
                    case _:
                        return None
            case _:
                return None

    def _is_maximum(self, operand: Operand) -> bool:
        definition = self._definition(operand)
        return isinstance(definition, Let) and definition.op == "maximum"

    def _definition(self, operand: Operand) -> Statement | Carry | None:
        return self.definitions.get(operand) if isinstance(operand, str) else None

    # --- what is known where coordinates do not exist

    def implies(self, mask: Operand, axis: str) -> bool:
        """Whether a mask is false at all coordinates of the axis that do not exist."""
        if not self.axes[axis].overhangs or mask is False or mask == f"{axis}.valid":
            return True
        definition = self.definitions.get(mask) if isinstance(mask, str) else None
        if isinstance(definition, Let) and definition.op == "and":
            return any(self.implies(arg, axis) for arg in definition.args)
        return False

    def rests(self, operand: Operand, axis: str) -> Operand | None:
        """The number that a value is at all coordinates of the axis that do not exist, if known."""
        if not isinstance(operand, str):
            return operand
        match self.definitions.get(operand):
            case Load(mask=mask, kind=kind):
                padding = self.axes[axis].sort == "local" and self.axes[axis].group in self.values[operand]
                zero = False if kind == "bool" else 0
                return zero if padding or self.implies(mask, axis) else None
            case Let(op="select", args=(test, _, other)) if self.implies(test, axis):
                return None if isinstance(other, str) else other
            case Let(op="exp") as let if (found := self.below_a_maximum(let)) is not None:
                # exp(-inf); where the maximum is not a number, no weight is, nor any sum of them
                return 0.0 if self.rests(found[1], axis) == float("-inf") else None
            case _:
                return None


def union(several: Iterable[Dims]) -> Dims:
    """All groups of several, in their order."""
    return tuple(sorted({group for dims in several for group in dims}, key=lambda group: group.order))


def within(dims: Dims, other: Dims) -> Dims:
    return tuple(group for group in dims if group in other)
