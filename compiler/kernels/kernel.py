"""Waist 2: the `Kernel`, a tile program. Every printer starts from one; nothing behind it knows a
Program.

A kernel runs once for every tile of its grid. A *tile value* has named tile axes and a scalar at
every index of their tile. There are three sorts of tile axis:

    Grid    name: low .. low+size in tiles of `tile`     one tile per run, all runs independent; it may end
                                                         earlier for some coordinates of another (`Ragged`)
    Local   name: low .. low+size                        whole and resident, size compiled in
    Stream  name: low .. stop in chunks of `step`        visited in order, inside a Stream statement

An operand is a literal or a name. The name of a tile axis is its coordinate, an integer tile value
over that axis; beside it stand

    NAME.first, NAME.last    the lowest and highest coordinate of the current tile that exist
    NAME.valid               true at the coordinates of the tile that exist (tiles may overhang)

A Fold or Dot runs over the coordinates that exist, and over no others, of one axis or of several. What
their masks leave out is no term: NaN and infinity there reach nothing.
Names of tile axes, values and carries are distinct in a kernel, also between streams.

Nothing is masked silently: a load, fold or store that may meet a coordinate outside its buffer
carries the mask that says so. A printer may skip whatever a mask or a stream's `visible` excludes.
How tile axes map to vector lanes, registers, threads or flattened blocks is the printer's own
affair, guided by `lanes`: the tile axes that lie side by side in vectors (CPU) or in the rows of a
block (GPU). They are axes of the grid, or axes of one stream where the result has no axis fit for
lanes: a Fold over them is then horizontal. Sizes and strides are run-time numbers; the sizes of
Local axes are compiled in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ...dsl.ops import Kind

Operand = str | bool | int | float
FAR = 2**60
"""Data that bounds a stream is cut to at most this: no coordinate is beyond, and sums stay within 64 bits."""

RealType = Literal["float32", "float64", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor: one stride a dimension, given at run time. `role` says who writes it. `real` is the type
    that its reals are stored in: a load widens it to the kernel's, a store rounds to nearest even."""

    name: str
    rank: int
    kind: Kind
    real: RealType
    role: Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Where a class of coordinates ends: those exist where step * coordinate + residue < extent. `residue` is a grid
    axis by 1 that stands before, less than the step and the extent."""

    residue: str
    step: Operand
    extent: Operand


@dataclass(frozen=True, slots=True)
class Grid:
    """`ragged`: of the coordinates from `low`, which is 0, only those exist. A tile without any does not run."""

    name: str
    low: Operand
    size: Operand
    tile: int
    ragged: Ragged | None = None


@dataclass(frozen=True, slots=True)
class Local:
    name: str
    low: int
    size: int


@dataclass(frozen=True, slots=True)
class StreamAxis:
    """`low` and `stop` are scalars; those of an inner axis may use `.first`/`.last` of outer ones."""

    name: str
    low: Operand
    stop: Operand
    step: int


@dataclass(frozen=True, slots=True)
class Let:
    """`name = op(args)`, elementwise over the union of the axes of the arguments.

    `op` is a row of `dsl.ops` or `select` (of a bool and two values)."""

    name: str
    op: str
    args: tuple[Operand, ...]
    axes: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Load:
    """`name = buffer[index]` where `mask`, 0 elsewhere; never touches memory outside the mask."""

    name: str
    buffer: str
    index: tuple[Operand, ...]
    mask: Operand
    axes: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Take:
    """`name = source[index]`: the entry of a resident value at one coordinate for each of its local
    axes, in the order of `source`'s axes. Axes of one coordinate (a grid or stream axis by 1) have no
    index and stay. Every index lies in the range of its axis, also in lanes that do not exist."""

    name: str
    source: str
    index: tuple[Operand, ...]
    axes: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Dot:
    """`name = sum over `over` of left * right where `mask`, + init * scale`, over the other axes of both.

    `init` and `scale` are None together, or `scale` alone is None for 1. The axes of `mask` are among those
    of left and right. A product that the mask leaves out has a factor 0; `exposed` names the sides that may
    then not be finite, which makes it NaN. A printer may multiply all there is where all entries of the
    exposed sides are finite; where not, it goes by the mask."""

    name: str
    left: str
    right: str
    over: tuple[str, ...]
    init: Operand | None
    scale: Operand | None
    axes: tuple[str, ...]
    mask: Operand = True
    exposed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """`name = op over `over` of value where `mask``; over nothing the identity of op."""

    name: str
    op: Literal["sum", "prod", "max", "min", "any", "all"]
    value: Operand
    over: tuple[str, ...]
    mask: Operand
    axes: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Carry:
    """A value carried from chunk to chunk. After the stream its name is its last value.

    What flows into it has its axes, and may have axes whose tile is one coordinate (a grid axis by 1,
    a stream axis by 1): over one coordinate there is nothing to fold."""

    name: str
    init: Operand
    next: Operand
    axes: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Stream:
    """The body once for every chunk, outer axis slowest. Where `visible` (a bool computed in the
    body) is false for a whole chunk, the body has no effect, and a printer may skip it. What of
    `visible` is made of coordinates can be decided ahead, over intervals."""

    axes: tuple[StreamAxis, ...]
    carries: tuple[Carry, ...]
    body: tuple[Statement, ...]
    visible: Operand


@dataclass(frozen=True, slots=True)
class Store:
    """`buffer[index] = value` where `mask`. Every element of an output is stored exactly once. Inside a
    stream, that of the chunk is stored: the stream's axes are among the coordinates of the index. An index
    may be `NAME.first + i` for an axis of the grid: one row of the tile, where it is less than the end of the
    axis. Then there are as many such stores as the tile has rows. Or it may be `step * NAME + RESIDUE`, for an
    axis that is ragged by just that: the coordinate of both."""

    buffer: str
    index: tuple[Operand, ...]
    value: Operand
    mask: Operand


Statement = Let | Load | Take | Dot | Fold | Stream | Store


@dataclass(frozen=True, slots=True)
class Kernel:
    """`sizes` are the run-time numbers by name, in the order that the caller passes them.
    `real` is the type that real values are computed in."""

    name: str
    real: RealType
    sizes: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    grid: tuple[Grid, ...]
    locals: tuple[Local, ...]
    lanes: tuple[str, ...]
    body: tuple[Statement, ...]

    def buffer(self, name: str) -> Buffer:
        return next(buffer for buffer in self.buffers if buffer.name == name)

    def __str__(self) -> str:
        return show_kernel(self)


def defined(statement: Statement) -> tuple[str, ...]:
    """The names that a statement gives."""
    match statement:
        case Stream(carries=carries):
            return tuple(carry.name for carry in carries)
        case Store():
            return ()
        case _:
            return (statement.name,)


def operands(statement: Statement) -> tuple[Operand, ...]:
    """The operands that a statement reads itself (a stream's body reads its own)."""
    match statement:
        case Let(args=args):
            return args
        case Load(index=index, mask=mask):
            return (*index, mask)
        case Take(source=source, index=index):
            return (source, *index)
        case Dot(left=left, right=right, init=init, scale=scale, mask=mask):
            return (left, right, mask, *(x for x in (init, scale) if x is not None))
        case Fold(value=value, mask=mask):
            return (value, mask)
        case Store(index=index, value=value, mask=mask):
            return (*index, value, mask)
        case Stream(axes=axes, carries=carries):
            bounds = (bound for axis in axes for bound in (axis.low, axis.stop))
            return (*bounds, *(carry.init for carry in carries))


# --- text


_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|",
}  # fmt: skip


