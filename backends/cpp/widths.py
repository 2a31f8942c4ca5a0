"""Are 32 bits enough for the integers in the lanes of a float32 kernel?

Every coordinate and number is taken as at most LARGE in magnitude; a kernel whose arithmetic could
then leave 32 bits is printed with 64-bit lanes always, any other one only for larger sizes.
"""

from __future__ import annotations

from ...compiler.kernel import Kernel, Let, Load, Operand
from ..executable import LARGE
from .layout import Layout, every

LIMIT = 2**31 - 1


def overflows(kernel: Kernel) -> bool:
    """True if integer arithmetic on lanes may exceed 32 bits at sizes up to LARGE."""
    if not kernel.lanes or kernel.real != "float32":
        return False
    layout = Layout(kernel)
    most: dict[str, int] = {}

    def magnitude(operand: Operand) -> int:
        if isinstance(operand, str):
            return most.get(operand, LARGE)
        return abs(int(operand)) if isinstance(operand, int) else LARGE

    for statement in every(kernel.body):
        match statement:
            case Let(name=name, op=op, args=args, kind="int"):
                most[name] = _bound(op, [magnitude(arg) for arg in args])
                if layout.shapes[name].lanes and most[name] > LIMIT:
                    return True
            case Load(name=name, kind="int"):
                most[name] = LIMIT + 1
                if layout.shapes[name].lanes:
                    return True
            case _:
                pass
    return False


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
        case "sign" | "to_int":
            return 1
        case _:
            return LIMIT + 1
