"""How much of what passes in a stream its mask lets be seen: an estimate from some tiles of the grid.

Printers skip chunks of which the mask hides everything. Masks of coordinates are evaluated here on whole
tiles; where data has a say, it is taken to hide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import torch
from torch import Tensor

from ..kernels.kernel import Grid, Let, Load, Operand, Stream
from ..meaning.interpret import OPERATIONS
from ..meaning.partial import DTYPES
from .trips import Counter

TILES, MOST_ENTRIES = 27, 4_000_000
"""So many tiles are looked at, three along each axis that the mask follows, and at most so many entries."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Parts of what passes: in chunks of which something is seen, and seen itself."""

    done: float
    seen: float


Values = tuple[tuple[str, ...], Tensor]
"""The tile axes of a value and its data, a dimension each."""


def seen(stream: Stream, counter: Counter) -> Seen | None:
    """The parts of a stream, at the sizes of the counter; None where there is no mask, or too much to look at."""
    if not isinstance(stream.visible, str):
        return None
    view = _View(stream, counter)
    wide = [axis for axis in counter.nest.kernel.grid if axis.name in view.follows()]
    passed = done = shown = 0
    for tile in product(*(view.places(axis) for axis in wide)):
        found = view.tile(dict(zip((axis.name for axis in wide), tile, strict=True)))
        if found is None:
            return None
        passed, done, shown = passed + found[0], done + found[1], shown + found[2]
    return Seen(done / passed, shown / passed) if passed else None


@dataclass(slots=True)
class _View:
    stream: Stream
    counter: Counter
    lets: dict[str, Let] = field(init=False)
    data: set[str] = field(init=False)

    def __post_init__(self) -> None:
        statements = [each for each, _ in self.counter.nest.statements()]
        self.lets = {each.name: each for each in statements if isinstance(each, Let)}
        self.data = {each.name for each in statements if isinstance(each, Load)}

    def follows(self) -> set[str]:
        """The grid axes that the mask or the bounds of the stream use."""
        nest, grid = self.counter.nest, {axis.name for axis in self.counter.nest.kernel.grid}
        bounds = {
            name for axis in self.stream.axes for end in (axis.low, axis.stop) for name in nest.needs(end)
        }
        return grid & (bounds | set(nest.axes_of.get(str(self.stream.visible), ())))

    def places(self, axis: Grid) -> list[tuple[int, int]]:
        """Some tiles of an axis, first and last coordinate: the first, the middle one, the last."""
        low, size = self.counter.value(axis.low, {}), self.counter.value(axis.size, {})
        firsts = range(low, low + size, axis.tile)
        chosen = sorted({0, len(firsts) // 2, len(firsts) - 1}) if firsts else []
        return [(firsts[i], min(firsts[i] + axis.tile, low + size) - 1) for i in chosen]

    def tile(self, places: Mapping[str, tuple[int, int]]) -> tuple[int, int, int] | None:
        """How many entries pass one tile, are in chunks that are not skipped, and are seen."""
        scalars: dict[str, int] = {}
        scope: dict[str, Values] = {}
        for name, (first, last) in places.items():
            scalars |= {name: first, f"{name}.first": first, f"{name}.last": last}
            scope[name] = ((name,), torch.arange(first, last + 1))
        lanes = tuple(name for name in places if name in self.counter.nest.kernel.lanes)
        for axis in self.stream.axes:
            low, stop = self.counter.low(axis, scalars), self.counter.stop(axis, scalars)
            scope[axis.name] = ((axis.name,), torch.arange(low, max(stop, low)))
        keys = tuple(axis.name for axis in self.stream.axes)
        shape = [len(scope[name][1]) for name in (*lanes, *keys)]
        if prod(shape) > MOST_ENTRIES:
            return None
        axes, data = self._value(self.stream.visible, scope, scalars)
        order = [axes.index(name) for name in (*lanes, *keys) if name in axes]
        view = data.permute(order)[tuple(slice(None) if n in axes else None for n in (*lanes, *keys))]
        whole = view.expand(shape) if view.ndim == len(shape) else view.reshape(1).expand(shape)
        rows = prod(shape[: len(lanes)])
        chunks = whole.reshape(rows, *shape[len(lanes) :]).any(0)
        return prod(shape), rows * self._in_chunks(chunks), int(whole.sum())

    def _in_chunks(self, seen: Tensor) -> int:
        """The keys in chunks of which a lane sees one."""
        weights = torch.ones(seen.shape, dtype=torch.int64)
        for dim, axis in enumerate(self.stream.axes):
            count = seen.shape[dim]
            places = torch.arange(count) // axis.step
            rows = int(places[-1]) + 1 if count else 0
            shape = (*seen.shape[:dim], rows, *seen.shape[dim + 1 :])
            seen = torch.zeros(shape, dtype=torch.int64).index_add(dim, places, seen.long()) > 0
            weights = torch.zeros(shape, dtype=torch.int64).index_add(dim, places, weights)
        return int(weights[seen].sum())

    def _value(self, operand: Operand, scope: dict[str, Values], scalars: Mapping[str, int]) -> Values:
        if not isinstance(operand, str):
            return (), torch.tensor(operand)
        if operand in scope:
            return scope[operand]
        if operand.endswith(".valid") or operand in self.data:
            return (), torch.tensor(True)
        if operand not in self.lets or not self.lets[operand].axes:
            return (), torch.tensor(self.counter.value(operand, scalars))
        let = self.lets[operand]
        args = [self._value(arg, scope, scalars) for arg in let.args]
        scope[operand] = self._applied(let, args)
        return scope[operand]

    def _applied(self, let: Let, args: Sequence[Values]) -> Values:
        axes = tuple(dict.fromkeys(axis for own, _ in args for axis in own))
        wide = [
            data.permute([own.index(axis) for axis in axes if axis in own])[
                tuple(slice(None) if axis in own else None for axis in axes)
            ]
            for own, data in args
        ]
        if let.op == "select":
            return axes, torch.where(wide[0].bool(), wide[1], wide[2])
        return axes, OPERATIONS[let.op](*wide).to(DTYPES[let.kind])
