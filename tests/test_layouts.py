"""Memory under the tensors of a call: strides, offsets, overlaps, views and what autograd keeps of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import plait
from agreement import agree_gradients
from plait.backends.compiled import Compiled
from precisions import (
    ATTENTION,
    FAMILIES,
    LINEAR,
    NORM,
    POINTWISE,
    STENCIL,
    bound,
    exact,
    name_of,
    off,
    program,
    tensors,
)

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
families = pytest.mark.parametrize("text", FAMILIES, ids=name_of)


# --- the same numbers, laid out otherwise


def channels_first(x: Tensor) -> Tensor:
    """The last axis outermost in memory."""
    return x.movedim(-1, 0).contiguous().movedim(0, -1)


def reversed_axes(x: Tensor) -> Tensor:
    order = tuple(reversed(range(x.dim())))
    return x.permute(order).contiguous().permute(order)


def transposed(x: Tensor) -> Tensor:
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def sliced(x: Tensor) -> Tensor:
    """Every second entry of a larger tensor, behind an offset; between them lies NaN."""
    around = torch.full([2 * size + 3 for size in x.shape], torch.nan, dtype=x.dtype)
    view = around[tuple(slice(2, 2 + 2 * size, 2) for size in x.shape)]
    return view.copy_(x)


def offset(x: Tensor) -> Tensor:
    """In the middle of its memory, with NaN at both ends, aligned to nothing."""
    memory = torch.full([x.numel() + 10], torch.nan, dtype=x.dtype)
    return memory[5 : 5 + x.numel()].view(x.shape).copy_(x)


def padded_rows(x: Tensor) -> Tensor:
    """The last axis dense, the others apart."""
    around = torch.full([*x.shape[:-1], x.shape[-1] + 3], torch.nan, dtype=x.dtype)
    return around[..., : x.shape[-1]].copy_(x)


LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    channels_first,
    reversed_axes,
    transposed,
    sliced,
    offset,
    padded_rows,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@families
@dtypes
def test_values_do_not_depend_on_strides(
    text: str, dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    made = program(text)
    given = {name: layout(tensor) for name, tensor in tensors(text, dtype).items()}
    (found,) = Compiled(made, on_unfused="error").run(given).values()
    (wanted,) = exact(made, given).values()
    assert found.is_contiguous() and found.dtype == dtype
    assert off(found, wanted) <= bound(made, given, dtype)


@pytest.mark.parametrize("axis", [0, 1, 2])
@dtypes
def test_expanded_inputs(dtype: torch.dtype, axis: int) -> None:
    """A stride of 0 along an axis of each in turn."""
    made, given = program(STENCIL), tensors(STENCIL, dtype)
    given = {name: each.narrow(axis, 0, 1).expand(each.shape) for name, each in given.items()}
    (found,) = Compiled(made).run(given).values()
    assert off(found, exact(made, given)["z"]) <= bound(made, given, dtype)


@dtypes
def test_overlapping_inputs_are_read_right(dtype: torch.dtype) -> None:
    """Windows of one row as `as_strided` gives them: entries share memory, and reading is all a kernel does."""
    base = torch.randn(300).to(dtype)
    given = {"x": base.as_strided((11, 257), (3, 1)), "m": base.as_strided((33, 257), (1, 1), 2)}
    made = program(LINEAR)
    (found,) = Compiled(made).run(given).values()
    assert off(found, exact(made, given)["z"]) <= bound(made, given, dtype)


@dtypes
def test_one_tensor_as_every_input(dtype: torch.dtype) -> None:
    q = tensors(ATTENTION, dtype)["q"]
    given = dict.fromkeys("qkv", q)
    made = program(ATTENTION)
    (found,) = Compiled(made).run(given).values()
    assert off(found, exact(made, given)["o"]) <= bound(made, given, dtype)


@dtypes
def test_strides_of_axes_of_one_index_mean_nothing(dtype: torch.dtype) -> None:
    x = torch.randn(1, 13).to(dtype).as_strided((1, 13), (10**9, 1))
    made = program(POINTWISE)
    (found,) = Compiled(made).run({"x": x, "y": x}).values()
    assert off(found, exact(made, {"x": x.clone(), "y": x.clone()})["z"]) <= bound(
        made, {"x": x, "y": x}, dtype
    )


@dtypes
def test_an_empty_batch_of_any_strides(dtype: torch.dtype) -> None:
    call = plait.compile(program(ATTENTION))
    given = [torch.ones(5, 0, 4, 3, dtype=dtype).permute(1, 0, 3, 2).requires_grad_() for _ in "qkv"]
    out = call(*given)
    assert out.shape == (0, 5, 3, 4) and out.dtype == dtype
    out.sum().backward()
    assert all(each.grad is not None and each.grad.shape == each.shape for each in given)


# --- gradients


@pytest.mark.parametrize("text", [NORM, STENCIL, ATTENTION], ids=name_of)
@dtypes
def test_gradients_of_views_through_strided_cotangents(text: str, dtype: torch.dtype) -> None:
    made = program(text)
    bases = {name: channels_first(each).detach() for name, each in tensors(text, dtype).items()}
    given = {
        name: each.clone(memory_format=torch.preserve_format).requires_grad_() for name, each in bases.items()
    }
    out = plait.compile(made)(*(part(each) for each in given.values()))
    cotangent = sliced(torch.randn(out.shape).to(dtype))
    assert not cotangent.is_contiguous()
    found = dict(zip(given, torch.autograd.grad(out, list(given.values()), cotangent), strict=True))
    assert {each.dtype for each in found.values()} == {dtype}
    assert not any(each[..., 0].any() for each in found.values())
    views = {name: part(each) for name, each in bases.items()}
    slopes = {name: part(each) for name, each in found.items()}
    agree_gradients(slopes, made, views, {made.outputs[0].name: cotangent}, dtype)


def part(x: Tensor) -> Tensor:
    """A view that autograd knows of: the last axis without its first entry."""
    return x[..., 1:]


@dtypes
def test_gradients_of_an_expanded_input_are_summed(dtype: torch.dtype) -> None:
    x = torch.randn(7, 13).to(dtype)
    row = torch.randn(13).to(dtype).requires_grad_()
    call = plait.compile(program(POINTWISE))
    call(x, row.expand(7, 13)).sum().backward()
    double = row.detach().double().requires_grad_()
    plait.compile(program(POINTWISE), backend="reference")(x.double(), double.expand(7, 13)).sum().backward()
    assert row.grad is not None and row.grad.shape == (13,)
    assert off(row.grad, double.grad) <= 8 * bound(program(POINTWISE), {"x": x, "y": x}, dtype)


@dtypes
def test_a_cotangent_of_stride_zero(dtype: torch.dtype) -> None:
    """What `sum().backward()` hands on."""
    q, k, v = (each.requires_grad_() for each in tensors(ATTENTION, dtype).values())
    out = plait.compile(program(ATTENTION))(q, k, v)
    one = torch.ones((), dtype=dtype)
    dense = torch.autograd.grad(out, (q, k, v), one.expand(out.shape).contiguous(), retain_graph=True)
    for found, wanted in zip(torch.autograd.grad(out, (q, k, v), one.expand(out.shape)), dense, strict=True):
        assert torch.equal(found, wanted)


# --- what is whose


@dtypes
def test_changing_a_saved_tensor_is_told(dtype: torch.dtype) -> None:
    q, k, v = tensors(ATTENTION, dtype).values()
    q.requires_grad_()
    out = plait.compile(program(ATTENTION))(q, k, v)
    k.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@dtypes
def test_changing_an_input_or_an_output_afterwards_changes_nothing_else(dtype: torch.dtype) -> None:
    call = plait.compile(program(ATTENTION))
    q, k, v = tensors(ATTENTION, dtype).values()
    out = call(q, k, v)
    kept = out.clone()
    for each in (q, k, v):
        each.zero_()
    assert torch.equal(out, kept)
    again = call(*tensors(ATTENTION, dtype).values())
    out.zero_()
    assert torch.equal(again, kept)


def memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("body", ["z = x", "z = x * 1.0", "z = x + 0.0"])
@dtypes
def test_outputs_are_never_views(body: str, dtype: torch.dtype) -> None:
    """Not of an input, not of one another, also where they hold the same numbers."""
    made = program(f"mixer same(x[t, c]) -> z[t, c], y[c, t], w[t, c]:\n  {body}\n  y = z\n  w = z")
    x = torch.randn(3, 5).to(dtype)
    for given in (x, x.T.contiguous().T, x.clone().requires_grad_()):
        results = plait.compile(made, on_unfused="quiet")(given)
        places = {memory(given), *(memory(each) for each in results)}
        assert len(places) == 4
        assert all(each.is_contiguous() for each in results)
        assert torch.equal(results[0], x) and torch.equal(results[1], x.T) and torch.equal(results[2], x)


@dtypes
def test_a_module_whose_parameters_are_strided(dtype: torch.dtype) -> None:
    c = plait.axes("c")

    @plait.mixer("x[..., c] -> z[..., c]")
    def layer(x):
        j = c.like("j")
        return (plait.param("weight", c, j) * x[{c: j}]).sum(j)

    torch.manual_seed(0)
    module, x = layer.module(c=9).to(dtype), torch.randn(4, 9).to(dtype)
    dense = module(x)
    module.weight = torch.nn.Parameter(sliced(module.get_parameter("weight").detach()))
    assert not module.weight.is_contiguous()
    found = module(x)
    assert off(found, dense.double()) <= 2 * bound(program(LINEAR), tensors(LINEAR, dtype), dtype)
    found.sum().backward()
    assert module.weight.grad is not None and module.weight.grad.shape == (9, 9)
