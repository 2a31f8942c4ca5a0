"""Statements over lanes, printed together: nests of row loops inside loops over vectors.

Two styles. *Whole*: one vector after the other, values in registers from loop to loop; for what is
long to compute. *Blocks*: several vectors a pass, the loop over them innermost, so that independent
accumulators hide each other's latency; a value that another loop reads goes through memory.

Where loads and stores of a group are vectors in memory if strides are 1 and the tile is whole, the
group is printed twice: for that case, and with arrays filled before it and drained after it.
"""

from __future__ import annotations

from ...compiler.kernels.kernel import Dot, Fold, Let, Load, Statement, Store, Take
from ...dsl.errors import CompilerFault
from .emit import mangle
from .nests import Member, Nest, homes, nest, ordered
from .scope import LANES_OF_PART, GroupState
from .stencils import Stencils
from .stores import reals

SLOW = frozenset(("exp", "log", "log1p", "expm1", "sin", "cos", "tanh", "erf", "pow", "sigmoid"))
"""Operations that take more registers and code than a block of vectors has to give."""

MOST_VECTORS = 8
"""Vectors of a block: as many sums in flight as a multiply-add takes cycles, on two ports."""


class Groups(Stencils):
    """Prints runs of lane statements."""

    __slots__ = ()

    def group(self, statements: list[Statement]) -> None:
        """Print a run of statements that all lie in the lanes."""
        if not statements:
            return
        position, state = self.layout.position, GroupState()
        start, end = (pick(position[id(s)] for s in statements) for pick in (min, max))
        root = nest(ordered([self._member(s) for s in statements], self._rows_of, self.follow))
        self.group_state = state
        state.block, state.homes = self._block(root), homes(root)
        state.kept = {m.name for m in root.members() if m.name and self._kept(m)}
        self._outlast(root, end)
        self._fill_kept(root, start)
        held = self._allocate(root)
        for member in root.members():
            self.start_horizontal(member)
        after, self.slots = self.slots, held
        self._versions(root)
        self.slots = after
        for member in root.members():
            self.end_horizontal(member)
        self.release(end)

    def _versions(self, root: Nest) -> None:
        """The group for whole tiles that are vectors in memory, if it may be so, and for any other."""
        direct, conditions = self._direct(root)
        if direct:
            tests = conditions if self._one_by_one(root) else ["whole", *conditions]
            with self.out.braces(f"if ({' && '.join(tests) or 'true'})"):
                self.group_state.whole = True
                self._version(root, direct)
                self.group_state.whole = False
        with self.out.braces("else" if direct else ""):
            self.group_state.partial = bool(direct)
            self.out.add(LANES_OF_PART if direct else "")
            self._version(root, ())
            self.group_state.partial = False

    def _one_by_one(self, root: Nest) -> bool:
        """Whether a group goes vector by vector along one axis, so that only the last vector of a tile is cut."""
        folded = any(self.horizontal(member.statement) for member in root.members())
        return self.group_state.block == 1 and len(self.wide_lanes) == 1 and not folded

    def _version(self, root: Nest, direct: tuple[Load | Store, ...]) -> None:
        state, before = self.group_state, (self.slots, self.group_state.filled)
        self.slots, state.filled, state.direct = dict(self.slots), set(state.filled), direct
        self._stage(root)
        self._print(root)
        for member in root.members():
            store = member.statement
            if isinstance(store, Store) and self.real_store(store) and store not in direct:
                self.drain(store, *self.staged(store))
        self.slots, state.filled = before

    # --- what the group is made of

    def _member(self, statement: Statement) -> Member:
        layout = self.layout
        name = "" if isinstance(statement, Store) else getattr(statement, "name", "")
        match statement:
            case Store():
                rows = kept = self.store_shape(statement).rows
            case Fold() | Dot():
                every = (layout.axes.get(x, ()) for x in self.layout.reads(statement) if isinstance(x, str))
                kept = layout.shapes[statement.name].rows
                over = [axis for axes in every for axis in axes if axis in statement.over]
                over = layout.shape_of(tuple(dict.fromkeys(over)), "real").rows
                rows = (*kept, *over)
            case Let() | Load() | Take():
                rows = kept = layout.shapes[statement.name].rows
            case _:
                raise CompilerFault("cpp", "a stream inside a group")
        reads = {x for x in self.layout.reads(statement) if isinstance(x, str)}
        reads |= {each for name_ in reads for each in self.follow(name_)}
        return Member(statement, name, rows, len(kept), frozenset(reads))

    def _rows_of(self, name: str) -> tuple[str, ...]:
        return self.layout.shape(name).rows

    def follow(self, name: str) -> list[str]:
        """What reading a deferred value reads."""
        definition = self.layout.definitions.get(name)
        if not self.deferred(name) or not isinstance(definition, Let | Load | Take):
            return []
        found = [item for item in self.layout.reads(definition) if isinstance(item, str)]
        return [*found, *(each for item in found for each in self.follow(item))]

    def readers(self, name: str) -> list[Statement]:
        """The statements that read a name, through deferred values too."""
        found: list[Statement] = []
        for user in self.layout.users.get(name, []):
            if isinstance(user, Let | Load | Take) and self.deferred(user.name):
                found += self.readers(user.name)
            else:
                found.append(user)
        return found

    def _kept(self, member: Member) -> bool:
        """True for a value that is read where it is in no register."""
        home = self.group_state.homes[member.name]
        if self.horizontal(member.statement):
            return False
        blocked = self.group_state.block > 1
        if blocked and member.folds:
            return True
        own = home.run_of(member) if blocked else home.members()
        inside = {id(each.statement) for each in own}
        return any(id(user) not in inside for user in self.readers(member.name))

    # --- arrays

    def _outlast(self, root: Nest, end: int) -> None:
        """Values that are read otherwise than entry by entry keep their arrays until the group has ended: by
        a fold over other rows, and by stores that are drained after it. The group's last statement is too
        early: it may be written to an array inside the loops that read."""
        for member in root.members():
            for name in member.reads:
                other = set(self._rows_of(name)) != set(member.loops) or isinstance(member.statement, Store)
                if name in self.layout.last_use and other:
                    self.layout.last_use[name] = max(end + 1, self.layout.last_use[name])

    def _fill_kept(self, root: Nest, start: int) -> None:
        """Loads that are kept in arrays are filled before anything else."""
        for member in root.members():
            load = member.statement
            if isinstance(load, Load) and member.name in self.group_state.kept and self.plain(load):
                shape = self.layout.shapes[load.name]
                slot = self.allocate(load.name, shape, start - 1)
                self.fill(load, reals(slot, shape.rows), shape.rows, True)
                self.group_state.filled.add(load.name)

    def _allocate(self, root: Nest) -> dict[str, str]:
        """Arrays of the kept values; returns the arrays of all values that the group may meet."""
        held = dict(self.slots)
        for member in root.members():
            if member.name in self.group_state.kept and member.name not in self.slots:
                place = self.layout.position[id(member.statement)]
                self.allocate(member.name, self.layout.shapes[member.name], place)
            held |= self.slots
        return held

    def _direct(self, root: Nest) -> tuple[tuple[Load | Store, ...], list[str]]:
        """The loads and stores that may go between memory and vectors, and when they do."""
        direct: list[Load | Store] = []
        conditions: list[str] = []
        for member in root.members():
            each = member.statement
            if not isinstance(each, Load | Store) or member.name in self.group_state.filled:
                continue
            real = self.plain(each) if isinstance(each, Load) else self.real_store(each)
            condition = self.vector(each.buffer, each.index, each.mask) if real else None
            if condition is not None:
                direct.append(each)
                conditions.append(condition)
        return tuple(direct), list(dict.fromkeys(c for c in conditions if c))

    def _stage(self, root: Nest) -> None:
        """Fill an array for each load that is not read as vectors in place."""
        state = self.group_state
        for member in root.members():
            load = member.statement
            if not isinstance(load, Load) or load in state.direct or load.name in state.filled:
                continue
            if self.plain(load):
                rows = self.layout.shapes[load.name].rows
                stage = self.tile(f"{mangle(load.name)}_s", self.layout.size(rows))
                self.slots[load.name] = stage if rows else f"((vec *){stage})"
                self.fill(load, stage, rows, True)
                state.filled.add(load.name)

    # --- loops

    def _block(self, root: Nest) -> int:
        """The vectors of a pass."""
        vectors = self.vectors
        members = list(root.members())
        folds = max((_open(m, root) for m in members), default=0)
        across = sum(self.horizontal(m.statement) for m in members)
        folds += across
        slow = any(
            isinstance(m.statement, Let) and m.statement.op in SLOW and (_open(m, root) or across)
            for m in members
        )
        if not folds:
            return vectors if any(m.loops for m in members) else 1
        if slow:
            return 1
        takes = any(isinstance(m.statement, Take) for m in members)  # whose tile is filled in every pass
        most = MOST_VECTORS if folds <= 2 or takes else MOST_VECTORS // 2
        return next(n for n in range(min(most, vectors), 0, -1) if vectors % n == 0)

    def _print(self, root: Nest) -> None:
        block = self.group_state.block
        if self.group_state.whole and self._one_by_one(root):
            return self._run_along(root)
        here = "VECTORS" if self.group_state.whole else "vectors"  # those that have lanes that exist
        if block == 1:
            with self.out.braces(f"for (int vi = 0; vi < {here}; vi++)"):
                self._items(root)
        elif block == self.vectors:
            with self.out.braces(""):
                self.out.add("constexpr int v0 = 0;")
                self._items(root)
        else:
            with self.out.braces(f"for (int v0 = 0; v0 < {here}; v0 += {block})"):
                self._items(root)

    def _run_along(self, root: Nest) -> None:
        """The whole vectors of a tile, and the one that it ends in."""
        state, name = self.group_state, mangle(self.wide_lanes[0])
        self.out.add(f"const long existing = {name}_last - {name}_first + 1;")
        with self.out.braces("for (int vi = 0; vi < existing / LANES; vi++)"):
            self._items(root)
        with self.out.braces("if (existing % LANES)"):
            self.out.add("const int vi = existing / LANES;")
            self.out.add("const long left = existing % LANES;")
            state.last = True
            self._items(root)
            state.last = False

    def _items(self, here: Nest) -> None:
        run: list[Member] = []
        for item in here.items:
            if isinstance(item, Member):
                run.append(item)
                continue
            self._run(run)
            run = []
            self._loop(item)
        self._run(run)

    def _loop(self, inner: Nest) -> None:
        assert inner.axis is not None
        if all(member.name in self.group_state.filled for member in inner.members()):
            return
        for fold in inner.folds:
            self.start_fold(fold)
        if not self.stencil(inner):
            with self.loops((inner.axis,)):
                self.fill_contracted(inner)
                self._items(inner)
        for fold in inner.folds:
            self.fold_by_mask(fold)
            self.end_fold(fold)

    def _run(self, members: list[Member]) -> None:
        """Statements side by side in one loop."""
        members = [m for m in members if m.name not in self.group_state.filled]
        if not members:
            return
        for member in members:
            for name in member.reads:
                self._declare_scalars(name)
        sums = any(m.folds or self.horizontal(m.statement) for m in members)
        with self.each_vector(sums):
            for member in members:
                self._statement(member)

    def _declare_scalars(self, name: str) -> None:
        """Deferred values without lanes, said once for all vectors of the block."""
        if self.group_state.block > 1 and self.deferred(name) and not self.layout.shape(name).lanes:
            self.operand(name)

    # --- statements

    def _statement(self, member: Member) -> None:
        statement = member.statement
        match statement:
            case Store():
                self.store(statement)
            case Fold() | Dot():
                self.accumulate(member)
            case Load() if statement in self.group_state.direct:
                name = mangle(statement.name)
                self.out.add(f"const vec {name} = {self.read_vector(statement)};")
                self.out.declare(statement.name)
            case Load() | Let():
                self.value(statement)
            case Take():
                self.take(statement)
            case _:
                raise CompilerFault("cpp", "a stream inside a group")
        if member.name in self.group_state.kept and not member.folds:
            self.keep(self.slots[member.name], self.layout.shapes[member.name], mangle(member.name))


def _open(member: Member, root: Nest) -> int:
    """How many sums are open where a statement stands."""

    def visit(here: Nest, sums: int) -> int:
        sums += len(here.folds)
        if any(item is member for item in here.items):
            return sums
        return max((visit(item, sums) for item in here.items if isinstance(item, Nest)), default=0)

    return visit(root, 0)
