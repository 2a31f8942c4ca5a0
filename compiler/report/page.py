"""A report as one HTML page that needs nothing else: the text, the fusion graph, and the receptive field of
one output entry, drawn as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from torch import Tensor

from ...dsl.errors import PlaitError
from ...dsl.program import Axis, Form, Leaf, Program
from ...dsl.size_forms import Extent
from ..fusion.contraction import inside
from ..fusion.fuse import form_of
from ..fusion.graphs import layers
from ..fusion.plan import Plan, trivial
from ..fusion.work import word_of
from ..pipeline import Planned
from .notes import Note
from .receptive import Field, middle, moved_axes, receptive_fields, small_sizes

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
pre, td { font: 13px/1.4 ui-monospace, monospace; white-space: pre-wrap; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td { padding: .15rem .8rem .15rem 0; vertical-align: top; }
td:first-child { color: #666; } svg { max-width: 100%; height: auto; } svg text { font: 12px ui-monospace, monospace; }
figure { display: inline-block; margin: 0 2rem 1rem 0; vertical-align: top; } figcaption { max-width: 24rem; }
"""
COLOURS = ("#cfe8ff", "#d8f5d0", "#ffe3c2", "#e9d8fd", "#fde2e4", "#d0f4f0", "#fff3b0", "#e2e2e2")
"""Of the kernels, in their order."""
NODE, ROW, CELL = (118, 26), 58, 9
"""Pixels: a node, a row of nodes, an entry of a field."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a report is drawn from; `sizes` are those of a call, where there was one."""

    planned: Planned
    notes: tuple[Note, ...]
    sizes: Mapping[Axis, Extent] | None


