"""The receptive fields of all results of a program, drawn as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby

from torch import Tensor

from ...dsl.errors import PlaitError
from ...dsl.program import Axis, Output, Program
from ...dsl.shapes.size_forms import Extent
from ..fusion.work import word_of
from .receptive import Field, middle, moved_axes, receptive_fields, small_sizes

SMALLEST, LARGEST_CELL, SIDE, MARGIN = 6, 18, 200, 18
"""Pixels: an entry at least and at most, the longer side of a picture about, and the names of its axes."""
GUESS = 33
"""The size of an axis that no call has given one."""


def fields(program: Program, given: Mapping[Axis, Extent] | None) -> Iterator[str]:
    """What the middle entry of every result reads, as HTML."""
    sizes = _sizes(program, given)
    shown = ", ".join(f"{word_of(axis)} = {count}" for axis, count in sizes.items())
    yield f"<p>Drawn for small sizes{f' ({escape(shown)})' if shown else ''}: what is read is blue, the place of the "
    yield "result itself is outlined in red. Weights and buffers are read as a whole, and not drawn.</p>"
    for output in program.outputs:
        yield from _result(program, output, sizes)


def _sizes(program: Program, given: Mapping[Axis, Extent] | None) -> dict[Axis, int]:
    """Small sizes for every axis that a call gives one."""
    axes = {axis for each in program.declarations for axis in each.leaf.over if axis.size is None}
    known = {axis: n for axis, n in (given or {}).items() if isinstance(n, int)} | dict(program.fixed)
    return small_sizes(program, {axis: known.get(axis, GUESS) for axis in sorted(axes, key=lambda a: a.key)})


def _result(program: Program, output: Output, sizes: Mapping[Axis, int]) -> Iterator[str]:
    entry = ", ".join(f"{word_of(axis)} = {place}" for axis, place in middle(output, sizes).items())
    yield f"<h3>{escape(output.name)}[{escape(entry)}]</h3>"
    try:
        found = receptive_fields(program, output, sizes)
    except PlaitError as problem:
        yield f"<p>Not drawn: {escape(problem.message)}</p>"
        return
    whole = [each for each in found if bool(each.read.all())]
    if whole:
        yield f"<p>All of {escape(', '.join(each.name for each in whole))}.</p>"
    for each in found:
        if not bool(each.read.all()):
            yield _field(each, moved_axes(program))
    if not found:
        yield "<p>It reads no input.</p>"


def _field(found: Field, moved: frozenset[Axis]) -> str:
    """One input: the two axes that say most, those along which something moves first, then those of
    which not all is read, then the longest; the others in words."""
    counts = {axis: _along(found, axis) for axis in found.axes}

    def says(axis: Axis) -> tuple[bool, bool, int]:
        return axis not in moved, bool(counts[axis].all()), -len(counts[axis])

    chosen = [axis for axis in found.axes if axis in sorted(found.axes, key=says)[:2]]
    lost = [dim for dim, axis in enumerate(found.axes) if axis not in chosen]
    flat = found.read.any(dim=lost) if lost else found.read
    grid = flat.reshape(1, -1) if flat.ndim < 2 else flat
    words = [_share(word_of(axis), counts[axis]) for axis in found.axes]
    down, across = (None, *chosen)[-2:] if chosen else (None, None)
    caption = f"<b>{escape(found.name)}</b>: {escape('; '.join(words) or 'its one entry')}"
    names = tuple("" if axis is None else word_of(axis) for axis in (down, across))
    mark = tuple(found.at.get(axis, -1) if axis is not None else 0 for axis in (down, across))
    return f"<figure>{_cells(grid, mark, names)}<figcaption>{caption}</figcaption></figure>"


def _share(name: str, read: Tensor) -> str:
    """How much is read along an axis."""
    count, size = int(read.sum()), len(read)
    return f"all of {name}" if count == size else f"{count} of {size} along {name}"


def _along(found: Field, axis: Axis) -> Tensor:
    others = [dim for dim, each in enumerate(found.axes) if each != axis]
    return found.read.any(dim=others) if others else found.read


def _cells(grid: Tensor, mark: tuple[int, ...], names: tuple[str, ...]) -> str:
    """A picture of a matrix of truth values with the names of its axes, the place of the output entry outlined."""
    rows, columns = grid.shape
    cell = max(SMALLEST, min(LARGEST_CELL, SIDE // max(rows, columns)))
    left, top = (MARGIN if names[0] else 1), (MARGIN if names[1] else 1)
    width, height = columns * cell, rows * cell
    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="#f3f3f3" stroke="#bbb"/>']
    for i in range(rows):
        for first, count in _runs(grid[i]):
            place = f'x="{left + first * cell}" y="{top + i * cell}" width="{count * cell}"'
            parts.append(f'<rect {place} height="{cell}" fill="#3b82c4"/>')
    if min(mark) >= 0 and mark[0] < rows and mark[1] < columns:
        place = f'x="{left + mark[1] * cell}" y="{top + mark[0] * cell}" width="{cell}" height="{cell}"'
        parts.append(f'<rect {place} fill="none" stroke="#c0392b" stroke-width="2"/>')
    if names[1]:
        parts.append(f'<text x="{left}" y="{top - 5}">{escape(names[1])} →</text>')
    if names[0]:
        turned = f'x="{left - 5}" y="{top}" transform="rotate(-90 {left - 5} {top})" text-anchor="end"'
        parts.append(f"<text {turned}>← {escape(names[0])}</text>")
    box = f'viewBox="0 0 {left + width + 60} {top + height + 4}" width="{left + width + 60}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="field" {box}>{"".join(parts)}</svg>'


def _runs(row: Tensor) -> Iterator[tuple[int, int]]:
    """The runs of true entries: the first and how many."""
    for value, run in groupby(range(len(row)), lambda place: bool(row[place])):
        places = list(run)
        if value:
            yield places[0], len(places)
