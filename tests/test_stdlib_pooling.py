"""Pools, shuffles, patches and interpolation of the standard library against PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from against_torch import agree, meaning, random
from plait import Mixer, axes, axis, mixer
from plait.dsl.errors import PlaitError
from plait.stdlib import (
    adaptive_average_pool,
    average_pool,
    global_average_pool,
    interpolate,
    max_pool,
    patch_embedding,
    pixel_shuffle,
    pixel_unshuffle,
    window_size,
)

b, c, h, w = axes("b c h w")


@pytest.mark.parametrize(("divisor", "all_taps"), [("existing", False), ("full", True), ("padded", True)])
@pytest.mark.parametrize("kernel", [3, (5, 3)])
def test_average_pool_on_its_own_axes(divisor: str, all_taps: bool, kernel: Any) -> None:
    @mixer("x[b, h, w] -> y[b, h, w]")
    def pooled(x):
        return average_pool(x, (h, w), kernel, divisor=divisor)

    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(side // 2 for side in sides)

    def official(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, kernel, stride=1, padding=padding, count_include_pad=all_taps)

    agree(pooled, official, random(2, 5, 4), kernels=kernel == 3 and divisor != "padded")


def windowed(
    kind: Any, kernel: int, stride: int, padding: int, ceil_mode: bool = False, **options: Any
) -> Mixer:
    dilation = options.get("dilation", 1)

    @mixer("x[b, h] -> y[b, oh]")
    def pooled(x):
        size = window_size(
            h.size, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
        )
        return kind(x, h, kernel, into=axis("oh", size), stride=stride, padding=padding, **options)

    return pooled


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 5, 0), (7, 1, 3)])
@pytest.mark.parametrize("divisor", ["existing", "full"])
def test_average_pool_with_strides(kernel: int, stride: int, padding: int, divisor: str) -> None:
    layer = windowed(average_pool, kernel, stride, padding, divisor=divisor)

    def official(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool1d(x, kernel, stride, padding, count_include_pad=divisor == "full")

    agree(layer, official, random(2, 13), kernels=(kernel, divisor) == (3, "existing"))


@pytest.mark.parametrize("length", [5, 6, 9])
def test_windows_that_stick_out_of_the_padding(length: int) -> None:
    layer = windowed(average_pool, 3, 2, 1, ceil_mode=True, divisor="padded")
    agree(layer, lambda x: F.avg_pool1d(x, 3, 2, 1, ceil_mode=True), random(2, length), kernels=False)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2)]
)
def test_max_pool(kernel: int, stride: int, padding: int, dilation: int) -> None:
    layer = windowed(max_pool, kernel, stride, padding, dilation=dilation)

    def official(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool1d(x, kernel, stride, padding, dilation)

    agree(layer, official, random(2, 11), kernels=(kernel, stride) == (3, 2))


def test_max_pool_of_equal_entries_gives_the_first_the_derivative() -> None:
    layer = windowed(max_pool, 3, 2, 1)
    x = torch.tensor([[1.0, 1.0, 0.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    agree(layer, lambda x: F.max_pool1d(x, 3, 2, 1), x, kernels=False)


def test_global_average_pool() -> None:
    @mixer("x[b, c, h, w] -> y[b, c]")
    def pooled(x):
        return global_average_pool(x, (h, w))

    agree(pooled, lambda x: F.adaptive_avg_pool2d(x, 1)[..., 0, 0], random(2, 3, 5, 7))


@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (3, 1), (2, 9)])
def test_adaptive_average_pool(rows: int, columns: int) -> None:
    """Bins that divide, that overlap, and that are finer than the input."""

    @mixer("x[b, h, w] -> y[b, u, v]")
    def pooled(x):
        return adaptive_average_pool(x, (h, w), (axis("u", 3), axis("v", 4)))

    official = nn.AdaptiveAvgPool2d((3, 4))
    agree(pooled, official, random(2, rows, columns), kernels=rows == 7)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30)
def test_no_bin_is_empty_or_wider_than_it_may_be(size: int, bins: int) -> None:
    """What the pool takes for granted of `o*H // O` and `cdiv((o + 1)*H, O)`."""
    widths = [-(-(o + 1) * size // bins) - o * size // bins for o in range(bins)]
    assert min(widths) >= 1
    assert max(widths) <= size // bins + 2


@pytest.mark.parametrize(("factor", "shape"), [(2, (2, 8, 3, 5)), ((1, 3), (1, 3, 1, 2))])
def test_pixel_shuffles_are_inverse(factor: Any, shape: tuple[int, ...]) -> None:
    r, s = (factor, factor) if isinstance(factor, int) else factor

    @mixer("x[b, c, h, w] -> y[b, o, H, W]")
    def up(x):
        o, H, W = axis("o", c.size // (r * s)), axis("H", r * h.size), axis("W", s * w.size)
        return pixel_shuffle(x, c, (h, w), (H, W), o, factor)

    @mixer("x[b, c, h, w] -> y[b, o, oh, ow]")
    def down(x):
        o, oh, ow = axis("o", c.size * (r * s)), axis("oh", h.size // r), axis("ow", w.size // s)
        return pixel_unshuffle(x, c, (h, w), (oh, ow), o, factor)

    x = random(*shape)
    if r == s:
        agree(up, nn.PixelShuffle(r), x)
        agree(down, nn.PixelUnshuffle(r), meaning(up, x), kernels=False)
    assert torch.equal(meaning(down, meaning(up, x)), x)


def test_a_height_that_the_factor_does_not_divide() -> None:
    @mixer("x[c, h] -> y[o, oh]")
    def down(x):
        return pixel_unshuffle(x, c, h, axis("oh", h.size // 2), axis("o", 2 * c.size), 2)

    with pytest.raises(PlaitError, match="requires"):
        down(torch.zeros(3, 5))


def test_patch_embedding() -> None:
    @mixer("x[b, c, h, w] -> y[b, oh, ow, d]")
    def embedded(x):
        d, oh, ow = axis("d", 5), axis("oh", h.size // 2), axis("ow", w.size // 3)
        return patch_embedding(x, c, d, (h, w), (oh, ow), patch=(2, 3), name="")

    conv = nn.Conv2d(3, 5, (2, 3), stride=(2, 3))

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = conv.weight, conv.bias

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, self.weight, self.bias, stride=(2, 3)).permute(0, 2, 3, 1)

    agree(embedded, Patches(), random(2, 3, 4, 9), c=3)
    with pytest.raises(PlaitError, match="requires"):
        embedded.module(c=3)(torch.zeros(1, 3, 5, 9))


RESIZES = (
    ("nearest", "nearest", False, 3, 7),
    ("nearest", "nearest", False, 7, 3),
    ("linear", "linear", False, 3, 7),
    ("linear", "linear", False, 7, 3),
    ("linear", "linear", True, 5, 9),
    ("linear", "linear", True, 4, 1),
    ("linear", "linear", True, 1, 3),
)


@pytest.mark.parametrize(("mode", "official_mode", "corners", "size", "wanted"), RESIZES)
def test_interpolate(mode: str, official_mode: str, corners: bool, size: int, wanted: int) -> None:
    @mixer("x[b, c, h] -> y[b, c, o]")
    def resized(x, *, wanted: int = 2):
        return interpolate(x, h, axis("o", wanted), mode=mode, align_corners=corners)

    def official(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, wanted, mode=official_mode, align_corners=corners or None)

    kernels = (mode, corners, size) == ("linear", False, 3)
    agree(resized, official, random(2, 1, size), kernels=kernels, wanted=wanted)


def test_bilinear_interpolation() -> None:
    @mixer("x[b, h, w] -> y[b, oh, ow]")
    def resized(x):
        return interpolate(x, (h, w), (axis("oh", 7), axis("ow", 2)), mode="linear")

    def official(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x[None], (7, 2), mode="bilinear")[0]

    agree(resized, official, random(2, 3, 5))
