"""Builds the statements of a Kernel: names, axes, scopes, constants folded, equal values shared.

A statement goes into the outermost open block that has its operands, so what a stream does not change
is computed before it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ...dsl.ops import Kind
from .kernel import (
    Buffer,
    Carry,
    Dot,
    Fold,
    Let,
    Load,
    Operand,
    RealType,
    Statement,
    Store,
    Stream,
    StreamAxis,
    Take,
    operands,
)

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Tile:
    """A value and where it is present."""

    value: Operand
    present: Operand = True


@dataclass(slots=True)
class Block:
    """Statements being collected, and the values that later ones in the block may share."""

    statements: list[Statement] = field(default_factory=list[Statement])
    shared: dict[object, str] = field(default_factory=dict[object, str])


@dataclass(slots=True)
class Builder:
    """`axes_of` and `kind_of` know every name; numbers and literals have no axes. `depth_of` is the place
    among the open blocks of the one that gives a name, 0 for what has none. `joined` holds the conjuncts
    of masks, `zero_outside` those of the masks of loads."""

    real: RealType
    sizes: list[str] = field(default_factory=list[str])
    buffers: list[Buffer] = field(default_factory=list[Buffer])
    axes_of: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    kind_of: dict[str, Kind] = field(default_factory=dict[str, Kind])
    depth_of: dict[str, int] = field(default_factory=dict[str, int])
    zero_outside: dict[str, frozenset[Operand]] = field(default_factory=dict[str, frozenset[Operand]])
    joined: dict[str, tuple[Operand, ...]] = field(default_factory=dict[str, tuple[Operand, ...]])
    blocks: list[Block] = field(default_factory=lambda: [Block()])
    taken: set[str] = field(default_factory=set[str])

    # --- names

    def name(self, wish: str) -> str:
        """A name that nothing has yet, an ASCII identifier near the wish."""
        plain = (
            "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in wish).strip("_") or "x"
        )
        plain = f"x{plain}" if plain[0].isdigit() else plain
        candidate, i = plain, 1
        while candidate in self.taken:
            i += 1
            candidate = f"{plain}_{i}"
        self.taken.add(candidate)
        return candidate

    def number(self, wish: str) -> str:
        """A run-time size."""
        name = self.name(wish)
        self.sizes.append(name)
        self.kind_of[name], self.axes_of[name] = "int", ()
        return name

    def axis(self, wish: str) -> str:
        """A tile axis: its name is its coordinate, and `.first`, `.last`, `.valid` stand beside it."""
        name = self.name(wish)
        self.kind_of[name], self.axes_of[name] = "int", (name,)
        for part in ("first", "last"):
            self.kind_of[f"{name}.{part}"], self.axes_of[f"{name}.{part}"] = "int", ()
        self.kind_of[f"{name}.valid"], self.axes_of[f"{name}.valid"] = "bool", (name,)
        return name

    def buffer(self, wish: str, rank: int, kind: Kind, role: str) -> str:
        name = self.name(wish)
        self.buffers.append(Buffer(name, rank, kind, self.real, "out" if role == "out" else "in"))
        return name

    def kind(self, operand: Operand) -> Kind:
        match operand:
            case bool():
                return "bool"
            case int():
                return "int"
            case float():
                return "real"
            case str():
                return self.kind_of[operand]

    def axes(self, operands: Sequence[Operand]) -> tuple[str, ...]:
        """The union of the axes of some operands."""
        found = (axis for item in operands if isinstance(item, str) for axis in self.axes_of[item])
        return tuple(dict.fromkeys(found))

    # --- statements

    def _share(self, key: object) -> str | None:
        return next((block.shared[key] for block in reversed(self.blocks) if key in block.shared), None)

    def _depth(self, operands: Sequence[Operand | None]) -> int:
        """The outermost block that has all of these."""
        return max((self.depth_of.get(item, 0) for item in operands if isinstance(item, str)), default=0)

    def _define(
        self, key: object, statement: Let | Load | Take | Dot | Fold, reads: Sequence[Operand | None]
    ) -> str:
        """Put a statement where its operands are, and remember the name that it gives."""
        name, depth = statement.name, self._depth(reads)
        self.axes_of[name] = statement.axes
        self.kind_of[name] = "real" if isinstance(statement, Dot) else statement.kind
        self.depth_of[name] = depth
        self.blocks[depth].shared[key] = name
        self.blocks[depth].statements.append(statement)
        return name

    def let(self, op: str, *args: Operand, kind: Kind, wish: str = "") -> Operand:
        """An elementwise operation, or the operand or constant that it comes to."""
        folded = fold(op, args, kind) if op != "select" else self._selected(*args)
        if folded is not None:
            return folded
        key = ("let", op, tuple((type(arg).__name__, arg) for arg in args), kind)
        known = self._share(key)
        if known is not None:
            return known
        return self._define(key, Let(self.name(wish or op), op, args, self.axes(args), kind), args)

    def _selected(self, test: Operand, value: Operand, other: Operand) -> Operand | None:
        """What a select comes to without computing: a load is 0 where its mask is false already."""
        masked = self.zero_outside.get(value) if isinstance(value, str) and other == 0 else None
        if masked is not None and masked.issuperset(self.conjuncts(test)):
            return value
        return fold("select", (test, value, other), self.kind(value))

    def definition(self, name: str) -> Statement | None:
        """The statement of an open block that gives a value."""
        statements = (each for block in reversed(self.blocks) for each in reversed(block.statements))
        return next(
            (each for each in statements if not isinstance(each, Store | Stream) and each.name == name), None
        )

    def both(self, *masks: Operand) -> Operand:
        """The conjunction; True where there is nothing to test."""
        parts = tuple(dict.fromkeys(part for mask in masks for part in self.conjuncts(mask)))
        result: Operand = True
        for i, each in enumerate(parts):
            result = self.let("and", result, each, kind="bool", wish="in")
            if i and isinstance(result, str):
                self.joined[result] = parts[: i + 1]
        return result

    def conjuncts(self, mask: Operand) -> tuple[Operand, ...]:
        """The masks that `both` joined."""
        if mask is True:
            return ()
        return self.joined.get(mask, (mask,)) if isinstance(mask, str) else (mask,)

    def load(self, buffer: str, index: tuple[Operand, ...], mask: Operand, kind: Kind) -> str:
        key = ("load", buffer, index, mask)
        known = self._share(key)
        if known is not None:
            return known
        reads = (*index, mask)
        made = Load(self.name(f"{buffer}_"), buffer, index, mask, self.axes(reads), kind)
        self.zero_outside[made.name] = frozenset(self.conjuncts(mask))
        return self._define(key, made, reads)

    def take(self, source: str, index: tuple[Operand, ...], local: Collection[str], kind: Kind) -> str:
        """The entry of a resident value at coordinates of its axes that are in `local`."""
        key = ("take", source, index)
        known = self._share(key)
        if known is not None:
            return known
        kept = tuple(axis for axis in self.axes_of[source] if axis not in local)
        axes = tuple(dict.fromkeys((*kept, *self.axes(index))))
        made = Take(self.name(f"{source}_at"), source, index, axes, kind)
        return self._define(key, made, (source, *index))

    def dot(
        self,
        wish: str,
        left: str,
        right: str,
        over: tuple[str, ...],
        init: Operand | None,
        scale: Operand | None,
        mask: Operand = True,
        exposed: tuple[str, ...] = (),
    ) -> str:
        """A sum of products. `mask` and `exposed` are those of `Dot`; without a side that is exposed there is
        nothing to leave out."""
        mask = mask if exposed else True
        exposed = () if mask is True else exposed
        key = ("dot", left, right, over, init, scale, mask, exposed)
        known = self._share(key)
        if known is not None:
            return known
        reads = (left, right, init, scale, mask)
        axes = tuple(axis for axis in self.axes(tuple(x for x in reads if x is not None)) if axis not in over)
        made = Dot(self.name(wish), left, right, over, init, scale, axes, mask, exposed)
        return self._define(key, made, reads)

    def zero_where_not(self, value: Operand) -> frozenset[Operand]:
        """The conjuncts where one of which is false, a value is known to be 0."""
        return self.zero_outside.get(value, frozenset()) if isinstance(value, str) else frozenset()

    def fold_axes(
        self, op: str, value: Operand, over: tuple[str, ...], kind: Kind, wish: str, mask: Operand = True
    ) -> Operand:
        """A reduction over tile axes; a value without them is itself."""
        axes = self.axes((value, mask))
        there = tuple(axis for axis in over if axis in axes)
        left = tuple(axis for axis in axes if axis not in there)
        match op:
            case "sum" | "prod" | "max" | "min" | "any" | "all":
                key = ("fold", op, type(value).__name__, value, there, mask, kind)
                known = self._share(key)
                if known is not None:
                    return known
                made = Fold(self.name(wish), op, value, there, mask, left, kind)
                return self._define(key, made, (value, mask))
            case _:
                raise ValueError(op)

    def carry(self, wish: str, axes: tuple[str, ...], kind: Kind) -> str:
        """The name of a carried value, to be given to `stream`."""
        name = self.name(wish)
        self.axes_of[name], self.kind_of[name] = axes, kind
        self.depth_of[name] = len(self.blocks)
        return name

    def open(self, axes: Collection[str]) -> None:
        """Begin the body of a stream over these axes, carries having been named."""
        for axis in axes:
            for part in ("", ".first", ".last", ".valid"):
                self.depth_of[f"{axis}{part}"] = len(self.blocks)
        self.blocks.append(Block())

    def close(self, axes: tuple[StreamAxis, ...], carries: tuple[Carry, ...], visible: Operand) -> None:
        """End it: the stream becomes one statement of the outermost open block that has what it reads."""
        body = self.blocks.pop()
        made = Stream(axes, carries, tuple(body.statements), visible)
        depth = self._depth_around(made)
        for carry in carries:
            self.depth_of[carry.name] = depth
        self.blocks[depth].statements.append(made)

    def _depth_around(self, stream: Stream) -> int:
        """Where a stream stands that was closed last: what it gives itself lies deeper than all open blocks.
        One that stores stands where it was opened, since it stores once a turn of the streams around it."""
        deepest, pending = 0, [stream]
        while pending:
            each = pending.pop()
            reads = [*operands(each), each.visible, *(carry.next for carry in each.carries)]
            for statement in each.body:
                if isinstance(statement, Store):
                    return len(self.blocks) - 1
                if isinstance(statement, Stream):
                    pending.append(statement)
                else:
                    reads += operands(statement)
            given = (self.depth_of.get(item, 0) for item in reads if isinstance(item, str))
            deepest = max(deepest, *(depth for depth in given if depth < len(self.blocks)), 0)
        return deepest

    def store(self, buffer: str, index: tuple[Operand, ...], value: Operand, mask: Operand) -> None:
        self.blocks[-1].statements.append(Store(buffer, index, value, mask))


_NEUTRAL: Mapping[str, tuple[tuple[Operand, ...], tuple[Operand, ...]]] = {
    "add": ((0,), (0,)), "sub": ((), (0,)), "mul": ((1,), (1,)), "floordiv": ((), (1,)),
    "and": ((True,), (True,)), "or": ((False,), (False,)),
}  # fmt: skip
"""Literals that leave the other operand as it is: on the left, on the right."""


def fold(op: str, args: tuple[Operand, ...], kind: Kind) -> Operand | None:
    """The operand that an operation comes to without computing, if any. Integer and boolean laws
    only where numbers are exact: x + 0.0 is not x for x = -0.0."""
    if op == "select":
        return args[1] if args[0] is True else args[2] if args[0] is False else None
    if op == "not" and isinstance(args[0], bool):
        return not args[0]
    if op in ("and", "or") and len(args) == 2:
        absorbing = op == "or"
        if any(arg is absorbing for arg in args):
            return absorbing
    if op in ("and", "or", "minimum", "maximum") and args[0] == args[1] and isinstance(args[0], str):
        return args[0]
    if op in _NEUTRAL and kind in ("int", "bool"):
        left, right = _NEUTRAL[op]
        if any(args[0] is item or (type(args[0]) is type(item) and args[0] == item) for item in left):
            return args[1]
        if any(args[1] is item or (type(args[1]) is type(item) and args[1] == item) for item in right):
            return args[0]
    if kind == "real" and args and all(type(arg) in (int, float) for arg in args):
        return _fold_reals(op, [float(arg) for arg in args])
    return _fold_integers(op, args)


def _fold_reals(op: str, args: list[float]) -> float | None:
    """Arithmetic on literals, in float64 whatever the kernel computes in."""
    try:
        match op:
            case "add" | "sub":
                return args[0] + args[1] if op == "add" else args[0] - args[1]
            case "mul":
                return args[0] * args[1]
            case "div":
                return args[0] / args[1]
            case "pow":
                power = args[0] ** args[1]
                return None if isinstance(power, complex) else power
            case "sqrt":
                return args[0] ** 0.5 if args[0] >= 0 else None
            case _:
                return None
    except ArithmeticError:
        return None


def _fold_integers(op: str, args: tuple[Operand, ...]) -> Operand | None:
    numbers = [arg for arg in args if type(arg) is int]
    if len(numbers) != len(args):
        return None
    a, b = numbers[0], numbers[-1]
    match op:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "neg":
            return -a
        case "minimum":
            return min(a, b)
        case "maximum":
            return max(a, b)
        case "floordiv" | "mod" if b > 0:
            return a // b if op == "floordiv" else a % b
        case "lt" | "ge":
            return (a < b) == (op == "lt")
        case "le" | "gt":
            return (a <= b) == (op == "le")
        case "eq" | "ne":
            return (a == b) == (op == "eq")
        case _:
            return None