def every(body: Sequence[Statement]) -> Iterator[Statement]:
    """All statements, those inside streams included, in order."""
    for statement in body:
        yield statement
        if isinstance(statement, Stream):
            yield from every(statement.body)


def show_kernel(kernel: Kernel) -> str:
    """The kernel as text, one statement a line."""
    lanes = f", lanes ({', '.join(kernel.lanes)})" if kernel.lanes else ""
    lines = [f"kernel {kernel.name} {kernel.real}{lanes}"]
    if kernel.sizes:
        lines.append(f"  sizes {', '.join(kernel.sizes)}")
    for buffer in kernel.buffers:
        stored = buffer.real if buffer.kind == "real" else buffer.kind
        lines.append(f"  {buffer.role} {buffer.name}: {stored}[{', '.join(':' * buffer.rank)}]")
    for grid in kernel.grid:
        lines.append(f"  grid {grid.name} in {_range(grid.low, grid.size)} by {grid.tile}{_ragged(grid)}")
    for local in kernel.locals:
        lines.append(f"  local {local.name} in {_range(local.low, local.size)}")
    return "\n".join([*lines, *_show_body(kernel.body, "  ")])


def _range(low: Operand, size: Operand) -> str:
    return f"{_text(size)}" if low == 0 else f"{_text(low)} .. +{_text(size)}"


