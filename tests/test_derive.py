"""Gradients as programs: against finite differences (both orders), against torch's autograd, and the
conventions of language.md decision 22."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import reduce
from operator import add

import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from torch import Tensor

import plait
from agreement import beside
from differences import Tensors, check_gradient, places, program_of, random_tensors, with_cotangents
from partial_forms import cases
from partials import Bench, leaf, not_yet_forms, sized, union
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.derive_rules import NO_DERIVATIVE, PULLBACKS, REDUCTIONS
from plait.compiler.meaning.interpret import interpret
from plait.compiler.meaning.partial import Sizes
from plait.compiler.rewrites.simplify import simplify
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.mistakes import KindMismatch, NotYet, ShadowedName, UnknownName
from plait.dsl.ops import OPS
from plait.dsl.ops import REDUCTIONS as REDUCTION_NAMES
from plait.dsl.program import (
    BATCH,
    Const,
    Declaration,
    Leaf,
    Library,
    Map,
    Place,
    Program,
    Reduce,
    children,
)
from plait.dsl.proofs.check import check
from plait.dsl.python.calculus import as_if, on_gradient, stop
from plait.dsl.python.domains import softmax
from plait.dsl.python.domains import union as union_of
from plait.dsl.python.functions import axes, axis, clamp, lerp, near, place, reflect, select, span, when
from plait.dsl.python.pointwise import (
    cos,
    erf,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    sigmoid,
    sin,
    sqrt,
    tanh,
)
from plait.dsl.python.value import AxisValue, Value, applied

h, w, c, d, t = axes("h w c d t")
dh, dw = near("dh dw", 1)
oh, y3 = axis("oh", 3), axis("y3", 3)
x, wt = leaf("x", h, c), leaf("w", c, dh)
idx = leaf("idx", h, kind="int")
hc = axis("hc", h.size * c.size)
SIZES = sized(h=5, c=3, w=4, d=2, t=3)
INDICES = {"idx": torch.tensor([3, -1, 0, 0, 5])}


def param(name: str, *over: AxisValue) -> Value:
    return Value(Leaf("parameter", name, tuple(each.axis for each in over)))


def real(value: Value) -> Value:
    return applied("real", value)


# --- the table


def test_every_operation_has_its_cells() -> None:
    assert set(PULLBACKS) | NO_DERIVATIVE == set(OPS)
    assert not set(PULLBACKS) & NO_DERIVATIVE
    for name, cells in PULLBACKS.items():
        assert len(cells) == OPS[name].arity, name
    assert set(REDUCTION_NAMES) - set(REDUCTIONS) == {"count", "any", "all", "argmax"}


# --- against differences, twice


def _masked(value: Value) -> Value:
    return softmax(value, (dh,), where=dh * dh < 2)


def _union_softmax() -> Value:
    p, q = softmax(union_of(((x * x[h + dh]).sum(c), (dh,)), (x * wt[{dh: 1}], (c,))))
    return (p * x[h + dh]).sum(dh) + (q * wt[{dh: 0}]).sum(c)


z = applied("cplx", x, x * x)
PROGRAMS: dict[str, Value] = {
    "window, empty border": tanh((wt * x[h + dh]).sum(dh, c)),
    "strided read, pad 1": tanh((wt * x[{h: 2 * oh + dh}]).sum(dh)),
    "clamped window": tanh((x[{h: clamp(h - 1, 0, 2) + y3}] * x).sum(y3, c)),
    "window softmax": (softmax((x * x[h + dh]).sum(c), (dh,)) * x[h + dh]).sum(dh),
    "window softmax, masked": (_masked((x * x[h + dh]).sum(c)) * x[h + dh]).sum(dh),
    "union softmax": _union_softmax(),
    "max-pool": tanh((x * x)[h + dh].max(dh)),
    "min over two axes": tanh(x[h + dh].min(dh, c)) * x,
    "gather by data": tanh(x[{h: idx}].otherwise(0.5) * x),
    "place by data": tanh(place(x * x, {h: idx}, (c,)).otherwise(0.0)),
    "place by data, kept": place(x * x, {d: idx}, (c, h)).otherwise(0.3) * x,
    "place, then read": place(x * x, {h: h + 1}, (c,)).otherwise(x)[{h: h - 1}].otherwise(0.5),
    "transposed convolution": tanh((x[{h: oh}] * wt[{dh: h - 2 * oh}]).sum(oh, c).otherwise(0.0)),
    "mean over present": ((x * x)[h + dh].mean(dh)) * x,
    "mean over data": x.mean(h, where=x > 0).otherwise(0.0) * x,
    "sqrt guarded at 0": sqrt(when(x > 0, x)).otherwise(0.0) * x * x,
    "complex": real(exp(z) * applied("cplx", x, wt[{dh: 0}])),
    "complex operations": real(sin(z) * applied("conj", z) / (z + 2) - log(z + 3) ** 2)
    + applied("imag", sqrt(z + 4) * cos(z)) * real(z**1.5),
    "product": x.prod(c) + x[h + dh].prod(dh, c),
    "product of complex": real(z.prod(c)),
    "union sum": union("sum", (x[h + dh], [dh]), (x * x, [])) * x,
    "union lse": union("lse", (x[h + dh], [dh]), (x * x, [])) * x,
    "union product": union("prod", (x[h + dh], [dh]), (x * x, [])) * x,
    "union max": union("max", (x[h + dh], [dh]), (x * x, [])) * x,
    "union min of different boxes": union("min", (x, [h]), (wt, [dh])) * wt,
    "union, an axis bound and free: sum": union("sum", (x[{h: h + dh}], [h]), (wt, [dh])) * wt,
    "union, an axis bound and free: lse": union("lse", (x, [h]), (x * x, [c])),
    "union, an axis bound and free: prod": union("prod", (x, [h]), (x * x, [c])),
    "union, an axis bound and free: max": union("max", (x, [h]), (x * x, [c])),
    "circle": tanh((wt * x[{h: (h + dh) % h.size}]).sum(dh)),
    "circle in steps": tanh((wt * x[{h: (2 * oh + dh - 1) % h.size}]).sum(dh)) * x[{h: oh}],
    "flip": tanh(x[{h: h.size - 1 - h}] * x),
    "clamped border": tanh((wt * x[{h: clamp(h + dh, 0, h.size - 1)}]).sum(dh)),
    "reflected border": tanh((wt * x[{h: reflect(h + dh, h.size)}]).sum(dh)),
    "split": tanh(x[{h: hc // c.size, c: hc % c.size}]) * x[{h: hc // c.size, c: 0}],
    "merge": tanh((x[{h: hc // c.size, c: hc % c.size}] * 2)[{hc: h * c.size + c}]) * x,
    "broadcast": x.sum(h) + wt.sum(dh) * x,
    "constant along a summed axis": (x.sum(h).sum(c) + 0 * h) * x.sum(c),
    "select": select(x > 0, x * x, tanh(x)),
    "select of what may be absent": select(x > 0, x[h + 1], x[h - 1]).otherwise(x * x),
    "power": (x * x + 1) ** (wt.sum(dh) * x) + x**3 + (x * x + 0.5) ** -1.5 + 2**x,
    "binary extremes": maximum(x, wt.sum(dh)) * minimum(x, 0.3) + abs(x),
    "functions": erf(x)
    + sigmoid(x)
    + log1p(x * x)
    + expm1(x)
    + sin(x) * cos(x)
    + log(x * x + 1) / (x * x + 2),
    "a clamp and a term beside it": x[{h: clamp(h - 2 * c, -1, 1) + 1}] * x,
    "a clamp taken from a size": x[{h: h.size - 2 - clamp(h - dh, -1, 1)}].otherwise(0.5) * wt,
    "parts of an axis": tanh(x[{h: hc // 2 - h // 2 + 1, c: hc % 2}].otherwise(0.0) * (hc + 1)),
    "both parts in one index": tanh(x[{h: hc % 3 - 2 * (hc // 3) + 1}].otherwise(0.5) * x),
    "constant index": tanh(x[{h: 2}] * wt[{dh: -1}]) + x[{h: 7}].otherwise(1.0),
    "interpolation": lerp(x, h, applied("floor", tanh(x) * 2) + 2, x * 0.1),
    "two reads of one product": (x * x)[h + 1].otherwise(0.0) + (x * x)[h - 1].otherwise(x),
}


KEEPS_PLACES = {"gather by data", "place by data", "interpolation"}
"""Where an index depends on data: only these scatter."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_orders_agree_with_differences(name: str) -> None:
    program = program_of({"y": PROGRAMS[name]})
    tensors = random_tensors(program, SIZES)
    tensors |= {name: indices for name, indices in INDICES.items() if name in tensors}
    derived, given_first = check_gradient(program, tensors, SIZES)
    again, _ = check_gradient(derived, given_first, SIZES)
    assert (places(derived) > 0) == (places(again) > 0) == (name in KEEPS_PLACES)
    assert simplify(derived) is derived and simplify(again) is again


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_programs(name: str) -> None:
    """They print, parse back, and have total outputs, both orders of them."""
    derived = gradient(program_of({"y": PROGRAMS[name]}))
    for program in (derived, gradient(derived)):
        assert plait.parse(str(program)).program() == program
        check(program)


