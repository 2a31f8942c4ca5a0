"""Statements without lanes: numbers, and arrays of numbers over rows."""

from __future__ import annotations

from ...compiler.kernels.kernel import Carry, Dot, Fold, Let, Load, Statement, Store, Stream, Take
from .dots import Dots
from .emit import TYPES, Text, mangle, operation, widen
from .ops import FOLDS, IDENTITY


class Scalars(Dots):
    """Prints what no vector takes part in, and the order of a body's statements."""

    __slots__ = ()

    def body(self, statements: tuple[Statement, ...]) -> None:
        """The statements of a block: those in the lanes in groups, what comes between before them where
        it reads nothing of theirs."""
        group: list[Statement] = []
        for statement in statements:
            if isinstance(statement, Let | Load | Take) and self.deferred(statement.name):
                if self.taken_from(statement.name) and isinstance(statement, Let | Load):
                    self.reside(statement)
                continue
            if isinstance(statement, Let) and statement.name in self.joined:
                continue
            if self._waits(statement, group):
                self.group(group)
                group = []
            if self._in_lanes(statement):
                group.append(statement)
            else:
                self._single(statement)
        self.group(group)

    def _in_lanes(self, statement: Statement) -> bool:
        """True for what belongs in a group."""
        match statement:
            case Store():
                return self.store_shape(statement).lanes
            case Dot() if not self.layout.folds_products(statement):
                return False
            case Dot() | Fold():
                read = (self.layout.shape(item) for item in self.layout.reads(statement))
                return any(shape.lanes for shape in read)
            case Let() | Load() | Take():
                return self.layout.shapes[statement.name].lanes
            case _:
                return False

    def _waits(self, statement: Statement, group: list[Statement]) -> bool:
        """True if a statement cannot stand before or in the group that is being collected: it is a loop
        or a product, or reads a fold over the lanes."""
        if not group:
            return False
        if not self._in_lanes(statement) and not isinstance(statement, Let | Load | Fold | Store | Take):
            return not isinstance(statement, Dot) or not self.layout.folds_products(statement)
        given = {each.name for each in group if isinstance(each, Fold | Dot) and self.horizontal(each)}
        reads = {item for item in self.layout.reads(statement) if isinstance(item, str)}
        return any(name in given or given & set(self.follow(name)) for name in reads)

    def _single(self, statement: Statement) -> None:
        match statement:
            case Let() | Load() | Take():
                self.value(statement)
            case Store():
                with self.loops(self.store_shape(statement).rows):
                    self.store(statement)
            case Dot() if not self.layout.folds_products(statement):
                self.dot(statement)
            case Fold() | Dot():
                self._fold_numbers(statement)
            case Stream():
                self.stream(statement)

    def stream(self, stream: Stream) -> None:
        raise NotImplementedError

    # --- folds

    def _fold_numbers(self, fold: Fold | Dot) -> None:
        """A fold of a value without lanes: a number, or an array over the rows of the result."""
        op = "sum" if isinstance(fold, Dot) else fold.op
        shape, name = self.layout.shapes[fold.name], mangle(fold.name)
        held, so_far = TYPES[shape.kind], f"{mangle(fold.name)}_r"
        every = {
            axis
            for item in self.layout.reads(fold)
            if isinstance(item, str)
            for axis in self.layout.axes.get(item, ())
        }
        over = tuple(axis for axis in self.layout.wide(fold.over) if axis in every)
        if not shape.rows:
            start = self.with_start(fold, f"{held}({IDENTITY[op][shape.kind]})", False)
            self.out.add(f"{held} {name} = {start};")
            with self.loops(over):
                both = [Text(name, shape.kind, False), self.entry(fold)]
                self.out.add(f"{name} = {operation(FOLDS[op], both, shape.kind).code};")
            self.out.declare(fold.name)
            return
        array = f"{name}_l"
        with self.loops(shape.rows):
            start = self.with_start(fold, f"{held}({IDENTITY[op][shape.kind]})", False)
            self.out.add(f"{held} {so_far} = {start};")
            with self.loops(over):
                both = [Text(so_far, shape.kind, False), self.entry(fold)]
                self.out.add(f"{so_far} = {operation(FOLDS[op], both, shape.kind).code};")
            self.out.add(f"{array}[{self.row_index(shape.rows)}] = {so_far};")
        self.resident_array(fold.name, shape)

    # --- carries

    def start_carry(self, carry: Carry, here: int) -> None:
        """What a carry is before the first chunk."""
        shape = self.layout.shapes[carry.name]
        if shape.lanes:
            slot = self.allocate(carry.name, shape, here)
            with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(shape.rows):
                self.keep(slot, shape, widen(self.operand(carry.init), carry.kind, True))
        elif shape.rows:
            array = self.resident_array(carry.name, shape)
            with self.loops(shape.rows):
                code = widen(self.operand(carry.init), carry.kind, False)
                self.out.add(f"{array}[{self.row_index(shape.rows)}] = {code};")
        else:
            code = widen(self.operand(carry.init), carry.kind, False)
            self.out.add(f"{TYPES[carry.kind]} {mangle(carry.name)} = {code};")

    def move_carries(self, carries: tuple[Carry, ...]) -> None:
        """All carries take their next values at once: one that reads another is noted first."""
        kept = self.joined | self.accumulated
        moving = [carry for carry in carries if not self._stays(carry) and carry.next not in kept]
        names = {carry.name for carry in moving}
        noted = [carry for carry in moving if self._reads(carry) & (names - {carry.name})]
        for carry in noted:
            self._write(carry, self._note(carry))
        for carry in moving:
            if carry not in noted:
                self._write(carry, None)
        for carry in noted:
            self._copy_back(carry)

    def _reads(self, carry: Carry) -> set[str]:
        """The names that computing a next value reads here."""
        return {carry.next, *self.follow(carry.next)} if isinstance(carry.next, str) else set()

    def _stays(self, carry: Carry) -> bool:
        """True where the next value was computed in the carry's own place."""
        slot = self.slots.get(carry.name)
        return slot is not None and isinstance(carry.next, str) and self.slots.get(carry.next) == slot

    def _note(self, carry: Carry) -> str:
        shape, name = self.layout.shapes[carry.name], f"{mangle(carry.name)}_n"
        size = self.layout.size(shape.rows)
        if shape.lanes and (shape.kind != "real" or not shape.rows):
            held = {"real": "vec", "int": "ivec", "bool": "mask"}[shape.kind]
            return self.array(name, held, size, "VECTORS")
        if shape.lanes:
            return self.tile(name, size)
        if shape.rows:
            return self.array(name, TYPES[shape.kind], size)
        return name

    def _write(self, carry: Carry, note: str | None) -> None:
        """Compute a next value, in place or as a note."""
        shape, kind = self.layout.shapes[carry.name], carry.kind
        if shape.lanes:
            with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(shape.rows):
                value = widen(self.operand(carry.next), kind, True)
                self.keep(note or self.slots[carry.name], shape, value)
        elif shape.rows:
            with self.loops(shape.rows):
                value = widen(self.operand(carry.next), kind, False)
                place = self.row_index(shape.rows)
                self.out.add(f"{note or self.resident[carry.name]}[{place}] = {value};")
        else:
            value = widen(self.operand(carry.next), kind, False)
            target = f"const {TYPES[kind]} {note}" if note else mangle(carry.name)
            self.out.add(f"{target} = {value};")

    def _copy_back(self, carry: Carry) -> None:
        shape, note = self.layout.shapes[carry.name], self._note(carry)
        if shape.lanes:
            with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"), self.loops(shape.rows):
                self.keep(self.slots[carry.name], shape, self.kept(note, shape))
        elif shape.rows:
            with self.loops(shape.rows):
                place = self.row_index(shape.rows)
                self.out.add(f"{self.resident[carry.name]}[{place}] = {note}[{place}];")
        else:
            self.out.add(f"{mangle(carry.name)} = {note};")
