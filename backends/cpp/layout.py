"""What the C++ printer must know of every value before it prints the first line: which row axes it
has beside the lanes, where it is last used, and how a dot is printed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...compiler.kernels.kernel import (
    Carry,
    Dot,
    Fold,
    Kernel,
    Let,
    Load,
    Operand,
    Statement,
    Store,
    Stream,
    Take,
    defined,
    every,
    operands,
)
from ...dsl.ops import Kind


@dataclass(slots=True)
class Shape:
    """Kind of a value, whether it lies in the lanes, and its row axes (tiles wider than 1)."""

    kind: Kind
    lanes: bool
    rows: tuple[str, ...]


@dataclass(slots=True)
class Layout:
    """`tiles` holds the width of every tile axis, in the order that rows have in arrays; `axes` the
    tile axes of every name; `definitions` what gives it; `users` the statements that read it."""

    kernel: Kernel
    tiles: dict[str, int] = field(default_factory=dict[str, int])
    local: dict[str, int] = field(default_factory=dict[str, int])
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    shapes: dict[str, Shape] = field(default_factory=dict[str, Shape])
    definitions: dict[str, Statement | Carry] = field(default_factory=dict[str, Statement | Carry])
    last_use: dict[str, int] = field(default_factory=dict[str, int])
    position: dict[int, int] = field(default_factory=dict[int, int])
    users: dict[str, list[Statement]] = field(default_factory=dict[str, list[Statement]])

    def __post_init__(self) -> None:
        kernel = self.kernel
        self.local = {local.name: local.low for local in kernel.locals}
        self._axes()
        self._define(kernel.body)
        self._use(kernel.body)

    def _axes(self) -> None:
        """The tile axes, in the order of rows: those that a product is repeated over, then those whose
        tile may end early, then local ones. So flattened rows are whole but for the first axis."""
        kernel, tiles = self.kernel, {grid.name: grid.tile for grid in self.kernel.grid}
        names: dict[str, tuple[str, ...]] = {}
        repeated: set[str] = set()
        for statement in every(kernel.body):
            match statement:
                case Stream(axes=axes, carries=carries):
                    tiles |= {axis.name: axis.step for axis in axes}
                    names |= {carry.name: carry.axes for carry in carries}
                case Store():
                    pass
                case _:
                    names[statement.name] = statement.axes
                    if isinstance(statement, Dot):
                        sides = [set(names.get(side, ())) for side in (statement.left, statement.right)]
                        wide = next((side for side in sides if side & set(kernel.lanes)), sides[1])
                        repeated |= wide - set(statement.over) - set(kernel.lanes)
        tiles |= {local.name: local.size for local in kernel.locals}
        self.tiles = dict(sorted(tiles.items(), key=lambda item: item[0] not in repeated))
        self.axes = names | {axis: (axis,) for axis in tiles} | {f"{axis}.valid": (axis,) for axis in tiles}

    # --- shapes

    def wide(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The axes of tiles wider than 1, in the order of rows."""
        return tuple(axis for axis in self.tiles if axis in axes and self.tiles[axis] != 1)

    def shape_of(self, axes: tuple[str, ...], kind: Kind) -> Shape:
        wide = self.wide(axes)
        rows = tuple(axis for axis in wide if axis not in self.kernel.lanes)
        return Shape(kind, len(rows) < len(wide), rows)

    def shape(self, operand: Operand) -> Shape:
        """The shape of any operand: a literal, a coordinate, a number, a value."""
        match operand:
            case bool():
                return Shape("bool", False, ())
            case int():
                return Shape("int", False, ())
            case float():
                return Shape("real", False, ())
            case str() if operand in self.shapes:
                return self.shapes[operand]
            case str() if operand in self.axes:
                return self.shape_of(self.axes[operand], "bool" if operand.endswith(".valid") else "int")
            case _:
                return Shape("int", False, ())

    def lies_on(self, operand: Operand, axes: tuple[str, ...]) -> bool:
        """True if an operand differs along one of the axes."""
        return isinstance(operand, str) and any(axis in axes for axis in self.axes.get(operand, ()))

    def size(self, rows: tuple[str, ...]) -> int:
        total = 1
        for row in rows:
            total *= self.tiles[row]
        return total

    # --- definitions and uses

    def _define(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            match statement:
                case Dot(name=name, axes=axes):
                    self.shapes[name] = self.shape_of(axes, "real")
                    self.definitions[name] = statement
                case Let() | Load() | Fold() | Take():
                    self.shapes[statement.name] = self.shape_of(statement.axes, statement.kind)
                    self.definitions[statement.name] = statement
                case Stream(carries=carries, body=inner):
                    for carry in carries:
                        self.shapes[carry.name] = self.shape_of(carry.axes, carry.kind)
                        self.definitions[carry.name] = carry
                    self._define(inner)
                case Store():
                    pass

    def _use(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            here = len(self.position)
            self.position[id(statement)] = here
            for operand in self.reads(statement):
                self._touch(operand, here, statement)
            if isinstance(statement, Stream):
                self._use(statement.body)
                end = len(self.position)
                self.position[-id(statement)] = end
                for operand in (*(carry.next for carry in statement.carries), statement.visible):
                    self._touch(operand, end, statement)
                self._outlive(statement, end)

    def _touch(self, operand: Operand, here: int, user: Statement) -> None:
        if isinstance(operand, str):
            self.last_use[operand] = max(here, self.last_use.get(operand, 0))
            self.users.setdefault(operand, []).append(user)

    def _outlive(self, stream: Stream, end: int) -> None:
        """Values from outside that the body reads are needed until the stream ends."""
        inner = {name for statement in every(stream.body) for name in defined(statement)}
        for statement in every(stream.body):
            for operand in self.reads(statement):
                if isinstance(operand, str) and operand not in inner:
                    self.last_use[operand] = max(end, self.last_use.get(operand, 0))

    def read_after(self, name: str, here: int) -> bool:
        """True if the value that `name` has at `here` is read at a later place. A carry's name means
        another value once its stream has gone round."""
        end = len(self.position) + 1
        if isinstance(self.definitions[name], Carry):
            streams = (each for each in every(self.kernel.body) if isinstance(each, Stream))
            own = next(each for each in streams if any(carry.name == name for carry in each.carries))
            end = self.position[-id(own)]
        return any(here < self.position[id(user)] < end for user in self.users.get(name, []))

    def reads(self, statement: Statement) -> tuple[Operand, ...]:
        """The operands whose values printing a statement needs. The mask of a dot is computed again where
        it is seldom asked for, of what cannot be."""
        match statement:
            case Dot(left=left, right=right, init=init, scale=scale, mask=mask):
                return (left, right, *(x for x in (init, scale) if x is not None), *self._ends(mask))
            case _:
                return operands(statement)

    def _ends(self, mask: Operand) -> tuple[str, ...]:
        """What a mask is made of that is neither read from memory nor a coordinate, nor made of these."""
        found: dict[str, None] = {}
        stack: list[Operand] = [mask]
        while stack:
            item = stack.pop()
            definition = self.definitions.get(item) if isinstance(item, str) else None
            match definition:
                case None:
                    continue
                case Load(index=index, mask=inner):
                    stack += (*index, inner)
                case Take(index=index):
                    stack += index
                case Let(args=args) if all(self._again(arg) for arg in args):
                    stack += args
                case _:
                    found[str(item)] = None
        return tuple(found)

    def _again(self, operand: Operand) -> bool:
        """True for what computing again makes no other number of."""
        made = self.definitions.get(operand) if isinstance(operand, str) else None
        return self.shape(operand).kind != "real" or made is None or isinstance(made, Load)

    # --- what follows from the operands alone

    def folds_products(self, dot: Dot) -> bool:
        """True for a dot that is printed as a fold of products: where nothing of its left side is used
        for more than one entry of the right one, register blocks gain nothing."""
        sides = (dot.left, dot.right)
        lanes = [self.shape(side).lanes for side in sides]
        if lanes[0] == lanes[1] or any(axis in self.kernel.lanes for axis in dot.over):
            return True
        scalars, vectors = sides if lanes[1] else sides[::-1]
        own = set(self.shape(scalars).rows) - set(self.shape(vectors).rows)
        over = set(self.wide(dot.over))
        return not own - over or not over <= set(self.shape(vectors).rows) & set(self.shape(scalars).rows)

    def coordinate_only(self, operand: Operand) -> bool:
        """True for integers and predicates made of coordinates and numbers alone."""
        stack, seen = [operand], set[str]()
        while stack:
            item = stack.pop()
            if not isinstance(item, str) or item in seen:
                continue
            seen.add(item)
            definition = self.definitions.get(item)
            if isinstance(definition, Let) and definition.kind in ("int", "bool"):
                stack.extend(definition.args)
            elif definition is not None:
                return False
        return True

    def conjuncts(self, mask: Operand) -> list[Operand]:
        """The tests that a mask is the conjunction of."""
        if isinstance(mask, bool) and mask:
            return []
        definition = self.definitions.get(mask) if isinstance(mask, str) else None
        if isinstance(definition, Let) and definition.op == "and":
            return [part for arg in definition.args for part in self.conjuncts(arg)]
        return [mask]

    def always_inside(self, mask: Operand) -> bool:
        """True where a mask only says that stream chunks and scalar tiles do not overhang: the
        C++ loops never visit such coordinates."""
        return all(self.exists(part) is None for part in self.conjuncts(mask))

    def exists(self, test: Operand) -> str | None:
        """ "" for a test that is made of something else; the lane axis whose existence it says; None
        for a test that is true wherever loops go."""
        if not isinstance(test, str) or not test.endswith(".valid"):
            return ""
        axis = test.removesuffix(".valid")
        return axis if axis in self.kernel.lanes and self.tiles[axis] > 1 else None
