"""What an expert would note of a kernel, in words: what it computes, how its schedule runs, what stays in
registers and caches, and what bounds it. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from ...dsl.constructors.build import size
from ...dsl.program import At, Axis, Form, Leaf, Map, Place, Reduce, walk
from ...dsl.shapes.size_forms import Extent, evaluate_size
from ..algorithms.chunks import PART, part_axes
from ..fusion.contraction import contraction, inside
from ..fusion.plan import Group, Stored
from ..fusion.work import Term, formula_of, word_of
from ..kernels.written import Written
from ..pipeline import Planned
from ..schedules.lower import constant_value
from .cost import FUNCTIONS, Amount, Bound, Cost, Machine, bound
from .loops_in_words import schedule

Sizes = Mapping[Axis, Extent]


@dataclass(frozen=True, slots=True)
class Note:
    """The notes of one step: what is `made` by what `family` of kernels, `lines` are (what of it, words)."""

    name: str
    made: str
    family: str
    lines: tuple[tuple[str, str], ...]
    cost: Cost
    bound: Bound | None
    fused: bool

    @property
    def title(self) -> str:
        return f"{self.made}: {self.family}"


FAMILIES = {
    "stream": "streaming softmax: queries in the lanes, keys pass by, no scores in memory",
    "sum": "streaming sum: queries in the lanes, keys pass by, every entry computed on the way",
    "tiles": "tiles of the result, reductions inside",
}


def note(
    group: Group,
    planned: Planned,
    written: Written | None,
    cost: Cost,
    sizes: Sizes | None,
    machine: Machine | None,
) -> Note:
    """The notes of a group; `written` is None for a reference operation."""
    stored = planned.plan.stored
    made = ", ".join(map(_value, group.results))
    lines: list[tuple[str, str]] = [("computes", computes(group, stored, sizes))]
    if group.result.form in planned.parts:
        lines.append(("parts", in_parts(group.result.form, sizes)))
    if written is not None:
        lines += schedule(written.kernel)
        lines += dense(group, stored, sizes)
    limit = bound(cost, machine) if machine is not None and written is not None else None
    lines += costs(cost, limit, machine)
    if group.family == "tiles" and group.reason:
        lines.append(("unstreamed", group.reason))
    if isinstance(group.result.form, Place):
        lines.append(("order", "a GPU adds in the order of arrival, unless deterministic=True"))
    return Note(group.result.name, made, family(group), tuple(lines), cost, limit, written is not None)


def in_parts(form: Form, sizes: Sizes | None) -> str:
    """What the parts of a long reduction are: its result would be too few tiles for the threads."""
    counts = [(word_of(axis), extent(axis, sizes)) for axis in part_axes(form)]
    known = [count for _, count in counts if count is not None]
    many = f"{prod(known):,} " if known and len(known) == len(counts) else ""
    along = ", ".join(name.removesuffix(PART) for name, _ in counts)
    return (
        f"{many}parts of a long reduction{f' along {along}' if along else ''}, side by side, since its result is too "
        "few tiles; how many hangs on sizes alone, so bits do not depend on threads"
    )


def _value(result: Stored) -> str:
    return f"{result.name}[{', '.join(map(word_of, result.axes))}]"


def family(group: Group) -> str:
    if group.family == "reference":
        return f"reference operation, because {group.reason}"
    if group.family == "stream" and group.reason:
        return FAMILIES["stream"].replace("softmax", f"softmax {group.reason}", 1)
    return FAMILIES[group.family]


# --- what it computes


def computes(group: Group, stored: Mapping[Form, Stored], sizes: Sizes | None) -> str:
    """The reductions of a group from the first to the last, then its functions."""
    own = tuple(each.form for each in group.results)
    others = {form: each for form, each in stored.items() if form not in own}
    forms = tuple(dict.fromkeys(form for root in own for form in inside(root, others)))
    parts = [_reduction(form, others, sizes) for form in forms if isinstance(form, Reduce)]
    names = [form.op for form in forms if isinstance(form, Map) and form.kind == "real"]
    functions = sorted(FUNCTIONS & {name for name in names if name != "pow"})
    pointwise = f"{len(names)} pointwise operations" if len(names) != 1 else "1 pointwise operation"
    if functions:
        pointwise += f" ({', '.join(functions)} among them)"
    if names:
        parts.append(pointwise)
    return "; ".join(_counted(parts)) or "a copy"


def _counted(parts: list[str]) -> Iterator[str]:
    """Equal neighbours as one, with how often."""
    for i, part in enumerate(parts):
        if i and parts[i - 1] == part:
            continue
        times = next((n for n, each in enumerate(parts[i:]) if each != part), len(parts) - i)
        yield part if times == 1 else f"{times} times {part}"


def _reduction(form: Reduce, stored: Collection[Form], sizes: Sizes | None) -> str:
    axes = [axis for piece in form.pieces for axis in piece.axes]
    entries = _entries(form, sizes)
    many = "" if entries is None else f"{entries:,} "
    found = contraction(form, stored)
    one, several = ("entry", "entries") if found is None else ("product", "products")
    what = one if entries == 1 else several
    weights = _weights(form, stored) if found is not None else ()
    by = f" with {', '.join(f'`{name}`' for name in weights)}" if weights else ""
    over = ", ".join(dict.fromkeys(word_of(axis) for axis in axes))
    union = f" in {len(form.pieces)} domains" if len(form.pieces) > 1 else ""
    return f"{form.op}[{over}] of {many}{what}{by}{union}"


def _entries(form: Reduce, sizes: Sizes | None) -> int | None:
    total = 0
    for piece in form.pieces:
        extents = [extent(axis, sizes) for axis in piece.axes]
        if None in extents:
            return None
        total += prod(each or 0 for each in extents)
    return total


def extent(axis: Axis, sizes: Sizes | None) -> int | None:
    """The size of an axis at a call, or one that is the same at every call."""
    return constant_value(size(axis), {}) if sizes is None else evaluate_size(size(axis), sizes)


def _weights(form: Reduce, stored: Collection[Form]) -> tuple[str, ...]:
    """The parameters that are factors of a sum of products."""
    found = contraction(form, stored)
    factors = [] if found is None else [factor.form for factor in found.factors if factor.weight]
    leaves = (each for factor in factors for each in walk((factor,)) if isinstance(each, Leaf))
    return tuple(dict.fromkeys(leaf.name for leaf in leaves))


def dense(group: Group, stored: Mapping[Form, Stored], sizes: Sizes | None) -> Iterator[tuple[str, str]]:
    """Why a sum of products is not handed to a library: what that would put into memory, or nothing gained."""
    others = {form: each for form, each in stored.items() if form != group.result.form}
    forms = inside(group.result.form, others)
    sums = [each for each in forms if isinstance(each, Reduce) and _matrix(each, others)]
    if group.family != "tiles" or not sums:
        return
    kept: dict[Form, None] = {}
    for each in sums:
        found = contraction(each, others)
        assert found is not None
        sides = (_source(factor.form) for factor in found.factors if not factor.weight)
        kept |= dict.fromkeys(side for side in sides if not isinstance(side, Leaf) and side not in others)
        kept |= dict.fromkeys([each] if each != group.result.form else [])
    if not kept:
        yield (
            "library",
            "a bare product, kept here: torch's own is no faster by measurement (docs/architecture.md)",
        )
        return
    terms = [Term(8, form.axes) for form in kept]
    more = formula_of(terms) if sizes is None else bytes_of(sum(term.at(sizes) for term in terms))
    yield (
        "library",
        f"not called for the products: what is before and after them would go through memory, {more} more",
    )


def _source(form: Form) -> Form:
    """What a read reads."""
    while isinstance(form, At):
        form = form.value
    return form


def _matrix(form: Reduce, stored: Collection[Form]) -> bool:
    """A sum of products whose sides have axes of the result of their own: a matrix product, or a dense
    convolution."""
    found = contraction(form, stored)
    return found is not None and bool(found.rows(form.axes))


# --- what it costs


ALL_BUT = 0.995
"""A mask that hides less is not worth a word."""


def costs(cost: Cost, limit: Bound | None, machine: Machine | None) -> Iterator[tuple[str, str]]:
    """FLOPs, bytes against the least, intensity, bound."""
    yield "FLOPs", _amount(cost.flops)
    if cost.functions.formula != "0":
        yield "functions", _amount(cost.functions)
    if cost.worked is not None and cost.flops.value:
        part = cost.worked / cost.flops.value
        if part < ALL_BUT or cost.seen < ALL_BUT:
            hidden = (
                f"about {part:.0%} of that is done, the mask hides the rest"
                if part < ALL_BUT
                else "all is done"
            )
            yield "masked", f"{hidden}; about {cost.seen:.0%} of what passes is seen"
    least = f"{_amount(cost.least)} at least"
    if cost.moved is not None and cost.least.value:
        least += f"; tiles move {bytes_of(cost.moved)}, {cost.moved / cost.least.value:.2f} times that"
    yield "bytes", least
    if cost.intensity is not None:
        yield "intensity", f"{cost.intensity:.1f} FLOPs a byte"
    if limit is not None and machine is not None:
        parts = ", ".join(f"{roof} {seconds(time)}" for roof, time in limit.parts.items() if time)
        yield "bound", f"{seconds(limit.seconds)} by {limit.roof} ({parts}) on {machine.name}"


def _amount(amount: Amount) -> str:
    """The formula and what it comes to; or what is done of it, where tiles at borders have less to do."""
    formula, value = amount.formula, amount.value
    if value is None:
        return formula
    if not amount.exact:
        return f"{value:,} of at most {formula}"
    return f"{value:,}" if formula == str(value) else f"{formula} = {value:,}"


def seconds(time: float) -> str:
    """A time with three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if time >= scale:
            return f"{time / scale:.3g} {unit}"
    return f"{time / 1e-9:.3g} ns"


def bytes_of(count: int) -> str:
    """A number of bytes with three digits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"