@settings(max_examples=30)
@given(cases(depth=4, smooth=True))
def test_random_programs_agree_with_differences(case: tuple[Bench, Value]) -> None:
    bench, value = case
    program = program_of({"y": value.otherwise(0.5)})
    stored = {form.name: each.data for form, each in bench.leaves.items() if isinstance(form, Leaf)}
    tensors = {each.leaf.name: stored[each.leaf.name] for each in program.declarations}
    derived, more = check_gradient(program, tensors, bench.sizes)
    check_gradient(derived, more, bench.sizes)


# --- against torch's autograd


def agrees(program: Program, function: Callable[..., Tensor], tensors: Tensors, sizes: Sizes) -> Program:
    """Assert that values and gradients are those of hand-written torch code, called by name."""
    derived = gradient(program)
    given_all = with_cotangents(program, derived, tensors, sizes)
    wanted = {each.name for each in derived.outputs}
    leaves = {name: x.clone().requires_grad_(f"grad.{name}" in wanted) for name, x in tensors.items()}
    expected = function(**leaves)
    (output,) = program.outputs
    beside(interpret(program, tensors, sizes), {output.name: expected}, program, tensors, sizes)
    expected.backward(given_all[f"cot.{output.name}"])
    slopes: dict[str, Tensor] = {}
    for each in derived.outputs:
        of = leaves[each.name.removeprefix("grad.")].grad
        assert of is not None
        slopes[each.name] = of
    beside(interpret(derived, given_all, sizes), slopes, derived, given_all, sizes)
    return derived


