"""Gradients of reads by a reflected index are sums of reads: for images of one point, of a radius and one, and for
windows wider than the image, which are reflected more than once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import plait
from agreement import agree_gradients, beside
from plait.compiler.gradient.derive import gradient
from plait.compiler.meaning.interpret import interpret
from plait.dsl.program import Place, Program
from precisions import program

LINE = """mixer line(x[b, t], k[p={taps}]) -> y[b, t]:
  y = sum[p](k * x[t: reflect(2 * t + p - {start}, size(t))])
"""

IMAGE = """mixer image(x[b, c, h, w], k[c, p={taps}, q=3]) -> y[b, c, h, w]:
  y = sum[p, q](k * x[h: reflect(h + p - {start}, size(h)), w: reflect(w - q + 1, size(w))])
"""

SIZES = (1, 2, 3, 4, 5, 9)


def reflected(index: Tensor, count: int) -> Tensor:
    """Walking to and fro between 0 and count - 1."""
    way = list(range(count)) + list(range(count - 2, 0, -1))
    return torch.tensor([way[int(each) % len(way)] for each in index.flatten()]).reshape(index.shape)


def line_in_torch(x: Tensor, k: Tensor) -> Tensor:
    count, taps = x.shape[-1], k.shape[0]
    places = reflected(2 * torch.arange(count)[:, None] + torch.arange(taps) - taps // 2, count)
    return (x[:, places] * k).sum(-1)


def image_in_torch(x: Tensor, k: Tensor) -> Tensor:
    height, width, taps = x.shape[-2], x.shape[-1], k.shape[1]
    rows = reflected(torch.arange(height)[:, None] + torch.arange(taps) - taps // 2, height)
    columns = reflected(torch.arange(width)[:, None] - torch.arange(3) + 1, width)
    return torch.einsum("bchpwq,cpq->bchw", x[:, :, rows][..., columns], k)


CASES = {"line": (LINE, line_in_torch), "image": (IMAGE, image_in_torch)}


def made(name: str, taps: int) -> Program:
    return program(CASES[name][0].format(taps=taps, start=taps // 2))


def given(name: str, taps: int, count: int) -> dict[str, Tensor]:
    x = torch.randn(2, count) if name == "line" else torch.randn(2, 3, count, count + 2)
    k = torch.randn(taps) if name == "line" else torch.randn(3, taps, 3)
    return {"x": x.double().requires_grad_(), "k": k.double().requires_grad_()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("taps", [3, 7])
def test_the_gradient_is_made_of_reads(name: str, taps: int) -> None:
    """First and second derivatives, by their meaning."""
    reverse = gradient(made(name, taps), ["x", "k"])
    again = gradient(reverse, ["x", "k", "cot.y"])
    assert not any(isinstance(each, Place) for each in (*reverse.forms, *again.forms))
    for count in SIZES:
        tensors = given(name, taps, count)
        y = CASES[name][1](*tensors.values())
        g = torch.randn_like(y).requires_grad_()
        wanted = torch.autograd.grad(y, list(tensors.values()), g, create_graph=True)
        values = {each: tensor.detach() for each, tensor in tensors.items()} | {"cot.y": g.detach()}
        found = interpret(reverse, values)
        beside(found, dict(zip(("grad.x", "grad.k"), wanted, strict=True)), reverse, values)
        ahead = [torch.randn_like(each) for each in wanted]
        second = torch.autograd.grad(wanted, (*tensors.values(), g), ahead, materialize_grads=True)
        values |= {"cot.grad.x": ahead[0], "cot.grad.k": ahead[1]}
        found = interpret(again, values)
        beside(found, dict(zip(("grad.x", "grad.k", "grad.cot.y"), second, strict=True)), again, values)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_has_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size 1, the radius and one, one more, an odd one; nothing runs as a reference operation."""
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    program = made(name, 7)
    call = plait.compile(program, backend="cpp", on_unfused="error")
    for count in (1, 2, 4, 5, 13):
        tensors = given(name, 7, count)
        wanted = CASES[name][1](*tensors.values())
        found = call(**tensors)
        g = torch.randn_like(wanted)
        beside({"y": found}, {"y": wanted}, program, tensors)
        slopes = dict(zip(tensors, torch.autograd.grad(found, list(tensors.values()), g), strict=True))
        agree_gradients(slopes, program, tensors, {"y": g}, torch.float64)
