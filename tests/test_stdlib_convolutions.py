"""Convolutions of the standard library against PyTorch's: ranks, strides, dilation, groups, borders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from against_torch import agree, meaning, random
from plait import Mixer, axes, axis, mixer
from plait.dsl.errors import PlaitError
from plait.stdlib import (
    convolution,
    depthwise_convolution,
    transposed_convolution,
    transposed_size,
    window_size,
    windows,
)

b, c, h, w, d = axes("b c h w d")
PLACES = {"h": h, "w": w, "d": d}


def strided(
    rank: int, kernel: Any, channels: int, *, stride: Any = 1, padding: Any = 0, **options: Any
) -> Mixer:
    """A convolution to axes of its own."""
    names = list(PLACES)[:rank]
    each = {name: [x[number] if isinstance(x, tuple) else x for x in (kernel, stride, padding, dilation_of(options))]
            for number, name in enumerate(names)}  # fmt: skip

    @mixer(f"x[b, c, {', '.join(names)}] -> y[b, o, {', '.join(f'o{name}' for name in names)}]")
    def convolved(x):
        into = tuple(
            axis(f"o{name}", window_size(PLACES[name].size, k, stride=s, padding=p, dilation=q))
            for name, (k, s, p, q) in each.items()
        )
        over = tuple(PLACES[name] for name in names)
        return convolution(
            x,
            c,
            axis("o", channels),
            over,
            kernel,
            into=into,
            stride=stride,
            padding=padding,
            name="",
            **options,
        )

    return convolved


def dilation_of(options: dict[str, Any]) -> Any:
    return options.get("dilation", 1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_ranks(rank: int) -> None:
    official = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](3, 4, 3, stride=2, padding=1)
    x = random(2, 3, *(7, 5, 4)[:rank])
    agree(strided(rank, 3, 4, stride=2, padding=1), official, x, c=3, kernels=rank == 2)


SETTINGS: dict[str, dict[str, Any]] = {
    "no padding": {"kernel": (3, 2)},
    "patches": {"kernel": (3, 2), "stride": (3, 2)},
    "more padding than kernel": {"kernel": 2, "padding": 3},
    "dilated": {"kernel": (3, 2), "dilation": (2, 3), "padding": (2, 1)},
    "padding between the taps of a dilation": {"kernel": 3, "dilation": 2, "padding": 1},
    "stride over the input": {"kernel": 3, "stride": 9, "padding": 1},
    "a pixel": {"kernel": 1},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name: str) -> None:
    options = SETTINGS[name]
    official = nn.Conv2d(3, 2, options["kernel"], **{k: v for k, v in options.items() if k != "kernel"})
    kernel = options["kernel"]
    rest = {key: value for key, value in options.items() if key != "kernel"}
    agree(strided(2, kernel, 2, **rest), official, random(2, 3, 7, 5), c=3, kernels=name == "dilated")


@pytest.mark.parametrize(("groups", "channels", "outputs"), [(2, 4, 6), (3, 3, 6), (5, 5, 5)])
def test_groups(groups: int, channels: int, outputs: int) -> None:
    official = nn.Conv2d(channels, outputs, 3, padding=1, groups=groups)
    layer = strided(2, 3, outputs, padding=1, groups=groups)
    agree(layer, official, random(2, channels, 5, 3), c=channels, kernels=groups == 2)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [1, 2, 5, 7])
@pytest.mark.parametrize("length", [1, 6])
def test_the_same_axes_as_torch_same(kernel: int, length: int) -> None:
    """Even kernels have their longer side on the right; windows longer than the input too."""

    @mixer("x[b, c, h] -> y[b, o, h]")
    def same(x):
        return convolution(x, c, axis("o", 2), h, kernel, name="")

    agree(
        same,
        nn.Conv1d(3, 2, kernel, padding="same"),
        random(2, 3, length),
        c=3,
        kernels=(kernel, length) == (2, 6),
    )


def test_the_same_axes_with_an_even_dilated_kernel_and_one_entry() -> None:
    @mixer("x[b, c, h] -> y[b, c, h]")
    def same(x):
        return convolution(x, c, c, h, 2, dilation=2, bias=False, name="")

    agree(
        same, nn.Conv1d(3, 3, 2, padding="same", dilation=2, bias=False), random(2, 3, 1), kernels=False, c=3
    )


@pytest.mark.parametrize(
    ("border", "mode"), [("reflect", "reflect"), ("replicate", "replicate"), ("circular", "circular")]
)
def test_borders(border: str, mode: str) -> None:
    @mixer("x[b, c, h, w] -> y[b, c, h, w]")
    def bordered(x):
        return depthwise_convolution(x, c, (h, w), (3, 5), border=border, name="")

    official = nn.Conv2d(2, 2, (3, 5), padding=(1, 2), groups=2, padding_mode=border)  # pyright: ignore[reportArgumentType]
    agree(bordered, official, random(2, 2, 4, 5), c=2, kernels=border == "reflect")


@pytest.mark.parametrize(("kernel", "bias"), [(7, True), ((1, 3), False)])
def test_depthwise(kernel: Any, bias: bool) -> None:
    @mixer("x[b, h, w, c] -> y[b, h, w, c]")
    def mixed(x):
        return depthwise_convolution(x, c, (h, w), kernel, bias=bias, name="")

    official = nn.Conv2d(3, 3, kernel, padding="same", groups=3, bias=bias)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = official.weight, official.bias

        def forward(self, x: Tensor) -> Tensor:
            y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, padding="same", groups=3)
            return y.permute(0, 2, 3, 1)

    agree(mixed, Last(), random(2, 5, 6, 3), c=3, kernels=bias)


def test_strided_depthwise() -> None:
    @mixer("x[b, c, h] -> y[b, c, oh]")
    def mixed(x):
        oh = axis("oh", window_size(h.size, 4, stride=3, padding=2, dilation=2))
        return depthwise_convolution(x, c, h, 4, into=oh, stride=3, padding=2, dilation=2, name="")

    official = nn.Conv1d(3, 3, 4, stride=3, padding=2, dilation=2, groups=3)
    agree(mixed, official, random(2, 3, 11), kernels=False, c=3)


def transposed(kernel: int, channels: int, stride: int, padding: int, extra: int, **options: Any) -> Mixer:
    @mixer("x[b, c, h] -> y[b, o, oh]")
    def up(x):
        size = transposed_size(
            h.size,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation_of(options),
            output_padding=extra,
        )
        o, oh = axis("o", channels), axis("oh", size)
        return transposed_convolution(
            x, c, o, h, kernel, oh, stride=stride, padding=padding, name="", **options
        )

    return up


TRANSPOSED = (
    (4, 2, 1, 0, {}),
    (3, 1, 0, 0, {}),
    (2, 3, 0, 2, {}),
    (3, 2, 1, 1, {"dilation": 2}),
    (3, 3, 1, 0, {"groups": 2}),
    (1, 2, 0, 0, {"bias": False}),
)


@pytest.mark.parametrize(("kernel", "stride", "padding", "extra", "options"), TRANSPOSED)
def test_transposed(kernel: int, stride: int, padding: int, extra: int, options: dict[str, Any]) -> None:
    official = nn.ConvTranspose1d(
        4, 6, kernel, stride=stride, padding=padding, output_padding=extra, **options
    )
    layer = transposed(kernel, 6, stride, padding, extra, **options)
    agree(layer, official, random(2, 4, 5), c=4, kernels=kernel == 4)


def test_transposed_in_two_dimensions() -> None:
    @mixer("x[b, c, h, w] -> y[b, o, oh, ow]")
    def up(x):
        oh, ow = (
            axis("oh", transposed_size(h.size, 3, stride=2)),
            axis("ow", transposed_size(w.size, 2, stride=3)),
        )
        return transposed_convolution(x, c, axis("o", 2), (h, w), (3, 2), (oh, ow), stride=(2, 3), name="")

    agree(up, nn.ConvTranspose2d(3, 2, (3, 2), stride=(2, 3)), random(2, 3, 3, 4), kernels=False, c=3)


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_sizes_are_torchs(size: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    x, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    if size + 2 * padding >= dilation * (kernel - 1) + 1:
        assert F.conv1d(x, weight, **options).shape[-1] == window_size(size, kernel, **options)
    wanted = transposed_size(size, kernel, **options)
    if wanted > 0:
        assert F.conv_transpose1d(x, weight, **options).shape[-1] == wanted


def test_windows_alone_leave_taps_out() -> None:
    @mixer("x[h] -> y[h]")
    def smallest(x):
        window = windows(h, 3, border="absent")
        return window.of(x).min(window.taps)

    x = torch.tensor([3.0, 5.0, 4.0], dtype=torch.float64)
    assert meaning(smallest, x).tolist() == [3.0, 3.0, 4.0]


REFUSED = {
    "a stride makes other axes": {"stride": 2},
    "`padding` is a whole number of at least 0, and this is -1": {"padding": -1},
    "`kernel` is a whole number of at least 1, and this is 0": {"kernel": 0},
    "`border` is one of zero, reflect, replicate, circular, absent, and this is 'mirror'": {
        "border": "mirror"
    },
    "`dilation` has 2 entries for 1 axes": {"dilation": (1, 2)},
}


@pytest.mark.parametrize("message", REFUSED)
def test_settings_that_cannot_be_are_shown_at_the_call(message: str) -> None:
    options = {"kernel": 3, **REFUSED[message]}
    with pytest.raises(PlaitError) as caught:

        @mixer("x[b, c, h] -> y[b, c, h]")
        def wrong(x):
            return depthwise_convolution(x, c, h, name="conv", **options)

    assert message in str(caught.value)
    assert 'depthwise_convolution(x, c, h, name="conv"' in str(caught.value)


def test_groups_that_do_not_divide() -> None:
    with pytest.raises(PlaitError, match="requirement never holds"):
        strided(1, 3, 4, groups=3).module(c=4)(torch.zeros(1, 4, 5))
