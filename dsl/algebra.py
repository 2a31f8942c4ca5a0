# pyright: basic
"""The facade over sympy: what takes more than coefficients is asked here, and only then is it loaded.

The checker's own reasoning (`dsl.polynomial`, `dsl.bounds`) settles almost every program, and a cached
program is never checked again, so that importing plait or running a compiled program loads no sympy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .program import Const, Form, Map, Size, walk
from .size_forms import is_batch, size_operands


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


def formula(terms: Sequence[tuple[int, Sequence[Form]]]) -> str:
    """A sum of products of sizes, each with its count, expanded and collected: `16*c*h*w + 4*c`.

    Sizes are forms over axes; divisions that do not come out stay `floor(...)`.
    """
    import sympy

    def of(form: Form) -> Any:
        made: dict[Form, Any] = {}
        for each in walk((form,), size_operands):
            match each:
                case Const(value=value):
                    made[each] = sympy.Integer(value)
                case Size(axis=axis) if axis.size is not None:
                    made[each] = made[axis.size]
                case Size(axis=axis):
                    name = axis.name.replace("..", "batch") if is_batch(axis) else axis.name
                    made[each] = sympy.Symbol(name, positive=True, integer=True)
                case Map(op=op, args=args):
                    made[each] = operations[op](*(made[arg] for arg in args))
                case _:
                    raise ValueError(f"{type(each).__name__} is no arithmetic on sizes")
        return made[form]

    operations = {
        "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
        "floordiv": lambda a, b: sympy.floor(a / b), "mod": sympy.Mod, "minimum": sympy.Min,
        "maximum": sympy.Max, "pow": lambda a, b: a**b, "abs": sympy.Abs,
    }  # fmt: skip
    total = sympy.Add(*(count * sympy.Mul(*(of(each) for each in sizes)) for count, sizes in terms))
    return str(sympy.expand(total))