def windows(*tensors: Tensor, radius: int, dims: int) -> list[Tensor]:
    """For each tensor [..., *space, d] its window values [..., *space, window, d], 0 outside; then the
    same of ones, which says what is inside."""
    found: list[Tensor] = []
    for tensor in (*tensors, torch.ones_like(tensors[0])):
        padded = functional.pad(tensor, (0, 0, *(radius,) * 2 * dims))
        space = tensor.shape[-1 - dims : -1]
        shifted = [
            padded[(..., *(slice(o, o + n) for o, n in zip(offset, space, strict=True)), slice(None))]
            for offset in itertools.product(range(2 * radius + 1), repeat=dims)
        ]
        found.append(torch.stack(shifted, -2))
    return found


def attention(dims: int, radius: int) -> tuple[Program, Callable[..., Tensor], Sizes]:
    """Attention over the tokens nearer than `radius` in so many dimensions, and the same in torch."""
    space = axes("h w t")[:dims] if dims > 1 else (h,)
    offsets = tuple(near(f"d{each.axis.name}", radius) for each in space)
    batch = AxisValue(BATCH)
    q, k, v = (leaf(name, batch, *space, d) for name in "qkv")
    there = {each: each + offset for each, offset in zip(space, offsets, strict=True)}
    distance = reduce(add, (offset * offset for offset in offsets))
    p = softmax((q * k[there]).sum(d) * 2**-0.5, offsets, where=distance < radius * radius)
    program = program_of(
        {"o": (p * v[there]).sum(*offsets)},
        {name: ((BATCH,), *((each.axis,) for each in (*space, d))) for name in "oqkv"},
    )

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kw, vw, inside = windows(k, v, radius=radius, dims=dims)
        grid = torch.tensor(list(itertools.product(range(-radius, radius + 1), repeat=dims)))
        seen = (inside[..., 0] > 0) & ((grid * grid).sum(-1) < radius * radius)
        s = (q.unsqueeze(-2) * kw).sum(-1) * 2**-0.5
        return (s.masked_fill(~seen, -torch.inf).softmax(-1).unsqueeze(-1) * vw).sum(-2)

    return program, function, sized(batch=(2, 1), h=5, w=3, t=2, d=2)


@pytest.mark.parametrize(("dims", "radius"), [(1, 3), (2, 2), (2, 6), (3, 2)])
def test_circular_attention(dims: int, radius: int) -> None:
    program, function, sizes = attention(dims, radius)
    derived = agrees(program, function, random_tensors(program, sizes), sizes)
    assert places(derived) == 0
    assert places(gradient(derived)) == 0


def test_the_gradient_of_circular_attention_is_the_streaming_one() -> None:
    """Scores and weights computed again at each pair, statistics read, no mask but the author's."""
    program = attention(2, 2)[0]
    assert simplify(program) is program, "what an author writes well is left alone"
    derived = gradient(program)
    reductions = [form for form in derived.forms if isinstance(form, Reduce)]
    assert sorted(form.op for form in reductions) == ["lse", *["sum"] * 8]
    over_pairs = [form for form in reductions if len(form.axes) == 5]
    assert len(over_pairs) == 4, "q k and g v, read from the query's and from the key's side"
    assert not any(isinstance(form, Map) and form.op in ("and", "or", "not") for form in derived.forms)
    assert len(derived.forms) < 60
    assert len(gradient(derived).forms) < 160


