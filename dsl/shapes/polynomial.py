"""Integer polynomials in numbered symbols: what the sizes and indices of a program are made of.

Small and exact; every definition is checked with them, so they need no library. What takes more than
coefficients (factors) is asked of `dsl.proofs.algebra`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property

Monomial = tuple[int, ...]
"""A product of symbols, sorted, a square said twice; () is the constant one."""

MOST_TERMS = 400


class TooHard(Exception):
    """The reasoning would grow beyond what a definition may cost. Never leaves the checker."""


class Polynomial:
    """A sum of integer multiples of monomials. Immutable; equality is that of the terms."""

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms: dict[Monomial, int] = {m: c for m, c in terms.items() if c}
        if len(self.terms) > MOST_TERMS:
            raise TooHard

    @classmethod
    def _of(cls, terms: dict[Monomial, int]) -> Polynomial:
        """Of terms that are not 0 and not too many."""
        made = cls.__new__(cls)
        made.terms = terms
        return made

    @cached_property
    def _hash(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __repr__(self) -> str:
        parts = [f"{c}{''.join(f'*x{s}' for s in m)}" for m, c in sorted(self.terms.items())]
        return " + ".join(parts) or "0"

    @cached_property
    def symbols(self) -> frozenset[int]:
        return frozenset(symbol for monomial in self.terms for symbol in monomial)

    @property
    def constant(self) -> int:
        """The term without symbols."""
        return self.terms.get((), 0)

    @property
    def number(self) -> int | None:
        """The value, where there is no symbol."""
        return None if self.symbols else self.constant

    def __add__(self, other: Polynomial | int) -> Polynomial:
        return self._plus(as_polynomial(other), 1)

    def __neg__(self) -> Polynomial:
        return Polynomial._of({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self._plus(as_polynomial(other), -1)

    def _plus(self, other: Polynomial, times: int) -> Polynomial:
        if not other.terms:
            return self
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + times * coefficient
        return Polynomial(terms)

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        right = as_polynomial(other).terms
        if right == _ONE:
            return self
        if self.terms == _ONE:
            return as_polynomial(other)
        if len(self.terms) * len(right) > MOST_TERMS * 4:
            raise TooHard
        terms: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in right.items():
                key = _times(m, n)
                terms[key] = terms.get(key, 0) + c * d
        return Polynomial(terms)

    @cached_property
    def reduced(self) -> Polynomial:
        """At least 0 exactly where this is: divided by what all its coefficients share, the constant
        rounded down (the values are integers)."""
        shared = math.gcd(*(c for m, c in self.terms.items() if m))
        return self if shared < 2 else Polynomial({m: c // shared for m, c in self.terms.items()})

    @cached_property
    def _lines(self) -> dict[int, tuple[Polynomial, Polynomial] | None]:
        return {}

    def line_in(self, symbol: int) -> tuple[Polynomial, Polynomial] | None:
        """(slope, rest) with self = slope * symbol + rest and the symbol in neither, if it is so."""
        if symbol not in self._lines:
            self._lines[symbol] = self._line_in(symbol)
        return self._lines[symbol]

    def _line_in(self, symbol: int) -> tuple[Polynomial, Polynomial] | None:
        slope: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for monomial, coefficient in self.terms.items():
            match monomial.count(symbol):
                case 0:
                    rest[monomial] = coefficient
                case 1:
                    slope[tuple(s for s in monomial if s != symbol)] = coefficient
                case _:
                    return None
        return Polynomial._of(slope), Polynomial._of(rest)

    def substitute(self, symbol: int, value: Polynomial) -> Polynomial:
        """`value` in the place of `symbol`."""
        powers = [ONE]
        total = Polynomial({})
        for monomial, coefficient in self.terms.items():
            times = monomial.count(symbol)
            while len(powers) <= times:
                powers.append(powers[-1] * value)
            others = tuple(s for s in monomial if s != symbol)
            total = total + powers[times] * Polynomial({others: coefficient})
        return total

    def divide(self, divisor: Polynomial) -> tuple[Polynomial, Polynomial]:
        """(q, r) with self = q * divisor + r, by the leading monomial of the divisor. A constant
        divisor leaves coefficients in 0 .. divisor - 1."""
        lead = max(divisor.terms, key=_rank)
        leading = divisor.terms[lead]
        if not lead:
            over = {m: c % leading for m, c in self.terms.items()}
            return Polynomial({m: c // leading for m, c in self.terms.items()}), Polynomial(over)
        quotient, rest = Polynomial({}), self
        below: tuple[int, Monomial] = (sys.maxsize, ())
        while left := [m for m in rest.terms if _rank(m) < below]:
            monomial = max(left, key=_rank)
            below = _rank(monomial)
            factor, over = divmod(rest.terms[monomial], leading)
            others = _without(monomial, lead)
            if others is not None and factor and not (lead and over):
                step = Polynomial({others: factor})
                quotient, rest = quotient + step, rest - step * divisor
        return quotient, rest


_ONE = {(): 1}
ONE = Polynomial(_ONE)


def as_polynomial(value: Polynomial | int) -> Polynomial:
    return value if isinstance(value, Polynomial) else Polynomial({(): value})


def symbol_of(number: int) -> Polynomial:
    """The polynomial that is one symbol."""
    return Polynomial({(number,): 1})


def _times(m: Monomial, n: Monomial) -> Monomial:
    return tuple(sorted((*m, *n))) if m and n else m or n


def _rank(monomial: Monomial) -> tuple[int, Monomial]:
    return len(monomial), monomial


def _without(monomial: Monomial, part: Iterable[int]) -> Monomial | None:
    left = list(monomial)
    for symbol in part:
        if symbol not in left:
            return None
        left.remove(symbol)
    return tuple(left)
