"""What a call costs around a kernel that has next to nothing to do: `python -m benchmarks.calls [--save]`.

`x + bias` of 2 x 8 numbers, a hundred calls a time: as it is, where autograd watches, and with the gradient of its sum.
Beside PyTorch, eager and by torch.compile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import plait

from . import timing
from .timing import Row, compare

BIASED = """mixer biased(x[b, c], bias[c]) -> y[b, c]:
  y = x + bias
"""
SHAPE = (2, 8)
CALLS = 100


def called(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """So many calls, and the last result."""

    def calls() -> Tensor:
        for _ in range(CALLS - 1):
            run(x, bias)
        return run(x, bias)

    return calls


def stepped(run: Callable[[Tensor, Tensor], Tensor], x: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """So many calls, each with its gradient, and the last gradient of the bias."""

    def steps() -> Tensor:
        for _ in range(CALLS):
            bias.grad = None
            run(x, bias).sum().backward()
        assert bias.grad is not None
        return bias.grad

    return steps


def cases(device: str) -> Iterator[tuple[Row, float]]:
    backend = "cpp" if device == "cpu" else "triton"
    eager = torch.add
    candidates: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "plait": plait.compile(plait.parse(BIASED), backend=backend),
        "eager": eager,
        "torch.compile": torch.compile(eager),
    }
    x, bias = torch.randn(SHAPE, device=device), torch.randn(SHAPE[1:], device=device)
    learned = bias.clone().requires_grad_()
    for case, make, given in (
        ("calls", called, bias),
        ("watched calls", called, learned),
        ("calls with their gradient", stepped, learned),
    ):
        with torch.enable_grad():
            runs = {name: make(run, x, given) for name, run in candidates.items()}
            difference = timing.error(runs["plait"]().detach(), runs["eager"]().detach())
            yield compare(f"{CALLS} {case}", runs, device=device), difference


def main() -> None:
    timing.main("calls", __doc__, cases)


if __name__ == "__main__":
    main()
