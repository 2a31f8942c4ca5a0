"""The window schedule by the meaning of its kernels: rows and lanes that overhang, every border, every fold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agreement import close
from plait.backends.rounding import allowed
from plait.compiler.kernels.kernel import Load, Store, Stream
from plait.compiler.meaning.interpret import interpret
from plait.compiler.schedules.schedule import WindowSchedule
from tiled import SMALL, agrees, meant, read

TILES = replace(SMALL, streamed_outputs=False, halo=False)
ROWS = WindowSchedule(rows=3, lanes=8, run=4, taps=64)

NEAR = "  near dh, dw: 1\n"
PLANES = {"x": (2, 3, 7, 9), "k": (3, 3, 3)}
HEAD = "mixer f(x[b, c, h, w]) -> y[b, c, h, w]:\n" + NEAR + "  param k[c, dh, dw]\n"
PROGRAMS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "absent border": (HEAD + "  y = sum[dh, dw](k * x[h+dh, w+dw])\n", PLANES),
    "zero border": (HEAD + "  y = sum[dh, dw](k * (x[h+dh, w+dw] otherwise 0))\n", PLANES),
    "clamped border": (
        HEAD + "  y = sum[dh, dw](k * x[clamp(h+dh, 0, size(h)-1), clamp(w+dw, 0, size(w)-1)])\n",
        PLANES,
    ),
    "circular border": (HEAD + "  y = sum[dh, dw](k * x[(h+dh) % size(h), (w+dw) % size(w)])\n", PLANES),
    "what is computed of the neighbours": (
        HEAD + "  y = tanh(sum[dh, dw](k * exp(x[h+dh, w+dw]))) + x\n",
        PLANES,
    ),
    "mean of what is there": (
        "mixer f(x[c, h, w]) -> y[c, h, w]:\n" + NEAR + "  y = mean[dh, dw](x[h+dh, w+dw])\n",
        {"x": (3, 7, 9)},
    ),
    "largest": (
        "mixer f(x[c, h, w]) -> y[c, h, w]:\n" + NEAR + "  y = max[dh, dw](x[h+dh, w+dw])\n",
        {"x": (3, 7, 9)},
    ),
    "smallest, and a product": (
        "mixer f(x[c, h, w]) -> y[c, h, w]:\n"
        + NEAR
        + "  y = min[dh, dw](x[h+dh, w+dw]) * prod[dh](x[h+dh]) + lse[dw](x[w+dw])\n",
        {"x": (3, 7, 9)},
    ),
    "channels last": (
        "mixer f(x[b, h, w, c]) -> y[b, h, w, c]:\n"
        + NEAR
        + "  param k[c, dh, dw]\n  y = sum[dh, dw](k * x[h+dh, w+dw])\n",
        {"x": (2, 7, 9, 5), "k": (5, 3, 3)},
    ),
    "one entry": (HEAD + "  y = sum[dh, dw](k * x[h+dh, w+dw])\n", {"x": (1, 1, 1, 1), "k": (1, 3, 3)}),
    "steps of two": (
        "mixer f(x[c, h, w]) -> y[c, i, j]:\n  axis i = 4\n  axis j = 5\n"
        + NEAR
        + "  param k[c, dh, dw]\n  y = sum[dh, dw](k * (x[h: 2*i + dh, w: 2*j + dw] otherwise 0))\n",
        {"x": (3, 7, 9), "k": (3, 3, 3)},
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_mean_the_program(name: str) -> None:
    text, shapes = PROGRAMS[name]
    (found,) = agrees(text, shapes, tiles=TILES, windows=ROWS).values()
    assert sum(isinstance(each, Store) for each in found.body) == ROWS.rows


def test_rows_share_what_they_read() -> None:
    text, shapes = PROGRAMS["absent border"]
    (found,) = agrees(text, shapes, tiles=TILES, windows=ROWS).values()
    loads = [each.buffer for each in found.body if isinstance(each, Load)]
    assert loads.count("k") == 9
    assert loads.count("x") == (ROWS.rows + 2) * 3


def test_a_window_in_a_larger_group_has_a_kernel_of_its_own() -> None:
    text = HEAD + "  u = sum[dh, dw](k * x[h+dh, w+dw])\n  y = u - mean[c](u)\n"
    assert len(agrees(text, PLANES, tiles=TILES, windows=ROWS)) == 2


def test_what_is_absent_meets_no_weight() -> None:
    """A weight that is no number reaches the windows that have its tap, and no others."""
    text, shapes = PROGRAMS["absent border"]
    program = read(text)
    tensors = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    tensors["k"][1, 0, 2] = float("inf")
    wanted = interpret(program, tensors)["y"]
    found = meant(program, tensors, TILES, ROWS)["y"]
    close(found, wanted, allowed(program, tensors, torch.float64)["y"], "y")
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert not found[:, 1, 0].isinf().any() and found[:, 1, 1:, :-1].isinf().all()


def test_they_are_computed_again_only_where_a_sum_is_no_number() -> None:
    text, shapes = PROGRAMS["absent border"]
    (found,) = agrees(text, shapes, tiles=TILES, windows=ROWS).values()
    (again,) = (each for each in found.body if isinstance(each, Stream))
    assert [axis.step for axis in again.axes] == [1]
    assert len(again.carries) == ROWS.rows
