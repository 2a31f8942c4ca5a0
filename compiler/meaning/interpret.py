"""The one denotation: what a program means, in float64, slowly and in short. Every other path is
compared with it. The equations are those of `dsl/program.py`; each function below is one of them.

Integers are exact in int64. Where there is none (division by zero, the floor of NaN) stands
`partial.NO_INTEGER`: it is present, and as an index it lies outside every axis. Scan, Library, Jvp
and Vjp raise `NotYet`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod

import torch
from torch import Tensor

from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind, join
from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Piece,
    Place,
    Program,
    Reduce,
    Scalar,
    Size,
    When,
)
from ...dsl.shapes.size_forms import axis_range
from ...dsl.shapes.sizes import bind_sizes
from .memory import Step, check_memory, not_yet, operands_of, plan
from .operations import OPERATIONS
from .partial import (
    DTYPES,
    ENTRY,
    HIGHEST,
    LOWEST,
    POISON,
    Partial,
    Sizes,
    both,
    box,
    coordinate,
    partial,
    spread,
)
from .storage import load_all, results, store

# --- forms


def evaluate(form: Form, operands: tuple[Partial, ...], sizes: Sizes, *, in_order: bool = False) -> Partial:
    """The value of one form from those of `operands_of(form)`; a leaf is given its own value. With
    `in_order` a place adds in the same order at every call, on a GPU too."""
    match form:
        case Const(value=value):
            return Partial((), torch.tensor(value, dtype=DTYPES[form.kind]))
        case Size(axis=axis):
            return Partial((), torch.tensor(len(axis_range(axis, sizes))))
        case Coordinate(axis=axis):
            return Partial((axis,), coordinate(axis, sizes))
        case Leaf() | AsIf() | OnGradient():
            return operands[0]
        case Map():
            return _map(form, operands, sizes)
        case When():
            return _when(form, operands, sizes)
        case Otherwise():
            return _otherwise(form, operands, sizes)
        case At():
            return _at(form, operands, sizes)
        case Place():
            return _place(form, operands, sizes, in_order)
        case Reduce():
            return _reduce(form, operands, sizes)
        case _:
            raise not_yet(form)


def _map(form: Map, operands: tuple[Partial, ...], sizes: Sizes) -> Partial:
    kinds: list[Kind] = [form.kind, *(each.kind for each in operands)]
    args = (each.over(form.axes).to(DTYPES[join(*kinds)]) for each in operands)
    present = both(*(each.mask_over(form.axes) for each in operands))
    return partial(form.axes, OPERATIONS[form.op](*args).to(DTYPES[form.kind]), present, sizes)


def _when(form: When, operands: tuple[Partial, ...], sizes: Sizes) -> Partial:
    predicate, value = operands
    present = both(*(each.mask_over(form.axes) for each in operands), predicate.over(form.axes))
    return partial(form.axes, value.over(form.axes), present, sizes)


def _otherwise(form: Otherwise, operands: tuple[Partial, ...], sizes: Sizes) -> Partial:
    value, fallback = (each.over(form.axes).to(DTYPES[form.kind]) for each in operands)
    first, second = (each.mask_over(form.axes) for each in operands)
    if first is None:
        return partial(form.axes, value, None, sizes)
    present = None if second is None else first | second
    return partial(form.axes, torch.where(first, value, fallback), present, sizes)


def _at(form: At, operands: tuple[Partial, ...], sizes: Sizes) -> Partial:
    value = operands[0]
    indices = {axis: index for (axis, _), index in zip(form.indices, operands[1:], strict=True)}
    axes = tuple(dict.fromkeys((*value.axes, *indices)))
    places, inside = _places(axes, indices, form.axes, sizes)
    if value.data.numel() == 0:  # an empty batch has no entry to read, not even a clamped one
        nothing = value.data.new_full((), POISON[value.kind])
        return partial(form.axes, nothing, torch.zeros((), dtype=torch.bool), sizes)
    where = tuple(places[axis].clamp(0, len(axis_range(axis, sizes)) - 1) for axis in value.axes)
    present = None if value.present is None else value.present[where]
    return partial(form.axes, value.data[where], both(present, inside), sizes)


def _place(form: Place, operands: tuple[Partial, ...], sizes: Sizes, in_order: bool) -> Partial:
    value, shape = operands[0], box(form.axes, sizes)
    indices = {axis: index for (axis, _), index in zip(form.indices, operands[1:], strict=True)}
    kept = tuple(axis for axis in form.axes if axis not in indices)
    summed = (*value.axes, *(axis for index in indices.values() for axis in index.axes), *kept)
    source = tuple(dict.fromkeys(summed))
    places, inside = _places(form.axes, indices, source, sizes)
    target = torch.zeros((), dtype=torch.int64)
    for axis, place in places.items():
        target = target * len(axis_range(axis, sizes)) + place
    lands = both(value.mask_over(source), inside)
    every = box(source, sizes)
    chosen = torch.ones(every, dtype=torch.bool) if lands is None else lands.expand(every)
    target = target.expand(every)[chosen]
    total, more = value.data.new_zeros(prod(shape)), value.over(source).expand(every)[chosen]
    # On a CPU `index_add` goes from the first to the last; on a GPU it adds what comes, `index_put` sorts.
    sort = in_order and total.device.type != "cpu"
    total = total.index_put((target,), more, accumulate=True) if sort else total.index_add(0, target, more)
    hit = torch.zeros(prod(shape), dtype=torch.bool).index_fill(0, target, True)
    return partial(form.axes, total.reshape(shape), hit.reshape(shape), sizes)


def _places(
    axes: tuple[Axis, ...], indices: Mapping[Axis, Partial], over: tuple[Axis, ...], sizes: Sizes
) -> tuple[dict[Axis, Tensor], Tensor | None]:
    """For each of `axes` its index, counted from the lowest, as a view that broadcasts over `over`
    (its own coordinate where `indices` has none); and where all indices exist and are in range."""
    places: dict[Axis, Tensor] = {}
    inside: Tensor | None = None
    for axis in axes:
        legal = axis_range(axis, sizes)
        if axis in indices:
            index = indices[axis]
            place = index.over(over)
            inside = both(inside, index.mask_over(over), (place >= legal.start) & (place < legal.stop))
        else:
            place = spread(coordinate(axis, sizes), (axis,), over)
        places[axis] = place - legal.start
    return places, inside


def _reduce(form: Reduce, operands: tuple[Partial, ...], sizes: Sizes) -> Partial:
    shape = box(form.axes, sizes)
    kinds: list[Kind] = ["real"] if form.op == "lse" else [each.kind for each in operands]
    kind = join(*kinds)
    pieces = tuple(zip(form.pieces, operands, strict=True))
    lined = [_in_line(each.data, piece, each, form, sizes) for piece, each in pieces]
    masks = [_in_line(each.mask, piece, each, form, sizes) for piece, each in pieces]
    # One more entry, absent everywhere, so that no union is empty.
    nothing = torch.zeros((*shape, 1), dtype=torch.bool)
    data = torch.cat([*(each.to(DTYPES[kind]) for each in lined), nothing.to(DTYPES[kind])], -1)
    mask = torch.cat([*masks, nothing], -1)

    def among(fill: Scalar) -> Tensor:
        return torch.where(mask, data, torch.tensor(fill, dtype=data.dtype))

    match form.op:
        case "count":
            return Partial(form.axes, mask.sum(-1))
        case "any":
            return Partial(form.axes, among(False).any(-1))
        case "all":
            return Partial(form.axes, among(True).all(-1))
        case "sum":
            result = among(0).sum(-1)
        case "prod":
            result = among(1).prod(-1)
        case "max":
            result = among(LOWEST[kind]).amax(-1)
        case "min":
            result = among(HIGHEST[kind]).amin(-1)
        case "lse":
            result = among(-inf).logsumexp(-1)
        case "argmax":
            highest = among(LOWEST[kind]).amax(-1, keepdim=True)
            hits = mask & ((data == highest) | data.isnan())
            return _component(form, hits.to(torch.int8).argmax(-1), mask.any(-1), sizes)
        case _:
            raise CompilerFault("interpret", f"there is no reduction `{form.op}`")
    return partial(form.axes, result, mask.any(-1), sizes)


def _in_line(tensor: Tensor, piece: Piece, value: Partial, form: Reduce, sizes: Sizes) -> Tensor:
    """A piece over the result's axes, its entries in row-major order along one last dimension."""
    left = tuple(axis for axis in value.axes if axis not in piece.axes)
    rows = spread(tensor, value.axes, (*left, *piece.axes))
    lined = rows.reshape(*box(left, sizes), prod(box(piece.axes, sizes)))
    full = spread(lined, (*left, ENTRY), (*form.axes, ENTRY))
    return full.expand(*box(form.axes, sizes), lined.shape[-1])


