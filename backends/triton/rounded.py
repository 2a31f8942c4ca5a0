"""Which float32 tensors a kernel rounds to bfloat16 wherever it reads them: stored so, they give the same
result from half the bytes, and go from memory to the matrix units as they are."""

from __future__ import annotations

from ...compiler.kernels.kernel import Dot, Kernel, Let, Load, Operand, Statement, Stream, every, operands
from .layout import Layout
from .names import unique


def rounded_buffers(kernel: Kernel) -> frozenset[str]:
    """The buffers of reals that only meet numbers stored in bfloat16, in products on matrix units."""
    layout = Layout(unique(kernel))
    statements = list(every(layout.kernel.body))
    found: dict[str, bool] = {}
    for load in statements:
        if isinstance(load, Load) and load.kind == "real":
            before = found.get(load.buffer, layout.kernel.buffer(load.buffer).real == "float32")
            found[load.buffer] = before and _rounded(load.name, layout, statements)
    return frozenset(buffer for buffer, only in found.items() if only)


def _rounded(name: str, layout: Layout, statements: list[Statement]) -> bool:
    """Whether all that reads a value is such a product, masks of the value included."""
    readers = [each for each in statements if name in _reads(each)]
    return all(_rounds(each, name, layout, statements) for each in readers)


def _rounds(reader: Statement, name: str, layout: Layout, statements: list[Statement]) -> bool:
    match reader:
        case Let(op="select", args=(_, value, 0.0)) if value == name:
            return _rounded(reader.name, layout, statements)
        case Dot(left=left, right=right) if reader.name in layout.products and left != right:
            return layout.split(layout.products[reader.name]) == name and name not in (
                reader.init,
                reader.scale,
            )
        case _:
            return False


def _reads(statement: Statement) -> tuple[Operand, ...]:
    if isinstance(statement, Stream):
        inner = (statement.visible, *(carry.next for carry in statement.carries))
        return (*operands(statement), *inner)
    return operands(statement)
