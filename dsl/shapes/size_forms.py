"""Sizes are exact trees over sizes: evaluating them, spelling them, and finding the axes they are of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..arithmetic import SCALAR_OPS, UNDEFINED
from ..mistakes import InvalidSize
from ..ops import LEVEL_COMPARE, LEVEL_POWER, LEVEL_PRODUCT, LEVEL_SUM, OPS
from ..program import Axis, Const, Form, Leaf, Map, Program, Scalar, Size, walk

Extent = int | tuple[int, ...]
"""The size of an axis; of `...`, the tuple of its sizes."""

Sizes = dict[Axis, Extent]
"""What a call says: a size for each signature axis, and a tuple for `...`."""


def is_batch(axis: Axis) -> bool:
    """Whether the axis is `...` or one of those that `expand_batch` puts in its place."""
    return axis.serial == 0 and axis.name.startswith("..")


def is_empty(extent: Extent) -> bool:
    """Whether an axis, or `...`, has no entry."""
    return extent == 0 if isinstance(extent, int) else 0 in extent


@dataclass(frozen=True, slots=True)
class Tape:
    """Straight-line arithmetic: `axes` are read first, then come `constants`, then one value a step.
    A step is (operation, first slot, second slot or -1); `results` are the slots that were asked for."""

    axes: tuple[Axis, ...]
    constants: tuple[Scalar, ...]
    steps: tuple[tuple[Callable[..., Scalar], int, int], ...]
    results: tuple[int, ...]

    def run(self, sizes: Sequence[Scalar]) -> list[Scalar]:
        """All values, given the sizes of `axes`. Raises one of UNDEFINED."""
        values: list[Scalar] = [*sizes, *self.constants]
        for step, first, second in self.steps:
            value = step(values[first]) if second < 0 else step(values[first], values[second])
            values.append(value)
        return values


def size_operands(form: Form) -> tuple[Form, ...]:
    """What a size form is computed from; the size of a derived axis is computed by its formula."""
    match form:
        case Map(args=args):
            return args
        case Size(axis=axis) if axis.size is not None:
            return (axis.size,)
        case _:
            return ()


def record(forms: Sequence[Form], axes: Sequence[Axis]) -> Tape:
    """The tape that computes `forms` from the sizes of `axes`.

    Raises InvalidSize for what is no arithmetic on sizes: data, indices, reductions.
    """
    every = list(walk(forms, size_operands))
    measured = (form.axis for form in every if isinstance(form, Size) and form.axis.size is None)
    inputs = list(dict.fromkeys([*axes, *measured]))
    slots: dict[Form, int] = {Size(axis): place for place, axis in enumerate(inputs)}
    constants: list[Scalar] = []
    for form in every:
        if isinstance(form, Const):
            slots[form] = len(inputs) + len(constants)
            constants.append(form.value)
    steps: list[tuple[Callable[..., Scalar], int, int]] = []
    for form in every:
        if form in slots:
            continue
        match form:
            case Size(axis=axis) if axis.size is not None:
                slots[form] = slots[axis.size]
                continue
            case Map(op=op, args=(first, *more)):
                steps.append((SCALAR_OPS[op], slots[first], slots[more[0]] if more else -1))
            case _:
                raise not_a_size(form)
        slots[form] = len(inputs) + len(constants) + len(steps) - 1
    results = tuple(slots[form] for form in forms)
    return Tape(tuple(inputs), tuple(constants), tuple(steps), results)


@lru_cache(maxsize=4096)
def _tape_of(form: Form) -> Tape:
    return record((form,), ())


def not_a_size(form: Form) -> InvalidSize:
    """The message for a form that has no value before the tensors are read."""
    what = f"`{form.name}` is data" if isinstance(form, Leaf) else "this is not made of sizes alone"
    return InvalidSize(
        f"a size must be known before the tensors are read, and {what}", at=form.span, label="no size",
        helps=["write it with sizes (`size(h)`, in Python `h.size`) and numbers"],
    )  # fmt: skip


def evaluate_size(form: Form, sizes: Mapping[Axis, Extent]) -> int:
    """The value of a form over sizes; an int, or the float, bool or complex that the form is of.

    Raises InvalidSize where it has no value (an axis without a size, division by zero).
    """
    tape = _tape_of(form)
    values = [_extent(axis, sizes) for axis in tape.axes]
    try:
        value = tape.run(values)[tape.results[0]]
    except UNDEFINED as problem:
        raise undefined(form, problem, sizes) from None
    return value  # pyright: ignore[reportReturnType]


def _extent(axis: Axis, sizes: Mapping[Axis, Extent]) -> int:
    if axis not in sizes:
        raise InvalidSize(f"axis `{axis.name}` has no size here", at=axis.span, label="of unknown size")
    extent = sizes[axis]
    return extent if isinstance(extent, int) else math.prod(extent)


def undefined(form: Form, problem: Exception, sizes: Mapping[Axis, Extent]) -> InvalidSize:
    """The message for a formula that has no value at these sizes."""
    return InvalidSize(
        f"`{spell(form)}` has no value{at_sizes((form,), sizes)}: {problem}", at=form.span, label="here",
        facts={"sizes": {axis.name: sizes[axis] for axis in axes_within((form,)) if axis in sizes}},
    )  # fmt: skip


def axis_range(axis: Axis, sizes: Mapping[Axis, Extent]) -> range:
    """The indices of an axis; those of `...` are counted row-major.

    Raises InvalidSize where the size is not known or has no value.
    """
    if axis.size is None:
        return range(_extent(axis, sizes))
    lowest = evaluate_size(axis.lo, sizes) if axis.lo else 0
    return range(lowest, lowest + evaluate_size(axis.size, sizes))


# --- which axes

Mentions = Iterable[Form]


def axes_within(forms: Mentions) -> tuple[Axis, ...]:
    """The signature axes whose sizes decide the size forms."""
    found = walk(forms, size_operands)
    return tuple(dict.fromkeys(f.axis for f in found if isinstance(f, Size) and f.axis.size is None))


def form_axes(forms: Iterable[Form]) -> Iterator[Axis]:
    """Every axis that the forms have, bind, measure or index, with repeats; not those of axes' sizes."""
    for form in walk(forms):
        yield from form.axes
        if isinstance(form, Size):
            yield form.axis
        if isinstance(form, Leaf):
            yield from form.over
            if form.ranges_over is not None:
                yield form.ranges_over


