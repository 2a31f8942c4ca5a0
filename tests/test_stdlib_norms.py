"""The norms of the standard library against PyTorch's, with every choice that papers make."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from against_torch import agree, meaning, random
from agreement import nearly
from plait import axes, mixer, select
from plait.dsl.errors import PlaitError
from plait.stdlib import (
    batch_norm,
    group_norm,
    instance_norm,
    l2_normalize,
    layer_norm,
    layer_scale,
    rms_norm,
    standardize,
)

b, c, h, w = axes("b c h w")


@pytest.mark.parametrize(("shape", "eps"), [((2, 1, 3), 1e-6), ((1, 5, 1), 0.1), ((3, 7, 17), 1e-5)])
def test_layer_norm(shape: tuple[int, ...], eps: float) -> None:
    @mixer("x[b, h, c] -> y[b, h, c]")
    def norm(x):
        return layer_norm(x, c, eps=eps, name="")

    width = shape[-1]
    agree(norm, nn.LayerNorm(width, eps), random(*shape), c=width, kernels=width > 1)


def test_layer_norm_of_channels_first() -> None:
    @mixer("x[b, c, h] -> y[b, c, h]")
    def norm(x):
        return layer_norm(x, c, name="")

    official = nn.LayerNorm(5)

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = official.weight, official.bias

        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(x.mT, (5,), self.weight, self.bias).mT

    agree(norm, First(), random(2, 5, 13), c=5)


def test_layer_norm_over_everything_with_an_entry_each() -> None:
    @mixer("x[b, c, h] -> y[b, c, h]")
    def norm(x):
        return layer_norm(x, (c, h), name="")

    agree(norm, nn.LayerNorm([3, 7]), random(2, 3, 7), c=3, h=7)


def test_layer_norm_over_everything_with_a_channel_each() -> None:
    @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    def norm(x):
        return layer_norm(x, (c, h, w), affine_over=c, name="")

    agree(norm, nn.GroupNorm(1, 3), random(2, 3, 4, 5), c=3)


@pytest.mark.parametrize(("weight", "bias"), [(True, False), (False, False)])
def test_layer_norm_with_fewer_parameters(weight: bool, bias: bool) -> None:
    @mixer("x[b, c] -> y[b, c]")
    def norm(x):
        return layer_norm(x, c, weight=weight, bias=bias, name="")

    agree(norm, nn.LayerNorm(5, elementwise_affine=weight, bias=bias), random(2, 5), kernels=False, c=5)


def test_the_unbiased_deviation_with_eps_outside() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def norm(x):
        return layer_norm(x, c, eps=1e-3, eps_in="deviation", correction=1, weight=False, bias=False, name="")

    def official(x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-3)

    agree(norm, official, random(3, 5))


def test_statistics_of_what_is_visible() -> None:
    @mixer("x[b, h], seen[b, h]: bool -> y[b, h]")
    def norm(x, seen):
        return standardize(x, h, where=seen).otherwise(0)

    x, seen = random(3, 7), torch.arange(21).reshape(3, 7) % 3 != 0
    seen[2] = False
    found = meaning(norm, x, seen)
    assert not found[2].any()
    for row in range(2):
        kept = x[row][seen[row]]
        wanted = (x[row] - kept.mean()) / (kept.var(correction=0) + 1e-5).sqrt()
        nearly(found[row], wanted)


def test_another_place_for_eps_is_refused() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def norm(x, *, place: str):
        return standardize(x, c, eps_in=place)

    with pytest.raises(PlaitError, match="`eps_in` is one of variance, deviation") as caught:
        norm.program(place="mean")
    assert "standardize(x, c, eps_in=place)" in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 5), (3, 17)])
def test_rms_norm(shape: tuple[int, ...]) -> None:
    @mixer("x[..., c] -> y[..., c]")
    def norm(x):
        return rms_norm(x, c, name="")

    agree(norm, nn.RMSNorm(shape[-1], eps=1e-6), random(*shape), c=shape[-1])


@pytest.mark.parametrize(("groups", "channels"), [(1, 3), (2, 6), (5, 5)])
def test_group_norm(groups: int, channels: int) -> None:
    @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    def norm(x):
        return group_norm(x, c, (h, w), groups=groups, name="")

    agree(norm, nn.GroupNorm(groups, channels), random(2, channels, 3, 5), c=channels, kernels=groups == 2)


def test_group_norm_of_channels_alone() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def norm(x):
        return group_norm(x, c, groups=3, name="")

    agree(norm, nn.GroupNorm(3, 9), random(4, 9), kernels=False, c=9)


def test_groups_must_divide_the_channels() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def norm(x):
        return group_norm(x, c, groups=3, name="")

    with pytest.raises(PlaitError, match="requirement never holds"):
        norm.module(c=4)(torch.randn(2, 4))


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(affine: bool) -> None:
    @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    def norm(x):
        return instance_norm(x, c, (h, w), weight=affine, bias=affine, name="")

    agree(norm, nn.InstanceNorm2d(3, affine=affine), random(2, 3, 4, 5), c=3, kernels=affine)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm(train: bool, momentum: float | None) -> None:
    @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    def norm(x):
        return batch_norm(x, c, (b, h, w), momentum=momentum, name="")

    agree(
        norm,
        nn.BatchNorm2d(5, momentum=momentum),
        random(3, 5, 4, 3),
        train=train,
        c=5,
        kernels=momentum is not None,
    )


def test_batch_norm_over_the_batch_of_any_rank() -> None:
    @mixer("x[..., c] -> y[..., c]")
    def norm(x):
        return batch_norm(x, c, ..., weight=False, bias=False, name="")

    agree(norm, nn.BatchNorm1d(5, affine=False), random(7, 5), train=True, kernels=False, c=5)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_without_buffers(train: bool) -> None:
    @mixer("x[b, c, h] -> y[b, c, h]")
    def norm(x):
        return batch_norm(x, c, (b, h), running=False, name="")

    official = nn.BatchNorm1d(5, track_running_stats=False)
    agree(norm, official, random(2, 5, 3), train=train, kernels=False, c=5)


def test_batch_statistics_of_what_is_visible() -> None:
    @mixer("x[b, c], seen[b]: bool -> y[b, c]")
    def norm(x, seen):
        return select(seen, batch_norm(x, c, b, where=seen, name=""), 0.0).otherwise(0)

    x, seen = random(5, 3), torch.tensor([True, False, True, True, False])
    net, official = norm.module(c=3, backend="reference").double().train(), nn.BatchNorm1d(3).double()
    nearly(net(x, seen)[seen], official(x[seen]))
    nearly(net.state_dict()["running_var"], official.state_dict()["running_var"])
    assert not net(x, torch.zeros(5, dtype=torch.bool)).any()
    nearly(net.state_dict()["running_var"], official.state_dict()["running_var"])


def test_two_steps_of_training_move_the_buffers_twice() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def norm(x):
        return batch_norm(x, c, b, name="")

    net, official = norm.module(c=3, backend="reference").double().train(), nn.BatchNorm1d(3).double()
    for seed in range(2):
        x = random(4, 3, seed=seed)
        nearly(net(x), official(x))
    nearly(net.state_dict()["running_var"], official.state_dict()["running_var"])
    assert int(net.state_dict()["num_batches_tracked"]) == 2


def test_a_batch_of_one_entry_has_no_unbiased_variance() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def norm(x):
        return batch_norm(x, c, b, name="")

    with pytest.raises(PlaitError, match="requires"):
        norm.module(c=3).train()(torch.randn(1, 3))


@pytest.mark.parametrize("shape", [(3, 5), (2, 1)])
def test_l2_normalize(shape: tuple[int, ...]) -> None:
    @mixer("x[b, c] -> y[b, c]")
    def unit(x):
        return l2_normalize(x, c)

    agree(unit, lambda x: F.normalize(x, dim=-1), random(*shape), kernels=shape[-1] > 1)


def test_the_norm_of_zeros_has_no_derivative() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def unit(x):
        return l2_normalize(x, c, eps=0.5)

    agree(unit, lambda x: F.normalize(x, dim=-1, eps=0.5), torch.zeros(2, 3, dtype=torch.float64))


def test_l2_normalize_with_eps_under_the_root() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def unit(x):
        return l2_normalize(x, c, eps=1e-2, eps_in="square")

    agree(unit, lambda x: x / (x.square().sum(-1, keepdim=True) + 1e-2).sqrt(), random(2, 3), kernels=False)


def test_layer_scale() -> None:
    @mixer("x[b, c] -> y[b, c]")
    def scaled(x):
        return layer_scale(x, c, name="")

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gamma

    agree(scaled, Scale(), random(3, 5), c=5)
    assert torch.equal(scaled.module(c=5).state_dict()["gamma"], torch.full((5,), 1e-6))