def test_causal_attention_with_rows_that_see_nothing() -> None:
    s = t.like("s")
    q, k, v = (leaf(name, t, d) for name in "qkv")
    p = softmax((q * k[{t: s}]).sum(d), (s,), where=(s < t) & (s + 3 > t))
    program = program_of({"o": (p * v[{t: s}]).sum(s).otherwise(q)})
    sizes = sized(t=6, d=2)

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        i, j = torch.arange(6)[:, None], torch.arange(6)
        seen = (j < i) & (j + 3 > i)
        scores = (q @ k.T).masked_fill(~seen, -torch.inf)
        scores = torch.where(seen.any(1, keepdim=True), scores, 0.0)
        return torch.where(seen.any(1, keepdim=True), (scores.softmax(-1) * seen) @ v, q)

    agrees(program, function, random_tensors(program, sizes), sizes)


def test_convolution_bias_and_normalisation() -> None:
    """A layer as papers write it: depthwise 2-D convolution, layer norm, a 1x1 mixing, a residual."""
    j = c.like("j")
    b = AxisValue(BATCH)
    x, kernel, bias, mix = (
        leaf("x", b, c, h, w),
        param("kernel", c, dh, dw),
        param("bias", c),
        param("mix", c, j),
    )
    u = (kernel * x[h + dh, w + dw]).sum(dh, dw) + bias
    centred = u - u.mean(c)
    normed = centred / sqrt((centred * centred).mean(c) + 1e-5)
    gelu = normed * 0.5 * (1 + erf(normed * 2**-0.5))
    y = x + (mix * gelu[{c: j}]).sum(j)
    items = ((BATCH,), (c.axis,), (h.axis,), (w.axis,))
    program = program_of(
        {"y": y}, {"x": items, "y": items, "kernel": ((c.axis,), (), (dh.axis,), (dw.axis,))}
    )
    sizes = sized(batch=(2,), c=3, h=4, w=5)

    def function(x: Tensor, kernel: Tensor, bias: Tensor, mix: Tensor) -> Tensor:
        u = functional.conv2d(x, kernel, bias, padding=1, groups=3)
        normed = functional.layer_norm(u.movedim(1, -1), (3,)).movedim(-1, 1)
        return x + torch.einsum("oc,bchw->bohw", mix, functional.gelu(normed))

    derived = agrees(program, function, random_tensors(program, sizes), sizes)
    assert [each.name for each in derived.outputs] == ["grad.x", "grad.bias", "grad.kernel", "grad.mix"]
    assert places(derived) == 0


def test_strided_and_transposed_convolution() -> None:
    down, up = axis("down", 3), axis("up", 7)
    x, kernel = leaf("x", h, c), param("kernel", c, dh)
    y = (kernel * x[{h: 2 * down + dh}]).sum(c, dh)
    strided = program_of({"y": y})
    sizes = sized(h=6, c=2)

    def convolution(x: Tensor, kernel: Tensor) -> Tensor:
        return functional.conv1d(x.T[None], kernel[None], stride=2, padding=1)[0, 0]

    agrees(strided, convolution, random_tensors(strided, sizes), sizes)
    z = (x[{h: down}] * kernel[{dh: up - 2 * down - 1}]).sum(down).otherwise(0.0)

    def transposition(x: Tensor, kernel: Tensor) -> Tensor:
        return functional.conv_transpose1d(x[:3].T[None], kernel[:, None], stride=2, groups=2)[0].T

    transposed = program_of({"y": z}, {"y": ((up.axis,), (c.axis,))})
    agrees(transposed, transposition, random_tensors(transposed, sizes), sizes)


def test_max_pool_with_ties() -> None:
    x = leaf("x", h, w)
    ph, pw = axis("ph", 2), axis("pw", 2)
    a, b = axis("a", 2), axis("b", 2)
    program = program_of({"y": x[{h: 2 * ph + a, w: 2 * pw + b}].max(a, b)})
    sizes = sized(h=4, w=4)
    generator = torch.Generator().manual_seed(3)
    tensors = {"x": torch.randint(0, 2, (4, 4), generator=generator).double()}
    agrees(program, lambda x: functional.max_pool2d(x[None], 2)[0], tensors, sizes)
    overlapping = program_of({"y": x[h + dh, w + dw].max(dh, dw)})
    agrees(overlapping, lambda x: functional.max_pool2d(x[None], 3, 1, 1)[0], tensors, sizes)


