"""Proofs that a predicate over indices holds for all sizes: cases, witnesses, and bounds.

A conjunction is proved part by part; a disjunction by one part, or by a later part where an earlier
one fails; `any` over axes by eliminating them (exact where their slopes are one) or by a witness: each
reduced axis at 0, at its lowest, at its highest, or where a test just holds (language.md, 9a).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

from ..arithmetic import SCALAR_OPS, UNDEFINED
from ..constructors.build import low
from ..program import At, Axis, Const, Form, Map, Otherwise, Piece, Reduce, Scalar, walk
from ..shapes.polynomial import Polynomial, TooHard, as_polynomial
from .bounds import Bounds, Environment
from .inequalities import Facts, merged
from .presence import inside, negation, same_range, terms

QUICK, THOROUGH = 600, 6000
"""Steps that a proof may take: of a value on the way, and of an output."""

MOST_CASES = 16
MOST_TESTS = 64
MOST_OFFSETS = 8
MOST_WITNESSES = 40
MOST_NESTED = 50


@dataclass(frozen=True, slots=True)
class Case:
    """What is assumed: integers at least 0, and truth values of what is only looked at from outside."""

    facts: Facts = ()
    truths: frozenset[tuple[object, bool]] = frozenset()


@dataclass(slots=True)
class Prover:
    """Proofs about one program, under its requirements and fixed sizes; every size is at least 1."""

    bounds: Bounds = field(default_factory=Bounds)
    nested: int = 0

    def proves(self, predicate: Form, work: int = QUICK, deep: bool = False) -> bool:
        """Whether the predicate surely holds at every index, for all sizes and all data."""
        self.bounds.work, self.bounds.deep = work, deep
        try:
            return self._prove(predicate, {}, Case())
        except TooHard:
            return False
        finally:
            self.nested = 0

    # --- proving

    def _prove(self, form: Form, env: Environment, case: Case) -> bool:
        self.bounds.spend()
        if self.nested >= MOST_NESTED:
            raise TooHard
        self.nested += 1
        try:
            return self._step(form, env, case)
        finally:
            self.nested -= 1

    def _step(self, form: Form, env: Environment, case: Case) -> bool:
        match form:
            case Const(value=value):
                return value is True
            case Map(op="and"):
                return all(self._prove(part, env, case) for part in terms("and", form))
            case Map(op="or"):
                return self._prove_either(terms("or", form), env, case)
            case Map(op="not", args=(inner,)):
                return self._disprove(inner, env, case)
            case Otherwise(value=At(value=value, indices=indices), fallback=Const(value=False)):
                here = (test for axis, index in indices for test in inside(axis, index))
                return all(self._prove(test, env, case) for test in here) and self._prove(
                    value, self._moved(indices, env), case
                )
            case Otherwise(value=value, fallback=Const(value=False)):
                return self._prove(value, env, case)
            case Reduce(op="any", pieces=(piece,)):
                return self._prove_some(piece, env, case)
            case _:
                return self._prove_atom(form, True, env, case)

    def _disprove(self, form: Form, env: Environment, case: Case) -> bool:
        match form:
            case Const(value=value):
                return value is False
            case Map(op="and"):
                return self._prove_either([negation(part) for part in terms("and", form)], env, case)
            case Map(op="or"):
                return all(self._prove(negation(part), env, case) for part in terms("or", form))
            case Map(op="not", args=(inner,)):
                return self._prove(inner, env, case)
            case Otherwise(value=At(value=value, indices=indices), fallback=Const(value=False)):
                return self._prove(negation(value), self._moved(indices, env), case)
            case Otherwise(value=value, fallback=Const(value=False)):
                return self._prove(negation(value), env, case)
            case Reduce(op="any", pieces=(piece,)):
                everywhere = {axis: self.bounds.variable(axis) for axis in piece.axes}
                return self._prove(negation(piece.value), {**env, **everywhere}, case)
            case _:
                return self._prove_atom(form, False, env, case)

    def _moved(self, indices: Iterable[tuple[Axis, Form]], env: Environment) -> Environment:
        return {**env, **{axis: self.bounds.number(index, env) for axis, index in indices}}

    def _prove_atom(self, form: Form, holds: bool, env: Environment, case: Case) -> bool:
        facts = self.bounds.literal(form, env, holds)
        if facts is not None:
            return all(self.bounds.nonnegative(fact, case.facts) for fact in facts)
        opposite = self.bounds.literal(form, env, not holds)
        if opposite is not None:
            one, other = opposite
            return self.bounds.nonnegative(-one - 1, case.facts) or self.bounds.nonnegative(
                -other - 1, case.facts
            )
        return (self.bounds.key(form, env), holds) in case.truths or self._computed(form, env) is holds

    def _computed(self, form: Form, env: Environment) -> Scalar | None:
        """The value of a form of real numbers where the integers in it are known numbers."""
        values: dict[Form, Scalar] = {}
        try:
            for part in walk((form,)):
                whole = self.bounds.number(part, env).number if part.kind == "int" else None
                if whole is not None:
                    values[part] = whole
                elif isinstance(part, Const):
                    values[part] = part.value
                elif isinstance(part, Map) and all(arg in values for arg in part.args):
                    values[part] = SCALAR_OPS[part.op](*(values[arg] for arg in part.args))
        except UNDEFINED:
            return None
        return values.get(form)

    def _prove_either(self, parts: Sequence[Form], env: Environment, case: Case) -> bool:
        """One of them, or each where those before it fail."""
        if any(self._prove(part, env, case) for part in parts):
            return True
        cases = [case]
        for part in parts if len(parts) > 1 else ():
            open_ = [each for each in cases if not self._prove(part, env, each)]
            cases = [failed for each in open_ for failed in self._assume(part, False, env, each)]
            if len(cases) > MOST_CASES:
                raise TooHard
        return not cases

    # --- assuming

    def _assume(self, form: Form, holds: bool, env: Environment, case: Case) -> list[Case]:
        """Cases that together are all where `form` is `holds`; those that cannot be are left out. What a
        case cannot say is dropped, which only proves less."""
        if self.nested >= MOST_NESTED:
            raise TooHard
        self.nested += 1
        try:
            return self._cases(form, holds, env, case)
        finally:
            self.nested -= 1

    def _cases(self, form: Form, holds: bool, env: Environment, case: Case) -> list[Case]:
        match form:
            case Const(value=value):
                return [case] if value is holds else []
            case Map(op="not", args=(inner,)):
                return self._assume(inner, not holds, env, case)
            case Map(op="and" | "or" as op):
                parts = terms(op, form)
                together = (op == "and") is holds
                return (
                    self._all_of(parts, holds, env, case)
                    if together
                    else self._one_of(parts, holds, env, case)
                )
            case Otherwise(value=At(value=value, indices=indices), fallback=Const(value=False)):
                tests = [test for axis, index in indices for test in inside(axis, index)]
                if holds:
                    cases = self._all_of(tests, True, env, case)
                elif all(self._prove(test, env, case) for test in tests):
                    cases = [case]
                else:
                    return [case]
                moved = self._moved(indices, env)
                return [found for each in cases for found in self._assume(value, holds, moved, each)]
            case Otherwise(value=value, fallback=Const(value=False)):
                return self._assume(value, True, env, case) if holds else [case]
            case Reduce(op="any", pieces=(piece,)):
                somewhere = {axis: self.bounds.variable(axis) for axis in piece.axes}
                return self._assume(piece.value, True, {**env, **somewhere}, case) if holds else [case]
            case _:
                return self._assume_atom(form, holds, env, case)

    def _all_of(self, parts: Iterable[Form], holds: bool, env: Environment, case: Case) -> list[Case]:
        cases = [case]
        for part in parts:
            cases = [found for each in cases for found in self._assume(part, holds, env, each)]
            if len(cases) > MOST_CASES:
                raise TooHard
        return cases

    def _one_of(self, parts: Sequence[Form], holds: bool, env: Environment, case: Case) -> list[Case]:
        """The first part that is `holds`, with those before it not."""
        cases: list[Case] = []
        before = [case]
        for part in parts:
            cases += [found for each in before for found in self._assume(part, holds, env, each)]
            before = [found for each in before for found in self._assume(part, not holds, env, each)]
            if len(cases) > MOST_CASES:
                raise TooHard
        return cases

    def _assume_atom(self, form: Form, holds: bool, env: Environment, case: Case) -> list[Case]:
        facts = self.bounds.literal(form, env, holds)
        if facts is not None:
            return self._with(case, facts)
        opposite = self.bounds.literal(form, env, not holds)
        if opposite is not None:
            return [found for fact in opposite for found in self._with(case, (-fact - 1,))]
        key = self.bounds.key(form, env)
        if (key, not holds) in case.truths:
            return []
        return [Case(case.facts, case.truths | {(key, holds)})]

    def _with(self, case: Case, facts: Facts) -> list[Case]:
        if self.bounds.impossible(facts, case.facts):
            return []
        return [Case(merged(case.facts, facts), case.truths)]

    # --- finding an entry

    def _prove_some(self, piece: Piece, env: Environment, case: Case) -> bool:
        """Some index of the piece's axes satisfies its predicate."""
        bound = {axis: self.bounds.variable(axis) for axis in piece.axes}
        inner = {**env, **bound}
        tests: list[Polynomial] = []
        hard: list[tuple[Form, Environment]] = []
        for part, moved in self._parts(piece.value, inner):
            facts = self.bounds.literal(part, moved)
            if facts is None:
                hard.append((part, moved))
            else:
                tests += facts
        symbols = {axis: max(value.symbols) for axis, value in bound.items()}
        free = set(symbols.values())
        hidden = any(self.bounds.behind(test) & free for test in tests)
        if hidden or any(self._mentions(form, moved, free) for form, moved in hard):
            return self._witness(piece, symbols, tests, env, case)
        rest = all(self._prove(form, moved, case) for form, moved in hard)
        return rest and self._eliminate(tests, list(symbols.items()), case)

    def _parts(self, form: Form, env: Environment) -> Iterator[tuple[Form, Environment]]:
        """The conjuncts of a predicate, each with what its axes stand for."""
        waiting = [(form, env)]
        while waiting:
            part, here = waiting.pop()
            match part:
                case Map(op="and", args=args):
                    waiting += [(arg, here) for arg in reversed(args)]
                case Otherwise(value=At(value=value, indices=indices), fallback=Const(value=False)):
                    for axis, index in indices:
                        yield from ((test, here) for test in inside(axis, index))
                    waiting.append((value, self._moved(indices, here)))
                case Otherwise(value=value, fallback=Const(value=False)):
                    waiting.append((value, here))
                case _:
                    yield part, here

    def _mentions(self, form: Form, env: Environment, symbols: set[int]) -> bool:
        used = [env[axis] for axis in form.axes if axis in env]
        return any(symbols & (value.symbols | self.bounds.behind(value)) for value in used)

    def _eliminate(self, tests: list[Polynomial], axes: list[tuple[Axis, int]], case: Case) -> bool:
        """Whether the tests hold together for some offsets of the axes."""
        self.bounds.spend()
        if len(tests) > MOST_TESTS:
            raise TooHard
        if not axes:
            return all(self.bounds.nonnegative(test, case.facts) for test in tests)
        for place, (axis, symbol) in enumerate(axes):
            left = self._without(tests, axis, symbol)
            if left is not None:
                return self._eliminate(left, axes[:place] + axes[place + 1 :], case)
        (axis, symbol), *others = axes
        for offset in self._offsets(tests, axis, symbol):
            there = [test.substitute(symbol, offset) for test in tests]
            if self._eliminate([*there, *self._range(axis, offset)], others, case):
                return True
        return False

    def _range(self, axis: Axis, offset: Polynomial) -> list[Polynomial]:
        return [offset, self.bounds.extent(axis) - 1 - offset]

    def _without(self, tests: Sequence[Polynomial], axis: Axis, symbol: int) -> list[Polynomial] | None:
        """The tests without the symbol, exactly, if each that has it has it with slope 1 or -1: some
        integer fits where every lower end is at most every upper end."""
        lower, upper = [as_polynomial(0)], [self.bounds.extent(axis) - 1]
        others: list[Polynomial] = []
        for test in tests:
            line = test.line_in(symbol)
            slope = line[0].number if line is not None else None
            if line is None or slope not in (0, 1, -1):
                return None
            if slope == 0:
                others.append(test)
            elif slope > 0:
                lower.append(-line[1])
            else:
                upper.append(line[1])
        ends = [high - low for low in lower for high in upper]
        return others + [
            end for end in dict.fromkeys(ends) if not (end.number is not None and end.number >= 0)
        ]

    def _offsets(self, tests: Sequence[Polynomial], axis: Axis, symbol: int) -> list[Polynomial]:
        """Where an entry is looked for: at 0, lowest, highest, and where a test just holds."""
        lowest = self._lowest(axis)
        found = [-lowest, as_polynomial(0), self.bounds.extent(axis) - 1]
        for test in tests:
            line = test.line_in(symbol)
            if line is None or not line[0].terms:
                continue
            slope, rest = line
            highest = self.bounds.quotient(rest, -slope)
            least = self.bounds.quotient(-rest + slope - 1, slope)
            found += [end for end in (highest, least) if end is not None]
        return list(dict.fromkeys(found))[:MOST_OFFSETS]

    def _lowest(self, axis: Axis) -> Polynomial:
        return self.bounds.number(low(axis), {})

    def _alike(self, axis: Axis, form: Form, env: Environment) -> list[Polynomial]:
        """The place of another axis of the predicate that has the same range."""
        others = (other for other in form.axes if other != axis and same_range(other, axis))
        values = (env[other] if other in env else self.bounds.coordinate(other) for other in others)
        return [value - self._lowest(axis) for value in values]

    def _witness(
        self,
        piece: Piece,
        symbols: Mapping[Axis, int],
        tests: Sequence[Polynomial],
        env: Environment,
        case: Case,
    ) -> bool:
        """Try the same place for all axes first, then every combination of places."""
        free = set(symbols.values())
        places = {
            axis: [*self._offsets(tests, axis, symbol), *self._alike(axis, piece.value, env)]
            for axis, symbol in symbols.items()
        }
        places = {axis: [o for o in found if not o.symbols & free] for axis, found in places.items()}
        alike = zip(*places.values(), strict=False)
        for chosen in islice((*alike, *islice(product(*places.values()), MOST_WITNESSES)), MOST_WITNESSES):
            offsets = dict(zip(places, chosen, strict=True))
            if not all(
                self.bounds.nonnegative(test, case.facts)
                for axis, offset in offsets.items()
                for test in self._range(axis, offset)
            ):
                continue
            values = {axis: offset + self._lowest(axis) for axis, offset in offsets.items()}
            if self._prove(piece.value, {**env, **values}, case):
                return True
        return False
