"""Products of the Kernel language at their corners, and what they are stored in: each function is one kernel."""

from __future__ import annotations

import torch

from kernel_sketches import INF, Case, Sketch
from plait.compiler.kernels.kernel import Carry, StreamAxis


def products_in_a_batch() -> Case:
    """A dot with an axis that both sides keep, another one that only one side has, and a scaled start."""
    k = Sketch({"N": 2})
    k.input("a", 2, 4, 20, 18)
    k.input("b", 2, 4, 18, 17)
    k.output("o", 2, 4, 20, 17)
    k.tiled("n", "N", 1)
    for name, size in (("g", 4), ("i", 20), ("j", 17), ("k", 18)):
        k.local(name, size)
    k.load("A", "a", "n", "g", "i", "k")
    k.load("B", "b", "n", "g", "k", "j")
    k.let("start", "to_real", "j")
    k.let("scale", "to_real", "i")
    k.dot("r", "A", "B", "k", init="start", scale="scale")
    k.store("o", "n", "g", "i", "j", value="r")
    return k.case()


def heads_beside_lanes() -> Case:
    """A product for each head, which lies behind the rows; one over a part of the lanes only."""
    k = Sketch({"H": 3, "W": 15})
    k.input("a", 3, 15, 3, 17)
    k.input("b", 3, 17, 18)
    k.input("c", 3, 15, 18)
    k.output("o", 3, 15, 3, 18)
    k.output("p", 3, 15, 17, 18)
    k.tiled("h", "H", 2)
    k.tiled("w", "W", 16)
    for name, size in (("g", 3), ("i", 17), ("j", 18)):
        k.local(name, size)
    k.let("inside", "and", "h.valid", "w.valid", kind="bool")
    k.load("A", "a", "h", "w", "g", "i", mask="inside")
    k.load("B", "b", "g", "i", "j")
    k.dot("r", "A", "B", "i", init=1.0)
    k.load("A0", "a", "h", "w", 0, "i", mask="inside")
    k.load("C", "c", "h", "w", "j", mask="inside")
    k.dot("s", "A0", "C", "w")
    k.store("o", "h", "w", "g", "j", value="r", mask="inside")
    k.store("p", "h", "w", "i", "j", value="s", mask="inside")
    return k.case()


def contractions_of_other_shapes() -> Case:
    """A vector with a matrix; a vector with itself; over a part of the lanes; over an axis of one side."""
    k = Sketch({"H": 3, "W": 6})
    k.input("a", 3, 6, 5)
    k.input("v", 5)
    k.input("t", 7, 3, 6)
    for name in ("o", "p", "q", "r"):
        k.output(name, 3, 6)
    k.tiled("h", "H", 4)
    k.tiled("w", "W", 8)
    k.local("d", 5)
    k.local("e", 7)
    k.let("inside", "and", "h.valid", "w.valid", kind="bool")
    k.load("A", "a", "h", "w", "d", mask="inside")
    k.load("V", "v", "d")
    k.load("T", "t", "e", "h", "w", mask="inside")
    k.dot("av", "A", "V", "d")
    k.dot("vv", "V", "V", "d", init="av", scale=-1.5)
    k.fold("along", "sum", "av", "w", mask="w.valid")
    k.dot("rows", "A", "A", "d", "w", init="along")
    k.dot("one", "T", "av", "e")
    k.store("o", "h", "w", value="av", mask="inside")
    k.store("p", "h", "w", value="vv", mask="inside")
    k.store("q", "h", "w", value="rows", mask="inside")
    k.store("r", "h", "w", value="one", mask="inside")
    return k.case()


def products_of_what_may_be_absent() -> Case:
    """In float64, whose operand is selected by truth values from memory (Triton 3.6 could not compile it)."""
    k = Sketch({"N": 17, "J": 19}, "float64")
    k.given("t", torch.arange(17 * 19).reshape(17, 19) % 3 != 0, "bool")
    k.input("a", 17, 19)
    k.input("b", 19, 33)
    k.output("o", 17, 33)
    k.tiled("i", "N", 16)
    k.local("e", 33)
    with k.stream([StreamAxis("j", 0, "J", 16)], [Carry("s", 0.0, "s2", ("i", "e"), "real")]):
        k.let("in", "and", "i.valid", "j.valid", kind="bool")
        k.load("T", "t", "i", "j", mask="in", kind="bool")
        k.load("A", "a", "i", "j", mask="in")
        k.load("B", "b", "j", "e", mask="j.valid")
        k.let("x", "exp", "A")
        k.let("y", "select", "T", "x", 0.0)
        k.dot("z", "y", "B", "j")
        k.let("s2", "add", "s", "z")
    k.store("o", "i", "e", value="s", mask="i.valid")
    return k.case()


def half_precision() -> Case:
    """Storage and products in bfloat16, everything else in float32."""
    k = Sketch({"N": 20}, "bfloat16")
    k.input("a", 20, 18)
    k.input("b", 18, 17)
    k.output("o", 20, 17, stored="float32")
    k.tiled("i", "N", 16)
    k.local("d", 18)
    k.local("e", 17)
    k.load("A", "a", "i", "d", mask="i.valid")
    k.load("B", "b", "d", "e")
    k.dot("r", "A", "B", "d")
    k.let("s", "mul", "r", 0.1)
    k.store("o", "i", "e", value="s", mask="i.valid")
    return k.case()


