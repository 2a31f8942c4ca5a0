"""Calls under autograd, in both modes, under vmap, under torch.compile: against torch's own gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils.checkpoint import checkpoint

import plait
from conditioning import condition
from plait.backends.autograd import Differentiable, differentiable
from plait.backends.budget import budget, longest_way, there_and_back
from plait.backends.compiled import Compiled
from plait.compiler.gradient.derive import gradient
from plait.compiler.gradient.tangent import apart, tangent
from plait.compiler.meaning.interpret import interpret
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.elaboration.declarations import buffer, param, update
from plait.dsl.elaboration.mixer import mixer
from plait.dsl.mistakes import AxisSizeMismatch, NotYet, UnknownArgument, WrongDtype
from plait.dsl.program import Axis, Program
from plait.dsl.python.calculus import as_if, on_gradient, stop
from plait.dsl.python.domains import softmax
from plait.dsl.python.functions import axes, near, place, select
from plait.dsl.python.pointwise import conj, exp, floor, im, re, to_real

b, c, d, h, v, w = axes("b c d h v w")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What runs without a kernel is not the subject here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*run as reference operations.*", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*runs as a reference operation.*", category=UserWarning)
        yield


# --- circular attention, and the same in torch


@mixer("q[..., h, w, d], k[..., h, w, d], v[..., h, w, d] -> o[..., h, w, d]")
def circular(q, k, v, *, radius: int = 2):
    dh, dw = near("dh dw", radius)
    s = (q * k[h + dh, w + dw]).sum(d) * d.size**-0.5
    p = softmax(s, over=(dh, dw), where=dh * dh + dw * dw < radius * radius)
    return (p * v[h + dh, w + dw]).sum(dh, dw)


def circular_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The mixer above with radius 2."""
    *batch, height, width, depth = q.shape
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 < 2 * 2
    flat = (each.reshape(*batch, height * width, depth) for each in (q, k, v))
    query, key, value = flat
    score = (query @ key.transpose(-1, -2)) * depth**-0.5
    weight = score.masked_fill(~near, -torch.inf).softmax(-1)
    return (weight @ value).reshape(q.shape)


Call = Callable[..., Any]


def caller(program: Program, **options) -> Call:
    """The program on its inputs in order, with the only output as result."""
    call = Differentiable(Compiled(program, **options))
    assert len(call.outputs) == 1
    return lambda *tensors: call(dict(zip(call.names, tensors, strict=True)))[call.outputs[0]]


@pytest.fixture(scope="module")
def attention() -> Call:
    return caller(circular.program(radius=2))


@pytest.fixture(scope="module")
def reference() -> Call:
    return caller(circular.program(radius=2), backend="reference")


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def triple(*shape: int, grad: bool = True, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [random(*shape, dtype=dtype, seed=seed).requires_grad_(grad) for seed in (1, 2, 3)]


def furthest(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest entry; to 1 where that is 0."""
    assert found.shape == expected.shape
    return float((found - expected).detach().abs().max()) / (float(expected.detach().abs().max()) or 1.0)


def slopes(call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
    """First derivatives of a sum of squares of results."""
    return torch.autograd.grad(call(*tensors).pow(2).sum(), tensors, create_graph=True)


def steeper(call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Second derivatives, and those of what is linear in it."""
    total = sum(each.pow(2).sum() for each in slopes(call, *tensors))
    assert isinstance(total, Tensor)
    return torch.autograd.grad(total, tensors, create_graph=True)


def steepest(call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
    total = sum(each.pow(2).sum() for each in steeper(call, *tensors))
    assert isinstance(total, Tensor)
    return torch.autograd.grad(total, tensors)


@cache
def granted(order: int, dtype: torch.dtype = torch.float64) -> float:
    """What two computations of derivatives of attention may be apart, beside the largest entry: the budget of the
    longest way to them, with the condition that torch's form of them has."""
    sizes = {Axis(name): extent for name, extent in zip("hwd", (9, 11, 16), strict=True)}
    way = longest_way(expand_batch(circular.program(radius=2), 0), sizes)
    for _ in range(order):
        way = there_and_back(way)
    function = (circular_torch, partial(slopes, circular_torch), partial(steeper, circular_torch),
                partial(steepest, circular_torch))[order]  # fmt: skip
    measured = condition(function, *triple(3, 4, 2))
    exact = budget(torch.float64, way.length, way.operations, measured)
    return exact + budget(dtype, way.length, way.operations, measured)


DOUBLE = granted(1)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 2), (2, 7, 4, 3), (2, 3, 2, 5, 4)])
def test_the_gradient_is_that_of_torch(attention: Call, shape: tuple[int, ...]) -> None:
    tensors, cotangent = triple(*shape), random(*shape, seed=9)
    out = attention(*tensors)
    expected = circular_torch(*tensors)
    assert out.requires_grad and furthest(out, expected) < DOUBLE
    found = torch.autograd.grad(out, tensors, cotangent)
    wanted = torch.autograd.grad(expected, tensors, cotangent)
    for each, other in zip(found, wanted, strict=True):
        assert furthest(each, other) < DOUBLE