def _component(form: Reduce, entry: Tensor, found: Tensor, sizes: Sizes) -> Partial:
    """The index of `entry` along the axis that argmax answers for: absent where the winner belongs
    to a piece without that axis. Components count the listed axes of all pieces, in order."""
    component = form.component
    for piece in form.pieces:
        lengths = box(piece.axes, sizes)
        if component < len(lengths):
            axis, below = piece.axes[component], prod(lengths[component + 1 :])
            index = entry // max(below, 1) % max(lengths[component], 1) + axis_range(axis, sizes).start
            here = found & (entry >= 0) & (entry < prod(lengths))
            return partial(form.axes, index, here, sizes)
        component, entry = component - len(lengths), entry - prod(lengths)
    raise CompilerFault("interpret", f"argmax answers for no axis {form.component}")


# --- programs


def interpret(
    program: Program,
    tensors: Mapping[str, Tensor],
    sizes: Sizes | None = None,
    *,
    memory_limit: int | None = None,
    in_order: bool = False,
) -> dict[str, Tensor]:
    """Every output by its name, in the layout of the header, and every updated buffer under
    `update:NAME`: new float64, int64, bool or complex128 tensors on the device of `tensors`.

    `sizes` are those of `bind_sizes`, which is asked where they are not given. `memory_limit` is in
    bytes; without one it is half of the machine's memory. Raises what `bind_sizes` and
    `storage.load` raise; AbsentOutput; NotYet; TooLarge. `in_order` is said to `evaluate`.

    >>> from plait import axes, mixer
    >>> h = axes("h")
    >>> @mixer("x[h] -> o[h]")
    ... def shifted(x):
    ...     return x[h + 1].otherwise(0)
    >>> interpret(shifted.program(), {"x": torch.tensor([1.0, 2.0, 3.0])})
    {'o': tensor([2., 3., 0.], dtype=torch.float64)}
    """
    if sizes is None:
        sizes = bind_sizes(program, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    steps = plan(program.roots)
    check_memory(steps, sizes, memory_limit)
    with next((tensor.device for tensor in tensors.values()), torch.device("cpu")):
        values = run(steps, load_all(program, tensors, sizes), sizes, in_order)
        return {each.key: store(each, values[each.value], sizes) for each in results(program)}


def run(
    steps: Sequence[Step], leaves: Mapping[Form, Partial], sizes: Sizes, in_order: bool = False
) -> dict[Form, Partial]:
    """The values that stay after the last step: those of the roots."""
    values: dict[Form, Partial] = {}
    for form, ended in steps:
        below = (leaves[form],) if isinstance(form, Leaf) else tuple(values[x] for x in operands_of(form))
        values[form] = evaluate(form, below, sizes, in_order=in_order)
        for each in ended:
            del values[each]
    return values
