"""A kernel with one lane axis in place of two, for tensors in which the two lie as one.

Lanes along an image are short runs of several of its rows, and a run that ends with a row leaves lanes empty. Where all
tensors hold the rows one behind the other, entry (h, w) is entry h * W + w of one axis, and the same statements over
that axis need no row: tiles are whole but for the last one. Where a stream takes a resident axis together with its
lanes (the channels of a joint norm), that axis can lie in the same run, which then is read from its start to its end.
Which kernel runs is decided at the call, by strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

from .kernel import (
    Buffer,
    Fold,
    Grid,
    Kernel,
    Let,
    Load,
    Operand,
    Statement,
    Store,
    Stream,
    StreamAxis,
    Take,
    defined,
    every,
    operands,
)

LONGER = 8
"""Times as many lanes have tiles in which each is computed by itself: to begin a tile takes as long as some vectors."""


@dataclass(frozen=True, slots=True)
class Flat:
    """`kernel` runs over `size`, its last size, which is the product of `sizes`. In each buffer of `dims` so many
    dimensions from that one on are one: the stride of each is the size of the next one times its stride."""

    kernel: Kernel
    size: str
    sizes: tuple[Operand, ...]
    dims: Mapping[str, int]


def flattened(kernel: Kernel) -> Flat | None:
    """The kernel with its two lane axes as one; None where it has others, or where something hangs on one of
    them."""
    if len(kernel.lanes) != 2:
        return None
    outer, inner = kernel.lanes
    found = [axis for axis in _lane_axes(kernel) if axis.name in kernel.lanes]
    if len(found) != 2 or any(axis.low != 0 for axis in found):
        return None
    if any(isinstance(axis, Grid) and axis.ragged for axis in found):
        return None
    sizes = (_extent(found[0]), _extent(found[1]))
    if any(isinstance(size, str) and size not in kernel.sizes for size in sizes):
        return None
    flat = Flattening(kernel, outer, inner, f"{outer}_{inner}")
    return flat.made(sizes) if found[0].name == outer and flat.fits() else None


def in_one_run(flat: Flat) -> Flat | None:
    """The flat kernel with its resident axis in the lanes too; None where a stream does not take both together."""
    kernel, streams = flat.kernel, [each for each in flat.kernel.body if isinstance(each, Stream)]
    if len(kernel.locals) != 1 or kernel.locals[0].low != 0:
        return None
    if [each.axes[-1].name for each in streams] != list(kernel.lanes):
        return None
    (local,), (inner,) = kernel.locals, kernel.lanes
    run = Flattening(replace(kernel, sizes=kernel.sizes[:-1]), local.name, inner, f"{local.name}_{inner}")
    if not run.fits() or {name: dim + 1 for name, dim in run.dims.items()} != dict(flat.dims):
        return None
    return run.made((local.size, *flat.sizes))


def _lane_axes(kernel: Kernel) -> tuple[Grid | StreamAxis, ...]:
    """The axes of the grid, or those of the stream that has the lanes, whose last two they are."""
    if set(kernel.lanes) <= {axis.name for axis in kernel.grid}:
        return kernel.grid
    streams = (each for each in kernel.body if isinstance(each, Stream))
    return next(
        (each.axes for each in streams if tuple(axis.name for axis in each.axes[-2:]) == kernel.lanes), ()
    )


@dataclass(slots=True)
class Flattening:
    """`dims` are the dimensions of buffers in which the outer axis lies, the inner one in the next."""

    kernel: Kernel
    outer: str
    inner: str
    name: str
    dims: dict[str, int] = field(default_factory=dict[str, int])
    others: set[str] = field(default_factory=set[str])
    """Buffers whose indices have nothing to do with the lanes."""

    def fits(self) -> bool:
        """Whether nothing hangs on one of the two axes alone."""
        if {self.name, f"{self.name}_size"} & self._names():
            return False
        return self._all(self.kernel.body) and bool(self.dims) and not self.others & set(self.dims)

    def _names(self) -> set[str]:
        kernel = self.kernel
        names = {*kernel.sizes, *(axis.name for axis in (*kernel.grid, *kernel.locals))}
        for each in every(kernel.body):
            names |= {axis.name for axis in each.axes} if isinstance(each, Stream) else set()
            names |= set(defined(each))
        return names

    def _all(self, body: tuple[Statement, ...]) -> bool:
        return all(self._fits(each) for each in body)

    def _fits(self, statement: Statement) -> bool:
        own = {f"{axis}{part}" for axis in (self.outer, self.inner) for part in ("", ".first", ".last")}
        match statement:
            case Load(buffer=buffer, index=index, mask=mask, axes=axes):
                return mask not in own and self._both(axes) and self._indexed(buffer, index)
            case Store(buffer=buffer, index=index, value=value, mask=mask):
                return not own & {str(value), str(mask)} and self._indexed(buffer, index)
            case Fold(over=over, axes=axes):
                return not own & set(map(str, operands(statement))) and self._both(over) and self._both(axes)
            case Let(kind=kind, axes=axes):
                alone = kind == "bool" and statement.op == "and"
                return not own & set(map(str, statement.args)) and (alone or self._both(axes))
            case Stream(body=body, carries=carries):
                bounds = {str(each) for axis in statement.axes for each in (axis.low, axis.stop)}
                return not own & bounds and all(self._both(c.axes) for c in carries) and self._all(body)
            case _:  # products and windows have tiles that are seldom cut short, and take long to build
                return False

    def _both(self, axes: tuple[str, ...]) -> bool:
        return (self.outer in axes) is (self.inner in axes)

    def _indexed(self, buffer: str, index: tuple[Operand, ...]) -> bool:
        """Whether an index has both axes as they are, side by side, or nothing to do with them."""
        if self._made_of_lanes(index):
            return False
        at = next((i for i in range(len(index)) if index[i : i + 2] == (self.outer, self.inner)), None)
        rest = index if at is None else (*index[:at], *index[at + 2 :])
        if self.outer in rest or self.inner in rest:
            return False
        if at is None:
            self.others.add(buffer)
        return at is None or self.dims.setdefault(buffer, at) == at

    def _made_of_lanes(self, index: tuple[Operand, ...]) -> bool:
        """Whether an index is computed from lanes, or is where they begin or end."""
        own = {f"{axis}{part}" for axis in (self.outer, self.inner) for part in (".first", ".last")}
        values = (each for each in every(self.kernel.body) if isinstance(each, Let | Load | Take | Fold))
        wide = {each.name for each in values if {self.outer, self.inner} & set(each.axes)}
        return bool((own | wide) & set(map(str, index)))

    # --- the other kernel

    def made(self, sizes: tuple[Operand, ...]) -> Flat:
        kernel, size = self.kernel, f"{self.name}_size"
        flat = replace(
            kernel,
            sizes=(*kernel.sizes, size),
            buffers=tuple(self._buffer(each) for each in kernel.buffers),
            grid=tuple(self._grid(axis, size) for axis in kernel.grid if axis.name != self.inner),
            locals=tuple(each for each in kernel.locals if each.name != self.outer),
            lanes=(self.name,),
            body=self._body(kernel.body, size),
        )
        return Flat(flat, size, sizes, self.dims)

    def _buffer(self, buffer: Buffer) -> Buffer:
        return replace(buffer, rank=buffer.rank - 1) if buffer.name in self.dims else buffer

    def _grid(self, axis: Grid, size: str) -> Grid:
        if axis.name != self.outer:
            return axis
        inner = next(each for each in self.kernel.grid if each.name == self.inner)
        return Grid(self.name, 0, size, axis.tile * inner.tile * (LONGER if self._entry_by_entry() else 1))

    def _entry_by_entry(self) -> bool:
        """Whether every lane is computed by itself, from one entry a tensor: a tile has no rows."""
        alone = all(isinstance(each, Let | Load | Store) for each in self.kernel.body)
        return (
            alone
            and not self.kernel.locals
            and all(axis.tile == 1 or axis.name in self.kernel.lanes for axis in self.kernel.grid)
        )

    def _body(self, body: tuple[Statement, ...], size: str) -> tuple[Statement, ...]:
        return tuple(self._statement(each, size) for each in body)

    def _statement(self, statement: Statement, size: str) -> Statement:
        match statement:
            case Let():
                args = tuple(map(self._operand, statement.args))
                return replace(statement, args=args, axes=self._axes(statement.axes))
            case Load():
                index, mask = self._index(statement), self._operand(statement.mask)
                return replace(statement, index=index, mask=mask, axes=self._axes(statement.axes))
            case Store():
                mask = self._operand(statement.mask)
                return replace(statement, index=self._index(statement), mask=mask)
            case Fold():
                over, mask = self._axes(statement.over), self._operand(statement.mask)
                value = self._operand(statement.value)
                return replace(statement, value=value, over=over, mask=mask, axes=self._axes(statement.axes))
            case Stream():
                carries = tuple(replace(each, axes=self._axes(each.axes)) for each in statement.carries)
                return replace(
                    statement,
                    axes=self._streamed(statement.axes, size),
                    carries=carries,
                    body=self._body(statement.body, size),
                    visible=self._operand(statement.visible),
                )
            case _:
                return statement

    def _streamed(self, axes: tuple[StreamAxis, ...], size: str) -> tuple[StreamAxis, ...]:
        own = [axis for axis in axes if axis.name in (self.outer, self.inner)]
        before = tuple(axis for axis in axes if axis not in own)
        return (*before, StreamAxis(self.name, 0, size, prod(axis.step for axis in own))) if own else axes

    def _index(self, statement: Load | Store) -> tuple[Operand, ...]:
        names = {self.outer: self.name}
        return tuple(names.get(str(item), item) for item in statement.index if item != self.inner)

    def _operand(self, item: Operand) -> Operand:
        valid = (f"{self.outer}.valid", f"{self.inner}.valid")
        return f"{self.name}.valid" if item in valid else item

    def _axes(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        own = (self.outer, self.inner)
        return tuple(dict.fromkeys(self.name if axis in own else axis for axis in axes))


def _extent(axis: Grid | StreamAxis) -> Operand:
    return axis.size if isinstance(axis, Grid) else axis.stop