def test_float32_gradients_are_within_the_error_of_their_sums(attention: Call) -> None:
    shape = (2, 9, 11, 16)
    exact = triple(*shape)
    single = [each.detach().float().requires_grad_() for each in exact]
    cotangent = random(*shape, seed=9)
    found = torch.autograd.grad(attention(*single), single, cotangent.float())
    wanted = torch.autograd.grad(circular_torch(*exact), exact, cotangent)
    for each, other in zip(found, wanted, strict=True):
        assert each.dtype == torch.float32
        assert furthest(each.double(), other) < granted(1, torch.float32)


def strided(kind: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A tensor of this shape that is a view of another."""
    match kind:
        case "transposed":
            return random(*reversed(shape), seed=seed).permute(*reversed(range(len(shape))))
        case "expanded":
            return random(*shape[1:], seed=seed).expand(shape)
        case _:
            return random(*(2 * size + 1 for size in shape), seed=seed)[
                tuple(slice(1, None, 2) for _ in shape)
            ]


@pytest.mark.parametrize("kind", ["transposed", "expanded", "sliced"])
def test_views_of_tensors(attention: Call, kind: str) -> None:
    shape = (2, 4, 3, 5)
    leaves = [strided(kind, shape, seed).requires_grad_() for seed in (1, 2, 3)]
    cotangent = strided(kind, shape, 4)
    found = torch.autograd.grad(attention(*leaves), leaves, cotangent)
    wanted = torch.autograd.grad(circular_torch(*leaves), leaves, cotangent)
    for each, other in zip(found, wanted, strict=True):
        assert furthest(each, other) < DOUBLE


def test_views_within_a_graph(attention: Call) -> None:
    """Gradients reach the tensors that the views are of."""
    base = random(5, 4, 3, 2, seed=7).requires_grad_()

    def through(call: Call) -> Tensor:
        return torch.autograd.grad(call(base[0], base[1:2].squeeze(0), base[2]).pow(2).sum(), base)[0]

    assert furthest(through(attention), through(circular_torch)) < DOUBLE


def test_one_tensor_for_all_inputs(attention: Call) -> None:
    x = random(2, 4, 5, 3).requires_grad_()
    (found,) = torch.autograd.grad(attention(x, x, x).pow(3).sum(), x)
    (wanted,) = torch.autograd.grad(circular_torch(x, x, x).pow(3).sum(), x)
    assert furthest(found, wanted) < DOUBLE


@pytest.mark.parametrize("wanting", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_what_is_asked_for(attention: Call, wanting: tuple[int, ...]) -> None:
    tensors = [each.requires_grad_(i in wanting) for i, each in enumerate(triple(4, 3, 2, grad=False))]
    attention(*tensors).sum().backward()
    expected = [each.detach().clone().requires_grad_(i in wanting) for i, each in enumerate(tensors)]
    circular_torch(*expected).sum().backward()
    for i, (each, other) in enumerate(zip(tensors, expected, strict=True)):
        if i in wanting:
            assert each.grad is not None and other.grad is not None
            assert furthest(each.grad, other.grad) < DOUBLE
        else:
            assert each.grad is None


def test_gradcheck_in_both_modes(attention: Call) -> None:
    assert gradcheck(attention, triple(2, 3, 2), check_forward_ad=True, check_undefined_grad=False)


def test_gradgradcheck_in_both_modes(reference: Call) -> None:
    """By the interpreter, since this derives some twenty programs; what follows runs compiled ones."""
    assert gradcheck(reference, triple(2, 2, 2), check_batched_grad=True)
    assert gradgradcheck(reference, triple(2, 2, 2), check_fwd_over_rev=True, fast_mode=True)


def loss(call: Call) -> Call:
    """A function of the queries alone."""
    _, k, v = triple(2, 3, 2, grad=False)
    return lambda q: call(q, k, v).pow(2).sum()


@pytest.mark.parametrize("outer", [jacrev, jacfwd])
@pytest.mark.parametrize("inner", [jacrev, jacfwd])
def test_second_derivatives_in_every_mix_of_modes(reference: Call, outer: Call, inner: Call) -> None:
    q = random(2, 3, 2)
    assert furthest(outer(inner(loss(reference)))(q), hessian(loss(circular_torch))(q)) < granted(2)


def test_third_derivatives(attention: Call) -> None:
    def third(of: Call) -> Tensor:
        return grad(lambda q: grad(lambda q: grad(of)(q).pow(2).sum())(q).sum())(random(2, 3, 2))

    assert furthest(third(loss(attention)), third(loss(circular_torch))) < granted(3)


def test_backward_of_backward(attention: Call) -> None:
    def twice(call: Call) -> tuple[Tensor, ...]:
        tensors, cotangent = triple(3, 4, 2), random(3, 4, 2, seed=9).requires_grad_()
        first = torch.autograd.grad(call(*tensors), tensors, cotangent, create_graph=True)
        total = sum(each.pow(2).sum() for each in first)
        assert isinstance(total, Tensor)
        return torch.autograd.grad(total, [*tensors, cotangent])

    for found, wanted in zip(twice(attention), twice(circular_torch), strict=True):
        assert furthest(found, wanted) < granted(2)


def test_directional_derivatives(attention: Call) -> None:
    tensors, directions = tuple(triple(3, 4, 2, grad=False)), tuple(triple(3, 4, 2, grad=False)[::-1])
    expected = jvp(circular_torch, tensors, directions)
    for found, wanted in zip(jvp(attention, tensors, directions), expected, strict=True):
        assert furthest(found, wanted) < DOUBLE
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(tensors[0], directions[0])
        seen = forward_ad.unpack_dual(attention(dual, *tensors[1:])).tangent
    expected = jvp(lambda q: circular_torch(q, *tensors[1:]), tensors[:1], directions[:1])
    assert seen is not None and furthest(seen, expected[1]) < DOUBLE


# --- vmap


def test_a_mapped_dimension_is_one_more_batch_dimension() -> None:
    call = differentiable(Compiled(circular.program(radius=2)))
    runs: list[tuple[int, ...]] = []
    launch = call.compiled.run

    def counted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        runs.append(tuple(tensors["q"].shape))
        return launch(tensors)

    call.compiled = Watched(call.compiled, counted)  # type: ignore[assignment]
    q, k, v = random(2, 6, 3, 2), random(2, 3, 2, seed=1), random(2, 3, 2, 6, seed=2)
    found = vmap(lambda q, k, v: call({"q": q, "k": k, "v": v})["o"], in_dims=(1, None, 3))(q, k, v)
    assert runs == [(6, 2, 3, 2)]
    expected = [circular_torch(q[:, i], k, v[..., i]) for i in range(6)]
    assert furthest(found, torch.stack(expected)) < DOUBLE


class Watched:
    """A Compiled whose `run` is another."""

    def __init__(self, compiled: Compiled, run: Callable[..., dict[str, Tensor]]) -> None:
        self.compiled, self.run = compiled, run

    def __getattr__(self, name: str) -> object:
        return getattr(self.compiled, name)


@mixer("x[..., c] -> y[..., c], total[c]")
def summed(x):
    weight = param("weight", c)
    return x * weight, (x * weight).sum(...)


def test_a_program_that_sums_over_the_batch_runs_once_an_entry() -> None:
    call = Differentiable(Compiled(summed.program()))
    x, weight = random(3, 2, 4), random(4, seed=1)
    mapped = vmap(lambda x: call({"x": x, "weight": weight}))(x)
    assert furthest(mapped["y"], x * weight) < DOUBLE
    assert furthest(mapped["total"], (x * weight).sum(1)) < DOUBLE
    each = vmap(grad(lambda weight, x: call({"x": x, "weight": weight})["total"].sum()), in_dims=(None, 0))
    assert furthest(each(weight, x), x.sum(1)) < DOUBLE


def test_a_program_that_places_by_the_batch_runs_once_an_entry() -> None:
    @mixer("x[c], ids[...]: index v -> y[..., c, v]")
    def counted(x, ids):
        return place(x, {v: ids}, keep=(c,)).otherwise(0) + 0 * v + 0 * ids

    call = caller(counted.program(v=4))
    x, ids = random(3), torch.tensor([[0, 1, 1], [3, 3, 3]])
    found = vmap(lambda ids: call(x, ids))(ids)
    weights = torch.stack([torch.bincount(each, minlength=4) for each in ids])
    wanted = (x[None, :, None] * weights[:, None, :])[:, None].expand(2, 3, 3, 4)
    assert furthest(found, wanted) < DOUBLE


def test_vmap_over_nothing(attention: Call) -> None:
    assert vmap(attention)(*triple(0, 2, 3, 2, grad=False)).shape == (0, 2, 3, 2)
    call = Differentiable(Compiled(summed.program()))
    mapped = vmap(lambda x: call({"x": x, "weight": torch.ones(4)}))(torch.ones(0, 2, 4))
    assert mapped["y"].shape == (0, 2, 4) and mapped["total"].shape == (0, 4)


def test_vmap_in_vmap_and_with_gradients(attention: Call) -> None:
    q, k, v = random(2, 3, 2, 3, 2), random(2, 3, 2, 2, seed=1), random(2, 3, 2, 3, 2, seed=2)
    found, wanted = (
        vmap(vmap(call, in_dims=(0, None, 0)), in_dims=(0, 3, 0))(q, k, v)
        for call in (attention, circular_torch)
    )
    assert furthest(found, wanted) < DOUBLE
    samples = q[0]
    found = vmap(grad(lambda q: attention(q, k[..., 0], v[0, 0]).pow(2).sum()))(samples)
    wanted = vmap(grad(lambda q: circular_torch(q, k[..., 0], v[0, 0]).pow(2).sum()))(samples)
    assert furthest(found, wanted) < DOUBLE


# --- results that carry no gradient, tensors that have none


@mixer("x[b, c], ids[b]: index v, seen[b]: bool -> y[b, c], best[b]: int, large[b]: bool, z[b]")
def several(x, ids, seen):
    table = param("table", v, c)
    y = select(seen, x * table[{v: ids}], x)
    total = (y * y).sum(c)
    return y, x.argmax(c), total > 1, total


@pytest.fixture
def severals() -> tuple[Differentiable, dict[str, Tensor]]:
    tensors = {
        "x": random(4, 3).requires_grad_(),
        "ids": torch.tensor([1, 0, 1, 4]),
        "seen": torch.tensor([True, False, True, True]),
        "table": random(5, 3, seed=1).requires_grad_(),
    }
    return Differentiable(Compiled(several.program())), tensors


def test_integers_and_truth_values_are_outside_the_graph(severals) -> None:
    call, tensors = severals
    made = call(tensors)
    assert [name for name, each in made.items() if each.requires_grad] == ["y", "z"]
    assert made["best"].dtype == torch.int64 and made["large"].dtype == torch.bool
    x, table = tensors["x"], tensors["table"]
    y = torch.where(tensors["seen"][:, None], x * table[tensors["ids"]], x)
    (made["z"].sum() + made["y"].pow(3).sum()).backward()
    wanted = torch.autograd.grad(y.pow(2).sum() + y.pow(3).sum(), (x, table))
    assert furthest(x.grad, wanted[0]) < DOUBLE and furthest(table.grad, wanted[1]) < DOUBLE


def test_a_cotangent_that_is_not_there_is_not_computed_with(severals) -> None:
    call, tensors = severals
    made = call(tensors)
    (found,) = torch.autograd.grad(made["z"].sum(), tensors["x"])
    assert list(call._derived) == [("gradient", ("x", "table"), ("z",))]
    y = torch.where(tensors["seen"][:, None], tensors["x"] * tensors["table"][tensors["ids"]], tensors["x"])
    assert furthest(found, torch.autograd.grad(y.pow(2).sum(), tensors["x"])[0]) < DOUBLE


def test_an_input_that_nothing_depends_on_has_gradient_zero() -> None:
    @mixer("x[b], y[b] -> o[b], n[b]: int")
    def first(x, y):
        return 2 * x, (y > 0).count(b) + 0 * b

    call = Differentiable(Compiled(first.program()))
    x, y = random(3).requires_grad_(), random(3, seed=1).requires_grad_()
    call({"x": x, "y": y})["o"].sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.full((3,), 2.0, dtype=torch.float64))
    assert y.grad is not None and torch.equal(y.grad, torch.zeros(3, dtype=torch.float64))


def test_no_graph_where_nobody_asks_for_one(attention: Call) -> None:
    tensors = triple(3, 4, 2)
    with torch.no_grad():
        assert attention(*tensors).grad_fn is None
    with torch.inference_mode():
        assert attention(*tensors).is_inference()
    assert attention(*(each.detach() for each in tensors)).grad_fn is None


def test_a_saved_tensor_that_was_changed_is_noticed(attention: Call) -> None:
    q, k, v = triple(3, 4, 2)
    changed = q * 1
    out = attention(changed, k, v)
    changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(attention: Call, reentrant: bool) -> None:
    tensors = triple(3, 4, 2)
    out = checkpoint(attention, *tensors, use_reentrant=reentrant)
    out.sum().backward()
    for each, wanted in zip(
        tensors, torch.autograd.grad(circular_torch(*tensors).sum(), tensors), strict=True
    ):
        assert each.grad is not None and furthest(each.grad, wanted) < DOUBLE


def test_complex_tensors() -> None:
    @mixer("z[b, c]: complex, x[b, c] -> y[b, c]: complex, r[b]")
    def turned(z, x):
        y = exp(z * x) * conj(z)
        return y, (re(y) * im(z)).sum(c)

    def turned_torch(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        y = (z * x).exp() * z.conj()
        return y, (y.real * z.imag).sum(1)

    call = Differentiable(Compiled(turned.program()))
    for real in (torch.float64, torch.float32):
        x = random(2, 3).to(real).requires_grad_()
        z = torch.complex(random(2, 3, seed=1), random(2, 3, seed=2)).to(real.to_complex()).requires_grad_()
        made = call({"z": z, "x": x})
        assert made["y"].dtype == z.dtype and made["r"].dtype == real
        found, wanted = (
            torch.autograd.grad((y * (1 + 2j)).real.sum() + r.sum(), (z, x))
            for y, r in (tuple(made.values()), turned_torch(z, x))
        )
        for each, other in zip(found, wanted, strict=True):
            assert furthest(each, other) < granted(1, real)
    leaves = (random(2, 3).to(torch.complex128).requires_grad_(), random(2, 3, seed=1).requires_grad_())
    assert gradcheck(lambda z, x: call({"z": z, "x": x})["y"], leaves, check_forward_ad=True)


# --- results share memory with nothing


@mixer("x[b] -> same[b], again[b], doubled[b]")
def identity(x):
    held = buffer("held", b)
    update(held, x + x)
    return x, x, x + x


def test_no_result_shares_memory_with_another_or_an_input() -> None:
    call = Differentiable(Compiled(identity.program()))
    x = random(4)
    made = call({"x": x, "held": torch.zeros(4, dtype=torch.float64)})
    assert list(made) == ["same", "again", "doubled", "update:held"]
    owners = [each.untyped_storage().data_ptr() for each in (x, *made.values())]
    assert len(set(owners)) == len(owners)
    assert torch.equal(made["same"], x) and torch.equal(made["update:held"], 2 * x)
    x.requires_grad_()
    made = call({"x": x, "held": torch.zeros(4, dtype=torch.float64)})
    assert not made["update:held"].requires_grad
    made["same"].add_(1)
    (made["same"] * 2 + made["again"] * 3 + made["doubled"]).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.full((4,), 7.0, dtype=torch.float64))


# --- marks


def test_marks_keep_their_derivatives() -> None:
    @mixer("x[b] -> o[b]")
    def marked(x):
        return as_if(to_real(floor(x)), x * x) * stop(x)

    x = (3 * random(5)).requires_grad_()
    out = caller(marked.program())(x)
    assert torch.equal(out, x.floor() * x)
    (found,) = torch.autograd.grad(out.sum(), x)
    assert furthest(found, 2 * x * x) < DOUBLE


def test_a_rule_that_is_not_linear_has_no_forward_mode() -> None:
    @mixer("x[b] -> o[b]")
    def clipped(x):
        return on_gradient(x, lambda g: g * g * g) * 2

    @mixer("x[b] -> o[b]")
    def halved(x):
        return on_gradient(x, lambda g: 0.5 * g) * 2

    x = random(3)
    assert torch.equal(grad(lambda x: caller(clipped.program())(x).sum())(x), torch.full_like(x, 8.0))
    with pytest.raises(NotYet, match="rule of its `on_gradient` is not linear"):
        jvp(caller(clipped.program()), (x,), (x,))
    assert torch.equal(jvp(caller(halved.program()), (x,), (x,))[1], x)


# --- programs of derivatives


def test_the_tangent_is_a_program(attention: Call) -> None:
    program = tangent(circular.program(radius=2), ["q", "v"])
    assert [each.leaf.name for each in program.inputs] == ["q", "k", "v", "tan.q", "tan.v"]
    assert [each.name for each in program.outputs] == ["tangent.o"]
    q, k, v = triple(2, 3, 2, grad=False)
    made = interpret(program, {"q": q, "k": k, "v": v, "tan.q": k, "tan.v": q})
    expected = jvp(lambda q, v: circular_torch(q, k, v), (q, v), (k, q))
    assert furthest(made["tangent.o"], expected[1]) < DOUBLE


def test_derivatives_of_derivatives_have_names_of_their_own() -> None:
    program = circular.program(radius=2)
    for _ in range(3):
        program = gradient(apart(program), ["q"])
    names = [each.leaf.name for each in program.inputs]
    assert names == ["q", "k", "v", "cot.o", "cot.grad.q", "cot.grad.q'"]
    program = circular.program(radius=2)
    for _ in range(3):
        program = tangent(program, ["q"])
    assert [each.leaf.name for each in program.inputs] == ["q", "k", "v", "tan.q", "tan.q'", "tan.q''"]


# --- dtypes, mistakes


def test_autocast_changes_no_dtype(attention: Call) -> None:
    """The widest dtype of the tensors is that of the result; float32 is what is computed in."""
    tensors = [each.detach().bfloat16().requires_grad_() for each in triple(3, 4, 2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attention(*tensors)
        mixed = attention(tensors[0], tensors[1].float(), tensors[2])
        wide = attention(*(each.float() for each in tensors))
    assert out.dtype == torch.bfloat16 and mixed.dtype == wide.dtype == torch.float32
    assert torch.equal(mixed, wide) and torch.equal(out, wide.bfloat16())
    assert furthest(wide.double(), circular_torch(*(each.double() for each in tensors))) < granted(
        0, torch.float32
    )
    mixed.sum().backward()
    assert all(each.grad is not None and each.grad.dtype == torch.bfloat16 for each in tensors)


def test_autocast_is_off_within(reference: Call) -> None:
    """The interpreter's operations are torch's; none of them may be cast."""
    tensors = triple(3, 4, 2, grad=False, dtype=torch.float32)
    expected = reference(*tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(reference(*tensors), expected)


def test_mistakes_are_those_of_the_call(attention: Call) -> None:
    q, k, v = triple(3, 4, 2)
    with pytest.raises(AxisSizeMismatch, match="axis `d` has two sizes"):
        attention(q, k[..., :1], v)
    with pytest.raises(WrongDtype, match=r"one dtype: `q` is torch.float64, `k` is torch.bfloat16"):
        attention(q, k.bfloat16(), v.bfloat16())
    call = Differentiable(Compiled(circular.program()))
    with pytest.raises(UnknownArgument, match="`v`"):
        call({"q": q, "k": k})
    with pytest.raises(UnknownArgument, match="`x`"):
        call({"q": q, "k": k, "v": v, "x": v})


# --- under torch.compile and other tracing


def compiled(function: Call, **options) -> Call:
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager", **options)


def test_the_operator_passes_the_checks_of_torch(severals) -> None:
    call = Differentiable(Compiled(circular.program(radius=2)))
    call.registered()
    expanded = [each.float().detach().expand(3, 2, 3, 2) for each in triple(2, 3, 2)]
    for tensors in (triple(2, 3, 2), expanded):
        torch.library.opcheck(call.operator, tuple(tensors))
    call, named = severals
    call.registered()
    torch.library.opcheck(call.operator, tuple(named.values()))


def test_one_graph_with_gradients(attention: Call) -> None:
    tensors, cotangent = triple(3, 4, 2), random(3, 4, 2)
    function = compiled(lambda q, k, v: attention(q.sin(), k, v) * 2)
    out = function(*tensors)
    expected = attention(tensors[0].sin(), *tensors[1:]) * 2
    assert torch.equal(out, expected)
    found = torch.autograd.grad(out, tensors, cotangent)
    for each, other in zip(found, torch.autograd.grad(expected, tensors, cotangent), strict=True):
        assert torch.equal(each, other)


def test_the_compiled_programs_of_the_face_are_traced(attention: Call) -> None:
    call = plait.compile(circular.program(radius=2))
    q, k, v = triple(3, 4, 2)
    assert torch.equal(compiled(lambda q, k, v: call(q, v=v, k=k))(q, k, v), attention(q, k, v))


def test_one_graph_for_all_sizes(attention: Call) -> None:
    function = compiled(attention, dynamic=True)
    torch._dynamo.utils.counters.clear()
    for size in (4, 5, 7):
        tensors = [random(2, size, size + 1, 8, seed=seed).requires_grad_() for seed in (1, 2, 3)]
        found = torch.autograd.grad(function(*tensors).sum(), tensors)
        wanted = torch.autograd.grad(attention(*tensors).sum(), tensors)
        assert all(torch.equal(each, other) for each, other in zip(found, wanted, strict=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_tracing_says_what_it_cannot_do(attention: Call) -> None:
    q, k, v = triple(2, 3, 2)
    function = compiled(attention)
    (first,) = torch.autograd.grad(function(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        torch.autograd.grad(first.sum(), q)
    plain = [each.detach() for each in (q, k, v)]
    with forward_ad.dual_level(), pytest.raises(NotYet, match="forward mode of `circular`"):
        function(forward_ad.make_dual(plain[0], plain[1]), *plain[1:])
    with pytest.raises(Exception, match="of `circular` does not work under"):
        compiled(lambda q, t: jvp(lambda q: attention(q, *plain[1:]), (q,), (t,)))(plain[0], plain[1])
    with pytest.raises(Exception, match=r"gradient of torch\.func of `circular`"):
        compiled(lambda q: grad(lambda q: attention(q, *plain[1:]).sum())(q))(plain[0])


def test_the_bare_operator_gives_no_silent_zeros() -> None:
    call = Differentiable(Compiled(circular.program(radius=2)))
    call.registered()
    tensors = tuple(triple(2, 3, 2, grad=False))
    with pytest.raises(NotYet, match="forward mode"):
        jvp(call.operator, tensors, tensors)
    with forward_ad.dual_level(), pytest.raises(NotYet, match="forward mode"):
        call.operator(forward_ad.make_dual(tensors[0], tensors[1]), *tensors[1:])


def test_vmap_within_torch_compile(attention: Call) -> None:
    q, k, v = triple(3, 2, 3, 2, grad=False)
    found = compiled(lambda q: vmap(lambda q: attention(q, k[0], v[0]))(q))(q)
    assert torch.equal(found, torch.stack([attention(each, k[0], v[0]) for each in q]))


def test_mistakes_within_torch_compile_are_shown(attention: Call) -> None:
    q, k, v = triple(3, 4, 2, grad=False)
    with pytest.raises(Exception, match="axis `d` has two sizes, 2 and 1"):
        compiled(attention)(q, k[..., :1], v)


def test_autocast_within_torch_compile(attention: Call) -> None:
    tensors = [each.detach().bfloat16() for each in triple(3, 4, 2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(attention)(*tensors), attention(*tensors))


def test_export(attention: Call) -> None:
    class Layer(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attention(q, k, v)

    dims = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("height")},) * 3
    example = tuple(triple(2, 4, 5, 3, grad=False))
    exported = torch.export.export(Layer(), example, dynamic_shapes=dims, strict=False)
    other = triple(3, 7, 5, 3, grad=False)
    assert torch.equal(exported.module()(*other), attention(*other))


def test_fakes_and_meta_tensors_have_the_shapes_of_results(severals) -> None:
    call, tensors = severals
    expected = call(tensors)
    made = call({name: each.detach().to("meta") for name, each in tensors.items()})
    for name, each in made.items():
        assert each.is_meta and each.shape == expected[name].shape and each.dtype == expected[name].dtype


def test_programs_that_are_equal_share_an_operator() -> None:
    first, second = (Differentiable(Compiled(circular.program(radius=2))) for _ in range(2))
    other = Differentiable(Compiled(circular.program(radius=3)))
    reference = Differentiable(Compiled(circular.program(radius=2), backend="reference"))
    assert all(each.registered() for each in (first, second, other, reference))
    assert first.operator is second.operator
    assert len({str(each.operator) for each in (first, other, reference)}) == 3
    assert str(first.operator).startswith("plait.circular_")


@pytest.mark.slow
def test_inductor(attention: Call) -> None:
    tensors = triple(3, 4, 2)
    function = torch.compile(lambda q, k, v: attention(q.sin(), k, v) * 2, fullgraph=True)
    out, expected = function(*tensors), attention(tensors[0].sin(), *tensors[1:]) * 2
    assert furthest(out, expected) < DOUBLE
    found = torch.autograd.grad(out.sum(), tensors)
    wanted = torch.autograd.grad(expected.sum(), tensors)
    assert all(furthest(each, other) < DOUBLE for each, other in zip(found, wanted, strict=True))
