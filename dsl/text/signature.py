"""A header read into the core: input declarations, output layouts, fixed sizes. All of its mistakes
together, for both spellings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import Label, PlaitError, raise_all
from ..mistakes import InvalidHeader
from ..ops import Kind
from ..program import BATCH, Axis, Declaration, Item, Leaf
from ..source import Span
from .header import Header, HeaderAxis, HeaderItem, HeaderTensor


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """Where a result goes: its name, kind and layout."""

    name: str
    items: tuple[Item, ...]
    kind: Kind
    span: Span

    @property
    def over(self) -> tuple[Axis, ...]:
        return tuple(axis for item in self.items for axis in item)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a header says, in core terms."""

    inputs: tuple[Declaration, ...]
    outputs: tuple[OutputPlace, ...]
    fixed: tuple[tuple[Axis, int], ...]
    span: Span

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Every axis of the header once, `...` among them."""
        inputs = (axis for declaration in self.inputs for axis in declaration.leaf.over)
        ranges = (d.leaf.ranges_over for d in self.inputs if d.leaf.ranges_over is not None)
        outputs = (axis for output in self.outputs for axis in output.over)
        return tuple(dict.fromkeys((*inputs, *ranges, *outputs)))


def signature(header: Header) -> Signature:
    """The header's meaning; raises InvalidHeader for every mistake in it."""
    raise_all(
        [*_repeated_names(header), *_repeated_axes(header), *_sizes_differ(header), *_misplaced(header)]
    )
    fixed = {Axis(axis.name): axis.fixed for axis in _all_axes(header) if axis.fixed is not None}
    return Signature(
        tuple(_declaration(tensor) for tensor in header.inputs),
        tuple(_output(tensor) for tensor in header.outputs),
        tuple(fixed.items()),
        header.span,
    )


def core_axis(axis: HeaderAxis) -> Axis:
    return BATCH if axis.name == BATCH.name else Axis(axis.name)


def _items(items: Sequence[HeaderItem]) -> tuple[Item, ...]:
    return tuple(tuple(core_axis(axis) for axis in item.axes) for item in items)


def _kind(tensor: HeaderTensor) -> Kind:
    return "int" if tensor.kind == "index" else tensor.kind


def _declaration(tensor: HeaderTensor) -> Declaration:
    items = _items(tensor.items)
    over = tuple(axis for item in items for axis in item)
    ranges_over = core_axis(tensor.index_of) if tensor.index_of is not None else None
    leaf = Leaf("input", tensor.name, over, _kind(tensor), ranges_over, span=tensor.span)
    return Declaration(leaf, items, optional=tensor.optional, trainable=False, span=tensor.span)


def _output(tensor: HeaderTensor) -> OutputPlace:
    return OutputPlace(tensor.name, _items(tensor.items), _kind(tensor), tensor.span)


def _all_axes(header: Header) -> Iterator[HeaderAxis]:
    for tensor in (*header.inputs, *header.outputs):
        for item in tensor.items:
            yield from item.axes


def _repeated_names(header: Header) -> Iterator[PlaitError]:
    seen: dict[str, Span] = {}
    for tensor in (*header.inputs, *header.outputs):
        if tensor.name in seen:
            yield InvalidHeader(
                f"`{tensor.name}` is named twice in the header", at=tensor.span, label="named again",
                labels=[Label(seen[tensor.name], "first named here")],
            )  # fmt: skip
        seen.setdefault(tensor.name, tensor.span)


def _repeated_axes(header: Header) -> Iterator[PlaitError]:
    for tensor in (*header.inputs, *header.outputs):
        seen: dict[str, Span] = {}
        for axis in (axis for item in tensor.items for axis in item.axes):
            if axis.name in seen:
                yield InvalidHeader(
                    f"`{tensor.name}` has axis `{axis.name}` twice", at=axis.span, label="again here",
                    labels=[Label(seen[axis.name], "first here")],
                    helps=["give one of them another name, and `require` that their sizes are equal"],
                )  # fmt: skip
            seen.setdefault(axis.name, axis.span)


def _sizes_differ(header: Header) -> Iterator[PlaitError]:
    seen: dict[str, HeaderAxis] = {}
    for axis in (axis for axis in _all_axes(header) if axis.fixed is not None):
        first = seen.setdefault(axis.name, axis)
        if first.fixed != axis.fixed:
            yield InvalidHeader(
                f"axis `{axis.name}` has two sizes in the header, {first.fixed} and {axis.fixed}", at=axis.span,
                label=str(axis.fixed), labels=[Label(first.span, str(first.fixed))],
            )  # fmt: skip
        elif axis.fixed is not None and axis.fixed < 1:
            yield InvalidHeader(
                f"axis `{axis.name}` has size {axis.fixed}; a size is at least 1", at=axis.span, label="here"
            )


def _misplaced(header: Header) -> Iterator[PlaitError]:
    """`...` inside a product, optional outputs."""
    for tensor in (*header.inputs, *header.outputs):
        for item in tensor.items:
            if len(item.axes) > 1 and any(axis.name == BATCH.name for axis in item.axes):
                yield InvalidHeader("`...` cannot be part of a packed dimension", at=item.span, label="here")
    for tensor in header.outputs:
        if tensor.optional:
            yield InvalidHeader(f"output `{tensor.name}` cannot be optional", at=tensor.span, label="here")
