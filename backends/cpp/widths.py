"""Are 32 bits enough for the integers in the lanes of a float32 kernel?

Every coordinate and number is taken as at most the largest size in magnitude; a kernel whose arithmetic
could then leave 32 bits is printed with 64-bit lanes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...compiler.kernels.kernel import Fold, Kernel, Let, Load, Operand, Statement, Stream, Take
from ..executable import LARGE
from .layout import Layout

LIMIT = 2**31 - 1


def overflows(kernel: Kernel, most: int = LARGE) -> bool:
    """True if coordinates or integer arithmetic on lanes may exceed 32 bits at sizes up to `most`."""
    if not kernel.lanes or kernel.real != "float32":
        return False
    return most > LIMIT or _Widths(Layout(kernel), most).body(kernel.body)


@dataclass(slots=True)
class _Widths:
    """`most` bounds the magnitude of an integer by name; `counts` are those that add up ones, which
    stay below the number of entries that a kernel ever visits."""

    layout: Layout
    size: int
    most: dict[str, int] = field(default_factory=dict[str, int])
    counts: set[str] = field(default_factory=set[str])

    def body(self, body: tuple[Statement, ...]) -> bool:
        """Whether some integer in the lanes may be too large."""
        for statement in body:
            match statement:
                case Let() | Load() | Take() | Fold() if statement.kind == "int":
                    bound = self.bound(statement)
                    self.most[statement.name] = bound
                    if self.layout.shapes[statement.name].lanes and bound > LIMIT:
                        return True
                case Let(kind="bool") if self.layout.shapes[statement.name].lanes and self.compares(
                    statement
                ):
                    return True
                case Stream() if self.stream(statement):
                    return True
                case _:
                    pass
        return False

    def compares(self, let: Let) -> bool:
        """Whether integers that may be too large are compared in the lanes."""
        numbers = (arg for arg in let.args if self.layout.shape(arg).kind == "int")
        return any(self.magnitude(arg) > LIMIT for arg in numbers)

    def stream(self, stream: Stream) -> bool:
        """A carried integer is taken as a size, and must stay one or count."""
        carries = [carry for carry in stream.carries if carry.kind == "int"]
        for carry in carries:
            self.most[carry.name] = self.size
        if self.body(stream.body):
            return True
        grown = (carry for carry in carries if self.layout.shapes[carry.name].lanes)
        return any(self.magnitude(c.next) > self.size and not self.counting(c.name, c.next) for c in grown)

    def counting(self, name: str, following: Operand) -> bool:
        """Whether a carried integer grows by ones, or by counts of a chunk."""
        step = self.layout.definitions.get(following) if isinstance(following, str) else None
        if not isinstance(step, Let) or step.op != "add" or name not in step.args:
            return False
        others = [arg for arg in step.args if arg != name]
        return all(arg in self.counts or self.magnitude(arg) <= 1 for arg in others)

    def magnitude(self, operand: Operand) -> int:
        if isinstance(operand, str):
            return self.most.get(operand, self.size)
        return abs(int(operand)) if isinstance(operand, int) else self.size

    def bound(self, statement: Let | Load | Take | Fold) -> int:
        match statement:
            case Load():
                return LIMIT + 1
            case Take(source=source):
                return self.magnitude(source)
            case Fold(name=name, op="sum", value=value) if self.magnitude(value) <= 1:
                self.counts.add(name)
                return self.size
            case Fold(op="max" | "min", value=value):
                return self.magnitude(value)
            case Fold():
                return LIMIT + 1
            case Let(op="to_int", args=(arg,)):
                kind = self.layout.shape(arg).kind
                return 1 if kind == "bool" else self.magnitude(arg) if kind == "int" else LIMIT + 1
            case Let(op=op, args=args):
                return _bound(op, [self.magnitude(arg) for arg in args])


def _bound(op: str, args: list[int]) -> int:
    match op:
        case "add" | "sub":
            return args[0] + args[1]
        case "mul":
            return args[0] * args[1]
        case "select":
            return max(args[1:])
        case "minimum" | "maximum":
            return max(args)
        case "neg" | "abs" | "floordiv":
            return args[0]
        case "mod":
            return args[1]
        case "sign":
            return 1
        case _:
            return LIMIT + 1
