"""Sums of products by their mask, for chunks in which an exposed side is not finite.

The product of all there is comes first: it is the sum by the mask wherever it is finite. The other branch is
seldom taken, and small: entry by entry, with all that it reads computed again where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...compiler.kernels.kernel import Dot, Fold, Let, Load, Operand, Store, Stream, Take, every, operands
from .emit import Text, mangle, operation, widen
from .nests import Member
from .scope import LANES_OF_EXACT
from .stores import Stores, reals

Rows = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A register block in C++: the sides `left` (without lanes) at `source` and its strides, and `right` at
    `from_`; the result at `to`, and what a vector of it (`{at}`) starts at."""

    left: str
    right: str
    source: str
    by_row: str
    by_entry: str
    from_: str
    to: str
    start: str
    rows: Rows
    over: Rows
    row_count: str
    entry_count: str


class Exact(Stores):
    """Prints products as their mask says."""

    __slots__ = ()

    @contextmanager
    def seldom(self, test: str) -> Iterator[None]:
        """A branch that is seldom taken. Lanes have coordinates of its own; of values, only those are
        read that have an array or are declared around it."""
        state = (self.again, self.apart, self.gate)
        with self.out.braces(f"if (__builtin_expect({test}, 0))"):
            self.out.add("seldom();")
            self.out.add(LANES_OF_EXACT)
            self.again, self.apart, self.gate = True, True, None
            self.fill_passed()
            yield
            self.again, self.apart, self.gate = state

    def product(self, dot: Dot) -> Text:
        """One product, whatever the mask."""
        return operation("mul", [self.operand(dot.left), self.operand(dot.right)], "real")

    def product_by_mask(self, dot: Dot) -> Text:
        """One product; 0 where the mask leaves it out."""
        return self.by_mask(dot, self.product(dot))

    def by_mask(self, dot: Dot, product: Text) -> Text:
        if dot.mask is True:
            return product
        before, self.again = self.again, True
        test = self.operand(dot.mask)
        self.again = before
        return operation("select", [test, product, Text("real(0)", "real", False)], "real")

    @contextmanager
    def entries(self, axes: tuple[str, ...], dot: Dot) -> Iterator[None]:
        """Loops over what a dot sums over; residents that are there for one coordinate are filled anew."""
        if not axes:
            yield
            return
        with self.loops(axes[:1]):
            for source in self._sources(dot):
                if self.contracted.get(source) == axes[0]:
                    load = self.layout.definitions[source]
                    assert isinstance(load, Load)
                    self.fill(load, self.resident[source], self.resident_rows(source), False)
            with self.entries(axes[1:], dot):
                yield

    def _sources(self, dot: Dot) -> tuple[str, ...]:
        """The residents that the sides of a dot are taken from."""
        stack: list[Operand] = [dot.left, dot.right]
        found: dict[str, None] = {}
        seen = set[Operand]()
        while stack:
            item = stack.pop()
            definition = self.layout.definitions.get(item) if isinstance(item, str) else None
            if item in seen or not isinstance(definition, Let | Load | Take):
                continue
            seen.add(item)
            if isinstance(definition, Take):
                found[definition.source] = None
            stack += operands(definition)
        return tuple(found)

    def add_entry(self, dot: Dot, total: str, product: Text | None = None) -> None:
        """`total` with one product more, where the mask has it."""
        text = self.product_by_mask(dot) if product is None else self.by_mask(dot, product)
        self.out.add(f"{total} += {widen(text, 'real', True)};")

    # --- streams

    @contextmanager
    def until_exact(self, stream: Stream) -> Iterator[None]:
        """A stream that is run again, by the masks of its products, where a sum that it carries ends as no
        finite number: whatever comes into a sum that is not finite stays in it. So no chunk is tested."""
        before, sums = self.retried, self._sums_of_products(stream)
        self.retried = frozenset(name for names in sums.values() for name in names)
        if not sums:
            yield
            self.retried = before
            return
        with self.out.braces("for (bool exact = false;; exact = true)"):
            yield
            tests = [
                f"not_finite({reals(self.slots[carry], rows)}, WIDTH, {self.layout.size(rows)}, 1, vectors * LANES)"
                for carry in sums
                for rows in (self.layout.shapes[carry].rows,)
            ]
            self.out.add(f"if (exact || !({' || '.join(tests)})) break;")
        self.retried = before

    def _sums_of_products(self, stream: Stream) -> dict[str, frozenset[str]]:
        """Carries that products with a mask are added to, and these products: none in a stream that cannot
        be run again, or the lanes of which are its own."""
        layout = self.layout
        fixed = all(
            not isinstance(carry.init, str) and layout.shapes[carry.name].lanes for carry in stream.carries
        )
        lanes = set(self.kernel.lanes) <= {axis.name for axis in self.kernel.grid}
        if not fixed or not lanes or any(isinstance(each, Store) for each in every(stream.body)):
            return {}
        found: dict[str, frozenset[str]] = {}
        for carry in stream.carries:
            chain, masked = {carry.name}, set[str]()
            for each in stream.body:
                if isinstance(each, Dot) and each.init in chain and not layout.folds_products(each):
                    chain.add(each.name)
                    masked |= {each.name} if each.mask is not True else set()
            local = set(layout.shapes[carry.name].rows) <= set(layout.local)
            if masked and local and carry.next in chain - {carry.name}:
                found[carry.name] = frozenset(masked)
        return found

    # --- register blocks

    def block_by_mask(self, dot: Dot, block: Block, plain: str) -> None:
        """A register block (`plain`), or the sum by the mask: where the result shows that it must be, if
        it starts at nothing; else where an exposed side is not finite, in a stream that is run again only."""
        out = self.out
        if dot.mask is True:
            out.add(plain)
        elif block.start == "vec{}":
            out.add(plain)
            with self.seldom(f"not_finite({block.to}, WIDTH, {block.row_count}, 1, vectors * LANES)"):
                self._entries_of(dot, block, again=True)
        else:
            left = f"{block.source}, {block.by_row}, {block.row_count}, {block.by_entry}, {block.entry_count}"
            sides = {
                block.left: left,
                block.right: f"{block.from_}, WIDTH, {block.entry_count}, 1, vectors * LANES",
            }
            test = " || ".join(f"not_finite({sides[name]})" for name in dot.exposed)
            with self.seldom(f"exact && ({test})" if dot.name in self.retried else test):
                self._entries_of(dot, block, again=False)
            with out.braces("else"):
                out.add(plain)

    def _entries_of(self, dot: Dot, block: Block, *, again: bool) -> None:
        """The vectors of a block entry by entry; those that are finite already need it not `again`."""
        row, entry = self.row_index(block.rows), self.row_index(block.over)
        at = f"{block.to} + ({row}) * WIDTH + vi * LANES"
        with self.loops(block.rows), self.out.braces("for (int vi = 0; vi < vectors; vi++)"):
            if again:
                self.out.add(f"if (!not_finite(load({at}))) continue;")
            self.out.add(f"vec total = {block.start.replace('{at}', at)};")
            with self.loops(block.over):
                left = f"all(({block.source})[({row}) * {block.by_row} + ({entry}) * {block.by_entry}])"
                right = f"load({block.from_} + ({entry}) * WIDTH + vi * LANES)"
                self.add_entry(dot, "total", Text(f"{left} * {right}", "real", True))
            self.out.add(f"store({at}, total);")

    # --- folds

    def fold_by_mask(self, member: Member) -> None:
        """Once a fold of products has ended in its registers: again, by the mask, where they are not finite."""
        dot, block = member.statement, self.group_state.block
        if not isinstance(dot, Dot) or dot.mask is True or set(dot.over) & set(self.wide_lanes):
            return
        name, out = mangle(dot.name), self.out
        first = [self._known_before(each) for each in dot.exposed]
        known = f"({' || '.join(first)}) && " if all(first) else ""
        with self.seldom(f"{known}not_finite({name}_r)"):
            if block == 1:
                self._again(dot, member, f"{name}_r")
                return
            unrolled = f"#pragma GCC unroll {block}"
            out.add(f"vec {name}_x[{block}];")
            out.add(unrolled)
            out.add(f"for (int u = 0; u < {block}; u++) {name}_x[u] = {name}_r[u];")
            with out.braces(f"for (int u = 0; u < {block}; u++)"):
                out.add(f"if (!not_finite({name}_x[u])) continue;")
                out.add("const int vi = v0 + u;")
                self._again(dot, member, f"{name}_x[u]")
            out.add(unrolled)
            out.add(f"for (int u = 0; u < {block}; u++) {name}_r[u] = {name}_x[u];")

    def _known_before(self, name: str) -> str:
        """The name of a number that says before all tiles whether a side that is the same for all of them holds
        what is not finite; "" where it is no such side."""
        load, axes = self.layout.definitions.get(name), self.layout.shape(name).rows
        if not isinstance(load, Load) or self.kernel.buffer(load.buffer).real != self.kernel.real or not axes:
            return ""
        strides = self.strides(load.buffer, load.index, axes)
        items = (*load.index, load.mask)
        here = set(axes) & set(
            self.layout.local
        )  # a coordinate of another axis has no value before the tiles
        steady = all(set(self.layout.axes.get(str(item), ())) <= here for item in items)
        if strides is None or not steady or not self.layout.always_inside(load.mask):
            return ""
        found = f"{mangle(name)}_m"
        at = self.origin(load.buffer, load.index, {axis: self.first(axis) for axis in axes})
        *outer, across, run = ("", *axes) if len(axes) == 1 else axes
        by = {axis: strides.get(axis, "0") for axis in axes}
        counts = {axis: self.layout.tiles[axis] for axis in axes}
        at += "".join(f" + j_{mangle(axis)} * ({by[axis]})" for axis in outer)
        loops = "".join(
            f"for (long j_{mangle(axis)} = 0; j_{mangle(axis)} < {counts[axis]}; j_{mangle(axis)}++) "
            for axis in outer
        )
        row = f"{by[across]}, {counts[across]}" if across else "0, 1"
        line = f"{loops}{found} |= not_finite({at}, {row}, {by[run]}, {counts[run]});"
        self.before_tiles[found] = f"  bool {found} = false; {line}"
        return found

    def _again(self, dot: Dot, member: Member, to: str) -> None:
        self.out.add(f"vec total = {self.with_start(dot, 'vec{}')};")
        with self.entries(member.loops[member.kept :], dot):
            self.add_entry(dot, "total")
        self.out.add(f"{to} = total;")

    def with_start(self, fold: Fold | Dot, code: str, lanes: bool = True) -> str:
        if not isinstance(fold, Dot) or fold.init is None:
            return code
        start = self.operand(fold.init)
        if fold.scale is not None:
            start = operation("mul", [start, self.operand(fold.scale)], "real")
        return f"({widen(start, 'real', lanes)} + {code})"
