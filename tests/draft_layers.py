"""What a drawn network is made of: each layer takes a value of a draft and gives another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drafts import LONG, SMALL, Draft, Layer, Term

# --- index by index

CURVES = (
    "2 * {0}",
    "tanh({0})",
    "{0} * sigmoid({0})",
    "0.5 * {0} * (1 + erf({0} * 0.70710678))",
    "maximum({0}, 0)",
    "exp(minimum({0}, 1))",
    "abs({0})",
    "{0} * {0} / (1 + {0} * {0})",
    "sqrt(abs({0}) + 0.5)",
    "sin({0}) + cos({0})",
    "select({0} > 0.25, {0}, 0.1 * {0})",
    "log1p(abs({0}))",
)
"""Activations, some with corners where no drawn number lies."""


def activated(draft: Draft, x: Term) -> Term:
    return draft.let(draft.pick(CURVES).format(x.name), x.axes)


def affine(draft: Draft, x: Term) -> Term:
    """A scale, a bias or both, over some axes."""
    if not x.named:
        return activated(draft, x)
    scale, shift = (draft.param(draft.some(x.named)).name for _ in range(2))
    text = draft.pick(["{0} + {2}", "{0} * {1}", "{0} * {1} + {2}"])
    return draft.let(text.format(x.name, scale, shift), x.axes)


def joined(draft: Draft, x: Term) -> Term:
    """With another input, over some of the axes."""
    known = tuple(axis for axis in x.axes if axis in draft.signature or axis == "...")
    other = draft.input(draft.some(known, 0))
    text = draft.pick(["{0} + {1}", "{0} * {1}", "{0} / (1 + {1} * {1})", "minimum({0}, {1})"])
    return draft.let(text.format(x.name, other.name), x.axes)


def by_place(draft: Draft, x: Term) -> Term:
    """Something else at some indices, or a term of a coordinate."""
    if not x.named:
        return activated(draft, x)
    axis, other = draft.pick(x.named), draft.pick(x.named)
    ways = [
        f"select({axis} % 2 == 0, {x.name}, 0.5 * {x.name})",
        f"select({axis} < size({axis}) // 2, {x.name}, tanh({x.name}))",
        f"{x.name} + 0.125 * ({axis} - {other})",
        f"when({axis} != 1, {x.name}) otherwise 0.5",
        f"{x.name} * ({axis} + 1) / size({axis})",
    ]
    return draft.let(draft.pick(ways), x.axes)


POINTWISE: tuple[Layer, ...] = (activated, affine, joined, by_place)


def pointwise(draft: Draft, x: Term, most: int = 2) -> Term:
    for _ in range(draft.pick(range(most + 1))):
        x = draft.pick(POINTWISE)(draft, x)
    return x


# --- reductions

REDUCTIONS = ("sum", "mean", "max", "min", "lse")

FACTORS = 64
"""The most that a product takes: the derivative of its derivative goes over all triples of them."""


def condition(draft: Draft, axes: Sequence[str]) -> str:
    """A condition on the indices of these axes, or nothing."""
    if not axes or not draft.chance(25):
        return ""
    one, other = draft.pick(axes), draft.pick(axes)
    ways = [f"{one} % 2 == 0", f"{one} <= {other}", f"{one} != 1", f"{one} * {one} + {other} < 6"]
    return f" | {draft.pick(ways)}"


def reduced(draft: Draft, x: Term) -> Term:
    """Over some axes, which go."""
    over = draft.some(x.axes) if x.axes else ()
    if not over:
        return activated(draft, x)
    where = condition(draft, x.named)
    few = "..." not in over and draft.entries(over) <= FACTORS
    op = draft.pick((*REDUCTIONS, "prod") if few else REDUCTIONS)
    value = f"tanh({x.name})" if op == "prod" else x.name
    left = [axis for axis in x.axes if axis not in over]
    return draft.let(f"{op}[{', '.join(draft.shuffled(over))}{where}]({value})", left)


def gated(draft: Draft, x: Term) -> Term:
    """Times a gate from a reduction of itself."""
    gate = reduced(draft, x)
    return draft.let(f"{x.name} * sigmoid({gate.name})", x.axes)


def normed(draft: Draft, x: Term) -> Term:
    """Centred, scaled or made a distribution over some axes: what needs one or two passes before the last."""
    if not x.axes:
        return activated(draft, x)
    axes = draft.some(x.axes)
    over = ", ".join(draft.shuffled(axes))
    where = condition(draft, [axis for axis in axes if axis != "..."])
    name = x.name

    def let(text: str) -> str:
        return draft.let(text, [axis for axis in x.axes if axis not in axes]).name

    match draft.pick(["layer", "root", "softmax", "unit", "range", "top", "log", "one"]):
        case "layer":
            mean = let(f"mean[{over}]({name})")
            spread = let(f"mean[{over}](({name} - {mean}) * ({name} - {mean}))")
            return draft.let(f"({name} - {mean}) / sqrt({spread} + 0.1)", x.axes)
        case "root":
            scale = let(f"mean[{over}]({name} * {name})")
            return draft.let(f"{name} * ({scale} + 0.1) ** -0.5", x.axes)
        case "softmax":
            return draft.let(f"softmax[{over}{where}]({name}){' otherwise 0' if where else ''}", x.axes)
        case "unit":
            scale = let(f"sum[{over}{where}]({name} * {name}) otherwise 0")
            return draft.let(f"{name} / (sqrt({scale} + 0.1))", x.axes)
        case "range":
            low, high = let(f"min[{over}]({name})"), let(f"max[{over}]({name})")
            return draft.let(f"({name} - {low}) / (1 + {high} - {low})", x.axes)
        case "top":
            return draft.let(f"{name} - {let(f'max[{over}]({name})')}", x.axes)
        case "log":
            return draft.let(f"{name} - {let(f'lse[{over}]({name})')}", x.axes)
        case _:
            one = draft.pick([axis for axis in axes if axis != "..."] or [""])
            if not one:
                return activated(draft, x)
            best = draft.let(f"argmax[{one}]({name})", [axis for axis in x.axes if axis != one])
            return draft.let(f"select({one} == {best.name}, {name}, 0)", x.axes)


# --- windows


@dataclass(frozen=True)
class Tap:
    """One dimension of a window: the axis that it slides along, its own, that of the result, and the
    index at which it reads."""

    along: str
    own: str
    to: str
    index: str


def tap(draft: Draft, axis: str) -> Tap:
    """Odd or even, dilated, strided, with some border."""
    match draft.pick(["near", "span", "axis"]):
        case "near":
            radius = draft.pick([1, 0, 2, 3])
            own, first = draft.ranged(f"d{axis}", str(radius), 2 * radius + 1, "near"), 0
        case "span":
            low, high = draft.pick([(0, 2), (-1, 1), (-2, 0), (1, 3), (-3, 2)])
            own, first = draft.ranged(f"d{axis}", f"{low}, {high}", high - low, "span"), 0
        case _:
            count = draft.pick([3, 1, 2, 4, 5])
            own = draft.ranged(f"d{axis}", str(count), count)
            first = draft.pick([count // 2, 0, 1])
    dilation = draft.pick([1, 1, 2, 3])
    stride = draft.pick([1, 1, 2, 3])
    to = axis
    if stride > 1:
        extent = (draft.sizes[axis] + stride - 1) // stride
        to = draft.ranged(f"{axis}o", f"(size({axis}) + {stride - 1}) // {stride}", extent)
    index = f"{to if stride == 1 else f'{stride}*{to}'} + {own if dilation == 1 else f'{dilation}*{own}'}"
    return Tap(axis, own, to, index if not first else f"{index} - {first}")


BORDERS = ("{0}", "{0}", "clamp({0}, 0, size({1}) - 1)", "({0}) % size({1})", "reflect({0}, size({1}))")


def windowed(draft: Draft, x: Term) -> Term:
    """A value read through a window over some axes, and the taps folded away."""
    free = [axis for axis in x.named if draft.entries(x.axes) <= draft.room]
    if not free:
        return activated(draft, x)
    taps = [tap(draft, axis) for axis in draft.some(free)[:3]]
    reads = ", ".join(f"{each.along}: {draft.pick(BORDERS).format(each.index, each.along)}" for each in taps)
    fill = draft.pick(["", "", " otherwise 0", " otherwise 0.5"])
    to = {each.along: each.to for each in taps}
    axes = tuple(to.get(axis, axis) for axis in x.axes)
    own = tuple(each.own for each in taps)
    seen = draft.let(f"{x.name}[{reads}]{fill}", (*axes, *own))
    return draft.pick(FOLDS)(draft, seen, own)


def pooled(draft: Draft, seen: Term, own: tuple[str, ...]) -> Term:
    """Pooling: of what exists, or by the full count."""
    axes = [axis for axis in seen.axes if axis not in own]
    over = ", ".join(draft.shuffled(own))
    if draft.chance(20):
        count = " * ".join(f"size({each})" for each in own)
        return draft.let(f"sum[{over}]({seen.name}) / ({count})", axes)
    return draft.let(f"{draft.pick(REDUCTIONS)}[{over}{condition(draft, own)}]({seen.name})", axes)


def depthwise(draft: Draft, seen: Term, own: tuple[str, ...]) -> Term:
    """One kernel for all, or one for each index of some axes."""
    axes = [axis for axis in seen.axes if axis not in own]
    each = tuple(axis for axis in draft.some(axes, 0) if axis != "...")
    weight = draft.param((*each, *own))
    over = ", ".join(draft.shuffled(own))
    return draft.let(f"sum[{over}{condition(draft, own)}]({weight.name} * {seen.name})", axes)


def dense(draft: Draft, seen: Term, own: tuple[str, ...]) -> Term:
    """Taps and an axis of the value against new outputs, perhaps in groups."""
    axes = [axis for axis in seen.axes if axis not in own]
    named = [axis for axis in axes if axis != "..."]
    source = draft.pick(named)
    rest = [axis for axis in axes if axis != source]
    count = draft.size(rest, [2, 1, 3, 8, 17])
    to = draft.ranged("o", str(count), count)
    over = draft.shuffled((*own, source))
    weight = draft.param((to, source, *own))
    return draft.let(f"sum[{', '.join(over)}]({weight.name} * {seen.name})", (*rest, to))


def grouped(draft: Draft, seen: Term, own: tuple[str, ...]) -> Term:
    """Each output reads two neighbours along an axis: groups."""
    axes = [axis for axis in seen.axes if axis not in own]
    source = draft.pick([axis for axis in axes if axis != "..."])
    inside = draft.ranged("i", "2", 2)
    to = draft.ranged("o", f"2 * ((size({source}) + 1) // 2)", 2 * ((draft.sizes[source] + 1) // 2))
    weight = draft.param((to, inside, *own))
    index = f"({to} // 2) * 2 + {inside}"
    over = ", ".join(draft.shuffled((*own, inside)))
    rest = [axis for axis in axes if axis != source]
    return draft.let(f"sum[{over}]({weight.name} * {seen.name}[{source}: {index}])", (*rest, to))


def by_position(draft: Draft, seen: Term, own: tuple[str, ...]) -> Term:
    """A kernel of its own at each place: made from what is there, or softmax of it."""
    axes = [axis for axis in seen.axes if axis not in own]
    source = draft.pick([axis for axis in axes if axis != "..."])
    made = draft.param((source, *own))
    other = draft.like(source)
    centre = f"{seen.name}[{', '.join([f'{source}: {other}'] + [f'{each}: 0' for each in own])}]"
    scores = draft.let(f"sum[{other}]({made.name}[{source}: {other}] * ({centre} otherwise 0.5))",
                       [*(axis for axis in axes if axis != source), *own])  # fmt: skip
    over = ", ".join(own)
    if draft.chance(40):
        scores = draft.let(f"softmax[{over}]({scores.name})", scores.axes)
    return draft.let(f"sum[{over}]({scores.name} * {seen.name})", axes)


FOLDS = (depthwise, pooled, dense, grouped, by_position)


def transposed(draft: Draft, x: Term) -> Term:
    """A transposed convolution along one axis: the weight is read at the solved index."""
    if not x.named:
        return activated(draft, x)
    axis = draft.pick(x.named)
    stride, count = draft.pick([2, 1, 3]), draft.pick([3, 1, 2, 4])
    own = draft.ranged("k", str(count), count)
    to = draft.ranged("u", f"{stride} * size({axis})", stride * draft.sizes[axis])
    weight = draft.param((own,))
    rest = [each for each in x.axes if each != axis]
    text = f"sum[{axis}]({x.name} * {weight.name}[{own}: {to} - {stride}*{axis} + 1]) otherwise 0"
    return draft.let(text, (*rest, to))


def moved(draft: Draft, x: Term) -> Term:
    """Shifted, flipped, rolled or cut."""
    if not x.named:
        return activated(draft, x)
    axis = draft.pick(x.named)
    ways = [
        f"{x.name}[{axis} + 1] otherwise {x.name}",
        f"{x.name}[{axis} - 2] otherwise 0",
        f"{x.name}[size({axis}) - 1 - {axis}]",
        f"{x.name}[({axis} + 1) % size({axis})]",
        f"{x.name} + {x.name}[{axis}: 0]",
        f"{x.name}[{axis}: {axis} // 2]",
    ]
    return draft.let(draft.pick(ways), x.axes)


# --- contractions


def contracted(draft: Draft, x: Term) -> Term:
    """A matrix along one or two axes."""
    if not x.named:
        return activated(draft, x)
    over = draft.shuffled(draft.some(x.named)[:2])
    rest = [axis for axis in x.axes if axis not in over]
    if len(over) == 1 and draft.chance(30):
        same = draft.like(over[0])
        weight = draft.param((over[0], same))
        return draft.let(f"sum[{same}]({weight.name} * {x.name}[{over[0]}: {same}])", x.axes)
    count = draft.size(rest, [3, 1, 2, 8, 17, 49])
    to = draft.ranged("o", str(count), count)
    weight = draft.param((to, *over))
    return draft.let(f"sum[{', '.join(over)}]({weight.name} * {x.name})", (*rest, to))


def crossed(draft: Draft, x: Term) -> Term:
    """A product with another input over a shared axis: matrices in a batch."""
    known = [axis for axis in x.named if axis in draft.signature]
    if not known:
        return contracted(draft, x)
    over = draft.some(known)[:2]
    rest = [axis for axis in x.axes if axis not in over]
    new = draft.axis_of_signature(draft.fresh("n"), rest, SMALL + LONG[3:])
    shared = tuple(axis for axis in draft.some(rest, 0) if axis in draft.signature or axis == "...")
    other = draft.input((*shared, *over, new))
    return draft.let(f"sum[{', '.join(over)}]({x.name} * {other.name})", (*rest, new))


def correlated(draft: Draft, x: Term) -> Term:
    """The product of a value with itself, along one axis against its copy."""
    if len(x.named) < 2:
        return contracted(draft, x)
    one, *over = draft.shuffled(x.named)[:2]
    if draft.entries((*x.axes, one)) > 4 * draft.room:
        return contracted(draft, x)
    copy = draft.like(one)
    rest = [axis for axis in x.axes if axis not in over]
    text = f"sum[{', '.join(over)}]({x.name} * {x.name}[{one}: {copy}]) * 0.25"
    return draft.let(text, (*rest, copy))
