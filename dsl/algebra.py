# pyright: basic
"""The facade over sympy: what takes more than coefficients is asked here, and only then is it loaded.

The checker's own reasoning (`dsl.polynomial`, `dsl.bounds`) settles almost every program, and a cached
program is never checked again, so that importing plait or running a compiled program loads no sympy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


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
