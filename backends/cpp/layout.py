"""What the C++ printer must know of every value before it prints the first line: which row axes it
has beside the lanes, where it is last used, and which array it may live in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...compiler.kernel import (
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
    defined,
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
    """`tiles` holds the width of every tile axis; `lanes` those that lie in the vectors."""

    kernel: Kernel
    tiles: dict[str, int] = field(default_factory=dict[str, int])
    shapes: dict[str, Shape] = field(default_factory=dict[str, Shape])
    definitions: dict[str, Statement | Carry] = field(default_factory=dict[str, Statement | Carry])
    last_use: dict[str, int] = field(default_factory=dict[str, int])
    position: dict[int, int] = field(default_factory=dict[int, int])
    depth: dict[str, int] = field(default_factory=dict[str, int])
    users: dict[str, list[Statement]] = field(default_factory=dict[str, list[Statement]])

    def __post_init__(self) -> None:
        kernel = self.kernel
        self.tiles = {grid.name: grid.tile for grid in kernel.grid}
        self.tiles |= {local.name: local.size for local in kernel.locals}
        for statement in every(kernel.body):
            if isinstance(statement, Stream):
                self.tiles |= {axis.name: axis.step for axis in statement.axes}
        self._define(kernel.body, 0)
        self._use(kernel.body, [])

    def shape_of(self, axes: tuple[str, ...], kind: Kind) -> Shape:
        wide = [axis for axis in axes if self.tiles[axis] > 1]
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
            case str() if operand in self.tiles:
                return self.shape_of((operand,), "int")
            case str() if operand.endswith(".valid"):
                return self.shape_of((operand.removesuffix(".valid"),), "bool")
            case _:
                return Shape("int", False, ())

    def _define(self, body: tuple[Statement, ...], depth: int) -> None:
        for statement in body:
            for name in defined(statement):
                self.depth[name] = depth
            match statement:
                case Dot(name=name, axes=axes):
                    self.shapes[name] = self.shape_of(axes, "real")
                    self.definitions[name] = statement
                case Let() | Load() | Fold():
                    self.shapes[statement.name] = self.shape_of(statement.axes, statement.kind)
                    self.definitions[statement.name] = statement
                case Stream(carries=carries, body=inner):
                    for carry in carries:
                        self.shapes[carry.name] = self.shape_of(carry.axes, carry.kind)
                        self.definitions[carry.name] = carry
                    self._define(inner, depth + 1)
                case Store():
                    pass

    def _use(self, body: tuple[Statement, ...], outer: list[Stream]) -> None:
        for statement in body:
            here = len(self.position)
            self.position[id(statement)] = here
            for operand in operands(statement):
                self._touch(operand, here, statement)
            if isinstance(statement, Stream):
                self._use(statement.body, [*outer, statement])
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
            for operand in operands(statement):
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

    def always_inside(self, mask: Operand) -> bool:
        """True where a mask only says that stream chunks and scalar tiles do not overhang: the
        C++ loops never visit such coordinates."""
        match mask:
            case bool():
                return mask
            case str() if mask.endswith(".valid"):
                axis = mask.removesuffix(".valid")
                return axis not in self.kernel.lanes or self.tiles[axis] == 1
            case str():
                definition = self.definitions.get(mask)
                if not isinstance(definition, Let) or definition.op != "and":
                    return False
                return all(self.always_inside(arg) for arg in definition.args)
            case _:
                return False


def every(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """All statements, those inside streams included, in order."""
    for statement in body:
        yield statement
        if isinstance(statement, Stream):
            yield from every(statement.body)
