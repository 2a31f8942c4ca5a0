"""What is no attention, beside torch.compile on a GPU: norms, softmax, contractions, a convolution.

    python -m benchmarks.tiles [--save]

Sizes that fill a GPU, in float32 (IEEE products) and bfloat16. On a machine without one the same at a
hundredth of the rows, on the CPU in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

import plait

from . import timing
from .timing import Row, compare

GELU = "0.5 * z * (1 + erf(z * 0.7071067811865476))"

NORM = """mixer norm(x[t, c], g[c], b[c]) -> y[t, c]:
  d = x - mean[c](x)
  y = d / sqrt(mean[c](d * d) + 1e-5) * g + b
"""
SOFTMAX = """mixer soft(x[t, c]) -> y[t, c]:
  y = softmax[c](x)
"""
PRODUCT = f"""mixer product(x[t, c]) -> y[t, o]:
  param w[o, c]
  param b[o]
  z = sum[c](w * x) + b
  y = {GELU}
"""
PERCEPTRON = f"""mixer perceptron(x[t, c]) -> y[t, o]:
  axis e = 3072
  param w[e, c]
  param b[e]
  param v[o, e]
  param d[o]
  z = sum[c](w * x) + b
  a = {GELU}
  y = sum[e](v * a) + d
"""
CONVOLUTION = """mixer convolution(x[b, c, h, w]) -> y[b, o, h, w]:
  near dh, dw: 1
  param k[o, c, dh, dw]
  y = sum[c, dh, dw](k * (x[h+dh, w+dw] otherwise 0))
"""

Given = dict[str, Tensor]

CASES: dict[str, tuple[str, dict[str, tuple[int, ...]], Callable[[Given], Tensor]]] = {
    "LayerNorm": (
        NORM,
        {"x": (16384, 1024), "g": (1024,), "b": (1024,)},
        lambda t: functional.layer_norm(t["x"], t["g"].shape, t["g"], t["b"]),
    ),
    "softmax": (SOFTMAX, {"x": (16384, 1024)}, lambda t: torch.softmax(t["x"], -1)),
    "product with GELU": (
        PRODUCT,
        {"x": (16384, 1024), "w": (4096, 1024), "b": (4096,)},
        lambda t: functional.gelu(functional.linear(t["x"], t["w"], t["b"])),
    ),
    "perceptron": (
        PERCEPTRON,
        {"x": (16384, 768), "w": (3072, 768), "b": (3072,), "v": (768, 3072), "d": (768,)},
        lambda t: functional.linear(
            functional.gelu(functional.linear(t["x"], t["w"], t["b"])), t["v"], t["d"]
        ),
    ),
    "3x3 convolution": (
        CONVOLUTION,
        {"x": (64, 64, 56, 56), "k": (64, 64, 3, 3)},
        lambda t: functional.conv2d(t["x"], t["k"], padding=1),
    ),
}


def tensors(shapes: dict[str, tuple[int, ...]], device: str, real: torch.dtype) -> Given:
    """Normal numbers; those of weights are scaled so that results are near 1."""
    made: Given = {}
    for name, shape in shapes.items():
        count = shape if device == "cuda" or name != "x" else (max(1, shape[0] // 100), *shape[1:])
        scale = 1.0 if name == "x" or len(shape) == 1 else torch.Size(shape[1:]).numel() ** -0.5
        made[name] = (torch.randn(count, device=device) * scale).to(real)
    return made


def case(name: str, device: str, real: torch.dtype) -> tuple[Row, float]:
    """The timings, and our error in float64."""
    text, shapes, peer = CASES[name]
    given = tensors(shapes, device, real)
    ours, compiled = plait.compile(plait.parse(text).program()), torch.compile(peer)
    candidates: dict[str, Callable[[], object]] = {
        "plait": lambda: ours(**given),
        "eager": lambda: peer(given),
        "torch.compile": lambda: compiled(given),
    }
    shown = "x".join(map(str, given["x"].shape))
    row = compare(f"{name}, {shown} {str(real).removeprefix('torch.')}", candidates, device=device)
    few = {key: each[:64] if key == "x" else each for key, each in given.items()}
    wanted = peer({key: each.double() for key, each in few.items()})
    return row, ((ours(**few).double() - wanted).norm() / wanted.norm()).item()


def cases(device: str) -> Iterator[tuple[Row, float]]:
    for real in timing.reals(device):
        for name in CASES:
            yield case(name, device, real)


def main() -> None:
    timing.main("tiles", __doc__, cases)


if __name__ == "__main__":
    main()
