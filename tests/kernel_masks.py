"""Kernels whose products have masks, over numbers that are not finite: each function is one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kernel_sketches import INF, Case, Sketch
from plait.compiler.kernels.kernel import Carry, RealType, StreamAxis

NAN = float("nan")


def unseen_values(real: RealType = "float32") -> Case:
    """Later keys are not seen; some of them are not finite, and two that are seen are not either."""
    k = Sketch({"N": 37, "M": 41}, real)
    k.input("s", 37, 41)
    v = torch.randn(41, 19, generator=torch.Generator().manual_seed(3))
    v[40], v[33, 2], v[29, 3], v[30, 3], v[31, 4], v[32, 4] = NAN, INF, INF, INF, INF, -INF
    k.given("v", v.to(getattr(torch, real)))
    k.output("o", 37, 19)
    k.tiled("n", "N", 16)
    k.local("d", 19)
    carries = [Carry("top", -INF, "high", ("n",), "real"), Carry("acc", 0.0, "grown", ("n", "d"), "real")]
    with k.stream([StreamAxis("m", 0, "M", 16)], carries):
        k.let("le", "le", "m", "n", kind="bool")
        k.let("there", "and", "m.valid", "n.valid", kind="bool")
        k.load("S", "s", "n", "m", mask="there")
        k.let("seen", "and", "le", "there", kind="bool")
        k.let("shown", "select", "seen", "S", -INF)
        k.fold("chunk", "max", "shown", "m")
        k.let("high", "maximum", "top", "chunk")
        k.let("size", "abs", "high")
        k.let("endless", "eq", "size", INF, kind="bool")
        k.let("base", "select", "endless", 0.0, "high")
        k.let("lower", "sub", "top", "base")
        k.let("shrink", "exp", "lower")
        k.let("x", "sub", "shown", "base")
        k.let("p", "exp", "x")
        k.load("V", "v", "m", "d", mask="m.valid")
        k.dot("grown", "p", "V", "m", init="acc", scale="shrink", mask="le", exposed=("V",))
    k.store("o", "n", "d", value="acc", mask="n.valid")
    return k.case()


def unseen_taps() -> Case:
    """A convolution of two axes in one, outside every stream: weights that are not finite meet the border."""
    k = Sketch({"T": 21})
    k.input("x", 21, 8)
    w = torch.randn(3, 8, 17, generator=torch.Generator().manual_seed(4))
    w[0, 1, 2], w[2, 0, 5], w[1, 3, 7] = INF, NAN, -INF
    k.given("w", w)
    k.output("o", 21, 17)
    k.tiled("t", "T", 32)
    k.local("r", 3)
    k.local("c", 8)
    k.local("e", 17)
    k.let("at", "add", "t", "r", kind="int")
    k.let("before", "sub", "at", 1, kind="int")
    k.let("low", "ge", "before", 0, kind="bool")
    k.let("high", "lt", "before", "T", kind="bool")
    k.let("inside", "and", "low", "high", kind="bool")
    k.load("X", "x", "before", "c", mask="inside")
    k.load("W", "w", "r", "c", "e")
    k.dot("y", "X", "W", "r", "c", mask="inside", exposed=("W",))
    k.store("o", "t", "e", value="y", mask="t.valid")
    return k.case()


def both_sides_exposed() -> Case:
    """Either side is infinite somewhere; the carry does not keep what is not a number, so that each chunk is
    looked at."""
    k = Sketch({"N": 18, "M": 33})
    a = torch.randn(18, 33, generator=torch.Generator().manual_seed(5))
    b = torch.randn(33, 20, generator=torch.Generator().manual_seed(6))
    a[:, 5], a[:, 7], b[6] = 0.0, 0.0, 0.0
    a[3, 6], b[7, 19] = INF, NAN
    k.given("a", a)
    k.given("b", b)
    k.output("o", 18, 20)
    k.tiled("n", "N", 16)
    k.local("e", 20)
    with k.stream([StreamAxis("m", 0, "M", 16)], [Carry("most", -INF, "more", ("n", "e"), "real")]):
        k.let("there", "and", "n.valid", "m.valid", kind="bool")
        k.load("A", "a", "n", "m", mask="there")
        k.load("B", "b", "m", "e", mask="m.valid")
        k.let("before", "lt", "m", 5, kind="bool")
        k.let("after", "gt", "m", 7, kind="bool")
        k.let("kept", "or", "before", "after", kind="bool")
        k.dot("y", "A", "B", "m", mask="kept", exposed=("A", "B"))
        k.let("odd", "ne", "y", "y", kind="bool")
        k.let("more", "select", "odd", "most", "y")
    k.store("o", "n", "e", value="most", mask="n.valid")
    return k.case()


def small_masked_products() -> Case:
    """Too small for a matrix unit."""
    k = Sketch({"N": 5, "M": 7})
    k.input("a", 5, 7)
    b = torch.ones(7, 3)
    b[6], b[2, 1] = NAN, INF
    k.given("b", b)
    k.output("o", 5, 3)
    k.tiled("n", "N", 4)
    k.local("e", 3)
    with k.stream([StreamAxis("m", 0, "M", 4)], [Carry("acc", 0.0, "y", ("n", "e"), "real")]):
        k.let("le", "le", "m", "n", kind="bool")
        k.let("there", "and", "n.valid", "m.valid", kind="bool")
        k.let("seen", "and", "le", "there", kind="bool")
        k.load("A", "a", "n", "m", mask="seen")
        k.load("B", "b", "m", "e", mask="m.valid")
        k.dot("y", "A", "B", "m", init="acc", mask="le", exposed=("B",))
    k.store("o", "n", "e", value="acc", mask="n.valid")
    return k.case()


MASKED: tuple[Callable[[], Case], ...] = (
    unseen_values,
    unseen_taps,
    both_sides_exposed,
    small_masked_products,
)