def half_storage() -> Case:
    """float16 tensors under float32 arithmetic: the product of two of them is exact, an 8-bit one is not."""
    k = Sketch({"N": 20}, "float32")
    k.input("a", 20, 18, stored="float16")
    k.input("b", 18, 17, stored="float16")
    k.output("o", 20, 17)
    k.output("p", 20, 17, stored="float16")
    k.tiled("i", "N", 16)
    k.local("d", 18)
    k.local("e", 17)
    k.load("A", "a", "i", "d", mask="i.valid")
    k.load("B", "b", "d", "e")
    k.dot("r", "A", "B", "d")
    k.let("C", "mul", "A", 0.1)
    k.dot("s", "C", "B", "d")
    k.store("o", "i", "e", value="s", mask="i.valid")
    k.store("p", "i", "e", value="r", mask="i.valid")
    return k.case()


def split_products() -> Case:
    """Numbers that float32 computed, on either side of a product with bfloat16 ones: no bit of them is lost.
    One kernel has both 16-bit types."""
    k = Sketch({"N": 20}, "float32")
    k.input("a", 20, 18)
    k.input("b", 18, 17, stored="bfloat16")
    k.input("f", 18, 17, stored="float16")
    k.input("g", 20, 18, stored="float16")
    k.output("o", 20, 17)
    k.output("p", 20, 17)
    k.output("q", 20, 17, stored="bfloat16")
    k.tiled("i", "N", 16)
    k.local("d", 18)
    k.local("e", 17)
    k.load("A", "a", "i", "d", mask="i.valid")
    k.load("B", "b", "d", "e")
    k.load("F", "f", "d", "e")
    k.load("G", "g", "i", "d", mask="i.valid")
    k.let("C", "exp", "A")
    k.let("S", "select", "i.valid", "C", 0.0)
    k.dot("r", "S", "B", "d")
    k.dot("s", "B", "C", "d", init="r", scale=-1.5)
    k.dot("t", "G", "F", "d")
    k.let("u", "mul", "t", 2.0)
    k.store("o", "i", "e", value="r", mask="i.valid")
    k.store("p", "i", "e", value="s", mask="i.valid")
    k.store("q", "i", "e", value="u", mask="i.valid")
    return k.case()


def nothing_beyond_the_edge() -> Case:
    """Values that are infinite or not a number where coordinates do not exist: log(0) and 0/0 of what a load
    gives there must reach no fold and no product."""
    k = Sketch({"N": 5, "J": 19})
    k.given("x", torch.rand(19, 18, generator=torch.Generator().manual_seed(1)) + 0.5)
    k.given("y", torch.rand(5, 18, generator=torch.Generator().manual_seed(2)) + 0.5)
    k.output("o", 5)
    k.output("p", 5)
    k.tiled("i", "N", 16)
    k.local("d", 18)
    carries = [Carry("s", 0.0, "s2", ("i",), "real"), Carry("m", INF, "m2", ("i",), "real")]
    k.load("Y", "y", "i", "d", mask="i.valid")
    k.let("ly", "log", "Y")
    with k.stream([StreamAxis("j", 0, "J", 16)], carries):
        k.load("X", "x", "j", "d", mask="j.valid")
        k.let("lx", "log", "X")
        k.dot("z", "lx", "ly", "d")
        k.let("zz", "div", "z", "z")
        k.dot("w", "z", "lx", "j")
        k.fold("w2", "sum", "w", "d")
        k.fold("zs", "sum", "zz", "j")
        k.let("wz", "add", "w2", "zs")
        k.let("s2", "add", "s", "wz")
        k.fold("zm", "min", "z", "j")
        k.let("m2", "minimum", "m", "zm")
    k.store("o", "i", value="s", mask="i.valid")
    k.store("p", "i", value="m", mask="i.valid")
    return k.case()


def products_in_two_orders() -> Case:
    """Two products sum the same value over its outer and over its inner axis, so its rows lie in the order of one
    of them; results of two others have rows before and behind an axis that both sides keep. One has a mask, and
    what it leaves out is not finite."""
    k = Sketch({"T": 21}, "float64")
    x = torch.randn(3, 5, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    x[2, :, 7], x[2, 1, 20] = INF, float("nan")
    k.given("x", x)
    k.input("p", 4, 5)
    k.input("q", 6, 3)
    k.input("v", 5, 4)
    k.input("u", 3, 6)
    k.input("start", 5, 21)
    k.output("o", 3, 5, 21)
    k.output("r", 5, 3, 21)
    k.tiled("t", "T", 16)
    for name, size in (("a", 3), ("b", 5), ("c", 4), ("d", 6)):
        k.local(name, size)
    k.load("X", "x", "a", "b", "t", mask="t.valid")
    k.let("Y", "mul", "X", 0.5)
    k.load("P", "p", "c", "b")
    k.dot("inner", "P", "Y", "b")
    k.load("Q", "q", "d", "a")
    k.load("S", "start", "b", "t", mask="t.valid")
    k.let("seen", "lt", "a", 2, kind="bool")
    k.let("Z", "select", "seen", "Q", 0.0)
    k.dot("outer", "Z", "Y", "a", init="S", mask="seen", exposed=("Y",))
    k.load("V", "v", "b", "c")
    k.dot("behind", "V", "inner", "c")
    k.load("U", "u", "a", "d")
    k.dot("before", "U", "outer", "d", init="behind", scale=0.25)
    k.store("o", "a", "b", "t", value="behind", mask="t.valid")
    k.store("r", "b", "a", "t", value="before", mask="t.valid")
    return k.case()
