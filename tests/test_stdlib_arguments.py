"""Arguments of layers that cannot be: each is one message of plait at the call, never an error of Python's inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from plait import PlaitError, Value, axes, axis, mixer, normal, stdlib
from plait.dsl.mistakes import InvalidArgument, RequirementFailed

b, c, h, w, t, s = axes("b c h w t s")
o, half = axis("o", 2), axis("half", 4)
heads = axis("m", 3)

Call = Callable[[Any], Value]

REFUSED: dict[str, tuple[str, Call]] = {
    "`groups` is a whole number of at least 1, and this is 0": (
        "x[b, c, h] -> y[b, o, h]",
        lambda x: stdlib.convolution(x, c, o, h, 3, groups=0, name="k"),
    ),
    "`groups` is a whole number of at least 1, and this is 1.5": (
        "x[b, c, h] -> y[b, c, h]",
        lambda x: stdlib.group_norm(x, c, h, groups=1.5, name="k"),
    ),
    "`groups` is a whole number of at least 1, and this is -1": (
        "x[b, c, h] -> y[b, o, h]",
        lambda x: stdlib.transposed_convolution(x, c, o, h, 3, h, groups=-1, name="k"),
    ),
    "`kernel` is a whole number of at least 1, and this is True": (
        "x[b, h] -> y[b, h]",
        lambda x: stdlib.max_pool(x, h, True),
    ),
    "`stride` is a whole number of at least 1, and this is 0": (
        "x[b, h] -> y[b, h]",
        lambda x: stdlib.max_pool(x, h, 3, into=axis("oh", stdlib.window_size(h.size, 3, stride=0))),
    ),
    "`heads` is a whole number of at least 1, and this is 0": (
        "x[b, t, c] -> y[b, t, c]",
        lambda x: stdlib.multi_head_self_attention(x, t, c, heads=0, name="k"),
    ),
    "`size` is a whole number of at least 1, and this is 2.5": (
        "x[t, s] -> y[t, s, m]",
        lambda x: x + stdlib.relative_position_bias(t, s, heads, size=2.5, name="k"),
    ),
    "`keys` names 2 axes for 1 of the queries": (
        "x[t, s] -> y[t, s, m]",
        lambda x: x + stdlib.relative_position_bias(t, (s, h), heads, size=2, name="k"),
    ),
    "`count` is a whole number of at least 1, and this is 3.0": (
        "x[t, s] -> y[t, s, m]",
        lambda x: x + stdlib.alibi(t, s, heads, count=3.0),  # pyright: ignore[reportArgumentType]
    ),
    "an axis is needed here, and found 'h'": (
        "x[b, c, h] -> y[b, o, h]",
        lambda x: stdlib.convolution(x, c, o, "h", 3, name="k"),
    ),
    "an axis is needed here, and found 8": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.linear(x, c, 8, name="k"),
    ),
    "an axis is needed here, and the axes of `...` have no names": (
        "x[..., c] -> y[..., c]",
        lambda x: stdlib.dropout(x, ..., rate=0.5, name="k"),
    ),
    "`rate` is at least 0 and below 1, and this is 'half'": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.dropout(x, b, rate="half", name="k"),
    ),
    "`activation` is a function of a value, and this is 'gelu'": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.mlp(x, c, half, activation="gelu", name="k"),
    ),
    "`gate` is a function of a value, and this is 'silu'": (
        "x[b, c] -> y[b, half]",
        lambda x: stdlib.glu(x, c, half, gate="silu"),  # pyright: ignore[reportArgumentType]
    ),
    "`names` has 2 entries, and this is ('up',)": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.mlp(x, c, half, names=("up",), name="k"),
    ),
    "`names` has 3 entries, and this is ('up', 'down')": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.gated_mlp(x, c, half, names=("up", "down"), name="k"),
    ),
    "`names` has 2 entries, and this is 'qk'": (
        "x[b, t, c] -> y[b, t, c]",
        lambda x: stdlib.multi_head_self_attention(x, t, c, heads=1, names="qk", name="k"),
    ),
    "`learned` has 2 entries, and this is (True,)": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.star_relu(x, learned=(True,), name="k"),
    ),
    "`into` names 1 axes for 2": (
        "x[b, h, w] -> y[b, o, w]",
        lambda x: stdlib.adaptive_average_pool(x, (h, w), o),
    ),
    "`into` names 2 axes for 1": ("x[b, h] -> y[b, o, w]", lambda x: stdlib.interpolate(x, h, (o, w))),
    '`align_corners` says where the corners lie for `mode="linear"`, and this is "nearest"': (
        "x[b, h] -> y[b, o]",
        lambda x: stdlib.interpolate(x, h, o, align_corners=True),
    ),
    "`base` is a number above 0, and this is 0": (
        "x[t, c] -> y[t, c]",
        lambda x: stdlib.rotary(x, c, t, base=0),
    ),
    "`base` is a number above 0, and this is -1": (
        "x[t, c] -> y[t, c]",
        lambda x: x + stdlib.sinusoidal(t, c, base=-1),
    ),
    "`beta` is a number other than 0": ("x[b, c] -> y[b, c]", lambda x: stdlib.softplus(x, beta=0)),
    "`init` of `gamma` is a number or an initialiser, and this is 'small'": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.layer_scale(x, c, init="small", name="k"),
    ),
    "`init` of `weight` is a number or an initialiser, and this is <function normal": (
        "x[b, c] -> y[b, c]",
        lambda x: stdlib.linear(x, c, c, init=normal, name="k"),
    ),
}
"""The message that each call gets. Every one was an error of Python's inside the layer, or was taken."""


@pytest.mark.parametrize("message", REFUSED)
def test_an_argument_that_cannot_be(message: str) -> None:
    header, call = REFUSED[message]
    with pytest.raises(PlaitError) as caught:
        mixer(header)(_named(call))
    assert isinstance(caught.value, InvalidArgument)
    assert message in str(caught.value)
    assert "stdlib." in str(caught.value), "the caret is at the user's call"


def _named(call: Call) -> Call:
    def layer(x: Any) -> Value:
        return call(x)

    return layer


@pytest.mark.parametrize("shuffle", [stdlib.pixel_shuffle, stdlib.pixel_unshuffle])
def test_shuffles_pair_their_axes(shuffle: Callable[..., Value]) -> None:
    with pytest.raises(InvalidArgument, match="`into` names 1 axes for 2"):
        mixer("x[b, c, h, w] -> y[b, o, H, w]")(_named(lambda x: shuffle(x, c, (h, w), axis("H", 4), o, 2)))


def test_patches_pair_their_axes() -> None:
    with pytest.raises(InvalidArgument, match="`into` names 1 axes for 2"):
        mixer("x[b, c, h, w] -> y[b, o, H, w]")(
            _named(lambda x: stdlib.patch_embedding(x, c, o, (h, w), axis("H", 4), patch=2, name="k"))
        )


def test_the_axis_of_the_heads_has_as_many() -> None:
    """Other sizes made a layer of other widths than its heads say."""
    with pytest.raises(RequirementFailed):
        mixer("x[b, t, c=6] -> y[b, t, c]")(
            _named(lambda x: stdlib.multi_head_self_attention(x, t, c, heads=2, head_axis=heads, name="k"))
        )
