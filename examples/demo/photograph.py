"""Step 3: a network of plait modules that takes the noise out of a photograph by attention.

A token is a patch of 2 x 2 pixels. Its query is what 14 fixed filters see around it; its key is the same with
-|key|^2 / 2 beside it, so that query . key is -|query - key|^2 / 2 but for a term of the query alone, which a
softmax does not see; its value is the patch itself. So each patch becomes the mean of the patches nearby whose
surroundings look alike: non-local means (Buades, Coll, Morel, 2005) as one attention layer, nothing trained.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.circular_attention import circular_attention
from plait import axes, axis, clamp, mixer, param, require, select, span

from . import pictures, screen
from .peers import disc

b, c, y, x, h, w, d = axes("b c y x h w d")

PATCH, WINDOW, FILTERS, CHANNELS = 2, 6, 14, 16
RADIUS = 8
NOISE = 25 / 255
SOFTNESS = 18.0
"""The variance of the Gaussian over distances by which patches are weighed, in variances of the noise."""
PHOTOGRAPH = "china.jpg"


@mixer("image[b, c, y, x] -> q[b, h, w, d], k[b, h, w, d], v[b, h, w, d]")
def patchify(image):
    """Queries, keys and values of patches; beyond a border, the pixels at the border."""
    require(y.size % PATCH == 0, x.size % PATCH == 0)
    h, w, d = axis("h", y.size // PATCH), axis("w", x.size // PATCH), axis("d", CHANNELS)
    f, (i, j) = axis("f", FILTERS), (span(name, -2, WINDOW - 2) for name in "ij")
    around = image[{y: clamp(PATCH * h + i, 0, y.size - 1), x: clamp(PATCH * w + j, 0, x.size - 1)}]
    seen = (param("filters", f, c, i, j) * around).sum(c, i, j)
    likeness, last = seen[{f: d}], d == FILTERS
    q = likeness.otherwise(select(last, 1.0, 0.0))
    k = likeness.otherwise(select(last, -0.5 * (seen * seen).sum(f), 0.0))
    v = image[{c: d // 4, y: PATCH * h + d // 2 % 2, x: PATCH * w + d % 2}].otherwise(0)
    return q, k, v


@mixer("o[b, h, w, d] -> image[b, c, y, x]")
def unpatchify(o):
    """Patches back into pixels."""
    require(d.size == CHANNELS)
    c, y, x = axis("c", 3), axis("y", PATCH * h.size), axis("x", PATCH * w.size)
    return o[{d: 4 * c + y % PATCH * 2 + x % PATCH, h: y // PATCH, w: x // PATCH}]


class Denoiser(nn.Module):
    """image [b, 3, y, x] with values in 0 .. 1 -> the same with less noise."""

    def __init__(self) -> None:
        super().__init__()
        self.patchify = patchify.module(c=3)
        self.attend = circular_attention.module(radius=RADIUS)
        self.unpatchify = unpatchify.module()
        self.patchify.load_state_dict({"filters": filters()})

    def forward(self, image: Tensor) -> Tensor:
        return self.unpatchify(self.attend(*self.patchify(image)))


def filters() -> Tensor:
    """12 cosine waves of brightness, from slow to fast, and two mean colours; orthonormal but for one factor.

    Attention multiplies scores by d ** -0.5; the factor makes them -|query - key|^2 / (2 softness noise^2).
    """
    at = (torch.arange(WINDOW) + 0.5) * math.pi / WINDOW
    waves = torch.cos(at * torch.arange(WINDOW)[:, None])
    waves = waves / waves.norm(dim=1, keepdim=True)
    slow = sorted((i + j, i, j) for i in range(WINDOW) for j in range(WINDOW))[: FILTERS - 2]
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    chosen = [(0, i, j) for _, i, j in slow] + [(1, 0, 0), (2, 0, 0)]
    bank = [torch.einsum("c,i,j->cij", colours[tone], waves[i], waves[j]) for tone, i, j in chosen]
    return torch.stack(bank) * (CHANNELS**0.5 / (SOFTNESS * NOISE**2)) ** 0.5


def decibels(image: Tensor, truth: Tensor) -> float:
    """Peak signal to noise ratio."""
    return -10 * math.log10((image - truth).square().mean().item())


def receptive_field(network: nn.Module, image: Tensor, row: int, column: int) -> Tensor:
    """How strongly each pixel [y, x] moves the token at (row, column): the norm of the gradient over colours."""
    leaf = image.clone().requires_grad_()
    token = network(leaf)[..., PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)]
    (slope,) = torch.autograd.grad(token.sum(), leaf)
    return slope.norm(dim=1)[0]


def reach(height: int, width: int, row: int, column: int) -> Tensor:
    """The pixels [y, x] that the token may depend on: the disc of tokens, each with its window."""
    seen = torch.zeros(height, width, dtype=torch.bool)
    for dh, dw in disc(RADIUS):
        top, left = PATCH * (row + dh) - 2, PATCH * (column + dw) - 2
        seen[max(top, 0) : top + WINDOW, max(left, 0) : left + WINDOW] = True
    return seen


def photograph() -> Tensor:
    """[1, 3, y, x] in 0 .. 1, with even sizes."""
    from sklearn.datasets import load_sample_image

    pixels = torch.tensor(load_sample_image(PHOTOGRAPH)).permute(2, 0, 1) / 255
    return pixels[None, :, : pixels.shape[1] // PATCH * PATCH, : pixels.shape[2] // PATCH * PATCH]


def look(network: nn.Module, noisy: Tensor, out: Path) -> int:
    """The receptive field of the middle token of a crop, as a picture; how many pixels it holds."""
    size = 6 * RADIUS
    row, column = noisy.shape[2] * 3 // 5 // PATCH * PATCH, noisy.shape[3] // 2 // PATCH * PATCH
    crop = noisy[..., row : row + size, column : column + size]
    field = receptive_field(network, crop, size // PATCH // 2, size // PATCH // 2)
    inside = reach(size, size, size // PATCH // 2, size // PATCH // 2)
    assert not field[~inside].any(), "nothing outside the disc moves the token"
    assert field[inside].any(), "something inside the disc moves the token"
    pictures.field(
        out / "receptive_field.png", crop[0], field / field.max(), inside,
        (size // 2, size // 2, PATCH), (row, column),
    )  # fmt: skip
    return int((field > 0).sum())


def run(out: Path) -> str:
    """Denoise the photograph, write what comes out and what one token sees."""
    truth = photograph()
    noisy = truth + NOISE * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    network = Denoiser()
    with torch.no_grad():
        clean = network(noisy)
    before, after = decibels(noisy, truth), decibels(clean, truth)
    height, width = truth.shape[2:]
    sizes = f"{height} x {width} pixels, {height * width // PATCH**2:,} tokens"
    screen.say(
        f"  {PHOTOGRAPH}, {sizes}: {before:.1f} dB with noise, {after:.1f} dB after one layer of attention"
    )
    shown = (
        (f"with noise: {before:.1f} dB", noisy[0]),
        (f"after one layer of attention: {after:.1f} dB", clean[0]),
    )
    pictures.side_by_side(out / "photograph.png", shown)
    count = look(network, noisy, out)
    screen.say(f"  one token's receptive field: {count} pixels, all in the disc of radius {RADIUS} tokens")
    assert after > before + 4, "attention takes more than 4 dB of noise away"
    return f"a network of its modules took {after - before:.1f} dB of noise from a photograph"
