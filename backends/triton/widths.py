"""Whether the integers of a kernel fit 32 bits for the sizes of a call: interval arithmetic over its
coordinates. What depends on data (integers loaded, folded, carried, rounded) never counts as fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

from ...compiler.kernels.kernel import Fold, Kernel, Let, Load, Operand, Statement, Stream
from .layout import power_of_two
from .names import unique

MOST = 2**31 - 1

Range = tuple[int, int]


def fits_int32(kernel: Kernel, sizes: Sequence[int]) -> bool:
    """True if every integer of the kernel, its coordinates beyond the edge included, lies in int32."""
    return Widths(dict(zip(kernel.sizes, ((size, size) for size in sizes), strict=True))).fits(unique(kernel))


@dataclass(slots=True)
class Widths:
    """`ranges` holds the range of every integer in scope."""

    ranges: dict[str, Range]
    kinds: dict[str, str] = field(default_factory=dict[str, str])

    def fits(self, kernel: Kernel) -> bool:
        tiles = 1
        for axis in kernel.grid:
            low, size = self._range(axis.low), self._range(axis.size)
            if (
                low is None
                or size is None
                or not self._axis(axis.name, (low[0], low[1] + size[1]), axis.tile)
            ):
                return False
            tiles *= max(0, -(-size[1] // axis.tile))
        for local in kernel.locals:
            self._axis(local.name, (local.low, local.low + local.size), local.size)
        return (
            tiles <= MOST and all(_small(each) for each in self.ranges.values()) and self._body(kernel.body)
        )

    def _axis(self, name: str, reach: Range, step: int) -> bool:
        """The range of a coordinate that runs through `reach`, and of its tiles' edges."""
        low, stop = reach
        beyond = max(power_of_two(step), 16) + step
        self.ranges[name] = (min(low, stop), max(low, stop) + beyond)
        self.ranges[f"{name}.first"] = self.ranges[f"{name}.last"] = self.ranges[name]
        return _small(self.ranges[name])

    def _body(self, body: tuple[Statement, ...]) -> bool:
        return all(self._statement(statement) for statement in body)

    def _statement(self, statement: Statement) -> bool:
        match statement:
            case Let(name=name, kind=kind):
                self.kinds[name] = kind
                if kind != "int":
                    return all(_small(self._range(arg) or (0, 0)) for arg in statement.args)
                found = self._let(statement)
                if found is None or not _small(found):
                    return False
                self.ranges[name] = found
                return True
            case Load(kind=kind) | Fold(kind=kind):
                return kind != "int"
            case Stream():
                return self._stream(statement)
            case _:
                return True

    def _stream(self, stream: Stream) -> bool:
        if any(carry.kind == "int" for carry in stream.carries):
            return False
        chunks: list[int] = []
        for axis in stream.axes:
            low, stop = self._range(axis.low), self._range(axis.stop)
            if low is None or stop is None or not self._axis(axis.name, (low[0], stop[1]), axis.step):
                return False
            chunks.append(max(0, -(-(stop[1] - low[0]) // axis.step)))
        return prod(chunks) <= MOST and self._body(stream.body)

    def _range(self, operand: Operand) -> Range | None:
        """The range of an integer operand; nothing for a real or a truth value."""
        match operand:
            case bool() | float():
                return None
            case int():
                return operand, operand
            case str():
                return self.ranges.get(operand)

    def _let(self, let: Let) -> Range | None:
        args = let.args
        if let.op == "select":
            args = let.args[1:]
        elif let.op == "to_int" and self.kinds.get(str(let.args[0])) == "bool":
            return 0, 1
        ranges = [self._range(arg) for arg in args]
        rule = RULES.get(let.op)
        if rule is None or None in ranges:
            return None
        return rule(*ranges)


def _small(reach: Range) -> bool:
    return reach[0] >= -MOST and reach[1] <= MOST


def _corners(function: Callable[[int, int], int]) -> Callable[[Range, Range], Range]:
    """The rule of a function that is monotonic in each argument."""

    def rule(a: Range, b: Range) -> Range:
        corners = [function(x, y) for x in a for y in b]
        return min(corners), max(corners)

    return rule


def _divide(a: Range, b: Range) -> Range | None:
    if b[0] <= 0 <= b[1]:
        return None
    return _corners(lambda x, y: x // y)(a, b)


def _remainder(a: Range, b: Range) -> Range | None:
    """Between 0 and the divisor; Triton's own remainder may lie on the other side of 0 on the way."""
    if b[0] <= 0 <= b[1]:
        return None
    most = max(map(abs, b))
    return -most, most


def _absolute(a: Range) -> Range:
    return (0 if a[0] <= 0 <= a[1] else min(map(abs, a))), max(map(abs, a))


def _power(a: Range, n: Range) -> Range | None:
    """Only small exponents; squarings beyond the exponent overflow without being used."""
    if not 0 <= n[0] <= n[1] <= 62:
        return None
    most = max(1, *map(abs, a)) ** n[1]
    return -most, most


def _same(a: Range) -> Range:
    return a


RULES: dict[str, Callable[..., Range | None]] = {
    "add": _corners(lambda x, y: x + y),
    "sub": _corners(lambda x, y: x - y),
    "mul": _corners(lambda x, y: x * y),
    "floordiv": _divide,
    "mod": _remainder,
    "pow": _power,
    "neg": lambda a: (-a[1], -a[0]),
    "minimum": _corners(min),
    "maximum": _corners(max),
    "select": lambda a, b: (min(a[0], b[0]), max(a[1], b[1])),
    "abs": _absolute,
    "sign": lambda a: (-1, 1),
    **dict.fromkeys(("floor", "ceil", "round", "trunc", "to_int", "precise", "conj"), _same),
}
"""The range of each integer operation. A row that lacks here makes the kernel use int64."""
