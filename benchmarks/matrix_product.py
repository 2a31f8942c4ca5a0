"""Linear maps as percentages of the multiply-add peak, beside torch.mm, on one thread and on all.

    python -m benchmarks.matrix_product [--save]

`y[t, o] = sum[c](w[o, c] * x[t, c]) + b[o]` on the CPU, x and w as PyTorch has them. The peak is a loop of
multiply-adds on registers alone, built as every kernel is (backends/cpp/rates.cpp) and timed in the same
rounds. Each round runs the three one after the other; shown are the medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from plait import Value, axes, axis, mixer
from plait.backends.cpp.rates import CHAINS, Loop, loops
from plait.compiler.schedules.target import this_cpu
from plait.stdlib.linears import linear

from .timing import Row, compare, save

SHAPES = (
    (12544, 96, 384), (12544, 384, 96), (1024, 384, 384), (1024, 768, 768), (512, 3072, 768), (4001, 193, 389),
)  # fmt: skip
"""Tokens, channels in, channels out: the linear maps of a ConvNeXt block, square ones, primes."""

PEAK_SECONDS = 3e-3
ROUNDS = 15
PEAK, MM = "peak", "torch.mm"
c = axes("c")


@mixer("x[t, c] -> y[t, o]")
def project(x: Value, *, width: int) -> Value:
    """One linear map with a bias."""
    return linear(x, c, axis("o", width), name="fc")


def peak_loop(real: torch.dtype, threads: int) -> tuple[Callable[[], object], float]:
    """A run of multiply-adds on registers, and its operations."""
    target = this_cpu()
    lanes = target.vector_bytes // real.itemsize
    library = loops(target, {torch.float32: "float", torch.float64: "double"}[real])
    loop = Loop(library, "products", [torch.zeros(lanes * threads, dtype=real), torch.zeros(1)], threads)
    count = 1 << 10
    while min(loop.time(count) for _ in range(5)) < PEAK_SECONDS:
        count *= 2
    return lambda: loop.time(count), 2.0 * CHAINS * lanes * threads * count


def case(shape: tuple[int, int, int], real: torch.dtype, threads: int) -> tuple[Row, dict[str, float]]:
    """The timings of one shape, and percentages of the peak of the same rounds."""
    tokens, channels, width = shape
    torch.set_num_threads(threads)
    ours = project.module(c=channels, width=width).to(real)
    x, weight = torch.randn(tokens, channels, dtype=real), torch.randn(width, channels, dtype=real)
    peak, peak_operations = peak_loop(real, threads)
    runs: dict[str, Callable[[], Tensor | object]] = {
        "plait": lambda: ours(x), MM: lambda: torch.mm(x, weight.t()), PEAK: peak,
    }  # fmt: skip
    name = f"{tokens}x{channels}x{width} {str(real).removeprefix('torch.')}, {threads} threads"
    row = compare(name, runs, ROUNDS)
    row = replace(row, ratios={key: each for key, each in row.ratios.items() if key != PEAK})
    operations = 2.0 * tokens * channels * width
    rates = {
        key: (peak_operations if key == PEAK else operations) / ms for key, ms in row.milliseconds.items()
    }
    return row, {key: 100 * rates[key] / rates[PEAK] for key in ("plait", MM)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    given = parser.parse_args()
    torch.manual_seed(0)
    most, rows = torch.get_num_threads(), list[Row]()
    with torch.no_grad():
        for threads in dict.fromkeys((1, most)):
            for real in (torch.float32, torch.float64):
                for shape in SHAPES:
                    row, percent = case(shape, real, threads)
                    shown = ", ".join(f"{key} {each:.0f} % of the peak" for key, each in percent.items())
                    print(f"{row.case}: plait {row.milliseconds['plait']:.3g} ms | {shown}", flush=True)
                    rows.append(row)
    torch.set_num_threads(most)
    if given.save:
        print(save("matrix_product", rows))


if __name__ == "__main__":
    main()
