"""What an expert would note of a kernel, in words: what it computes, how its schedule runs, what stays in
registers and caches, and what bounds it. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from ...dsl.build import size
from ...dsl.program import At, Axis, Form, Leaf, Map, Place, Reduce, walk
from ...dsl.size_forms import Extent, evaluate_size
from ..fusion.contraction import contraction, inside
from ..fusion.plan import Group, Stored
from ..fusion.work import Term, formula_of, word_of
from ..kernels.kernel import Dot, Fold, Kernel, Let, Load, Operand, Store, Stream, StreamAxis, Take, operands
from ..kernels.written import Written
from ..schedules.lower import constant_value
from .cost import FUNCTIONS, Bound, Cost, Machine, bound
from .trips import Nest

Sizes = Mapping[Axis, Extent]

KIB, MOST_RESIDENT = 1024, 3
"""Resident values from this size on are worth a word, and so many of them."""


@dataclass(frozen=True, slots=True)
class Note:
    """The notes of one step: `title` says what it makes, `lines` are (what of it, words)."""

    name: str
    title: str
    lines: tuple[tuple[str, str], ...]
    cost: Cost
    bound: Bound | None
    fused: bool


FAMILIES = {
    "stream": "streaming softmax: queries in the lanes, keys pass by, no scores in memory",
    "sum": "streaming sum: queries in the lanes, keys pass by, every entry computed on the way",
    "tiles": "tiles of the result, reductions inside",
}


def note(
    group: Group,
    stored: Mapping[Form, Stored],
    written: Written | None,
    cost: Cost,
    sizes: Sizes | None,
    machine: Machine | None,
) -> Note:
    """The notes of a group; `written` is None for a reference operation."""
    title = f"{', '.join(map(_value, group.results))}: {family(group)}"
    lines: list[tuple[str, str]] = [("computes", computes(group, stored, sizes))]
    if written is not None:
        lines += schedule(written.kernel)
        lines += dense(group, stored, sizes)
    limit = bound(cost, machine) if machine is not None and written is not None else None
    lines += costs(cost, limit, machine)
    if group.family == "tiles" and group.reason:
        lines.append(("unstreamed", group.reason))
    if isinstance(group.result.form, Place):
        lines.append(("order", "a GPU adds in the order of arrival, unless deterministic=True"))
    return Note(group.result.name, title, tuple(lines), cost, limit, written is not None)


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
    what = "entries" if found is None else "products"
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


# --- how it runs


def schedule(kernel: Kernel) -> Iterator[tuple[str, str]]:
    """The schedule of a kernel in words, then what stays in a tile, then its halo."""
    nest = Nest(kernel)
    yield "schedule", "; ".join([_grid(kernel), *_streams(kernel, nest)])
    resident = _resident(kernel, nest)
    if resident:
        yield "resident", resident
    halo = _halo(kernel, nest)
    if halo:
        yield "halo", halo


ALONE = "one element at a time, because neither its result nor what it reduces has an axis for the lanes"


def _grid(kernel: Kernel) -> str:
    wide = [axis for axis in kernel.grid if axis.tile > 1]
    single = [axis.name for axis in kernel.grid if axis.tile == 1 and axis.name not in kernel.lanes]
    inside = [axis for axis in wide if axis.name in kernel.lanes]
    rows = [axis for axis in wide if axis.name not in kernel.lanes]
    parts: list[str] = []
    if inside:
        parts.append(f"tiles of {', '.join(f'{axis.name} by {axis.tile}' for axis in inside)} in the lanes")
    if rows:
        parts.append(f"rows of {', '.join(f'{axis.name} by {axis.tile}' for axis in rows)}")
    if not wide:
        across = [name for name in kernel.lanes if name not in {axis.name for axis in kernel.grid}]
        parts.append(f"{', '.join(across)} in the lanes" if across else ALONE)
    if single:
        parts.append(f"one by one {', '.join(single)}")
    steps = [
        f"{each.ragged.step} from {each.ragged.residue}" for each in kernel.grid if each.ragged is not None
    ]
    if steps:
        parts.append(f"a tile at steps of {' and '.join(steps)} on, at which its keys are neighbours")
    return ", ".join(parts)


def _streams(kernel: Kernel, nest: Nest) -> Iterator[str]:
    """Every stream of a kernel, the outer ones first."""
    waiting = list(kernel.body)
    while waiting:
        statement = waiting.pop(0)
        if isinstance(statement, Stream):
            yield _stream(statement, kernel, nest)
            waiting = [*statement.body, *waiting]


def _stream(stream: Stream, kernel: Kernel, nest: Nest) -> str:
    passed = " and ".join(_run(axis) for axis in stream.axes)
    bounds = [bound for axis in stream.axes for bound in (axis.low, axis.stop)]
    grid = {axis.name for axis in kernel.grid}
    data = ", ".join(f"`{name}`" for name in sorted({name for each in bounds for name in nest.read(each)}))
    if any(nest.needs(each) & grid for each in bounds):
        passed += " between bounds that follow the tile" + (f" and {data}, read once a tile" if data else "")
    elif data:
        passed += f" between bounds that {data} give{'' if ',' in data else 's'}, read once a tile"
    if _hides(stream.visible, nest):
        passed += ", what the mask hides skipped"
    if any(isinstance(each, Store) for each in stream.body):
        return f"passes {passed}, stored as they are made"
    return f"streams {passed}"


def _hides(mask: Operand, nest: Nest) -> bool:
    """Whether a mask says more than that coordinates exist."""
    lets = {each.name: each for each, _ in nest.statements() if isinstance(each, Let)}
    waiting = [mask]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and each in lets and lets[each].op == "and":
            waiting += lets[each].args
        elif each is not True and not str(each).endswith(".valid"):
            return True
    return False


def _run(axis: StreamAxis) -> str:
    return f"{axis.name} one by one" if axis.step == 1 else f"{axis.name} in runs of {axis.step}"


def _resident(kernel: Kernel, nest: Nest) -> str:
    """What a tile keeps: the largest values over whole axes, and all of them together."""
    width = 8 if kernel.real == "float64" else 4
    tiles = {axis.name: axis.tile for axis in kernel.grid} | nest.locals
    tiles |= {axis.name: axis.step for statement in _inner(kernel) for axis in statement.axes}
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    for statement, _ in nest.statements():
        if not isinstance(statement, Load | Dot | Fold) or not set(statement.axes) & set(nest.locals):
            continue
        if isinstance(statement, Load) and not set(statement.axes) & set(kernel.lanes):
            continue
        axes = tuple(axis for axis in statement.axes if tiles[axis] > 1)
        found[statement.name] = (width * prod(tiles[axis] for axis in axes), axes)
    large = sorted(found.items(), key=lambda item: -item[1][0])[:MOST_RESIDENT]
    shown = [f"{n}[{', '.join(axes)}] {kib(count)}" for n, (count, axes) in large if count >= KIB]
    sizes = ", ".join(f"{name} = {count}" for name, count in nest.locals.items())
    if not nest.locals:
        return ""
    return f"{sizes} compiled in" + (
        f"; the largest values of a tile are {', '.join(shown)}" if shown else ""
    )


def kib(count: int) -> str:
    return f"{count / KIB:.3g} KiB" if count < 1000 * KIB else f"{count / KIB**2:.3g} MiB"


def _inner(kernel: Kernel) -> Iterator[Stream]:
    waiting = list(kernel.body)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, Stream):
            yield statement
            waiting += statement.body


def _halo(kernel: Kernel, nest: Nest) -> str:
    """A tile staged with its neighbours: how large, and how much more than the tile."""
    for statement, _ in nest.statements():
        if not isinstance(statement, Take):
            continue
        source = nest.axes_of[statement.source]
        inner = [axis for axis in source if axis in nest.locals]
        moved = [
            (axis, lanes[0])
            for axis, index in zip(inner, operands(statement)[1:], strict=True)
            if (lanes := [a for a in nest.axes_of.get(str(index), ()) if a in kernel.lanes])
        ]
        if not moved:
            continue
        tiles = {axis.name: axis.tile for axis in kernel.grid}
        staged, own = [nest.locals[axis] for axis, _ in moved], [tiles.get(lane, 1) for _, lane in moved]
        shape = " x ".join(map(str, staged))
        more = prod(staged) / max(prod(own), 1)
        return f"{shape} places staged for a tile of {' x '.join(map(str, own))}, {more:.2f} times as many"
    return ""


# --- what it costs


ALL_BUT = 0.995
"""A mask that hides less is not worth a word."""


def costs(cost: Cost, limit: Bound | None, machine: Machine | None) -> Iterator[tuple[str, str]]:
    """FLOPs, bytes against the least, intensity, bound."""
    flops = _amount(cost.flops.formula, cost.flops.value)
    called = cost.functions
    if called.formula != "0":
        flops += f", and {_amount(called.formula, called.value)} functions"
    yield "FLOPs", flops
    if cost.worked is not None and cost.flops.value:
        part = cost.worked / cost.flops.value
        if part < ALL_BUT or cost.seen < ALL_BUT:
            hidden = (
                f"about {part:.0%} of that is done, the mask hides the rest"
                if part < ALL_BUT
                else "all is done"
            )
            yield "masked", f"{hidden}; about {cost.seen:.0%} of what passes is seen"
    least = f"{_amount(cost.least.formula, cost.least.value)} at least"
    if cost.moved is not None and cost.least.value:
        least += f"; tiles move {bytes_of(cost.moved)}, {cost.moved / cost.least.value:.2f} times that"
    yield "bytes", least
    if cost.intensity is not None:
        yield "intensity", f"{cost.intensity:.1f} FLOPs a byte"
    if limit is not None and machine is not None:
        parts = ", ".join(f"{roof} {seconds(time)}" for roof, time in limit.parts.items() if time)
        yield "bound", f"{seconds(limit.seconds)} by {limit.roof} ({parts}) on {machine.name}"


def _amount(formula: str, value: int | None) -> str:
    if value is None:
        return formula
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
