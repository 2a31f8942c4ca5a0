"""How a kernel runs, in words: its tiles, its streams, what stays in a tile, its halo."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from ..kernels.kernel import (
    Dot,
    Fold,
    Kernel,
    Let,
    Load,
    Operand,
    Store,
    Stream,
    StreamAxis,
    Take,
    every,
    operands,
)
from .trips import Nest

KIB, MOST_RESIDENT = 1024, 3
"""Resident values from this size on are worth a word, and so many of them."""


def schedule(kernel: Kernel) -> Iterator[tuple[str, str]]:
    """The schedule of a kernel in words, then what stays in a tile, then its halo."""
    nest = Nest(kernel)
    yield "schedule", "; ".join([_grid(kernel), *(_stream(each, kernel, nest) for each in _streams(kernel))])
    resident = _resident(kernel, nest)
    if resident:
        yield "resident", resident
    halo = _halo(kernel, nest)
    if halo:
        yield "halo", halo


ALONE = "one element at a time, because neither its result nor what it reduces has an axis for the lanes"


def _grid(kernel: Kernel) -> str:
    wide = [axis for axis in kernel.grid if axis.tile > 1]
    single = [axis.name for axis in kernel.grid if axis.tile == 1 and axis.name not in kernel.lanes]
    inside = [axis for axis in wide if axis.name in kernel.lanes]
    rows = [axis for axis in wide if axis.name not in kernel.lanes]
    parts: list[str] = []
    if inside:
        parts.append(f"tiles of {', '.join(f'{axis.name} by {axis.tile}' for axis in inside)} in the lanes")
    if rows:
        parts.append(f"rows of {', '.join(f'{axis.name} by {axis.tile}' for axis in rows)}")
    if not wide:
        across = [name for name in kernel.lanes if name not in {axis.name for axis in kernel.grid}]
        parts.append(f"{', '.join(across)} in the lanes" if across else ALONE)
    if single:
        parts.append(f"one by one {', '.join(single)}")
    steps = [
        f"{each.ragged.step} from {each.ragged.residue}" for each in kernel.grid if each.ragged is not None
    ]
    if steps:
        parts.append(f"a tile at steps of {' and '.join(steps)} on, at which its keys are neighbours")
    return ", ".join(parts)


def _streams(kernel: Kernel) -> Iterator[Stream]:
    """Every stream of a kernel, the outer ones first."""
    return (each for each in every(kernel.body) if isinstance(each, Stream))


def _stream(stream: Stream, kernel: Kernel, nest: Nest) -> str:
    passed = " and ".join(_run(axis) for axis in stream.axes)
    bounds = [bound for axis in stream.axes for bound in (axis.low, axis.stop)]
    grid = {axis.name for axis in kernel.grid}
    data = ", ".join(f"`{name}`" for name in sorted({name for each in bounds for name in nest.read(each)}))
    if any(nest.needs(each) & grid for each in bounds):
        passed += " between bounds that follow the tile" + (f" and {data}, read once a tile" if data else "")
    elif data:
        passed += f" between bounds that {data} give{'' if ',' in data else 's'}, read once a tile"
    if _hides(stream.visible, nest):
        passed += ", what the mask hides skipped"
    if any(isinstance(each, Store) for each in stream.body):
        return f"passes {passed}, stored as they are made"
    return f"streams {passed}"


def _hides(mask: Operand, nest: Nest) -> bool:
    """Whether a mask says more than that coordinates exist."""
    lets = {each.name: each for each, _ in nest.statements() if isinstance(each, Let)}
    waiting = [mask]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and each in lets and lets[each].op == "and":
            waiting += lets[each].args
        elif each is not True and not str(each).endswith(".valid"):
            return True
    return False


def _run(axis: StreamAxis) -> str:
    return f"{axis.name} one by one" if axis.step == 1 else f"{axis.name} in runs of {axis.step}"


def _resident(kernel: Kernel, nest: Nest) -> str:
    """What a tile keeps: the largest values over whole axes, and all of them together."""
    width = 8 if kernel.real == "float64" else 4
    tiles = {axis.name: axis.tile for axis in kernel.grid} | nest.locals
    tiles |= {axis.name: axis.step for statement in _streams(kernel) for axis in statement.axes}
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    for statement, _ in nest.statements():
        if not isinstance(statement, Load | Dot | Fold) or not set(statement.axes) & set(nest.locals):
            continue
        if isinstance(statement, Load) and not set(statement.axes) & set(kernel.lanes):
            continue
        axes = tuple(axis for axis in statement.axes if tiles[axis] > 1)
        found[statement.name] = (width * prod(tiles[axis] for axis in axes), axes)
    large = sorted(found.items(), key=lambda item: -item[1][0])[:MOST_RESIDENT]
    shown = [f"{n}[{', '.join(axes)}] {kib(count)}" for n, (count, axes) in large if count >= KIB]
    sizes = ", ".join(f"{name} = {count}" for name, count in nest.locals.items())
    if not nest.locals:
        return ""
    return f"{sizes} compiled in" + (
        f"; the largest values of a tile are {', '.join(shown)}" if shown else ""
    )


def kib(count: int) -> str:
    return f"{count / KIB:.3g} KiB" if count < 1000 * KIB else f"{count / KIB**2:.3g} MiB"


def _halo(kernel: Kernel, nest: Nest) -> str:
    """A tile staged with its neighbours: how large, and how much more than the tile."""
    for statement, _ in nest.statements():
        if not isinstance(statement, Take):
            continue
        source = nest.axes_of[statement.source]
        inner = [axis for axis in source if axis in nest.locals]
        moved = [
            (axis, lanes[0])
            for axis, index in zip(inner, operands(statement)[1:], strict=True)
            if (lanes := [a for a in nest.axes_of.get(str(index), ()) if a in kernel.lanes])
        ]
        if not moved:
            continue
        tiles = {axis.name: axis.tile for axis in kernel.grid}
        staged, own = [nest.locals[axis] for axis, _ in moved], [tiles.get(lane, 1) for _, lane in moved]
        shape = " x ".join(map(str, staged))
        more = prod(staged) / max(prod(own), 1)
        return f"{shape} places staged for a tile of {' x '.join(map(str, own))}, {more:.2f} times as many"
    return ""