def test_gather_and_place_by_data() -> None:
    values, ids = leaf("x", h, c), leaf("idx", w, kind="int")
    tensors = {"idx": torch.tensor([4, -1, 2, 2, 9]), "x": torch.randn(5, 2, dtype=torch.float64)}
    sizes = sized(h=5, c=2, w=5)
    gathered = program_of({"y": values[{h: ids}].otherwise(0.5)}, {"y": ((w.axis,), (c.axis,))})

    def gather(x: Tensor, idx: Tensor) -> Tensor:
        legal = ((idx >= 0) & (idx < 5))[:, None]
        return torch.where(legal, x[idx.clamp(0, 4)], 0.5)

    agrees(gathered, gather, tensors, sizes)
    put = program_of(
        {"y": place(values[{h: w}] * 2, {h: ids}, (c,)).otherwise(0.0)}, {"y": ((h.axis,), (c.axis,))}
    )

    def scatter(x: Tensor, idx: Tensor) -> Tensor:
        legal = (idx >= 0) & (idx < 5)
        return torch.zeros(5, 2, dtype=torch.float64).index_add(0, idx[legal], 2 * x[legal])

    agrees(put, scatter, tensors, sizes)
    table = leaf("ids", w, kind="int", index_of=h)
    embedded = program_of({"y": values[{h: table}]}, {"y": ((w.axis,), (c.axis,))})
    kept = {"ids": torch.tensor([4, 0, 2, 2, 1]), "x": tensors["x"]}
    derived = agrees(embedded, lambda x, ids: x[ids], kept, sizes)
    assert places(derived) == 1, "what depends on data stays a place"


def test_products_with_zeros() -> None:
    program = program_of({"y": leaf("x", h, c).prod(c)})
    for zeros in ([], [1], [0, 2], [0, 1, 2]):
        data = torch.randn(5, 3, dtype=torch.float64)
        data[2, zeros] = 0.0
        agrees(program, lambda x: x.prod(1), {"x": data}, SIZES)


def test_complex_values_follow_torch() -> None:
    a, b = leaf("a", h, kind="complex"), leaf("b", h, kind="complex")
    y = (
        exp(a) * applied("conj", b)
        + a / (b + 2)
        - sqrt(b) * applied("cplx", applied("imag", a), real(b))
        + b**3
    )
    program = program_of({"y": y})

    def function(a: Tensor, b: Tensor) -> Tensor:
        mixed = torch.complex(a.imag, b.real)
        return torch.exp(a) * b.conj() + a / (b + 2) - torch.sqrt(b) * mixed + b**3

    agrees(program, function, random_tensors(program, SIZES), SIZES)


def test_masked_statistics() -> None:
    x = leaf("x", h, c)
    program = program_of(
        {"y": (x - x.mean(h, where=x > 0).otherwise(0.0)) * x.lse(c, where=x < 1).otherwise(2.0)}
    )

    def function(x: Tensor) -> Tensor:
        seen = x > 0
        mean = torch.where(seen.any(0), (x * seen).sum(0) / seen.sum(0).clamp(min=1), 0.0)
        low = x < 1
        some = low.any(1, keepdim=True)
        scores = torch.where(some, x.masked_fill(~low, -torch.inf), 0.0)
        return (x - mean) * torch.where(some, scores.logsumexp(1, keepdim=True), 2.0)

    agrees(program, function, random_tensors(program, SIZES), SIZES)


def test_a_guarded_root_has_no_infinite_derivative() -> None:
    program = program_of({"y": sqrt(when(x > 0, x)).otherwise(0.0)})
    data = torch.tensor([[4.0, 0.0, -1.0]]).double()
    derived = gradient(program)
    found = interpret(derived, {"x": data, "cot.y": torch.ones_like(data)}, sized(h=1, c=3))
    assert found["grad.x"].tolist() == [[0.25, 0.0, 0.0]]


def test_a_batch_may_be_empty_or_reduced() -> None:
    b = AxisValue(BATCH)
    x, gain = leaf("x", b, h), param("gain", h)
    items = ((BATCH,), (h.axis,))
    program = program_of({"y": gain * x * tanh(gain)}, {"x": items, "y": items})
    derived = gradient(program)
    for batch in ((), (2,), (2, 3), (0,)):
        sizes = sized(batch=batch, h=4)
        agrees(program, lambda x, gain: gain * x * torch.tanh(gain), random_tensors(program, sizes), sizes)
    assert [each.items for each in derived.outputs] == [items, ((h.axis,),)]


