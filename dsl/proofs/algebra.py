# pyright: basic
"""The facade over sympy: what takes more than coefficients is asked here, and only then is it loaded.

The checker's own reasoning (`dsl.shapes.polynomial`, `dsl.proofs.bounds`) settles almost every program, and a cached
program is never checked again, so that importing plait or running a compiled program loads no sympy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..program import Const, Form, Map, Size, walk
from ..shapes.size_forms import is_batch, size_operands


def surely_nonnegative(terms: Mapping[tuple[int, ...], int], nonnegative: Callable[[int], bool]) -> bool:
    """Whether an integer polynomial is at least 0, seen by its factors: even powers, factors whose
    coefficients have one sign. `terms` maps monomials (symbol numbers) to coefficients; `nonnegative`
    says of a symbol whether it is at least 0. False means "not seen", not "negative"."""
    import sympy

    symbols = {n: sympy.Symbol(f"x{n}") for n in sorted({n for monomial in terms for n in monomial})}
    expression = sympy.Add(*(c * sympy.Mul(*(symbols[n] for n in m)) for m, c in terms.items()))
    content, factors = sympy.factor_list(expression)[:2]
    sign = 1 if content >= 0 else -1
    for factor, power in factors:
        if power % 2 == 0:
            continue
        coefficients = sympy.Poly(factor, *symbols.values()).coeffs()
        used = [n for n, symbol in symbols.items() if factor.has(symbol)]
        if not all(map(nonnegative, used)) or min(coefficients) < 0 < max(coefficients):
            return False
        sign *= 1 if min(coefficients) >= 0 else -1
    return sign > 0 or content == 0


KEEPING = ("floor", "ceil", "round", "trunc", "conj", "precise", "to_int")
"""The operations that leave a whole number as it is."""


def expression(form: Form) -> Any:
    """Arithmetic on sizes as a sympy expression in positive integer symbols, one a signature axis, and one an axis
    whose size is a quotient of sizes: such formulas grow when they are put into each other."""
    import sympy

    operations = {
        "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
        "floordiv": lambda a, b: sympy.floor(a / b), "mod": sympy.Mod, "minimum": sympy.Min,
        "maximum": sympy.Max, "pow": lambda a, b: a**b, "abs": sympy.Abs, "sign": sympy.sign,
    }  # fmt: skip
    operations |= dict.fromkeys(KEEPING, lambda a: a)
    made: dict[Form, Any] = {}
    for each in walk((form,), lambda form: () if _quotient(form) else size_operands(form)):
        match each:
            case Const(value=value):
                made[each] = sympy.Integer(value)
            case Size(axis=axis) if axis.size is not None and not _quotient(each):
                made[each] = made[axis.size]
            case Size(axis=axis):
                name = axis.name.replace("..", "batch") if is_batch(axis) else axis.name
                made[each] = sympy.Symbol(name, positive=True, integer=True)
            case Map(op=op, args=args):
                made[each] = operations[op](*(made[arg] for arg in args))
            case _:
                raise ValueError(f"{type(each).__name__} is no arithmetic on sizes")
    return made[form]


def _quotient(form: Form) -> bool:
    """Whether a form is the size of an axis that divides by another size."""
    match form:
        case Size(axis=axis) if axis.size is not None:
            return any(
                isinstance(each, Map)
                and each.op in ("floordiv", "mod")
                and not isinstance(each.args[1], Const)
                for each in walk((axis.size,))
            )
        case _:
            return False


def formula(terms: Sequence[tuple[int, Sequence[Form]]]) -> str:
    """A sum of products of sizes, each with its count, expanded and collected: `16*c*h*w + 4*c`.

    Sizes are forms over axes; divisions that do not come out stay `floor(...)`.
    """
    import sympy

    return spelled(
        sum((count * sympy.Mul(*map(expression, sizes)) for count, sizes in terms), sympy.Integer(0))
    )


def valued(value: Any, sizes: Mapping[str, int]) -> Any:
    """An expression at the sizes of its symbols by name."""
    import sympy

    made = sympy.sympify(value)
    return made.subs({symbol: sizes[symbol.name] for symbol in made.free_symbols})


def spelled(value: Any) -> str:
    """An expression, expanded."""
    import sympy

    return str(sympy.expand(value))


# --- sums over tiles, for counts of loops


def unknown() -> Any:
    """A number that stands for the place of a tile in its row, equal to no other."""
    import sympy

    return sympy.Dummy("i", nonnegative=True, integer=True)


def summed(value: Any, index: Any, count: Any) -> Any:
    """The sum of a polynomial in `index` over 0 .. count-1; `count` may be a fraction."""
    import sympy

    return sympy.expand(sympy.summation(sympy.expand(value), (index, 0, count - 1)))


def tiles(length: Any, step: int) -> Any:
    """How many tiles cover a length: rounded up."""
    import sympy

    return length if step == 1 else sympy.ceiling(sympy.Rational(1, step) * length)


def share(length: Any, step: int) -> Any:
    """A length in tiles, not rounded."""
    import sympy

    return sympy.Rational(1, step) * length


def floored(value: Any, by: int) -> Any:
    """A length divided and rounded down."""
    import sympy

    return sympy.floor(sympy.Rational(1, by) * value)


def contains(value: Any, symbols: Sequence[Any]) -> bool:
    """Whether one of the symbols is in an expression; numbers contain none."""
    return not isinstance(value, int) and value.has(*symbols) if symbols else False


def clamped(op: str, first: Any, second: Any, moving: Sequence[Any]) -> Any:
    """`minimum` or `maximum`. Where one side alone moves with a tile it is taken: a border, which only a
    few tiles meet, is left out, so that a count by it is at least what is done."""
    import sympy

    sides = [contains(side, moving) for side in (first, second)]
    if sides[0] != sides[1]:
        return first if sides[0] else second
    return (sympy.Min if op == "minimum" else sympy.Max)(first, second)
