"""A strategy of programs as users write them: layers of the standard library one in another, mixers that call
mixers with other axes and static arguments, several results, casts and buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

import plait
from plait import stdlib
from plait.dsl.program import Axis
from plait.dsl.shapes.size_forms import Sizes
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
Layer = Callable[[Any, Pick, str], Any]


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


def branched(x: Any, pick: Pick, name: str) -> Any:
    """Stencils of one value beside each other, each normed, scaled or bare, as they are trained to be one
    (ACNet, arXiv 1908.03930; RepVGG, 2101.03697; UniRepLKNet's dilated branches, 2311.15599)."""
    border = pick(["zero", "zero", "replicate"])

    def deep(over: Any, kernel: int, step: int = 1) -> Callable[[str], Any]:
        far = kernel // 2 * step
        return lambda name: stdlib.depthwise_convolution(
            x, c, over, kernel, dilation=step, padding=far, border=border, bias=False, name=name)  # fmt: skip

    def dense(over: Any, kernel: int) -> Callable[[str], Any]:
        return lambda name: stdlib.convolution(x, c, c, over, kernel, border=border, name=name)

    branches = pick([
        (deep((h, w), 5), deep((h, w), 3), deep((h, w), 3, 2)),
        (deep(h, 7), deep(h, 3, 3), deep(h, 1), lambda _: x),
        (dense((h, w), 3), dense(h, 3), dense(w, 3)),
        (dense(w, 3), dense(w, 1), lambda _: x),
        (lambda name: stdlib.linear(x, c, c, name=name), lambda _: x),
    ])  # fmt: skip
    ends = (
        lambda y, name: stdlib.batch_norm(y, c, (b, h, w), name=name),
        lambda y, name: stdlib.layer_scale(y, c, name=name),
        lambda y, name: y * -0.5,
        lambda y, name: y,
    )
    made = [pick(ends)(each(f"{name}_{i}"), f"{name}_{i}_end") for i, each in enumerate(branches)]
    return sum(made[1:], made[0])


LAYERS = (mapped, normed, windowed, attended, called, cast, branched)


@st.composite
def compositions(draw: Draw, *, first: tuple[Layer, ...] = LAYERS) -> Example:
    """One to three layers over an image, residuals between them, perhaps a second result."""

    def pick(choices: Any) -> Any:
        return draw(st.sampled_from(choices))

    layers = [(pick(LAYERS if i else first), pick([False, True])) for i in range(pick([1, 2, 3]))]
    two = pick([False, False, True])

    def body(x: Any) -> Any:
        begin = x
        for number, (layer, residual) in enumerate(layers):
            made = layer(x, pick, f"layer{number}")
            x = x + made if residual else made
        return (x, begin * 0.5 + x.sum(c)) if two else x

    header = "x[b, h, w, c] -> y[b, h, w, c]" + (", z[b, h, w, c]" if two else "")
    program = plait.mixer(header)(body).program()
    sizes: Sizes = {
        Axis("h"): pick([2, 3, 5, 7, 17]),
        Axis("w"): pick([2, 3, 5, 9]),
        Axis("c"): pick([2, 3, 5, 9]),
    }
    sizes[Axis("b")] = pick([1, 2])
    example = draw(with_tensors(program, sizes))
    squares = {n: t.square() if n.endswith("running_var") else t for n, t in example.tensors.items()}
    return replace(example, tensors=squares)


def deployable() -> st.SearchStrategy[Example]:
    """Compositions that have several stencils over one value."""
    return compositions(first=(branched,))
