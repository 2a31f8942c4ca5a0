"""What a Kernel means, in float64 and one tile after another: the judge of the printers' tests.

A value is a tensor with one dimension for each of its tile axes, over the coordinates that exist and
no others: there is no padding, so nothing can be masked wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import torch
from torch import Tensor

from plait.compiler.kernels.kernel import (
    Carry,
    Dot,
    Fold,
    Grid,
    Kernel,
    Let,
    Load,
    Operand,
    Statement,
    Store,
    Stream,
    Take,
)
from plait.compiler.meaning.interpret import OPERATIONS
from plait.compiler.meaning.partial import DTYPES, HIGHEST, KINDS, LOWEST
from plait.dsl.ops import Kind, join

IDENTITY = {"sum": 0, "prod": 1, "any": False, "all": True}


@dataclass
class Value:
    """`data` has the dimensions `axes`."""

    axes: tuple[str, ...]
    data: Tensor

    def over(self, axes: Sequence[str]) -> Tensor:
        """The data as a view that broadcasts over `axes`, which hold all of its own."""
        order = [self.axes.index(axis) for axis in axes if axis in self.axes]
        view = self.data.permute(order)
        return view[tuple(slice(None) if axis in self.axes else None for axis in axes)]


def run(kernel: Kernel, tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """The outputs, as float64, int64 or bool tensors of the shapes of those given, which stand in the
    order of `kernel.buffers`. Every element of an output must be stored exactly once."""
    meaning = Meaning(kernel, {})
    for buffer, tensor in zip(kernel.buffers, tensors, strict=True):
        data = tensor.double() if buffer.kind == "real" else tensor
        if buffer.role == "out":
            data = torch.zeros(tensor.shape, dtype=data.dtype)
            meaning.stores[buffer.name] = torch.zeros(tensor.shape, dtype=torch.int64)
        meaning.buffers[buffer.name] = data
    for name, size in zip(kernel.sizes, sizes, strict=True):
        meaning.scope[name] = Value((), torch.tensor(size))
    meaning.tiles()
    for name, times in meaning.stores.items():
        assert bool((times == 1).all()), f"{name} is not stored exactly once everywhere"
    return [meaning.buffers[buffer.name] for buffer in kernel.buffers if buffer.role == "out"]


@dataclass
class Meaning:
    kernel: Kernel
    scope: dict[str, Value]
    buffers: dict[str, Tensor] = field(default_factory=dict)
    stores: dict[str, Tensor] = field(default_factory=dict)

    def tiles(self) -> None:
        grid = self.kernel.grid
        lows = [int(self.value(axis.low).data) for axis in grid]
        ends = [low + int(self.value(axis.size).data) for axis, low in zip(grid, lows, strict=True)]
        starts = [range(low, end, axis.tile) for axis, low, end in zip(grid, lows, ends, strict=True)]
        for tile in product(*starts):
            for axis, first, end in zip(grid, tile, ends, strict=True):
                end = min(end, self.end(axis)) if axis.ragged is not None else end
                self.coordinate(axis.name, first, max(first, min(first + axis.tile, end)))
            if any(len(self.scope[axis.name].data) == 0 for axis in grid):
                continue
            for local in self.kernel.locals:
                self.coordinate(local.name, local.low, local.low + local.size)
            self.body(self.kernel.body)

    def end(self, axis: Grid) -> int:
        """The end of a ragged axis, whose residue is known."""
        assert axis.ragged is not None
        numbers = (
            self.scope[axis.ragged.residue],
            self.value(axis.ragged.step),
            self.value(axis.ragged.extent),
        )
        residue, step, extent = (int(each.data) for each in numbers)
        assert 0 <= residue < min(step, extent)
        return -((residue - extent) // step)

    def coordinate(self, name: str, first: int, end: int) -> None:
        self.scope[name] = Value((name,), torch.arange(first, end))
        self.scope[f"{name}.valid"] = Value((name,), torch.ones(end - first, dtype=torch.bool))
        self.scope[f"{name}.first"] = Value((), torch.tensor(first))
        self.scope[f"{name}.last"] = Value((), torch.tensor(end - 1))

    def value(self, operand: Operand) -> Value:
        match operand:
            case str():
                return self.scope[operand]
            case float():
                return Value((), torch.tensor(operand, dtype=torch.float64))
            case _:
                return Value((), torch.tensor(operand))

    def body(self, body: Sequence[Statement]) -> None:
        for statement in body:
            match statement:
                case Store():
                    self.store(statement)
                case Stream():
                    self.stream(statement)
                case _:
                    value = self.given(statement)
                    self.scope[statement.name] = Value(statement.axes, value.over(statement.axes))

    def given(self, statement: Let | Load | Take | Dot | Fold) -> Value:
        """The value that a statement gives, its axes in any order."""
        match statement:
            case Let():
                return self.let(statement)
            case Load():
                return self.load(statement)
            case Take():
                return self.take(statement)
            case Dot():
                return self.dot(statement)
            case Fold():
                return self.fold(statement)

    def together(self, operands: Sequence[Operand]) -> tuple[tuple[str, ...], list[Tensor]]:
        """Some operands over the union of their axes."""
        values = [self.value(operand) for operand in operands]
        axes = tuple(dict.fromkeys(axis for value in values for axis in value.axes))
        return axes, list(torch.broadcast_tensors(*(value.over(axes) for value in values)))

    def let(self, let: Let) -> Value:
        axes, args = self.together(let.args)
        dtype = DTYPES[let.kind]
        if let.op == "select":
            return Value(axes, torch.where(args[0], args[1].to(dtype), args[2].to(dtype)))
        kinds: list[Kind] = [KINDS[arg.dtype] for arg in args]
        common = DTYPES[join(*kinds, let.kind)]
        return Value(axes, OPERATIONS[let.op](*(arg.to(common) for arg in args)).to(dtype))

    def load(self, load: Load) -> Value:
        axes, (mask, *index) = self.together((load.mask, *load.index))
        buffer = self.buffers[load.buffer]
        for at, size in zip(index, buffer.shape, strict=True):
            assert bool(((at >= 0) & (at < size) | ~mask).all()), f"{load.name} leaves {load.buffer}"
        if not bool(mask.any()):
            return Value(axes, torch.zeros(mask.shape, dtype=buffer.dtype))
        found = buffer[tuple(torch.where(mask, at, 0) for at in index)]
        return Value(axes, torch.where(mask, found, torch.zeros((), dtype=buffer.dtype)))

    def take(self, take: Take) -> Value:
        source = self.scope[take.source]
        local = {axis.name: axis.low for axis in self.kernel.locals}
        inside = [axis for axis in source.axes if axis in local]
        kept = tuple(axis for axis in source.axes if axis not in local)
        axes, index = self.together(take.index)
        places = tuple(at - local[axis] for axis, at in zip(inside, index, strict=True))
        for axis, at in zip(inside, places, strict=True):
            size = len(self.scope[axis].data)
            assert bool(((at >= 0) & (at < size)).all()), f"{take.name} leaves {take.source}"
        table = source.over((*kept, *inside))
        return Value((*kept, *axes), table[(*(slice(None) for _ in kept), *places)])

    def dot(self, dot: Dot) -> Value:
        axes, (left, right, mask) = self.together((dot.left, dot.right, dot.mask))
        product = left.double() * right.double()
        met = [
            side.isfinite() for side, name in ((left, dot.left), (right, dot.right)) if name in dot.exposed
        ]
        plain = product[~mask & torch.stack(met).all(0)] if met else product[:0]
        assert bool(((plain == 0) | plain.isnan()).all()), f"{dot.name} leaves out products that are not 0"
        total = self.reduced(Value(axes, torch.where(mask, product, 0.0)), "sum", dot.over)
        if dot.init is None:
            return total
        scale = 1.0 if dot.scale is None else dot.scale
        self.scope["(total)"] = total
        axes, (sum_, init, factor) = self.together(("(total)", dot.init, scale))
        return Value(axes, sum_ + init.double() * factor.double())

    def fold(self, fold: Fold) -> Value:
        axes, (value, mask) = self.together((fold.value, fold.mask))
        value = value.to(DTYPES[fold.kind])
        identity = {**IDENTITY, "max": LOWEST.get(fold.kind, 0), "min": HIGHEST.get(fold.kind, 0)}[fold.op]
        masked = torch.where(mask, value, torch.tensor(identity, dtype=value.dtype))
        return self.reduced(Value(axes, masked), fold.op, fold.over)

    def reduced(self, value: Value, op: str, over: Sequence[str]) -> Value:
        left = tuple(axis for axis in value.axes if axis not in over)
        lines = value.over((*left, *(axis for axis in value.axes if axis in over)))
        rows = lines.reshape(*lines.shape[: len(left)], prod(lines.shape[len(left) :]))
        missing = prod(len(self.scope[axis].data) for axis in over if axis not in value.axes)
        rows = rows.repeat_interleave(missing, -1)
        match op:
            case "max" | "min" if rows.shape[-1] == 0:
                lowest = LOWEST if op == "max" else HIGHEST
                data = torch.full(rows.shape[:-1], lowest[KINDS[rows.dtype]], dtype=rows.dtype)
            case "max":
                data = rows.amax(-1)
            case "min":
                data = rows.amin(-1)
            case _:
                data = getattr(rows, op)(-1)
        return Value(left, data)

    def stream(self, stream: Stream) -> None:
        for carry in stream.carries:
            self.scope[carry.name] = self.carried(carry, carry.init)
        for _ in self.chunks(stream, 0):
            self.body(stream.body)
            following = [self.carried(carry, carry.next) for carry in stream.carries]
            for carry, value in zip(stream.carries, following, strict=True):
                self.scope[carry.name] = value

    def carried(self, carry: Carry, operand: Operand) -> Value:
        """An operand with the axes of its carry, without those of one coordinate that the carry lacks."""
        axes, (data, *_) = self.together((operand, *carry.axes))
        value = Value(axes, data)
        kept = tuple(axis for axis in value.axes if axis in carry.axes)
        lost = tuple(axis for axis in value.axes if axis not in carry.axes)
        data = value.over((*kept, *lost))
        return Value(kept, data.reshape(data.shape[: len(kept)]))

    def chunks(self, stream: Stream, at: int) -> Iterator[None]:
        """Set the coordinates of one chunk after the other, outer axis slowest."""
        if at == len(stream.axes):
            yield
            return
        axis = stream.axes[at]
        low, stop = int(self.value(axis.low).data), int(self.value(axis.stop).data)
        for first in range(low, stop, axis.step):
            self.coordinate(axis.name, first, min(first + axis.step, stop))
            yield from self.chunks(stream, at + 1)

    def store(self, store: Store) -> None:
        _, (value, mask, *index) = self.together((store.value, store.mask, *store.index))
        places = tuple(at[mask] for at in index)
        self.buffers[store.buffer][places] = value.to(self.buffers[store.buffer].dtype)[mask]
        if not places:
            self.stores[store.buffer] += 1
            return
        self.stores[store.buffer].index_put_(places, torch.ones((), dtype=torch.int64), accumulate=True)
