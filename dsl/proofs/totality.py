"""Is every output, update and carry present at each of its indices? Three answers.

*proved*: `dsl.proofs.prove` shows it for all sizes. *refuted*: a small call has an index where it is absent, or
may be for some data; a mistake with the smallest such call. *open*: neither; then each new assignment of
sizes is evaluated once, before anything runs (language.md, decisions 9 and 9a).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

from ..arithmetic import UNDEFINED
from ..program import Axis, Const, Form, Program, Scan, walk
from ..shapes.size_forms import Extent, Sizes, axis_range, closed, form_axes, is_batch, program_axes, record
from ..source import Span
from .boxes import PART_CELLS, nested_cells, parts, volume
from .grid import Grid, first_false
from .presence import TRUE, Presence, conjunction, terms
from .prove import QUICK, THOROUGH
from .requirements import prover_of

LARGEST = 7
"""Sizes 1 to this are tried."""

USUAL = (*range(1, 17), 24, 32, 48, 64, 96, 128, 192, 256, 512)
"""Sizes for axes that do not matter, where a requirement asks for more than 1."""

LARGEST_MARK, MOST_MARKS = 512, 4
"""A program's own constants up to this say where else to try."""

FIRST_CALLS = 30
"""How many are tried before a thorough proof: most mistakes show at once."""

MOST_CALLS, LEAST_CALLS = 2500, 8
MOST_CELLS, MOST_STEPS = 1 << 22, 50_000
"""How many calls are tried for one value, how many cells they may have together, and how many array
operations they may take."""


@dataclass(frozen=True, slots=True)
class Obligation:
    """A value that must be total, and what it is to the user."""

    what: str
    form: Form
    span: Span | None


@dataclass(frozen=True, slots=True)
class Finding:
    """An obligation that is not proved: `predicate` says where the value is present."""

    what: str
    form: Form
    predicate: Form
    span: Span | None

    def __str__(self) -> str:
        return f"that {self.what} is present everywhere is checked once for each new set of sizes"


