"""What a kernel costs: the arithmetic that it does, the bytes that it moves, and the time that bounds it.

Counts are taken from the Kernel, so they are what is done, recomputed halos and window corners included:

    products     multiply-adds of Dots, two FLOPs each
    operations   every other addition, multiplication, division, comparison of two reals for the greater,
                 and every entry of a fold of reals: one FLOP each
    functions    exp, log, tanh, roots and their kin, counted apart
    loaded       bytes that tiles load, what several tiles share as often as they load it
    stored       bytes that are stored
    least        what the kernel touches of its tensors, once: what has to cross the memory bus

Integers, truth values and selections are free. The bound is the roofline of S. Williams, A. Waterman,
D. Patterson, "Roofline" (CACM 2009), with a third roof for functions: no kernel is faster on the machine.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from ...dsl.program import Axis, Form, Leaf, Size, walk
from ...dsl.proofs import algebra
from ...dsl.shapes.size_forms import Extent, evaluate_size, size_operands
from ..fusion.plan import Group, Stored
from ..fusion.work import Term, formula_of, least_bytes, operations, word_of
from ..kernels.kernel import Buffer, Dot, Fold, Kernel, Let, Load, Operand, Statement, Store
from ..kernels.phases import Phased
from ..kernels.written import Written
from .reads import Touched, touched, width_of
from .seen import seen
from .trips import Counter, Formula, Loops, Nest, Number

What = Literal["products", "operations", "functions", "loaded", "stored"]
KINDS: tuple[What, ...] = ("products", "operations", "functions", "loaded", "stored")

FUNCTIONS = frozenset(("exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "tanh", "erf", "sigmoid", "pow"))
"""Operations that take many instructions each. A whole constant power is products, and counts as one."""

FREE = frozenset(("select", "to_real", "real", "precise", "neg", "abs"))
"""Operations on reals that move or mark bits."""


@dataclass(frozen=True, slots=True)
class Tally:
    """`weight` of something for every entry over `axes`, at every pass through `loops`; of a load, from which
    buffer."""

    what: What
    weight: int
    axes: frozenset[str]
    loops: Loops
    buffer: str = ""


def tallies(kernel: Kernel) -> tuple[Nest, tuple[Tally, ...]]:
    """All that a kernel does, statement by statement."""
    nest = Nest(kernel)
    buffers = {buffer.name: buffer for buffer in kernel.buffers}
    found = (
        Tally(what, weight, frozenset(axes), loops, statement.buffer if isinstance(statement, Load) else "")
        for statement, loops in nest.statements()
        for what, weight, axes in _done(statement, nest, buffers)
    )
    return nest, tuple(found)


def _done(
    statement: Statement, nest: Nest, buffers: Mapping[str, Buffer]
) -> list[tuple[What, int, tuple[str, ...]]]:
    """What one pass of a statement does, and over which axes."""
    match statement:
        case Dot(left=left, right=right, init=init, scale=scale, axes=axes):
            grown = (init is not None) + (scale is not None)
            ends: list[tuple[What, int, tuple[str, ...]]] = [("operations", grown, axes)] if grown else []
            return [("products", 1, _axes(nest, left, right)), *ends]
        case Fold(kind="real", value=value, mask=mask):
            return [("operations", 1, _axes(nest, value, mask))]
        case Let(kind="real", op=op, args=args, axes=axes) if op not in FREE:
            whole = op == "pow" and isinstance(args[1], int)
            return [("functions" if op in FUNCTIONS and not whole else "operations", 1, axes)]
        case Load(buffer=buffer, axes=axes):
            return [("loaded", width_of(buffers[buffer]), axes)]
        case Store(buffer=buffer, index=index, value=value, mask=mask):
            return [("stored", width_of(buffers[buffer]), _axes(nest, value, mask, *index))]
        case _:
            return []


def _axes(nest: Nest, *items: Operand) -> tuple[str, ...]:
    """The axes of operands together."""
    names = (item for item in items if isinstance(item, str))
    return tuple(dict.fromkeys(axis for name in names for axis in nest.axes_of.get(name, ())))


# --- amounts


@dataclass(frozen=True, slots=True)
class Amount:
    """A count as a formula in the sizes, and its value where they are known. `exact`: the formula comes to the
    value; else it counts tiles at borders as if they lay inside, and comes to more."""

    formula: str
    value: int | None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one step. `fraction` is the part of float32's rates that its arithmetic has. Amounts are
    of all that passes; `done` leaves out the chunks of streams that a mask hides whole, about, and `seen` is
    the part of masked entries that is seen."""

    products: Amount
    operations: Amount
    functions: Amount
    flops: Amount
    loaded: Amount
    stored: Amount
    least: Amount
    fraction: float = 1.0
    done: Mapping[What, float] | None = None
    seen: float = 1.0

    @property
    def worked(self) -> float | None:
        """FLOPs without those of chunks that a mask hides, where that is known."""
        if self.done is None:
            return self.flops.value
        return 2 * self.done["products"] + self.done["operations"]

    @property
    def moved(self) -> int | None:
        """Bytes that tiles load and store, chunks that a mask hides left out."""
        if self.loaded.value is None or self.stored.value is None:
            return None
        return (self.loaded.value if self.done is None else round(self.done["loaded"])) + self.stored.value

    @property
    def intensity(self) -> float | None:
        """FLOPs that are done a byte of the least traffic."""
        if self.worked is None or not self.least.value:
            return None
        return self.worked / self.least.value


