"""The two pictures of the demo: what goes in beside what comes out, and what one token sees.

matplotlib is imported where it draws, so that who lacks it is told so in the demo's own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from . import screen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCH = 100
"""Pixels of a picture to an inch of its figure."""


def write(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=INCH)
    screen.say(f"  wrote {path}")


def image(axes: Axes, pixels: Tensor, title: str, extent: Sequence[float] | None = None) -> None:
    """pixels [3, y, x] in 0 .. 1 under a title; `extent` are the places of their left, right, bottom and top."""
    found = None if extent is None else (extent[0], extent[1], extent[2], extent[3])
    axes.imshow(pixels.clamp(0, 1).permute(1, 2, 0).numpy(), extent=found, interpolation="nearest")
    axes.set_title(title, fontsize=11)


def side_by_side(path: Path, shown: Sequence[tuple[str, Tensor]]) -> None:
    """Images [3, y, x] of one size beside each other, each under its title, pixel by pixel."""
    from matplotlib.figure import Figure

    height, width = shown[0][1].shape[1:]
    figure = Figure(figsize=(len(shown) * width / INCH, (height + 30) / INCH), layout="constrained")
    for number, (title, pixels) in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), number)
        image(axes, pixels, title)
        axes.set_axis_off()
    write(figure, path)


def field(
    path: Path, crop: Tensor, strength: Tensor, inside: Tensor, token: Sequence[int], at: Sequence[int]
) -> None:
    """A crop [3, y, x] of an image, and beside it how strongly each of its pixels moves one token.

    `inside` are the pixels that may move it, `token` its first row, first column and size, `at` the place of the
    crop in the image.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    height, width = strength.shape
    extent = (at[1] - 0.5, at[1] + width - 0.5, at[0] + height - 0.5, at[0] - 0.5)
    figure = Figure(figsize=(10.4, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    image(left, crop, "the noisy photograph around one token (white), and its disc", extent)
    seen = strength.where(inside, float("nan")).numpy()
    shown = right.imshow(seen, extent=extent, cmap="inferno", norm=PowerNorm(0.5, 0, 1))
    right.set_facecolor("lightgrey")
    right.set_title("its receptive field: what moves its result", fontsize=11)
    figure.colorbar(shown, ax=right, label="norm of the gradient, 1 at the strongest pixel")
    first, column, size = at[0] + token[0] - 0.5, at[1] + token[1] - 0.5, token[2]
    for axes, colour in ((left, "white"), (right, "deepskyblue")):
        axes.add_patch(Rectangle((column, first), size, size, fill=False, edgecolor=colour))
        axes.set_xlabel("column of the photograph, pixels")
    left.contour(inside.numpy(), [0.5], colors="gold", extent=extent, origin="upper")
    left.set_ylabel("row of the photograph, pixels")
    write(figure, path)
