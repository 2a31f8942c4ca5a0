"""Where the nodes of a graph are drawn: in rows, each below all that lead to it, with few crossings and short lines.

The layered method of K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system
structures" (IEEE Trans. SMC 1981): rows by the longest path, a place in every row that a line passes, places in a row
sorted by the middle of their neighbours, then moved towards these as far as order and widths let them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Edge = tuple[str, str]

SWEEPS, GAP, THIN = 8, 14.0, 4.0
"""How often rows are sorted and moved; pixels between neighbours; the width of a line in a row that it passes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The middle of every node across, and its row; for every edge the middles that it goes through, a row each."""

    across: Mapping[str, float]
    rows: Mapping[str, int]
    routes: Mapping[Edge, tuple[float, ...]]
    left: float
    right: float

    @property
    def height(self) -> int:
        """The number of rows."""
        return max(self.rows.values(), default=-1) + 1


def laid_out(widths: Mapping[str, float], edges: Iterable[Edge]) -> Layout:
    """Nodes of these widths, in an order in which no edge leads back."""
    every = list(dict.fromkeys(edges))
    rows = rows_of(list(widths), every)
    drawing = _Drawing(dict(widths), rows, every)
    drawing.sort()
    across = drawing.move()
    reach = [(across[name] - width / 2, across[name] + width / 2) for name, width in widths.items()]
    middles = [across[name] for name in across if name not in widths]
    left = min([low for low, _ in reach] + middles, default=0.0)
    right = max([high for _, high in reach] + middles, default=0.0)
    routes = {
        edge: tuple(across[name] for name in (edge[0], *drawing.between[edge], edge[1])) for edge in every
    }
    return Layout({name: across[name] for name in widths}, rows, routes, left, right)


def rows_of(nodes: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The row of each node: below all that lead to it; what nothing leads to just above its first reader."""
    before: dict[str, list[str]] = {name: [] for name in nodes}
    after: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        before[target].append(source)
        after[source].append(target)
    rows: dict[str, int] = {}
    waiting = list(nodes)
    while waiting:
        ready = [name for name in waiting if all(each in rows for each in before[name])]
        for name in ready:
            rows[name] = max((rows[each] + 1 for each in before[name]), default=0)
        waiting = [name for name in waiting if name not in rows]
    for name in nodes:
        if not before[name] and after[name]:
            rows[name] = min(rows[each] for each in after[name]) - 1
    return rows


@dataclass(slots=True)
class _Drawing:
    """Rows of nodes and of the places of lines that pass them."""

    widths: dict[str, float]
    rows: Mapping[str, int]
    edges: Sequence[Edge]
    between: dict[Edge, tuple[str, ...]] = field(init=False, default_factory=dict[Edge, tuple[str, ...]])
    order: list[list[str]] = field(init=False)
    up: dict[str, list[str]] = field(init=False)
    down: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.order = [[] for _ in range(max(self.rows.values(), default=-1) + 1)]
        for name, row in self.rows.items():
            self.order[row].append(name)
        self.up, self.down = {name: [] for name in self.rows}, {name: [] for name in self.rows}
        for number, (source, target) in enumerate(self.edges):
            passed = [f"{number} {row}" for row in range(self.rows[source] + 1, self.rows[target])]
            for row, name in enumerate(passed, self.rows[source] + 1):
                self.order[row].append(name)
                self.widths[name] = THIN
                self.up[name], self.down[name] = [], []
            self.between[source, target] = tuple(passed)
            chain = [source, *passed, target]
            for one, other in pairwise(chain):
                self.down[one].append(other)
                self.up[other].append(one)

    def sort(self) -> None:
        """Sort every row by the middles of the neighbours above, then below, and keep the order of fewest
        crossings."""
        best, fewest = [list(row) for row in self.order], self.crossings()
        for sweep in range(SWEEPS):
            beside, rows = (self.up, self.order[1:]) if sweep % 2 == 0 else (self.down, self.order[-2::-1])
            places = {name: float(i) for row in self.order for i, name in enumerate(row)}
            for row in rows:
                wished = {
                    name: _middle([places[each] for each in beside[name]], places[name]) for name in row
                }
                row.sort(key=wished.__getitem__)
                places |= {name: float(i) for i, name in enumerate(row)}
            count = self.crossings()
            if count < fewest:
                best, fewest = [list(row) for row in self.order], count
        self.order = best

    def crossings(self) -> int:
        """How many pairs of lines between neighbouring rows cross."""
        total = 0
        for row, below in pairwise(self.order):
            at = {name: i for i, name in enumerate(below)}
            ends = [at[each] for name in row for each in sorted(self.down[name], key=at.__getitem__)]
            total += sum(1 for i, one in enumerate(ends) for other in ends[i + 1 :] if one > other)
        return total

    def move(self) -> dict[str, float]:
        """The middles of all places: rows one after another towards their neighbours."""
        across: dict[str, float] = {}
        for row in self.order:
            across |= _apart(row, [0.0] * len(row), self.widths)
        for sweep in range(2 * SWEEPS):
            rows = self.order if sweep % 2 == 0 else self.order[::-1]
            for row in rows:
                beside = [[across[each] for each in (*self.up[name], *self.down[name])] for name in row]
                wished = [
                    sum(each) / len(each) if each else across[name]
                    for name, each in zip(row, beside, strict=True)
                ]
                across |= _apart(row, wished, self.widths)
        return across


def _middle(places: Sequence[float], otherwise: float) -> float:
    ordered = sorted(places)
    return ordered[len(ordered) // 2] if ordered else otherwise


def _apart(row: Sequence[str], wished: Sequence[float], widths: Mapping[str, float]) -> dict[str, float]:
    """Places in this order, as near as can be to those that are wished for, and no nearer to each other than their
    widths: the least squares of pools of neighbours."""
    offsets, total = list[float](), 0.0
    for i, name in enumerate(row):
        if i:
            total += (widths[row[i - 1]] + widths[name]) / 2 + GAP
        offsets.append(total)
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        value, count = wish - offset, 1
        while pools and pools[-1][0] > value:
            last, many = pools.pop()
            value, count = (last * many + value * count) / (many + count), many + count
        pools.append((value, count))
    shifts = [value for value, count in pools for _ in range(count)]
    return {name: shift + offset for name, shift, offset in zip(row, shifts, offsets, strict=True)}
