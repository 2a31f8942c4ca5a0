"""Mixers in a file of text, for programs that come from elsewhere than your own source.

What you learn: `plait.load` reads a `.plait` file and never executes anything of it; the last mixer is the result and
`siblings` are the others; an optional input that is left out is absent; static arguments are given by name as always.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

import plait

contrast = plait.load(Path(__file__).with_suffix(".plait"))


def pooled(x: Tensor, radius: int) -> Tensor:
    """The same in PyTorch."""
    centred = x - avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)
    spread = avg_pool2d(centred.square(), 2 * radius + 1, 1, radius, count_include_pad=False)
    return centred / (spread + 1e-4).sqrt()


def main() -> None:
    torch.manual_seed(0)
    x, gain = torch.randn(2, 3, 12, 17), torch.tensor(2.5)
    plain = (contrast(x) - pooled(x, 2)).abs().max().item()
    gained = (contrast(x, gain, radius=3) - gain * pooled(x, 3)).abs().max().item()
    print(contrast.program(without=["gain"]))
    print("the file also has:", *contrast.siblings)
    print(f"largest difference from PyTorch: {plain:.1e}; with a gain and radius 3: {gained:.1e}")
    assert max(plain, gained) < 1e-5


if __name__ == "__main__":
    main()
