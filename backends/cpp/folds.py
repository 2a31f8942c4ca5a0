"""Folds inside groups: sums in registers over rows, and over the lanes once a chunk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...compiler.kernels.kernel import Dot, Fold, Statement
from ...dsl.errors import CompilerFault
from ...dsl.ops import Kind
from .emit import TYPES, VECTORS, Text, mangle, operation, widen
from .exact import Exact
from .nests import Member
from .ops import FOLDS, IDENTITY, LANE_IDENTITY


class Folds(Exact):
    """Prints the parts of folds: where they start, one more entry, where they end."""

    __slots__ = ()

    @contextmanager
    def each_vector(self, unrolled: bool) -> Iterator[None]:
        """The loop over the vectors of a block, if there is one."""
        if self.group_state.block == 1:
            yield
            return
        if unrolled:
            self.out.add(f"#pragma GCC unroll {self.group_state.block}")
        with self.out.braces(f"for (int u = 0; u < {self.group_state.block}; u++)"):
            self.out.add("const int vi = v0 + u;")
            yield

    def accumulate(self, member: Member) -> None:
        """One more entry of a fold; a fold over nothing but one coordinate is its entry."""
        fold = member.statement
        assert isinstance(fold, Fold | Dot)
        op, kind = ("sum", "real") if isinstance(fold, Dot) else (fold.op, fold.kind)
        plain = isinstance(fold, Dot) and member.folds and not self.horizontal(fold)
        text = self.product(fold) if isinstance(fold, Dot) and plain else self.entry(fold)
        if self.horizontal(fold):
            text = self._existing(text, op, kind)
        elif not member.folds:
            self._declare_fold(member, self.with_start(fold, widen(text, kind, True)))
            return
        so_far = Text(self._accumulator(member), kind, True)
        if op == "sum" and kind == "real":
            self.out.add(f"{so_far.code} += {text.code};")
        else:
            self.out.add(f"{so_far.code} = {operation(FOLDS[op], [so_far, text], kind).code};")

    def entry(self, fold: Fold | Dot) -> Text:
        """One entry; the identity where the mask leaves it out."""
        if isinstance(fold, Dot):
            return self.product_by_mask(fold)
        text = self.operand(fold.value)
        if fold.mask is True:
            return text
        start = Text(IDENTITY[fold.op][fold.kind], fold.kind, False)
        return operation("select", [self.operand(fold.mask), text, start], fold.kind)

    def _declare_fold(self, member: Member, code: str) -> None:
        shape = self.layout.shapes[member.name]
        self.out.add(f"const {VECTORS[shape.kind]} {mangle(member.name)} = {code};")
        self.out.declare(member.name)

    def _accumulator(self, member: Member) -> str:
        name = mangle(member.name)
        if self.horizontal(member.statement):
            rows = self.layout.shapes[member.name].rows
            return f"{name}_h[{self.row_index(rows)}][{'u' if self.group_state.block > 1 else '0'}]"
        return f"{name}_r[u]" if self.group_state.block > 1 else f"{name}_r"

    def start_fold(self, member: Member) -> None:
        if self.horizontal(member.statement):
            return
        fold, name = member.statement, mangle(member.name)
        assert isinstance(fold, Fold | Dot)
        op, kind = ("sum", "real") if isinstance(fold, Dot) else (fold.op, fold.kind)
        start = widen(Text(LANE_IDENTITY[op][kind], kind, False), kind, True)
        self.out.add(
            f"{VECTORS[kind]} {name}_r{f'[{self.group_state.block}]' if self.group_state.block > 1 else ''};"
        )
        with self.each_vector(True):
            self.out.add(f"{self._accumulator(member)} = {self.with_start(fold, start)};")

    def end_fold(self, member: Member) -> None:
        if self.horizontal(member.statement):
            return
        kept, text = member.name in self.group_state.kept, self._accumulator(member)
        if kept:
            with self.each_vector(True):
                self.keep(self.slots[member.name], self.layout.shapes[member.name], text)
        if self.group_state.block == 1:
            self.out.declare(member.name, text)

    # --- folds over the lanes

    def horizontal(self, statement: Statement) -> bool:
        """True for a fold over the lanes: all of them, or it is refused."""
        if not isinstance(statement, Fold | Dot):
            return False
        over = set(statement.over) & set(self.wide_lanes)
        if over and over != set(self.wide_lanes):
            raise CompilerFault("cpp", f"`{statement.name}` folds over a part of the lanes")
        return bool(over)

    def _existing(self, text: Text, op: str, kind: Kind) -> Text:
        """The entry of a lane; the identity in lanes that do not exist."""
        for axis in self.wide_lanes:
            if not self.group_state.whole:
                start = Text(LANE_IDENTITY[op][kind], text.kind, False)
                text = operation("select", [self.operand(f"{axis}.valid"), text, start], text.kind)
        return text

    def start_horizontal(self, member: Member) -> None:
        fold = member.statement
        if not self.horizontal(fold) or member.name in self.accumulated:
            return
        assert isinstance(fold, Fold | Dot)
        op, shape = "sum" if isinstance(fold, Dot) else fold.op, self.layout.shapes[member.name]
        size, held = self.layout.size(shape.rows), VECTORS[shape.kind]
        name = f"{mangle(member.name)}_h"
        self.out.add(f"{held} {name}[{size}][{self.group_state.block}];")
        start = widen(Text(LANE_IDENTITY[op][shape.kind], shape.kind, False), shape.kind, True)
        self.out.add(f"for (auto &row : {name}) for (auto &each : row) each = {start};")

    def end_horizontal(self, member: Member) -> None:
        """The lanes of a fold come together."""
        fold = member.statement
        if not self.horizontal(fold) or member.name in self.accumulated:
            return
        assert isinstance(fold, Fold | Dot)
        op, shape = "sum" if isinstance(fold, Dot) else fold.op, self.layout.shapes[member.name]
        name, kind = mangle(member.name), shape.kind
        with self.loops(shape.rows):
            each = f"{name}_h[{self.row_index(shape.rows)}]"
            held = TYPES[kind]
            text = f"across({each}, {held}({IDENTITY[op][kind]}), {self.joins(op, kind)})"
            if isinstance(fold, Dot):
                text = self.with_start(fold, text, False)
            if shape.rows:
                array = self.resident_array(member.name, shape)
                self.out.add(f"{array}[{self.row_index(shape.rows)}] = {text};")
            else:
                self.out.add(f"const {held} {name} = {text};")
                self.out.declare(member.name)

    def joins(self, op: str, kind: Kind) -> str:
        """The operation of a fold on two vectors, and on two numbers."""
        both = []
        for lanes, held in ((True, VECTORS[kind]), (False, TYPES[kind])):
            code = operation(FOLDS[op], [Text("a_", kind, lanes), Text("b_", kind, lanes)], kind).code
            both.append(f"[]({held} a_, {held} b_) {{ return {code}; }}")
        return ", ".join(both)
