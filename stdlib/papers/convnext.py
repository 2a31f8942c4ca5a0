"""ConvNeXt: A ConvNet for the 2020s (CVPR 2022, arXiv 2201.03545).

Official code: facebookresearch/ConvNeXt, models/convnext.py and models/convnext_isotropic.py.
"""

from __future__ import annotations

from ... import Value, axes, axis, mixer, trunc_normal
from ..activations import gelu
from ..catalogue import Paper, Settled, by_name
from ..convolutions import convolution, depthwise_convolution
from ..linears import linear
from ..norms import layer_norm, layer_scale
from ..settings import demand, demand_positive, demand_rate
from ..stochastic import drop_path

b, c, h, w = axes("b c h w")
TRUNCATED = trunc_normal(0.02)
"""How weights of convolutions and linear maps begin; biases begin at 0."""


@mixer("x[b, c, h, w] -> out[b, c, h, w]")
def convnext_block(x: Value, *, layer_scale_init_value: float = 1e-6, drop_rate: float = 0.0) -> Value:
    """`x + DropPath(gamma * pwconv2(GELU(pwconv1(LN(dwconv(x))))))`, `dwconv` being 7x7 with a border of zeros.

    LN is over channels, eps 1e-6. There is no gamma where its initial value is not positive (isotropic models).
    Paper: figure 4. Code: `Block`.
    """
    e = axis("e", 4 * c.size)
    u = depthwise_convolution(x, c, (h, w), 7, init=TRUNCATED, name="dwconv")
    n = layer_norm(u, c, eps=1e-6, name="norm")
    a = gelu(linear(n, c, e, init=TRUNCATED, name="pwconv1"))
    z = linear(a, e, c, init=TRUNCATED, name="pwconv2")
    if layer_scale_init_value > 0:
        z = layer_scale(z, c, init=layer_scale_init_value, name="")
    return x + drop_path(z, b, rate=drop_rate, name="drop_path")


@mixer("x[b, c, h, w] -> out[b, o, oh, ow]")
def convnext_downsample(x: Value, *, width: int = 192) -> Value:
    """LN over channels, then a 2x2 convolution of stride 2; an odd last row or column is dropped.

    Paper: section 2.6, separate downsampling layers. Code: `ConvNeXt.downsample_layers[1:]`.
    """
    o, oh, ow = axis("o", width), axis("oh", h.size // 2), axis("ow", w.size // 2)
    n = layer_norm(x, c, eps=1e-6, name="0")
    return convolution(n, c, o, (h, w), 2, into=(oh, ow), stride=2, padding=0, init=TRUNCATED, name="1")


@mixer("x[b, c, h, w] -> out[b, o, oh, ow]")
def convnext_stem(x: Value, *, width: int = 96) -> Value:
    """A 4x4 convolution of stride 4, then LN over channels.

    Paper: section 2.2, changing the stem to patchify. Code: `ConvNeXt.downsample_layers[0]`.
    """
    o, oh, ow = axis("o", width), axis("oh", h.size // 4), axis("ow", w.size // 4)
    y = convolution(x, c, o, (h, w), 4, into=(oh, ow), stride=4, padding=0, init=TRUNCATED, name="0")
    return layer_norm(y, o, eps=1e-6, name="1")


# --- official configs


def _block(*, dim: int, layer_scale_init_value: float = 1e-6, drop_path: float = 0.0) -> Settled:
    demand_positive(dim=dim)
    demand_rate(drop_path=drop_path)
    given = {"c": dim, "layer_scale_init_value": layer_scale_init_value, "drop_rate": drop_path}
    return Settled(convnext_block, given)


def _downsample(*, dims: list[int], index: int, in_chans: int = 3) -> Settled:
    """`index` 0 is the stem, which reads the `in_chans` channels of an image."""
    demand(0 <= index < len(dims), f"`downsample_layers` are 0 .. {len(dims) - 1}", index=index, dims=dims)
    before = dims[index - 1] if index else in_chans
    demand(min(before, dims[index]) >= 1, "a width is at least 1", dims=dims, in_chans=in_chans)
    return Settled(convnext_downsample if index else convnext_stem, {"c": before, "width": dims[index]})


_PAPER = Paper("19-convnext", "A ConvNet for the 2020s", 2022, "2201.03545")

OPERATORS = by_name(
    _PAPER.operator("convnext-block", convnext_block, _block, {"dim": 96}),
    _PAPER.operator("convnext-downsample", convnext_downsample, _downsample, {"dims": [96, 192], "index": 1}),
)
