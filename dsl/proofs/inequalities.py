"""One question about integer polynomials: is this one at least 0, wherever these are?

Every symbol stands for an integer, almost always one that is at least 0. A goal is proved by eliminating
symbols with facts (polynomials that are at least 0) until only terms that cannot be negative are left;
for integers, c*goal >= -(c-1) is enough (Fourier-Motzkin with the integer cut). Sound, not complete:
False means "not seen".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..shapes.polynomial import Polynomial, TooHard, symbol_of
from .algebra import surely_nonnegative

PRODUCTS = 32
"""Products of a goal's terms with those of a fact that cost as much as a step."""

Facts = tuple[Polynomial, ...]
"""Assumptions of a case: each is at least 0."""


@dataclass(frozen=True, slots=True)
class Option:
    """One of the values that a symbol may have, and what holds when it has it."""

    value: Polynomial
    given: Facts = ()


@dataclass(slots=True)
class Inequalities:
    """Symbols and what is known of them. `work` is what is left to spend, and TooHard is raised when it is
    used up; `deep` asks sympy where coefficients do not answer."""

    work: int = 0
    deep: bool = False
    count: int = 0
    nonnegative_symbols: set[int] = field(default_factory=set[int])
    facts: dict[int, list[Polynomial]] = field(default_factory=dict[int, list[Polynomial]])
    options: dict[int, tuple[Option, ...]] = field(default_factory=dict[int, tuple[Option, ...]])
    _answers: dict[object, bool] = field(default_factory=dict[object, bool])
    _parents: dict[int, frozenset[int]] = field(default_factory=dict[int, "frozenset[int]"])

    def symbol(self, nonnegative: bool = True, of: Iterable[Polynomial] = ()) -> Polynomial:
        """A new symbol; `of` is what its value is computed from."""
        self.count += 1
        if nonnegative:
            self.nonnegative_symbols.add(self.count)
        self._parents[self.count] = frozenset(s for p in of for s in p.symbols | self.behind(p))
        return symbol_of(self.count)

    def behind(self, value: Polynomial) -> frozenset[int]:
        """The symbols that the symbols of a polynomial are computed from."""
        return frozenset(parent for symbol in value.symbols for parent in self._parents[symbol])

    def forget(self) -> None:
        """Drop what was not seen so far; new facts may show it."""
        self._answers.clear()

    def learn(self, fact: Polynomial) -> None:
        """Add a fact that holds in every case."""
        for symbol in fact.symbols:
            self.facts.setdefault(symbol, []).append(fact)
        line = fact.line_in(next(iter(fact.symbols))) if len(fact.symbols) == 1 else None
        if line is not None and (line[0].number or 0) > 0 and line[1].constant <= 0:
            self.nonnegative_symbols |= fact.symbols

    def spend(self, work: int = 1) -> None:
        if self.work <= 0:
            raise TooHard
        self.work -= work

    def nonnegative(self, goal: Polynomial, given: Facts = ()) -> bool:
        """Whether the goal is surely at least 0 where the given facts hold."""
        if self._eliminate(goal, given, frozenset()):
            return True
        if not self.deep or len(goal.terms) < 2:
            return False
        return self._eliminate(goal, given, frozenset(), again=True) or self._by_factors(goal)

    def _by_factors(self, goal: Polynomial) -> bool:
        squared = any(len(monomial) > 1 for monomial in goal.terms)
        return squared and surely_nonnegative(goal.terms, self.nonnegative_symbols.__contains__)

    def _plain(self, goal: Polynomial) -> bool:
        """Whether no term can be negative."""
        return all(c > 0 for c in goal.terms.values()) and goal.symbols <= self.nonnegative_symbols

    def _eliminate(self, goal: Polynomial, given: Facts, gone: frozenset[int], again: bool = False) -> bool:
        """`gone` are the symbols that no further goal may have; `again` lets each come back once."""
        goal = goal.reduced
        if self._plain(goal):
            return True
        if not goal.symbols:
            return False
        key = (goal, given, gone, again)
        if key not in self._answers:
            self.spend()
            self._answers[key] = any(
                self._eliminate(step, given, self._after(gone, symbol, again), again)
                for symbol, step in self._steps(goal, given, gone)
            ) or self._by_cases(goal, given, gone)
        return self._answers[key]

    def _after(self, gone: frozenset[int], symbol: int, again: bool) -> frozenset[int]:
        """A symbol that may come back is first noted under its opposite number."""
        return gone | {symbol if not again or -symbol in gone else -symbol}

    def _steps(self, goal: Polynomial, given: Facts, gone: frozenset[int]) -> list[tuple[int, Polynomial]]:
        """The goals that would prove this one, each with a symbol less; the shortest first.

        A symbol that pulls the goal down must go in the end, so one of them is tried, the youngest; those
        that lift it matter only where none pulls it down.
        """
        rising: list[tuple[int, Polynomial]] = []
        for symbol in sorted(goal.symbols - gone, reverse=True):
            line = goal.line_in(symbol)
            if line is None:
                continue
            if self._plain(-line[0]):
                return self._without(goal, symbol, line[0], given, gone, rising=False)
            if self._plain(line[0]):
                rising += self._without(goal, symbol, line[0], given, gone, rising=True)
        return sorted(rising, key=lambda step: len(step[1].terms))

    def _without(
        self,
        goal: Polynomial,
        symbol: int,
        slope: Polynomial,
        given: Facts,
        gone: frozenset[int],
        rising: bool,
    ) -> list[tuple[int, Polynomial]]:
        facts = (*(fact for fact in given if symbol in fact.symbols), *self.facts.get(symbol, ()))
        self.spend(len(goal.terms) * sum(len(fact.terms) for fact in facts) // PRODUCTS)
        made = (self._combined(goal, slope, fact, symbol, rising) for fact in facts)
        fitting = (step for step in made if step is not None and not step.symbols & gone)
        return sorted(((symbol, step) for step in fitting), key=lambda step: len(step[1].terms))

    def _combined(
        self, goal: Polynomial, slope: Polynomial, fact: Polynomial, symbol: int, rising: bool
    ) -> Polynomial | None:
        """A goal without the symbol that implies this one, by a fact that bounds it from the right side."""
        line = fact.line_in(symbol)
        if line is None:
            return None
        times, rest = slope.divide(line[0])
        if not rest.terms and self._plain(times):
            return goal - times * fact
        steep = line[0] if rising else -line[0]
        if not self._plain(steep - 1):
            return None
        climb = slope if rising else -slope
        return steep * goal - climb * fact + (steep - 1)

    def _by_cases(self, goal: Polynomial, given: Facts, gone: frozenset[int]) -> bool:
        """A symbol that is one of some options: the goal for each of them."""
        for symbol in sorted(goal.symbols & self.options.keys() - gone, reverse=True):
            without = gone | {symbol}
            if all(
                self._eliminate(goal.substitute(symbol, o.value), merged(given, o.given), without)
                or self.impossible(o.given, given, without)
                for o in self.options[symbol]
            ):
                return True
        return False

    def impossible(self, more: Facts, given: Facts, gone: frozenset[int] = frozenset()) -> bool:
        """Whether further facts contradict those given."""
        return any(self._eliminate(-fact - 1, given, gone) for fact in more)


def merged(given: Facts, more: Iterable[Polynomial]) -> Facts:
    return tuple(dict.fromkeys((*given, *more)))
