"""A strategy of programs as users write them: layers of the standard library one in another, mixers that call
mixers with other axes and static arguments, several results, casts and buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

import plait
from plait import stdlib
from plait.dsl.program import Axis
from plait.dsl.size_forms import Sizes
from strategies import Draw, Example, with_tensors

b, c, h, w = plait.axes("b c h w")
BORDERS = ("zero", "replicate", "reflect", "circular")
CURVES = (stdlib.gelu, stdlib.silu, stdlib.relu6, stdlib.softplus, stdlib.mish, stdlib.hardswish, stdlib.elu)


@plait.mixer("x[..., t] -> y[..., t]")
def smooth(x, *, radius: int = 1, way: str = "mean"):
    t, k = plait.axes("t"), plait.near("k", radius)
    seen = x[t + k]
    return seen.mean(k) if way == "mean" else seen.max(k)


@plait.mixer("x[..., t], y[..., t] -> both[..., t], gap[..., t]")
def compared(x, y, *, steps: int = 2):
    near = smooth(x, radius=steps)
    return near * y, plait.maximum(near, y) - plait.minimum(near, y)


Pick = Callable[..., Any]


def normed(x: Any, pick: Pick, name: str) -> Any:
    ways = [
        lambda: stdlib.layer_norm(x, c, name=name),
        lambda: stdlib.rms_norm(x, c, name=name),
        lambda: stdlib.standardize(x, pick([(h, w), h, (h, w, c)]), eps=0.1),
        lambda: stdlib.l2_normalize(x, c, eps=0.5, eps_in="square"),
        lambda: stdlib.layer_norm(x, (h, c), affine_over=c, name=name),
    ]
    return pick(ways)()


def mapped(x: Any, pick: Pick, name: str) -> Any:
    ways = [
        lambda: x + stdlib.linear(x, c, c, bias=pick([True, False]), name=name),
        lambda: stdlib.mlp(x, c, plait.axis("e", pick([2, 5])), activation=pick(CURVES), name=name),
        lambda: stdlib.squeeze_excitation(x, c, (h, w), plait.axis("e", pick([1, 3])), name=name),
        lambda: stdlib.layer_scale(x, c, name=name),
    ]
    return pick(ways)()


def windowed(x: Any, pick: Pick, name: str) -> Any:
    over, border = pick([(h, w), h, w]), pick(BORDERS)
    ways = [
        lambda: stdlib.depthwise_convolution(x, c, over, pick([3, 1]), border=border, name=name),
        lambda: stdlib.depthwise_convolution(
            x, c, over, 3, dilation=2 if border == "zero" else 1, padding=2 if border == "zero" else 1,
            border=border, name=name),
        lambda: stdlib.convolution(x, c, c, over, 3, border=border, name=name),
        lambda: stdlib.average_pool(x, over, pick([3, 5]), divisor=pick(["existing", "full"])) - x,
        lambda: stdlib.max_pool(x, over, 3),
    ]  # fmt: skip
    return pick(ways)()


def attended(x: Any, pick: Pick, name: str) -> Any:
    s = h.like("s")
    keys = x[{h: s}]
    where = pick([None, s <= h, (s - h) * (s - h) < 5, s // 2 == h // 2])
    made = stdlib.attention(x, keys, keys, s, c, where=where, scale=pick([None, 0.5]))
    return made if where is None else made.otherwise(0)


def called(x: Any, pick: Pick, name: str) -> Any:
    along = pick([h, w, c])
    t = plait.axes("t")
    ways = [
        lambda: smooth(x, axes={t: along}, radius=pick([1, 2])),
        lambda: smooth(x, axes={t: along}, way="max"),
        lambda: compared(x, smooth(x, axes={t: h}), axes={t: along}, steps=pick([1, 3]))[pick([0, 1])],
    ]
    return pick(ways)()


def cast(x: Any, pick: Pick, name: str) -> Any:
    ways = [
        lambda: x + plait.to_real(h // 2) * 0.25,
        lambda: x * plait.to_real(w % 2 == 0),
        lambda: plait.select(h < w, x, 0.5 * x),
        lambda: x[{h: plait.clamp(h - 1, 0, h.size - 1)}] - x[{w: (w + 1) % w.size}],
    ]
    return pick(ways)()


LAYERS = (mapped, normed, windowed, attended, called, cast)


@st.composite
def compositions(draw: Draw) -> Example:
    """One to three layers over an image, residuals between them, perhaps a second result."""

    def pick(choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    layers = [(pick(LAYERS), pick([False, True])) for _ in range(pick([1, 2, 3]))]
    two = pick([False, False, True])

    def body(x: Any) -> Any:
        first = x
        for number, (layer, residual) in enumerate(layers):
            made = layer(x, pick, f"layer{number}")
            x = x + made if residual else made
        return (x, first * 0.5 + x.sum(c)) if two else x

    header = "x[b, h, w, c] -> y[b, h, w, c]" + (", z[b, h, w, c]" if two else "")
    program = plait.mixer(header)(body).program()
    sizes: Sizes = {Axis("h"): pick([2, 3, 5, 7, 17]), Axis("w"): pick([2, 3, 5, 9]), Axis("c"): pick([2, 3, 5, 9])}
    sizes[Axis("b")] = pick([1, 2])
    return draw(with_tensors(program, sizes))
