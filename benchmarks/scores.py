"""Attention whose scores are more than one contraction, beside eager PyTorch and torch.compile.

    python -m benchmarks.scores [--save]

Additive scores (Bahdanau, arXiv 1409.0473), vectors of distances (Shaw, arXiv 1803.02155), tables of rows and columns
(MViTv2, arXiv 2112.01526) and heads mixed before the softmax (talking heads, arXiv 2003.02436): forward, and a training
step (forward, then the gradients of q, k, v and of all weights), float32 on the threads that torch has, or on the GPU
where torch sees one. The peers are written as these operators are: products of whole matrices wherever there is one,
distances gathered from the products of queries with their table, and values of distances after the weights of each
distance are added up. What plait stores of the tables (a query by each row, and by each column) has one axis less than
pairs have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

import plait

from . import timing
from .timing import Row, compare

FARTHEST = 16
"""The distance from which on Shaw's vectors are the same."""

ADDITIVE = """
mixer additive(q[b, m, t, d], k[b, m, t, d], v[b, m, t, d]) -> o[b, m, t, d]:
  like s: t
  param a[d]
  z = sum[d](a * tanh(q + k[t: s]))
  o = sum[s](softmax[s](z) * v[t: s])
"""
SHAW = """
mixer shaw(q[b, m, t, d], k[b, m, t, d], v[b, m, t, d]) -> o[b, m, t, d]:
  like s: t
  axis r: 33
  param keys[r, d]
  param values[r, d]
  far = clamp(t - s, -16, 16) + 16
  z = sum[d](q * (k[t: s] + keys[r: far])) * size(d) ** -0.5
  o = sum[s](softmax[s](z) * (v[t: s] + values[r: far]))
"""
TABLES = """
mixer tables(q[b, m, h, w, d], k[b, m, h, w, d], v[b, m, h, w, d]) -> o[b, m, h, w, d]:
  like y: h
  like x: w
  axis i: 2 * size(h) - 1
  axis j: 2 * size(w) - 1
  param rows[i, d]
  param columns[j, d]
  far = sum[d](q * rows[i: h - y + size(h) - 1]) + sum[d](q * columns[j: w - x + size(w) - 1])
  o = sum[y, x](softmax[y, x](sum[d](q * k[h: y, w: x]) * size(d) ** -0.5 + far) * v[h: y, w: x])
"""
TALKING = """
mixer talking(q[b, m, t, d], k[b, m, t, d], v[b, n, t, d]) -> o[b, n, t, d]:
  like s: t
  param mix[n, m]
  z = sum[m](mix * sum[d](q * k[t: s]) * size(d) ** -0.5)
  o = sum[s](softmax[s](z) * v[t: s])
"""


def additive(q: Tensor, k: Tensor, v: Tensor, a: Tensor) -> Tensor:
    z = torch.tanh(q[..., None, :] + k[..., None, :, :]) @ a
    return z.softmax(-1) @ v


def shaw(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    places = torch.arange(q.shape[-2], device=q.device)
    far = (places[:, None] - places).clamp(-FARTHEST, FARTHEST) + FARTHEST
    far = far.expand(*q.shape[:-2], -1, -1)
    scores = q @ k.mT + (q @ keys.T).gather(-1, far)
    weights = (scores * q.shape[-1] ** -0.5).softmax(-1)
    of_distances = weights.new_zeros(*q.shape[:-1], len(values)).scatter_add(-1, far, weights)
    return weights @ v + of_distances @ values


def tables(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    b, m, h, w, d = q.shape
    down, right = (torch.arange(n, device=q.device) for n in (h, w))
    of_rows = torch.einsum("bmhwd,hyd->bmhwy", q, rows[down[:, None] - down + h - 1])
    of_columns = torch.einsum("bmhwd,wxd->bmhwx", q, columns[right[:, None] - right + w - 1])
    far = of_rows[..., :, None] + of_columns[..., None, :]
    scores = q.reshape(b, m, h * w, d) @ k.reshape(b, m, h * w, d).mT * d**-0.5 + far.reshape(
        b, m, h * w, h * w
    )
    return (scores.softmax(-1) @ v.reshape(b, m, h * w, d)).reshape(b, m, h, w, d)


def talking(q: Tensor, k: Tensor, v: Tensor, mix: Tensor) -> Tensor:
    scores = torch.einsum("nm,bmts->bnts", mix, q @ k.mT * q.shape[-1] ** -0.5)
    return scores.softmax(-1) @ v


@dataclass(frozen=True, slots=True)
class Operator:
    """Its text, its PyTorch form, the shape of q, k and v, and those of its weights."""

    text: str
    peer: Callable[..., Tensor]
    shape: tuple[int, ...]
    weights: Mapping[str, tuple[int, ...]]


OPERATORS = (
    Operator(ADDITIVE, additive, (1, 4, 512, 32), {"a": (32,)}),
    Operator(SHAW, shaw, (1, 8, 512, 64), {"keys": (33, 64), "values": (33, 64)}),
    Operator(TABLES, tables, (1, 8, 28, 28, 64), {"rows": (55, 64), "columns": (55, 64)}),
    Operator(TALKING, talking, (1, 8, 512, 64), {"mix": (8, 8)}),
    Operator(TALKING, talking, (1, 4, 1024, 32), {"mix": (4, 4)}),
)


def case(each: Operator, training: bool, device: str) -> tuple[Row, float]:
    """The timings of an operator or of its training step, and the largest error of a result against the peer's in
    float64."""
    given = [torch.randn(each.shape, device=device) for _ in range(3)]
    given += [torch.randn(shape, device=device) * shape[-1] ** -0.5 for shape in each.weights.values()]
    given = [x.requires_grad_(training) for x in given]
    cotangent = torch.randn(each.shape, device=device)
    compiled = plait.compile(plait.parse(each.text), on_unfused="quiet")

    def ours(*tensors: Tensor) -> Tensor:
        return compiled(*tensors[:3], **dict(zip(each.weights, tensors[3:], strict=True)))

    def step(net: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
        if not training:
            return (net(*tensors),)
        with torch.enable_grad():  # benchmarks are run without
            return torch.autograd.grad(net(*tensors), tensors, cotangent.to(tensors[0].dtype))

    wide = [x.detach().double().requires_grad_(training) for x in given]
    pairs = zip(step(ours, given), step(each.peer, wide), strict=True)
    error = max(timing.error(got.double(), want) for got, want in pairs)
    theirs = torch.compile(each.peer)
    title = f"{each.peer.__name__} {'x'.join(map(str, each.shape))}{', training step' if training else ''}"
    runs = {"plait": ours, "eager": each.peer, "torch.compile": theirs}
    timed = {name: lambda net=net: step(net, given) for name, net in runs.items()}
    return compare(title, timed, device=device), error


def cases(device: str) -> Iterator[tuple[Row, float]]:
    for each in OPERATORS:
        for training in (False, True):
            yield case(each, training, device)


def main() -> None:
    timing.main("scores", __doc__, cases)


if __name__ == "__main__":
    main()
