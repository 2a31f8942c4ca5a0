"""Statements over lanes, printed together: one loop over vectors, cut into row loops where a
fold's result is needed before the next statement can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...compiler.kernel import Dot, Fold, Let, Load, Statement, Store, Stream, operands
from ...dsl.errors import CompilerFault
from .emit import VECTORS, Text, mangle, operation, widen
from .ops import FOLDS, IDENTITY
from .scope import Scope

RowLoop = tuple[tuple[str, ...], list[Statement]]


class Groups(Scope):
    """Prints runs of lane statements."""

    __slots__ = ()

    def group(self, statements: list[Statement]) -> None:
        if not statements:
            return
        with self.out.braces("for (int vi = 0; vi < VECTORS; vi++)"):
            for rows, part in _row_loops(statements, self._rows, self._depends):
                if rows:
                    self._row_loop(rows, part, statements)
                else:
                    for statement in part:
                        self._member(statement, statements)
        here = max(self.layout.position[id(statement)] for statement in statements)
        self._release(here)

    def _rows(self, statement: Statement) -> tuple[str, ...]:
        match statement:
            case Fold(value=value):
                return self.layout.shape(value).rows
            case Store():
                return self._store_shape(statement).rows
            case Let() | Load() | Dot():
                return self.layout.shapes[statement.name].rows
            case Stream():
                return ()

    def _depends(self, statement: Statement, names: set[str]) -> bool:
        """True if a statement reads one of the names, through deferred values too."""
        from_here = _reads(statement)
        seen: set[str] = set()
        while from_here:
            name = from_here.pop()
            if name in names:
                return True
            definition = self.layout.definitions.get(name)
            if name not in seen and self.deferred(name) and isinstance(definition, Let | Load):
                from_here += _reads(definition)
            seen.add(name)
        return False

    def _row_loop(self, rows: tuple[str, ...], part: list[Statement], group: list[Statement]) -> None:
        for statement in part:
            if isinstance(statement, Fold):
                start = IDENTITY[statement.op][statement.kind]
                spread = widen(Text(start, statement.kind, False), statement.kind, True)
                self.out.add(f"{VECTORS[statement.kind]} {mangle(statement.name)} = {spread};")
                self.out.declare(statement.name)
        with self.loops(rows):
            for statement in part:
                self._member(statement, group)
        for statement in part:
            if isinstance(statement, Fold):
                self._keep(statement, group)

    @contextmanager
    def loops(self, rows: tuple[str, ...]) -> Iterator[None]:
        """One loop for each row axis around what is printed inside."""
        if not rows:
            yield
            return
        name = mangle(rows[0])
        local = next((each for each in self.kernel.locals if each.name == rows[0]), None)
        count = str(local.size) if local else f"{name}_count"
        first = f"{local.low}L" if local else f"{name}_first"
        with self.out.braces(f"for (long j_{name} = 0; j_{name} < {count}; j_{name}++)"):
            self.out.add(f"const long {name} = {first} + j_{name}; (void){name};")
            with self.loops(rows[1:]):
                yield

    def _member(self, statement: Statement, group: list[Statement]) -> None:
        match statement:
            case Store():
                self._store(statement)
            case Fold(name=name, op=op, value=value, mask=mask, kind=kind):
                text = self.operand(value)
                if mask is not True:
                    start = Text(IDENTITY[op][kind], kind, False)
                    text = operation("select", [self.operand(mask), text, start], kind)
                both = operation(FOLDS[op], [Text(mangle(name), kind, True), text], kind)
                self.out.add(f"{mangle(name)} = {both.code};")
            case Let() | Load():
                self._value(statement)
                self._keep(statement, group)
            case _:
                raise CompilerFault("cpp", "a dot or a stream inside a group")

    def _keep(self, statement: Let | Load | Fold, group: list[Statement]) -> None:
        """Write a value to memory if something outside its own loop reads it."""
        name, shape = statement.name, self.layout.shapes[statement.name]
        own = {id(each) for each in group if self._rows(each) == self._rows(statement) or not shape.rows}
        loops = _row_loops(group, self._rows, self._depends)
        if shape.rows:
            own = {id(each) for _, part in loops if statement in part for each in part}
        readers = self._readers(name)
        if all(id(user) in own for user in readers):
            return
        slot = self.slots.get(name) or self.allocate(name, shape, self.layout.position[id(statement)])
        self.keep(slot, shape, mangle(name))

    def _readers(self, name: str) -> list[Statement]:
        """The statements that read a name, through deferred values too."""
        found: list[Statement] = []
        for user in self.layout.users.get(name, []):
            if isinstance(user, Let | Load) and self.deferred(user.name):
                found += self._readers(user.name)
            else:
                found.append(user)
        return found


def _row_loops(
    statements: list[Statement],
    rows_of: Callable[[Statement], tuple[str, ...]],
    depends: Callable[[Statement, set[str]], bool],
) -> list[RowLoop]:
    """Cut a run of statements into row loops and lane-only stretches, keeping their order."""
    loops: list[RowLoop] = []
    folded: set[str] = set()
    for statement in statements:
        rows = rows_of(statement)
        name = getattr(statement, "name", "")
        joins = bool(loops) and loops[-1][0] == rows and not (rows and depends(statement, folded))
        if not joins:
            loops.append((rows, []))
            folded = set()
        loops[-1][1].append(statement)
        if isinstance(statement, Fold):
            folded.add(name)
    return loops


def _reads(statement: Statement) -> list[str]:
    return [item for item in operands(statement) if isinstance(item, str)]