def kernel_cost(written: Written, stored: Mapping[Form, Stored], sizes: Mapping[Axis, Extent] | None) -> Cost:
    """The cost of a kernel, in numbers where sizes are given."""
    nest, found = tallies(written.kernel)
    names = written.kernel.sizes
    symbols = {name: algebra.expression(form) for name, form in zip(names, written.numbers, strict=True)}
    spoken = Formula(nest, symbols)
    formulas = totals(found, spoken)
    loaded: Loaded = {}
    values: Mapping[What, int] | None = None
    done, shown = None, 1.0
    if sizes is not None:
        numbers = {n: evaluate_size(form, sizes) for n, form in zip(names, written.numbers, strict=True)}
        counter = Counter(nest, numbers)
        values = totals(found, counter)
        done, shown = _done_of(found, counter)
        loaded = _loaded(found, counter, spoken)
    lengths = _lengths(written, sizes) if sizes is not None else {}
    made = {
        what: _counted(formulas[what], None if values is None else values[what], lengths) for what in KINDS
    }
    flops = _counted(
        2 * formulas["products"] + formulas["operations"],
        None if values is None else 2 * values["products"] + values["operations"],
        lengths,
    )
    least = _least(written, stored, sizes, loaded)
    fraction = 0.5 if written.kernel.real == "float64" else 1.0
    return Cost(
        made["products"], made["operations"], made["functions"], flops, made["loaded"], made["stored"],
        least, fraction, done, shown,
    )  # fmt: skip


Loaded = Mapping[str, tuple[int, Number]]
"""The bytes that are loaded of each buffer, and their formula."""


def _loaded(found: Iterable[Tally], counter: Counter, spoken: Counter) -> Loaded:
    parts: dict[str, list[Tally]] = {}
    for tally in found:
        if tally.buffer:
            parts.setdefault(tally.buffer, []).append(tally)
    return {
        name: (totals(each, counter)["loaded"], totals(each, spoken)["loaded"])
        for name, each in parts.items()
    }


def _counted(formula: Number, value: int | None, lengths: Mapping[str, int]) -> Amount:
    exact = value is None or algebra.valued(formula, lengths) == value
    return Amount(algebra.spelled(formula), value, exact)


def _lengths(written: Written, sizes: Mapping[Axis, Extent]) -> dict[str, int]:
    """The values of the symbols in a kernel's formulas."""
    forms = (form for form in walk(written.numbers, size_operands) if isinstance(form, Size))
    return {word_of(form.axis): evaluate_size(form, sizes) for form in forms}


def _done_of(found: Iterable[Tally], counter: Counter) -> tuple[Mapping[What, float] | None, float]:
    """The totals without what masked streams skip, and the part that is seen of what passes in them."""
    parts = {name: seen(stream, counter) for name, stream in counter.nest.masked().items()}
    known = {name: part for name, part in parts.items() if part is not None}
    if not known:
        return None, 1.0
    total: dict[What, float] = dict.fromkeys(KINDS, 0.0)
    weights = dict.fromkeys(known, 0.0)
    for tally in found:
        count = float(tally.weight * counter.entries(tally.loops, tally.axes))
        for loop in tally.loops:
            if loop.name in known:
                weights[loop.name] += count if tally.what == "products" else 0.0
                count *= known[loop.name].done
        total[tally.what] += count
    every = sum(weights.values()) or 1.0
    return total, sum(known[name].seen * weight for name, weight in weights.items()) / every


def totals(found: Iterable[Tally], counter: Counter) -> dict[What, Number]:
    """The tallies added up by what they are of."""
    total: dict[What, Number] = dict.fromkeys(KINDS, 0)
    for tally in found:
        total[tally.what] = total[tally.what] + tally.weight * counter.entries(tally.loops, tally.axes)
    return total