BY_PLACE = {
    "a best entry over the batch": """
mixer chosen(x[...], y[w]) -> o[w]:
  axis n: 2
  v = max[; n](y, select(w == n, x, 0.0))
  o = max[...](v) otherwise y
""",
    "a read at its place": """
mixer read(x[...], y[w]) -> o[...]:
  o = x * y[w: clamp(..., 0, size(w) - 1)]
""",
    "a read at every other place": """
mixer strided(x[...], y[w]) -> o[...]:
  o = x * (y[w: 2*... - 1] otherwise 0.0)
""",
    "what lands at its place": """
mixer landed(x[...], y[w]) -> o[w]:
  o = y + (place(x, w: ... + 1) otherwise 0.0)
""",
}


@pytest.mark.parametrize("name", BY_PLACE)
def test_nothing_is_read_at_an_index_of_the_batch(name: str) -> None:
    """`...` stands for any number of axes, so that no step of a gradient may solve an equation for it (found by
    a generated program)."""
    program = plait.parse(BY_PLACE[name]).program()
    for batch in ((), (2,), (2, 3), (0,)):
        sizes = sized(batch=batch, w=5)
        derived, given_all = check_gradient(program, random_tensors(program, sizes), sizes)
        explicit = expand_batch(derived, len(batch))
        found = interpret(explicit, given_all)
        for output, value in interpret(derived, given_all, sizes).items():
            assert torch.equal(found[output], value), (output, batch)


# --- conventions


def slope(value: Value, **tensors: Tensor) -> Tensor:
    """The gradient of the sum of a value with respect to x; it may leave tensors unused."""
    program = program_of({"y": value})
    derived = gradient(program, ["x"])
    used = {each.leaf.name: tensors[each.leaf.name] for each in program.declarations}
    sizes = sized(h=tensors["x"].shape[0])
    given_all = with_cotangents(program, derived, used, sizes)
    return interpret(derived, {**given_all, "cot.y": torch.ones_like(given_all["cot.y"])}, sizes)["grad.x"]


line = leaf("x", h)


