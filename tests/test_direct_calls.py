"""Calls of mixers on tensors without a module: what they may be given, and what they are told."""

from __future__ import annotations

import pytest
import torch

from plait import PlaitError, axes, bernoulli, buffer, draw, mixer, param

b, c = axes("b c")


@mixer("x[b, c] -> y[b, c]")
def dropped(x, *, rate: float = 0.5):
    return x * draw("keep", b, dist=bernoulli(1 - rate)) / (1 - rate)


def test_a_draw_is_passed_by_name() -> None:
    """Before, it was taken for a static argument that the mixer does not have."""
    x, keep = torch.randn(3, 2, requires_grad=True), torch.tensor([1.0, 0.0, 1.0])
    y = dropped(x, keep=keep)
    assert torch.equal(y, x * 2 * keep[:, None])
    y.sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].tolist() == [2.0, 0.0, 2.0]
    assert torch.equal(dropped(x, keep=keep, rate=0.75), x * 4 * keep[:, None])


def test_a_draw_under_torch_compile() -> None:
    x, keep = torch.randn(3, 2), torch.tensor([1.0, 0.0, 1.0])
    compiled = torch.compile(lambda x, keep: dropped(x, keep=keep) + 1, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, keep), x * 2 * keep[:, None] + 1)


def test_a_draw_that_is_not_passed() -> None:
    with pytest.raises(PlaitError, match="`dropped` draws random numbers, and the call lacks keep") as caught:
        dropped(torch.ones(3, 2))
    assert "dropped.module(...)" in str(caught.value)


def test_a_tensor_that_nothing_asks_for() -> None:
    with pytest.raises(PlaitError, match="`dropped` has no input and no draw `mask`") as caught:
        dropped(torch.ones(3, 2), keep=torch.ones(3), mask=torch.ones(3))
    assert "inputs: x, keep" in str(caught.value)


def test_a_mixer_with_buffers_only_is_told_of_buffers() -> None:
    """Before, it was told of parameters."""

    @mixer("x[b, c] -> y[b, c]")
    def centred(x):
        return x - buffer("centre", c)

    @mixer("x[b, c] -> y[b, c]")
    def scaled(x):
        return x * param("weight", c) - buffer("centre", c)

    with pytest.raises(PlaitError, match="`centred` has buffers, and a call has none of them: centre"):
        centred(torch.ones(3, 2))
    with pytest.raises(PlaitError, match="`scaled` has parameters, and a call has none of them: weight"):
        scaled(torch.ones(3, 2))
