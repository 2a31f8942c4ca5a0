"""Between tensors and partial values: dimensions of declarations unpacked, of outputs packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ...dsl.errors import CompilerFault
from ...dsl.mistakes import AbsentOutput, AxisSizeMismatch, InvalidArgument, UnknownArgument, WrongDtype
from ...dsl.ops import Kind
from ...dsl.program import BATCH, Axis, Declaration, Form, Item, Program
from ...dsl.shapes.size_forms import axis_range
from ...dsl.source import Span
from .partial import DTYPES, Partial, Sizes, batch, box, partial


def stored_shape(items: Sequence[Item], sizes: Sizes) -> tuple[int, ...]:
    """The shape of a tensor whose dimensions are `items`; `...` gives the batch's own dimensions."""
    dims = (batch(sizes) if item == (BATCH,) else (prod(box(item, sizes)),) for item in items)
    return tuple(size for each in dims for size in each)


def load_all(program: Program, tensors: Mapping[str, Tensor], sizes: Sizes) -> dict[Form, Partial]:
    """The values of all declared leaves. Raises UnknownArgument for a tensor of another name, and
    what `load` raises."""
    declared = {each.leaf.name: each for each in program.declarations}
    for name in tensors:
        if name not in declared:
            shown = ", ".join(f"`{each}`" for each in declared) or "none"
            raise UnknownArgument(f"the program has no tensor `{name}`", notes=[f"tensors: {shown}"])
    return {each.leaf: load(each, tensors.get(name), sizes) for name, each in declared.items()}


def load(declaration: Declaration, tensor: Tensor | None, sizes: Sizes) -> Partial:
    """The value of a declared tensor; an optional one that is not given is absent everywhere.

    Raises UnknownArgument (not given), WrongDtype, AxisSizeMismatch (`sizes` are of other tensors)
    and InvalidArgument (an index input that leaves the axis it ranges over).
    """
    leaf = declaration.leaf
    dtype = DTYPES[leaf.declared]
    if tensor is None:
        if not declaration.optional:
            raise UnknownArgument(
                f"{leaf.role} `{leaf.name}` has no tensor", at=declaration.span, label="declared here"
            )
        nowhere = torch.zeros((), dtype=torch.bool)
        return partial(leaf.over, torch.zeros((), dtype=dtype), nowhere, sizes)
    if not fits(tensor.dtype, leaf.declared):
        raise WrongDtype(
            f"{leaf.role} `{leaf.name}` is declared {leaf.declared}, and its tensor is {tensor.dtype}",
            at=declaration.span,
            label="declared here",
        )
    wanted = stored_shape(declaration.items, sizes)
    if tensor.shape != wanted:
        raise AxisSizeMismatch(
            f"{leaf.role} `{leaf.name}` has shape {tuple(tensor.shape)}, and the sizes ask for {wanted}",
            at=declaration.span,
            label="declared here",
        )
    value = Partial(leaf.over, tensor.detach().to(dtype).reshape(box(leaf.over, sizes)))
    if leaf.ranges_over is not None:
        _check_range(declaration, value, leaf.ranges_over, sizes)
    return value


def fits(dtype: torch.dtype, kind: Kind) -> bool:
    """Whether a tensor of `dtype` may stand for a declared kind: no truth values for numbers, and
    nothing that would lose its fraction or its imaginary part."""
    if (dtype == torch.bool) != (kind == "bool"):
        return False
    return torch.can_cast(dtype, DTYPES[kind])


@dataclass(frozen=True, slots=True)
class Result:
    """What a call hands back under `key`: an output, or the new value of a buffer."""

    key: str
    shown: str
    value: Form
    items: tuple[Item, ...]
    kind: Kind
    span: Span | None


def results(program: Program) -> tuple[Result, ...]:
    """The results of a program in order: outputs by their name, then `update:NAME` of buffers."""
    outputs = (
        Result(each.name, f"output `{each.name}`", each.value, each.items, each.value.kind, each.span)
        for each in program.outputs
    )
    layouts = {each.leaf: each.items for each in program.buffers}
    updates = (
        Result(
            f"update:{each.buffer.name}",
            f"the update of `{each.buffer.name}`",
            each.value,
            layouts[each.buffer],
            each.buffer.declared,
            each.span,
        )
        for each in program.updates
    )
    return (*outputs, *updates)


def store(result: Result, value: Partial, sizes: Sizes) -> Tensor:
    """A value as a new tensor in the layout of the result. Raises AbsentOutput."""
    axes = tuple(axis for item in result.items for axis in item)
    extra = [axis.name for axis in value.axes if axis not in axes]
    if extra:
        raise CompilerFault("interpret", f"{result.shown} has undeclared axes: {', '.join(extra)}")
    if value.present is not None and not bool(value.present.all()):
        index = _first(~value.present)
        raise AbsentOutput(
            f"{result.shown} is absent at {describe_index(value.axes, index, sizes)}",
            at=result.span or result.value.span,
            label="absent there",
            notes=[f"sizes: {describe_sizes(value.axes, sizes)}"],
            helps=["say what stands there: `.otherwise(0)`"],
            facts={
                "index": {
                    axis.name: _index(axis, at, sizes) for axis, at in zip(value.axes, index, strict=True)
                }
            },
        )
    full = value.over(axes).to(DTYPES[result.kind]).expand(box(axes, sizes))
    return full.reshape(stored_shape(result.items, sizes)).clone(memory_format=torch.contiguous_format)


def _first(holds: Tensor) -> list[int]:
    """The first index at which a mask holds."""
    return [int(position) for position in holds.nonzero()[0]]


def describe_index(axes: Sequence[Axis], positions: Sequence[int], sizes: Sizes) -> str:
    """`h=0, dh=-2`, for positions counted from 0; the batch as one tuple."""
    return ", ".join(
        f"{axis.name}={_index(axis, at, sizes)}" for axis, at in zip(axes, positions, strict=True)
    )


def _index(axis: Axis, position: int, sizes: Sizes) -> object:
    if axis != BATCH:
        return axis_range(axis, sizes)[position]
    index: list[int] = []
    for size in reversed(batch(sizes)):
        position, digit = divmod(position, size)
        index.append(digit)
    return tuple(reversed(index))


def describe_sizes(axes: Sequence[Axis], sizes: Sizes) -> str:
    """`...=(2, 3), h=64, dh=17`, or `no axes`."""
    shown = (f"{a.name}={batch(sizes) if a == BATCH else len(axis_range(a, sizes))}" for a in axes)
    return ", ".join(shown) or "no axes"


def _check_range(declaration: Declaration, value: Partial, axis: Axis, sizes: Sizes) -> None:
    legal = axis_range(axis, sizes)
    outside = (value.data < legal.start) | (value.data >= legal.stop)
    if not bool(outside.any()):
        return
    positions = _first(outside)
    found = int(value.data[tuple(positions)])
    raise InvalidArgument(
        f"`{declaration.leaf.name}` holds {found}, which is no index of axis `{axis.name}`",
        at=declaration.span,
        label=f"declared to hold indices of `{axis.name}`",
        notes=[
            f"at {describe_index(value.axes, positions, sizes)}",
            f"`{axis.name}` runs from {legal.start} to {legal.stop - 1}",
        ],
    )