@dataclass(frozen=True, slots=True)
class Absence:
    """Sizes and an index where a value is absent; `surely`, or for some data."""

    sizes: Sizes
    index: dict[Axis, int]
    surely: bool


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is not proved of a program: refuted with the absence that shows it, or open."""

    presence: Presence
    refuted: tuple[tuple[Finding, Absence], ...]
    open: tuple[Finding, ...]


def analyse(program: Program, empty_batch: bool = False) -> Analysis:
    """Decide every obligation; with `empty_batch`, for calls whose `...` has no entry (none is refuted
    then: what is not proved is open)."""
    prover = prover_of(program)
    if empty_batch:
        for axis in filter(is_batch, program_axes(program)):
            prover.bounds.may_be_empty.add(axis)
            prover.bounds.extents[axis] = prover.bounds.symbol()

    proved: dict[Form, bool] = {}

    def settle(_form: Form, predicate: Form) -> Form:
        parts = terms("and", predicate)
        for part in parts:
            if part not in proved:
                proved[part] = prover.proves(part, QUICK)
        return conjunction(part for part in parts if not proved[part])

    presence = Presence(frozenset(d.leaf for d in program.declarations if d.optional), settle)
    refuted: list[tuple[Finding, Absence]] = []
    unproved: list[Finding] = []
    for each in obligations(program):
        predicate = presence.of(each.form)
        if predicate == TRUE:
            continue
        finding = Finding(each.what, each.form, predicate, each.span)
        absence = None if empty_batch else smallest_absence(program, predicate, FIRST_CALLS)
        if absence is None or not absence.surely:
            if prover.proves(predicate, THOROUGH, deep=True):
                continue
            absence = None if empty_batch else smallest_absence(program, predicate)
        if absence is None:
            unproved.append(finding)
        else:
            refuted.append((finding, absence))
    return Analysis(presence, tuple(refuted), tuple(unproved))


def obligations(program: Program) -> Iterator[Obligation]:
    """Outputs, updates, and of each scan the first values, the steps and the stopping test."""
    for output in program.outputs:
        yield Obligation(f"output `{output.name}`", output.value, output.span)
    for update in program.updates:
        yield Obligation(f"the update of buffer `{update.buffer.name}`", update.value, update.span)
    seen: set[Form] = set()
    for form in program.forms:
        if not isinstance(form, Scan):
            continue
        named = f"the scan over `{form.axis.name}`"
        for carry in form.carries:
            for part, what in ((carry.init, "the first value"), (carry.step, "a step")):
                if part not in seen:
                    seen.add(part)
                    yield Obligation(f"{what} of {named}", part, form.span)
        if form.until is not None and form.until not in seen:
            seen.add(form.until)
            yield Obligation(f"the `until` of {named}", form.until, form.span)


# --- small calls


def smallest_absence(program: Program, predicate: Form, calls: int = MOST_CALLS) -> Absence | None:
    """The first of the small calls where the predicate is false somewhere, or may be."""
    cells = 0
    possible: Absence | None = None
    calls = min(calls, max(LEAST_CALLS, MOST_STEPS // sum(1 for _ in walk((predicate,)))))
    for sizes in islice(small_calls(program, predicate), calls):
        cells += volume(predicate, sizes)
        if cells > MOST_CELLS:
            break
        absence = absence_at(predicate, sizes)
        if absence is not None and absence.surely:
            return absence
        possible = possible or absence
        if possible is not None and math.prod(_extents(sizes)) > 8:
            break
    return possible


def _extents(sizes: Mapping[Axis, Extent]) -> list[int]:
    return [size for size in sizes.values() if isinstance(size, int)]


def small_calls(program: Program, predicate: Form) -> Iterator[Sizes]:
    """The legal small sizes, smallest sum first; axes that the predicate does not depend on have one size
    that is legal, the smallest."""
    fixed = dict(program.fixed)
    axes = program_axes(program)
    free = [axis for axis in axes if axis.size is None and axis not in fixed]
    connected = _connected(program, predicate)
    varied = [axis for axis in free if axis in connected and not is_batch(axis)]
    rest = [axis for axis in free if axis not in varied]
    conditions = _Conditions(program, (*free, *fixed))
    others = _Conditions(program, (*free, *fixed), without=varied)
    usual = next((size for size in USUAL if others.hold(dict.fromkeys(free, size) | fixed)), 1)
    for chosen in _assignments(program, predicate, varied):
        sizes: Sizes = {**dict.fromkeys(rest, usual), **dict(zip(varied, chosen, strict=True)), **fixed}
        if conditions.hold(sizes):
            yield sizes


class _Conditions:
    """What sizes must satisfy: no derived axis is empty, and every requirement holds. Those that mention
    an axis of `without` are left out."""

    def __init__(self, program: Program, axes: Sequence[Axis], without: Collection[Axis] = ()) -> None:
        def kept(form: Form) -> bool:
            return not any(axis in without for axis in closed(form_axes((form,))))

        sizes = [a.size for a in program_axes(program) if a.size is not None and kept(a.size)]
        tests = [require.predicate for require in program.requires if kept(require.predicate)]
        self._tape = record((*sizes, *tests), axes)
        self._ends = self._tape.results[: len(sizes)]
        self._tests = self._tape.results[len(sizes) :]

    def hold(self, sizes: Mapping[Axis, Extent]) -> bool:
        extents = [sizes[axis] for axis in self._tape.axes]
        try:
            values = self._tape.run([size if isinstance(size, int) else 1 for size in extents])
        except UNDEFINED:
            return False
        legal = all(int(values[slot].real) >= 1 for slot in self._ends)
        return legal and all(values[slot] is True for slot in self._tests)


def _connected(program: Program, predicate: Form) -> set[Axis]:
    """The axes whose sizes matter to the predicate: its own, and those tied to them by a requirement or
    by the size of a derived axis."""
    found = set(closed(form_axes((predicate,))))
    ties = [set(closed(form_axes((require.predicate,)))) for require in program.requires]
    ties += [set(closed((axis,))) for axis in program_axes(program) if axis.size is not None]
    before = -1
    while before != len(found):
        before = len(found)
        found = found.union(*(tie for tie in ties if tie & found))
    return found


def _assignments(program: Program, predicate: Form, axes: Sequence[Axis]) -> list[tuple[int, ...]]:
    """Sizes for the axes, smallest sum first: 1 to 7 (fewer for many axes), and about the constants that
    the program compares sizes with."""
    most = next((most for most in range(LARGEST, 1, -1) if most ** len(axes) <= MOST_CALLS), 1)
    marks = _marks(program, predicate)
    values = [sorted({*range(1, most + 1), *marks.get(axis, ())}) for axis in axes]
    chosen = islice(product(*values), MOST_CALLS * 4)
    return sorted(chosen, key=lambda sizes: (sum(sizes), sizes))[:MOST_CALLS]


def _marks(program: Program, predicate: Form) -> dict[Axis, list[int]]:
    """For each axis the sizes just around, and twice, the larger constants that stand near it."""
    derived = (axis.size for axis in program_axes(program) if axis.size is not None)
    found: dict[Axis, set[int]] = {}
    for form in (predicate, *derived, *(require.predicate for require in program.requires)):
        constants = {
            part.value for part in walk((form,)) if isinstance(part, Const) and type(part.value) is int
        }
        for axis in closed(form_axes((form,))):
            found.setdefault(axis, set()).update(c for c in constants if LARGEST <= c <= LARGEST_MARK)
    return {
        axis: [near for c in sorted(marks)[:MOST_MARKS] for near in (c - 1, c, c + 1, 2 * c)]
        for axis, marks in found.items()
    }


# --- one call


def absence_at(predicate: Form, sizes: Mapping[Axis, Extent]) -> Absence | None:
    """The first index, in the order of the predicate's axes, where it does not surely hold; one where it
    surely does not is preferred. In parts, so that memory stays bounded."""
    ranges = {axis: axis_range(axis, sizes) for axis in predicate.axes}
    possible: Absence | None = None
    grid = Grid(sizes)
    for part in parts(ranges, PART_CELLS // nested_cells(predicate, sizes)):
        truth = grid.holds(predicate, part)
        for array, surely in ((truth.maybe, True), (truth.sure, False)):
            place = first_false(array)
            if place is None:
                continue
            index = {axis: part[axis][at] for axis, at in zip(part, place, strict=True)}
            found = Absence(dict(sizes), index, surely)
            if surely:
                return found
            possible = possible or found
            break
    return possible