def closed(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """The axes and those that their ranges are computed from, once each, in order of mention."""
    found = dict.fromkeys(axes)
    waiting = list(found)
    while waiting:
        axis = waiting.pop()
        ends = [form for form in (axis.lo, axis.size) if form is not None]
        for other in form_axes(ends):
            if other not in found:
                found[other] = None
                waiting.append(other)
    return tuple(found)


def used_axes(program: Program) -> tuple[Axis, ...]:
    """Every axis of what the program computes, whatever it only declares left out."""
    outputs = (axis for output in program.outputs for item in output.items for axis in item)
    return closed((*form_axes(program.forms), *outputs))


def program_axes(program: Program) -> tuple[Axis, ...]:
    """Every axis of the program, declared or used, and those that their sizes are computed from."""
    declared = (axis for d in program.declarations for item in d.items for axis in item)
    indexed = (d.leaf.ranges_over for d in program.declarations if d.leaf.ranges_over is not None)
    fixed = (axis for axis, _ in program.fixed)
    return closed((*declared, *indexed, *fixed, *used_axes(program)))


# --- spelling

MOST_DEEP = 12
"""A formula nested deeper is cut in a message."""


def spell(form: Form) -> str:
    """A formula as the author wrote it, or as text spells it."""
    if form.span is not None and not isinstance(form, Const | Size):
        written = form.span.text
        if 0 < len(written) <= 60 and "\n" not in written:
            return written
    return _spelled(form, 0, MOST_DEEP)


def _spelled(form: Form, level: int, depth: int) -> str:
    if depth == 0:
        return "..."
    match form:
        case Const(value=value, written=written):
            shown = repr(value).lower() if isinstance(value, bool) else repr(value)
            return shown if written is None else written
        case Size(axis=axis):
            return f"size({axis.name})"
        case Map(op=op, args=args):
            return _spelled_map(op, args, level, depth)
        case Leaf(name=name):
            return name
        case _:
            return "..."


def _spelled_map(op: str, args: tuple[Form, ...], level: int, depth: int) -> str:
    row = OPS[op]
    if not row.symbol:
        return f"{op}({', '.join(_spelled(arg, 0, depth - 1) for arg in args)})"
    if row.arity == 1:
        text = f"{row.symbol}{_spelled(args[0], row.level, depth - 1)}"
    else:
        tight = row.level in (LEVEL_PRODUCT, LEVEL_POWER)
        sign = row.symbol if tight else f" {row.symbol} "
        right = row.level + (row.level in (LEVEL_SUM, LEVEL_PRODUCT, LEVEL_COMPARE))
        text = f"{_spelled(args[0], row.level, depth - 1)}{sign}{_spelled(args[1], right, depth - 1)}"
    return f"({text})" if row.level < level else text


def at_sizes(forms: Mentions, sizes: Mapping[Axis, Extent]) -> str:
    """` with h = 2, w = 3`: the sizes that decide the forms, or nothing."""
    said = [f"{axis.name} = {sizes[axis]}" for axis in axes_within(forms) if axis in sizes]
    return f" with {', '.join(said)}" if said else ""