def _least(
    written: Written, stored: Mapping[Form, Stored], sizes: Mapping[Axis, Extent] | None, loaded: Loaded
) -> Amount:
    """Every buffer once, or what is loaded of it, where that is less."""
    parts = touched(written, stored, sizes)
    if sizes is None:
        return _amount([Term(each.width, each.axes) for each in parts], None)
    terms = [each.term for each in parts]
    whole: list[Term] = []
    values, formulas = 0, list[str]()
    for buffer, term in zip(written.kernel.buffers, terms, strict=True):
        count, formula = loaded.get(buffer.name, (None, 0))
        if count is None or term.at(sizes) <= count:
            whole.append(term)
        else:
            values += count
            formulas.append(algebra.spelled(formula))
    made = _amount(whole, sizes)
    return Amount(" + ".join([made.formula, *formulas] if whole else formulas), (made.value or 0) + values)


def reference_cost(group: Group, stored: Mapping[Form, Stored], sizes: Mapping[Axis, Extent] | None) -> Cost:
    """The cost of a reference operation by its meaning: it works in float64 and stores every value."""
    work, least = operations(group, stored), least_bytes(group, stored, 4)
    nothing = Amount("0", None if sizes is None else 0)
    done, moved = _amount(work, sizes), _amount(least, sizes)
    return Cost(nothing, done, nothing, done, moved, nothing, moved, 0.5)


def _amount(terms: Iterable[Term], sizes: Mapping[Axis, Extent] | None) -> Amount:
    found = list(terms)
    return Amount(formula_of(found), None if sizes is None else sum(term.at(sizes) for term in found))


def program_least(
    written: Mapping[str, Written],
    stored: Mapping[Form, Stored],
    outputs: Container[Form],
    sizes: Mapping[Axis, Extent],
) -> int:
    """The bytes of a program that stores nothing between its kernels: each leaf that one of them reads
    once, and each output once."""
    found: dict[tuple[Form, bool], Touched] = {}
    for each in written.values():
        for buffer, key, part in zip(
            each.kernel.buffers, each.tensors, touched(each, stored, sizes), strict=True
        ):
            if key[0] in outputs or (isinstance(key[0], Leaf) and buffer.role == "in"):
                found[key] = found[key].joined(part) if key in found else part
    return sum(each.term.at(sizes) for each in found.values())


def group_least(
    group: Phased, stored: Mapping[Form, Stored], sizes: Mapping[Axis, Extent], machine: Machine
) -> int | None:
    """The bytes between memory and the phases of a group at least: every tensor once, if an image passes them one
    after the other in a cache that holds it. None where the cache is too small, or unknown, or where all threads
    work at one phase."""
    *extents, held = (evaluate_size(form, sizes) for form in group.numbers)
    alone = group.image_by_image(prod(extents), held, machine.threads)
    if not alone or held > machine.cache:
        return None
    found: dict[tuple[Form, bool], Touched] = {}
    for part in group.parts:
        for key, each in zip(part.written.tensors, touched(part.written, stored, sizes), strict=True):
            found[key] = found[key].joined(each) if key in found else each
    return sum(each.term.at(sizes) for each in found.values())


# --- time


@dataclass(frozen=True, slots=True)
class Machine:
    """What bounds a machine, a second: multiply-adds of float32, bytes of memory, exponentials of float32. `cache`
    are the bytes that a core keeps to itself between two phases, 0 where nobody knows; `threads` share the work."""

    name: str
    products: float
    bytes: float
    functions: float
    cache: int = 0
    threads: int = 1


Roof = Literal["multiply-adds", "memory", "functions"]


@dataclass(frozen=True, slots=True)
class Bound:
    """No machine of these rates does it in less than `seconds`, and `roof` is why."""

    seconds: float
    roof: Roof
    parts: Mapping[Roof, float] = field(default_factory=dict[Roof, float])


def bound(cost: Cost, machine: Machine) -> Bound | None:
    """The predicted bound; None where the sizes are not known. Arithmetic and functions share the same
    units, so their times add up; memory works beside them."""
    if cost.flops.value is None or cost.least.value is None:
        return None
    amounts: dict[What, Amount] = {
        "products": cost.products, "operations": cost.operations, "functions": cost.functions,
    }  # fmt: skip
    done = cost.done or {what: float(each.value or 0) for what, each in amounts.items()}
    rate = cost.fraction * machine.products
    parts: dict[Roof, float] = {
        "multiply-adds": (done["products"] + done["operations"]) / rate,
        "functions": done["functions"] / (cost.fraction * machine.functions),
        "memory": cost.least.value / machine.bytes,
    }
    arithmetic = parts["multiply-adds"] + parts["functions"]
    if parts["memory"] >= arithmetic:
        return Bound(parts["memory"], "memory", parts)
    return Bound(arithmetic, max(("multiply-adds", "functions"), key=lambda roof: parts[roof]), parts)