def _ragged(grid: Grid) -> str:
    end = grid.ragged
    if end is None:
        return ""
    return f" while {_text(end.step)} * {grid.name} + {end.residue} < {_text(end.extent)}"


def _text(operand: Operand) -> str:
    return operand if isinstance(operand, str) else repr(operand).lower()


def _show_body(body: tuple[Statement, ...], indent: str) -> list[str]:
    return [line for statement in body for line in _show(statement, indent)]


def _show(statement: Statement, indent: str) -> list[str]:
    match statement:
        case Stream(axes=axes, carries=carries, body=body, visible=visible):
            ranges = ", ".join(f"{a.name} in {_text(a.low)} .. {_text(a.stop)} by {a.step}" for a in axes)
            seen = "" if visible is True else f" visible {_text(visible)}"
            carried = [f"{indent}  carry {c.name}{_axes(c.axes)} = {_text(c.init)}" for c in carries]
            nexts = [f"{indent}  next {c.name} = {_text(c.next)}" for c in carries]
            return [f"{indent}stream {ranges}{seen}", *carried, *_show_body(body, indent + "  "), *nexts]
        case Store(buffer=buffer, index=index, value=value, mask=mask):
            return [f"{indent}{buffer}[{', '.join(map(_text, index))}] = {_text(value)}{_where(mask)}"]
        case _:
            return [f"{indent}{statement.name}{_axes(statement.axes)} = {_right(statement)}"]


def _right(statement: Let | Load | Take | Dot | Fold) -> str:
    match statement:
        case Let(op=op, args=args):
            texts = [_text(arg) for arg in args]
            return f"{texts[0]} {_INFIX[op]} {texts[1]}" if op in _INFIX else f"{op}({', '.join(texts)})"
        case Load(buffer=buffer, index=index, mask=mask):
            return f"load {buffer}[{', '.join(map(_text, index))}]{_where(mask)}"
        case Take(source=source, index=index):
            return f"take {source}[{', '.join(map(_text, index))}]"
        case Fold(op=op, value=value, over=over, mask=mask):
            return f"{op}[{', '.join(over)}]({_text(value)}){_where(mask)}"
        case Dot(left=left, right=right, over=over, init=init, scale=scale, mask=mask, exposed=exposed):
            start = "" if init is None else f" + {_text(init)}"
            grown = "" if scale is None else f" * {_text(scale)}"
            seen = f"{_where(mask)}, exposed {', '.join(exposed)}" if exposed else _where(mask)
            return f"dot[{', '.join(over)}]({left}, {right}{seen}){start}{grown}"


def _axes(axes: tuple[str, ...]) -> str:
    return f"[{', '.join(axes)}]" if axes else ""


def _where(mask: Operand) -> str:
    return "" if mask is True else f" where {_text(mask)}"
