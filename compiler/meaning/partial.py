"""A partial value of the interpreter: named axes, data over their box, and where it is present.

Data where the value is absent is poison, so that a use of it shows: NaN in reals, an integer that
lies in no range, true in truth values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

import torch
from torch import Tensor

from ...dsl.ops import Kind
from ...dsl.program import BATCH, Axis, Scalar
from ...dsl.shapes.size_forms import Extent, axis_range

Sizes = Mapping[Axis, Extent]
"""What a call says: a size for each signature axis, a tuple for `...`."""

DTYPES: Mapping[Kind, torch.dtype] = {
    "bool": torch.bool,
    "int": torch.int64,
    "real": torch.float64,
    "complex": torch.complex128,
}
KINDS: Mapping[torch.dtype, Kind] = {dtype: kind for kind, dtype in DTYPES.items()}

NO_INTEGER = -(2**62) - 987_654_321
"""The integer that does not exist: poison, division by zero, the floor of NaN. In no axis's range."""

POISON: Mapping[Kind, Scalar] = {
    "bool": True,
    "int": NO_INTEGER,
    "real": nan,
    "complex": complex(nan, nan),
}
LOWEST: Mapping[Kind, Scalar] = {"int": torch.iinfo(torch.int64).min, "real": -inf}
HIGHEST: Mapping[Kind, Scalar] = {"int": torch.iinfo(torch.int64).max, "real": inf}

ENTRY = Axis("entry", -1)
"""The single dimension that a reduction lays its entries along."""


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """`data` has one dimension for each of `axes`, lowest index first; `present` has the shape of
    `data`, or is None where the value is total."""

    axes: tuple[Axis, ...]
    data: Tensor
    present: Tensor | None = None

    @property
    def kind(self) -> Kind:
        return KINDS[self.data.dtype]

    @property
    def mask(self) -> Tensor:
        """Where the value is present, also for a total one."""
        total = self.data.new_ones((), dtype=torch.bool)
        return total.expand(self.data.shape) if self.present is None else self.present

    def over(self, axes: Sequence[Axis]) -> Tensor:
        """The data as a view that broadcasts over `axes`."""
        return spread(self.data, self.axes, axes)

    def mask_over(self, axes: Sequence[Axis]) -> Tensor | None:
        return None if self.present is None else spread(self.present, self.axes, axes)


def partial(axes: tuple[Axis, ...], data: Tensor, present: Tensor | None, sizes: Sizes) -> Partial:
    """A value over the box of `axes`, expanded to it, and poisoned where it is absent."""
    shape = box(axes, sizes)
    if present is None:
        return Partial(axes, data.expand(shape))
    poisoned = torch.where(present, data, data.new_full((), POISON[KINDS[data.dtype]]))
    return Partial(axes, poisoned.expand(shape), present.expand(shape))


def spread(tensor: Tensor, have: Sequence[Axis], want: Sequence[Axis]) -> Tensor:
    """`tensor`, whose dimensions are `have`, as a view with a dimension for each of `want`: 1 where
    it has no such axis. Every axis of `have` must be wanted."""
    ordered = tensor.permute([have.index(axis) for axis in want if axis in have])
    return ordered[tuple(slice(None) if axis in have else None for axis in want)]


def both(*masks: Tensor | None) -> Tensor | None:
    """Where all of them hold; None holds everywhere."""
    result: Tensor | None = None
    for mask in masks:
        result = mask if result is None else result if mask is None else result & mask
    return result


def batch(sizes: Sizes) -> tuple[int, ...]:
    """The sizes of the axes that `...` stands for."""
    found = sizes.get(BATCH, ())
    return found if isinstance(found, tuple) else (found,)


def box(axes: Sequence[Axis], sizes: Sizes) -> tuple[int, ...]:
    """The shape of values over `axes`. `...` is one axis here, its indices counted row-major."""
    return tuple(len(axis_range(axis, sizes)) for axis in axes)


def coordinate(axis: Axis, sizes: Sizes) -> Tensor:
    """The indices of an axis as a tensor."""
    indices = axis_range(axis, sizes)
    return torch.arange(indices.start, indices.stop)