def page(text: str, drawn: Page | None) -> str:
    """The page of a report."""
    title = escape(text.split("\n", 1)[0])
    parts = ["<!doctype html>", f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>']
    parts += [f"<style>{STYLE}</style></head><body>", f"<h1>{title}</h1>"]
    if drawn is None:
        parts.append(f"<pre>{escape(text)}</pre>")
    else:
        parts += [*_rest(text), *_kernels(drawn)]
        parts += ["<h2>What is fused</h2>", *_fusion(drawn.planned.plan, drawn.planned)]
        parts += ["<h2>What one entry of the result reads</h2>", *_fields(drawn)]
        parts += ["<h2>The program</h2>", f"<pre>{escape(str(drawn.planned.program))}</pre>"]
    return "\n".join([*parts, "</body></html>", ""])


def _rest(text: str) -> Iterator[str]:
    """The lines of the report that belong to no kernel."""
    lines = [line for line in text.splitlines()[1:] if line.startswith("  ") and not line.startswith("    ")]
    general = [line for line in lines if line.strip().split(":", 1)[0] in GENERAL]
    yield from (f"<p>{escape(line.strip())}</p>" for line in general)


GENERAL = (
    "together",
    "fused",
    "stored",
    "checked once per sizes",
    "laid out",
    "hoisted",
    "checked at every call",
)
"""How lines of a report begin that are of the whole program."""


def _kernels(drawn: Page) -> Iterator[str]:
    for number, each in enumerate(drawn.notes):
        yield f'<h2><span style="background:{COLOURS[number % len(COLOURS)]}">{escape(each.title)}</span></h2>'
        rows = "".join(
            f"<tr><td>{escape(what)}</td><td>{escape(words)}</td></tr>" for what, words in each.lines
        )
        yield f"<table>{rows}</table>"


# --- the fusion graph


def _fusion(plan: Plan, planned: Planned) -> Iterator[str]:
    """Tensors and computed values, each in the colour of the kernel that computes it."""
    names = _names(planned)
    colours = _colours(plan)
    edges = list(dict.fromkeys(_lines(planned, names)))
    stored = {edge.value: edge.reason for edge in plan.edges if not edge.fused}
    places = layers(names.values(), [(a, b) for a, b, _ in edges])
    across = [x for x, _ in places.values()] or [0.0]
    left = min(across)
    width = int((max(across) - left + 1) * (NODE[0] + 14)) + 20
    height = int((max((y for _, y in places.values()), default=0) + 1) * ROW) + 20
    at = {name: (10 + (x - left) * (NODE[0] + 14), 10 + y * ROW) for name, (x, y) in places.items()}
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
    for source, target, form in edges:
        yield _edge(at[source], at[target], stored.get(form, "") if form in stored else "")
    for form, name in names.items():
        yield _node(at[name], name, colours.get(form, "#ffffff"), isinstance(form, Leaf))
    yield "</svg>"
    if stored:
        yield "<p>A red line is a value in memory; rest on it for the reason.</p>"


def _names(planned: Planned) -> dict[Form, str]:
    """What is drawn: the leaves, then every value that is no arithmetic on coordinates."""
    wishes = {form: name for name, form in planned.program.names}
    wishes |= {output.value: output.name for output in planned.program.outputs}
    wishes |= {form: each.name for form, each in planned.plan.stored.items()}
    names: dict[Form, str] = {}
    for node in planned.graph.graph.nodes:
        form = form_of(node)
        if form is None or (trivial(form) and not isinstance(form, Leaf)):
            continue
        wish = form.name if isinstance(form, Leaf) else wishes.get(form, str(node.name))
        while wish in names.values():
            wish += "'"
        names[form] = wish
    return names


def _colours(plan: Plan) -> dict[Form, str]:
    stored = set(plan.stored)
    found: dict[Form, str] = {}
    for number, group in enumerate(plan.groups):
        own = {each.form for each in group.results}
        for form in (form for root in own for form in inside(root, stored - own)):
            if not isinstance(form, Leaf):
                found.setdefault(form, COLOURS[number % len(COLOURS)])
    return found


def _lines(planned: Planned, names: Mapping[Form, str]) -> Iterator[tuple[str, str, Form]]:
    for node in planned.graph.graph.nodes:
        target = form_of(node)
        if target is None or target not in names:
            continue
        for operand in node.all_input_nodes:
            source = form_of(operand)
            if source is not None and source in names and source != target:
                yield names[source], names[target], source


def _edge(start: tuple[float, float], end: tuple[float, float], reason: str) -> str:
    x, y = start[0] + NODE[0] / 2, start[1] + NODE[1]
    u, v = end[0] + NODE[0] / 2, end[1]
    look = 'stroke="#c0392b" stroke-width="2.5"' if reason else 'stroke="#999" stroke-width="1"'
    title = f"<title>stored: {escape(reason)}</title>" if reason else ""
    half = (y + v) / 2
    path = f"M{x:.0f},{y:.0f} C{x:.0f},{half:.0f} {u:.0f},{half:.0f} {u:.0f},{v:.0f}"
    return f'<path d="{path}" fill="none" {look}>{title}</path>'


def _node(at: tuple[float, float], name: str, colour: str, leaf: bool) -> str:
    x, y = at
    shown = name if len(name) <= 16 else f"{name[:7]}…{name[-8:]}"
    place = f'x="{x:.0f}" y="{y:.0f}" width="{NODE[0]}" height="{NODE[1]}" rx="{12 if leaf else 3}"'
    shape = f'<rect {place} fill="{colour}" stroke="#666"/>'
    centre = f'x="{x + NODE[0] / 2:.0f}" y="{y + 17:.0f}" text-anchor="middle"'
    words = f"<text {centre}>{escape(shown)}</text>"
    return f"<g><title>{escape(name)}</title>{shape}{words}</g>"


# --- the receptive field


def _fields(drawn: Page) -> Iterator[str]:
    program = drawn.planned.program
    sizes = _sizes(program, drawn.sizes)
    output = program.outputs[0]
    try:
        fields = receptive_fields(program, output, sizes)
    except PlaitError as problem:
        yield f"<p>Not drawn: {escape(problem.message)}</p>"
        return
    entry = ", ".join(f"{word_of(axis)} = {place}" for axis, place in middle(output, sizes).items())
    shown = ", ".join(f"{word_of(axis)} = {count}" for axis, count in sizes.items())
    yield f"<p>{escape(output.name)} at {escape(entry)}, for sizes {escape(shown)}.</p>"
    for each in fields:
        yield from _field(each, moved_axes(program))


def _sizes(program: Program, given: Mapping[Axis, Extent] | None) -> dict[Axis, int]:
    """Small sizes for every axis that a call gives one."""
    axes = {axis for each in program.declarations for axis in each.leaf.over if axis.size is None}
    known = {axis: n for axis, n in (given or {}).items() if isinstance(n, int)} | dict(program.fixed)
    return small_sizes(program, {axis: known.get(axis, 33) for axis in sorted(axes, key=lambda a: a.key)})


def _field(found: Field, moved: frozenset[Axis]) -> Iterator[str]:
    """One input: the two axes that say most, those along which something moves first, then those of
    which not all is read, then the longest; the others in words."""
    counts = {axis: _along(found, axis) for axis in found.axes}

    def says(axis: Axis) -> tuple[bool, bool, int]:
        return axis not in moved, bool(counts[axis].all()), -len(counts[axis])

    chosen = [axis for axis in found.axes if axis in sorted(found.axes, key=says)[:2]]
    lost = [dim for dim, axis in enumerate(found.axes) if axis not in chosen]
    flat = found.read.any(dim=lost) if lost else found.read
    grid = flat.reshape(1, -1) if flat.ndim < 2 else flat
    words = [f"{int(counts[a].sum())} of {len(counts[a])} along {word_of(a)}" for a in found.axes]
    down, across = (None, *chosen)[-2:] if chosen else (None, None)
    caption = f"{found.name}: {'; '.join(words) or 'its one entry'}"
    names = " by ".join(word_of(axis) for axis in (down, across) if axis is not None)
    mark = tuple(found.at.get(axis, -1) if axis is not None else 0 for axis in (down, across))
    yield f"<figure>{_cells(grid, mark)}<figcaption>{escape(caption)}. Drawn: {escape(names)}.</figcaption></figure>"


def _along(found: Field, axis: Axis) -> Tensor:
    others = [dim for dim, each in enumerate(found.axes) if each != axis]
    return found.read.any(dim=others) if others else found.read


def _cells(grid: Tensor, mark: tuple[int, ...]) -> str:
    """A picture of a matrix of truth values, the place of the output entry outlined."""
    rows, columns = grid.shape
    width, height = columns * CELL + 2, rows * CELL + 2
    cells = "".join(
        f'<rect x="{1 + j * CELL}" y="{1 + i * CELL}" width="{CELL - 1}" height="{CELL - 1}" fill="#3b82c4"/>'
        for i in range(rows)
        for j in range(columns)
        if bool(grid[i, j])
    )
    frame = f'<rect x="0" y="0" width="{width}" height="{height}" fill="#f3f3f3" stroke="#bbb"/>'
    own = ""
    if min(mark) >= 0 and mark[0] < rows and mark[1] < columns:
        own = (
            f'<rect x="{1 + mark[1] * CELL}" y="{1 + mark[0] * CELL}" width="{CELL - 1}" height="{CELL - 1}" '
            'fill="none" stroke="#c0392b" stroke-width="2"/>'
        )
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{frame}{cells}{own}</svg>'