@pytest.mark.parametrize(
    ("value", "points", "slopes"),
    [
        (abs(line), [-2.0, 0.0, 3.0], [-1.0, 0.0, 1.0]),
        (applied("sign", line) * line, [-2.0, 0.0, 3.0], [-1.0, 0.0, 1.0]),
        (select(line > 0, line, 0.0), [-1.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
        (maximum(line, 1.0), [0.0, 1.0, 2.0], [0.0, 0.5, 1.0]),
        (minimum(line, 1.0), [0.0, 1.0, 2.0], [1.0, 0.5, 0.0]),
        (clamp(line, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 1.0, 0.0]),
        (clamp(line, 2.0, 1.0), [0.0, 1.0, 1.5, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0]),
        (clamp(2.0 + 0.0 * line, line, 4.0), [1.0, 2.0, 3.0, 5.0], [0.0, 0.0, 1.0, 0.0]),
        (clamp(2.0 + 0.0 * line, 0.0, line), [-1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 0.0, 0.0]),
        (maximum(line, line), [0.0, 1.0, 2.0], [1.0, 1.0, 1.0]),
        (line.max(h), [2.0, 5.0, 5.0], [0.0, 1.0, 0.0]),
        (line.min(h), [2.0, 2.0, 5.0], [1.0, 0.0, 0.0]),
        (union("max", (line, [h]), (Value(Const(5.0)) * 1, [])), [2.0, 5.0, 5.0], [0.0, 1.0, 0.0]),
        (union("max", (Value(Const(5.0)) * 1, []), (line, [h])), [2.0, 5.0, 5.0], [0.0, 0.0, 0.0]),
        (line**0, [0.0, 1.0], [0.0, 0.0]),
        (line**1, [0.0, 1.0], [1.0, 1.0]),
        (line**2, [0.0, 3.0], [0.0, 6.0]),
        (line ** (0 * h), [0.0, 3.0], [0.0, 0.0]),
        (0.0 * line ** (0.0 * line) + (h * 0.0) ** (line * line), [1.0, 2.0], [0.0, 0.0]),
        (sqrt(line), [0.0, 4.0], [torch.inf, 0.25]),
    ],
)
def test_conventions(value: Value, points: list[float], slopes: list[float]) -> None:
    found = slope(value, x=torch.tensor(points, dtype=torch.float64))
    assert found.tolist() == slopes


def test_ties_of_several_axes_go_in_listed_order() -> None:
    x = leaf("x", h, w)
    data = torch.zeros(2, 3, dtype=torch.float64)
    data[1, 0] = data[0, 1] = 1.0
    for order, first in (((h, w), (0, 1)), ((w, h), (1, 0))):
        derived = gradient(program_of({"y": x.max(*order)}))
        sizes = sized(h=2, w=3)
        found = interpret(derived, {"x": data, "cot.y": torch.tensor(1.0).double()}, sizes)["grad.x"]
        assert found.nonzero().tolist() == [list(first)]


# --- marks


def test_marks_on_the_derivative() -> None:
    x = leaf("x", h)
    data = torch.tensor([0.4, 1.7, -2.2], dtype=torch.float64)
    hard = as_if(applied("to_real", applied("round", x)), x)
    assert slope(hard * 3, x=data).tolist() == [3.0, 3.0, 3.0]
    assert torch.equal(slope(stop(x) * x, x=data), data)
    clipped = on_gradient(x, lambda g: clamp(g, -1.0, 1.0) * 2)
    assert torch.equal(slope(clipped * x * 5, x=data), 2 * (5 * data).clamp(-1, 1) + 5 * data)


def test_a_rule_sees_the_whole_cotangent_and_other_values() -> None:
    """The cotangent that a rule is given is total, over all axes of its value, whatever was read."""
    x, m = leaf("x", h), leaf("m", h)
    marked = on_gradient(x, lambda g: (g - g.mean(h)) * m + g[h + 1].otherwise(10.0))
    data = {"x": torch.ones(4, dtype=torch.float64), "m": torch.arange(4.0, dtype=torch.float64)}
    found = slope(marked[h + 1].otherwise(0.0) * 2, **data)
    g = torch.tensor([0.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    expected = (g - g.mean()) * data["m"] + torch.tensor([2.0, 2.0, 2.0, 10.0])
    assert torch.equal(found, expected)
    counted = on_gradient(x, lambda g: g.sum(h) + 0 * h)
    assert torch.equal(slope(counted.sum(h), **data), torch.full((4,), 4.0).double())


def test_a_surrogate_may_lie_elsewhere() -> None:
    x = leaf("x", h)
    data = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    shifted = as_if(x, x[h + 1])
    assert slope(shifted * (h + 1), x=data).tolist() == [0.0, 1.0, 2.0]


# --- the program around it


def small() -> Program:
    b = leaf("flag", h, kind="bool")
    ids = leaf("ids", h, kind="int", index_of=h)
    y = when(b, leaf("x", h) * param("p", h))[{h: ids}].otherwise(0.0)
    made = program_of({"y": y, "n": applied("to_int", leaf("x", h))})
    unused = Declaration(leaf("unused", h, c).form, ((h.axis, c.axis),))  # type: ignore[arg-type]
    frozen = Declaration(param("frozen", c).form, ((c.axis,),), trainable=False)  # type: ignore[arg-type]
    return Program(
        "small",
        (*made.inputs, unused),
        made.outputs,
        names=(("y", y.form),),
        parameters=(*made.parameters, frozen),
        doc="A test.",
        mode="train",
    )


def test_what_gets_a_gradient() -> None:
    program = small()
    derived = gradient(program)
    assert [each.name for each in derived.outputs] == ["grad.x", "grad.unused", "grad.p"]
    assert [each.leaf.name for each in derived.inputs] == ["flag", "ids", "x", "unused", "cot.y"]
    assert derived.parameters == program.parameters and derived.mode == "train"
    sizes = sized(h=3, c=2)
    tensors = {
        "flag": torch.tensor([True, False, True]),
        "ids": torch.tensor([2, 2, 1]),
        "x": torch.tensor([1.0, 2.0, 3.0]).double(),
        "p": torch.tensor([5.0, 6.0, 7.0]).double(),
        "unused": torch.ones(6).double(),
        "frozen": torch.ones(2).double(),
        "cot.y": torch.tensor([1.0, 10.0, 100.0]).double(),
    }
    found = interpret(derived, tensors, sizes)
    assert found["grad.x"].tolist() == [0.0, 0.0, 77.0]
    assert found["grad.p"].tolist() == [0.0, 0.0, 33.0]
    assert found["grad.unused"].tolist() == [0.0] * 6
    chosen = gradient(program, ["frozen", "p"])
    assert [each.name for each in chosen.outputs] == ["grad.frozen", "grad.p"]


def test_a_packed_layout_is_kept() -> None:
    x = leaf("x", h, c)
    packed = program_of({"y": tanh(x)}, {"x": ((h.axis, c.axis),), "y": ((c.axis,), (), (h.axis,))})
    sizes = sized(h=4, c=3)
    agrees(packed, lambda x: torch.tanh(x.reshape(4, 3)).T[:, None], random_tensors(packed, sizes), sizes)


def test_an_optional_input_that_is_not_given() -> None:
    x, g = leaf("x", h), leaf("g", h)
    program = program_of({"y": x * g.otherwise(2.0)})
    inputs = tuple(
        Declaration(each.leaf, each.items, optional=each.leaf.name == "g") for each in program.inputs
    )
    program = Program("optional", inputs, program.outputs)
    derived = gradient(program)
    data = {"x": torch.ones(3).double(), "cot.y": torch.ones(3).double()}
    without = interpret(derived, data, sized(h=3))
    assert without["grad.x"].tolist() == [2.0] * 3 and without["grad.g"].tolist() == [0.0] * 3
    with_it = interpret(derived, {**data, "g": torch.full((3,), 4.0).double()}, sized(h=3))
    assert with_it["grad.x"].tolist() == [4.0] * 3 and with_it["grad.g"].tolist() == [1.0] * 3


def test_nothing_stored_is_updated_and_names_stay() -> None:
    program = small()
    derived = gradient(program)
    assert derived.updates == () and derived.name == "small_gradient"
    assert {name for name, _ in derived.names} <= {"y", "d_y"}
    again = gradient(derived)
    assert {each.leaf.name for each in again.inputs} >= {"cot.y", "cot.grad.x", "cot.grad.p"}


def test_mistakes() -> None:
    program = small()
    with pytest.raises(UnknownName, match="no tensor `nothing`"):
        gradient(program, ["x", "nothing"])
    with pytest.raises(KindMismatch, match="`flag` is bool, and has no gradient"):
        gradient(program, ["flag"])
    taken = program_of({"y": leaf("x", h) * leaf("cot.y", h)})
    with pytest.raises(ShadowedName, match=r"`cot\.y`"):
        gradient(taken)


@pytest.mark.parametrize("name", not_yet_forms())
def test_what_is_not_derived_yet_says_so(name: str) -> None:
    form = not_yet_forms()[name]
    program = program_of({"y": Value(form)})
    if form.kind in ("real", "complex"):
        with pytest.raises(NotYet, match=f"the gradient of `{name}`"):
            gradient(program)
        assert gradient(program, []).outputs == ()
    else:
        assert isinstance(form, Library)


def test_indices_from_a_library_need_no_derivative() -> None:
    x, rank = leaf("x", h), axis("rank", 2)
    ranks = Library("topk_indices", (x.form,), (h.axis,), (rank.axis,), "int")
    program = program_of({"y": x[{h: Value(ranks)}].sum(rank)})
    derived = gradient(program)
    assert any(isinstance(form, Place) for form in derived.forms)


# --- size


def counted(value: Value) -> tuple[int, int]:
    """How many forms the gradient has, and the gradient of the gradient."""
    derived = gradient(program_of({"y": value}))
    return len(derived.forms), len(gradient(derived).forms)


def test_programs_do_not_blow_up() -> None:
    value = line
    for _ in range(1200):
        value = sin(value)
    first, second = counted(value)
    assert first < 3.1 * 1200 and second < 10 * 1200
    value = line
    for level in range(24):
        value = (value + value[h + 2**level] * 2).otherwise(0.5)
    first, second = counted(value)
    assert first < 400 and second < 400, "shifts of shifts do not double"
    value = line
    for level in range(16):
        offset = near("o", 1)
        value = tanh((leaf(f"w{level}", offset) * value[h + offset]).sum(offset)) + value
    first, second = counted(value)
    assert first < 500 and second < 1500
    value = line
    for _ in range(40):
        value = value * value
    first, second = counted(value)
    assert first < 300 and second < 900


def test_shared_work_is_shared() -> None:
    program = program_of({"y": tanh(x) * exp(x)})
    derived = gradient(program)
    assert sum(isinstance(f, Map) and f.op == "tanh" for f in derived.forms) == 1
    assert sum(isinstance(f, Map) and f.op == "exp" for f in derived.forms) == 1
    assert all(child in set(derived.forms) for form in derived.forms for child in children(form))


def test_offset_axes_and_spans() -> None:
    e = span("e", -1, 3)
    table = param("table", e)
    program = program_of({"y": tanh(table[{e: h - 2}] * line).otherwise(0.0)})
    sizes = sized(h=6)

    def function(x: Tensor, table: Tensor) -> Tensor:
        return torch.cat([torch.zeros(1).double(), torch.tanh(table * x[1:5]), torch.zeros(1).double()])

    agrees(program, function, random_tensors(program, sizes), sizes)


def test_reads_swapped_and_flattened() -> None:
    j = axis("j", c.size)
    x = leaf("x", h, c)
    y = (x[{h: j + 1, c: h % c.size}] * x[{h: h, c: 0}]).otherwise(0.25)
    program = program_of({"y": y}, {"y": ((h.axis,), (j.axis,))})
    sizes = sized(h=5, c=3)

    def function(x: Tensor) -> Tensor:
        i, k = torch.arange(5)[:, None], torch.arange(3)
        return x[k + 1, i % 3] * x[:, :1]

    agrees(program, function, random_tensors(program, sizes), sizes)
