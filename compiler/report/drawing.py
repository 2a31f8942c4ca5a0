"""The graphs of a report as SVG: what kernels read of each other, and which values each of them computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ...dsl.program import At, Axis, Coordinate, Form, Leaf, Map, Otherwise, Place, Reduce, When
from ...dsl.shapes.size_forms import Extent
from ..fusion.contraction import inside
from ..fusion.fuse import form_of
from ..fusion.plan import Plan, Stored, trivial
from ..fusion.work import BYTES, Term, word_of
from ..pipeline import Planned
from .layout import Edge, laid_out, rows_of
from .notes import Note, bytes_of, seconds
from .together import Together

LETTER, SMALL_LETTER, PADDING, LINE, ROW, EDGE_OF_PAGE = 7.3, 6.1, 18.0, 15, 44, 12
"""Pixels: a letter of a label and of the small line below it, around a label, a line of text, between two rows of
nodes, around a drawing."""
LONGEST = 26
"""Letters of a label; the whole name stands in its title."""
RED = "#c0392b"


@dataclass(frozen=True, slots=True)
class Node:
    """What is drawn of a node: its name and a small line below it, the whole of it as a title, the colours of the
    kernels that compute it (none: it is given), whether its outline is bold."""

    label: str
    below: str = ""
    title: str = ""
    colours: tuple[str, ...] = ()
    bold: bool = False

    @property
    def width(self) -> float:
        return max(len(self.shown) * LETTER, len(self.below) * SMALL_LETTER) + PADDING

    @property
    def shown(self) -> str:
        """The label, cut in the middle where it is long."""
        half = LONGEST // 2
        return self.label if len(self.label) <= LONGEST else f"{self.label[: half - 1]}…{self.label[-half:]}"

    @property
    def height(self) -> int:
        return LINE * (2 if self.below else 1) + 12


def colour(number: int) -> str:
    """The colour of a kernel by its place in the plan: hues a golden angle apart, so that neighbours differ."""
    return f"hsl({(205 + 137.508 * number) % 360:.0f} {70 if number % 2 == 0 else 55}% {86 if number % 3 else 80}%)"


def drawing(nodes: Mapping[str, Node], edges: Mapping[Edge, str]) -> str:
    """The graph as SVG. Edges with words are values in memory: red, with the words as a title."""
    nodes, edges = _copied(nodes, edges)
    layout = laid_out({name: node.width for name, node in nodes.items()}, edges)
    tall = max((node.height for node in nodes.values()), default=0)
    step = tall + ROW
    width = layout.right - layout.left + 2 * EDGE_OF_PAGE
    height = max(layout.height * step - ROW, 0) + 2 * EDGE_OF_PAGE

    def at(across: float, row: int) -> tuple[float, float]:
        return across - layout.left + EDGE_OF_PAGE, EDGE_OF_PAGE + row * step

    parts: list[str] = []
    for (source, target), words in sorted(edges.items(), key=lambda each: bool(each[1])):
        first = layout.rows[source]
        places = [at(x, first + i) for i, x in enumerate(layout.routes[source, target])]
        parts.append(_line(places, nodes[source].height, tall, words))
    for name, node in nodes.items():
        parts.append(_node(node, *at(layout.across[name], layout.rows[name])))
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" {box}>{"".join(parts)}</svg>'


def _copied(nodes: Mapping[str, Node], edges: Mapping[Edge, str]) -> tuple[dict[str, Node], dict[Edge, str]]:
    """The same with what is given drawn once for every row that it is read in: no line of it is long."""
    rows = rows_of(list(nodes), list(edges))
    shown = {name: node for name, node in nodes.items() if node.colours}
    drawn: dict[str, Node] = {}
    lines: dict[Edge, str] = {}
    for (source, target), words in edges.items():
        key = source if source in shown else f"{source} above {rows[target]}"
        drawn[key] = nodes[source]
        lines[key, target] = words
    return drawn | shown, lines


def _line(places: Sequence[tuple[float, float]], height: int, tall: int, words: str) -> str:
    """From below the first place to above the last, upright through those between."""
    look = f'stroke="{RED}" stroke-width="2.2"' if words else 'stroke="#a5a5a5" stroke-width="1.1"'
    title = f"<title>{escape(words)}</title>" if words else ""
    x, y = places[0][0], places[0][1] + height
    path = f"M{x:.1f},{y:.1f}"
    for i, (across, down) in enumerate(places[1:], 1):
        half = (y + down) / 2
        path += f" C{x:.1f},{half:.1f} {across:.1f},{half:.1f} {across:.1f},{down:.1f}"
        x, y = across, down
        if i < len(places) - 1:
            y = down + tall
            path += f" L{x:.1f},{y:.1f}"
    return f'<path d="{path}" fill="none" {look}>{title}</path>'


def _node(node: Node, middle: float, top: float) -> str:
    x, width, height = middle - node.width / 2, node.width, node.height
    parts = [f"<title>{escape(node.title or node.label)}</title>"]
    for i, each in enumerate(node.colours):
        part = width / len(node.colours)
        place = f'x="{x + i * part:.1f}" y="{top:.1f}" width="{part:.1f}" height="{height}"'
        parts.append(f'<rect {place} fill="{each}"/>')
    radius = 3 if node.colours else height // 2
    outline = f'stroke="{"#222" if node.bold else "#999"}" stroke-width="{1.8 if node.bold else 1}"'
    place = f'x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height}" rx="{radius}"'
    parts.append(f'<rect class="node" {place} fill="{"none" if node.colours else "#fff"}" {outline}/>')
    parts.append(
        f'<text x="{middle:.1f}" y="{top + 18:.1f}" text-anchor="middle">{escape(node.shown)}</text>'
    )
    if node.below:
        place = f'x="{middle:.1f}" y="{top + 18 + LINE:.1f}" text-anchor="middle"'
        parts.append(f'<text class="below" {place}>{escape(node.below)}</text>')
    return f"<g>{''.join(parts)}</g>"


# --- what kernels read


def kernels_drawn(
    planned: Planned, notes: Sequence[Note], together: Together, sizes: Mapping[Axis, Extent] | None
) -> str:
    """A node a kernel, with the time that bounds it and its phase, and a node a given tensor; what a kernel reads of
    another one is red."""
    plan = planned.plan
    roots = set(planned.program.roots)
    reasons = {edge.value: edge.reason for edge in plan.edges if not edge.fused}
    nodes: dict[str, Node] = {}
    edges: dict[Edge, str] = {}
    for each in planned.program.declarations:
        nodes[f"given {each.leaf.name}"] = Node(each.leaf.name)
    for number, (group, made) in enumerate(zip(plan.groups, notes, strict=True)):
        below = [
            together.phase(made.name).removesuffix(", "),
            seconds(made.bound.seconds) if made.bound else "",
        ]
        label = ", ".join(result.name for result in group.results)
        whole = f"{number + 1}: {made.title}"
        bold = any(result.form in roots for result in group.results)
        key = f"kernel {number}"
        nodes[key] = Node(label, " · ".join(filter(None, below)), whole, (colour(number),), bold)
        for earlier, other in enumerate(plan.groups[:number]):
            read = [each for each in other.results if each.form in plan.read_by(group)]
            if read:
                edges[f"kernel {earlier}", key] = "; ".join(_stored(each, reasons, sizes) for each in read)
        for leaf in _leaves(plan, number):
            edges[f"given {leaf}", key] = ""
    read = {source for source, _ in edges}
    return drawing(
        {name: each for name, each in nodes.items() if name in read or name.startswith("kernel")}, edges
    )


def _stored(each: Stored, reasons: Mapping[Form, str], sizes: Mapping[Axis, Extent] | None) -> str:
    size = f", {bytes_of(Term(BYTES[each.form.kind], each.axes).at(sizes))}" if sizes is not None else ""
    why = f", because {reasons[each.form]}" if each.form in reasons else ""
    return f"stored: {each.name}{size}{why}"


def _leaves(plan: Plan, number: int) -> list[str]:
    """The tensors that a group is given."""
    group = plan.groups[number]
    own = {each.form for each in group.results}
    stored = set(plan.stored) - own
    found = (form for root in own for form in inside(root, stored) if isinstance(form, Leaf))
    return list(dict.fromkeys(form.name for form in found))


# --- what each kernel computes


def values_drawn(planned: Planned) -> str:
    """A node a value that is no arithmetic on coordinates, in the colours of all kernels that compute it."""
    plan = planned.plan
    stored = plan.stored
    reasons = {edge.value: edge.reason for edge in plan.edges if not edge.fused}
    colours = _colours(plan)
    wishes = {form: name for name, form in planned.program.names} | {
        f: each.name for f, each in stored.items()
    }
    nodes: dict[str, Node] = {}
    keys: dict[Form, str] = {}
    edges: dict[Edge, str] = {}
    for place, node in enumerate(planned.graph.graph.nodes):
        form = form_of(node)
        if form is None or form in keys or (trivial(form) and not isinstance(form, Leaf)):
            continue
        keys[form] = str(place)
        label = form.name if isinstance(form, Leaf) else wishes.get(form) or word(form)
        title = f"{label}: {word(form)}" if form in wishes and not isinstance(form, Leaf) else label
        nodes[keys[form]] = Node(label, "", title, colours.get(form, ()), form in stored)
        for source in map(form_of, node.all_input_nodes):
            if source is not None and source in keys and source != form:
                edges[keys[source], keys[form]] = f"stored: {reasons[source]}" if source in reasons else ""
    read = {source for source, _ in edges}
    return drawing({key: each for key, each in nodes.items() if each.colours or key in read}, edges)


def _colours(plan: Plan) -> dict[Form, tuple[str, ...]]:
    stored = set(plan.stored)
    found: dict[Form, tuple[str, ...]] = {}
    for number, group in enumerate(plan.groups):
        own = {each.form for each in group.results}
        forms = dict.fromkeys(form for root in own for form in inside(root, stored - own))
        for form in forms:
            if not isinstance(form, Leaf):
                found[form] = (*found.get(form, ()), colour(number))
    return found


SIGNS = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "neg": "−x", "pow": "xʸ", "lt": "<", "le": "≤"}


def word(form: Form) -> str:
    """A word for what computes a value without a name."""
    match form:
        case Map(op=op):
            return SIGNS.get(op, op)
        case Reduce(op=op, pieces=pieces):
            domains = (", ".join(map(word_of, piece.axes)) for piece in pieces)
            return f"{op}[{'; '.join(domains)}]"
        case At(indices=indices):
            whole = all(isinstance(index, Coordinate) for _, index in indices)
            axes = ", ".join(word_of(axis) for axis, _ in indices)
            return f"{'rename' if whole else 'read at'} {axes}"
        case When():
            return "when"
        case Otherwise():
            return "otherwise"
        case Place():
            return "place"
        case _:
            return type(form).__name__.lower()
