"""Tile kernels of the kinds that the CPU schedule writes, by hand and small: for the C++ printer's tests.

Each function is one kernel, called without arguments; sizes are one more or less than tiles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from kernel_sketches import Case, Sketch
from plait.compiler.kernels.kernel import Carry, RealType, StreamAxis


def inside(k: Sketch, *axes: str) -> str:
    """The mask that the lanes exist."""
    mask = f"{axes[0]}.valid"
    for axis in axes[1:]:
        mask = k.let(f"in_{axis}", "and", mask, f"{axis}.valid", kind="bool")
    return mask


def chain(real: RealType = "float32") -> Case:
    """Pointwise over two flattened lane axes; one operand lacks the inner one, one is read a column ahead."""
    k = Sketch({"B": 2, "H": 5, "W": 19}, real)
    k.input("x", 2, 5, 20)
    k.input("s", 5)
    k.input("t", 19)
    k.output("o", 2, 5, 19)
    k.tiled("b", "B", 1)
    k.tiled("h", "H", 4)
    k.tiled("w", "W", 16)
    mask = inside(k, "h", "w")
    k.let("next", "add", "w", 1, kind="int")
    k.load("X", "x", "b", "h", "w", mask=mask)
    k.load("Y", "x", "b", "h", "next", mask=mask)
    k.load("S", "s", "h", mask=mask)
    k.load("T", "t", "w", mask=mask)
    k.let("a", "mul", "X", "S")
    k.let("c", "exp", "T")
    k.let("d", "add", "a", "c")
    k.let("e", "sub", "d", "Y")
    k.store("o", "b", "h", "w", value="e", mask=mask)
    return k.case("chain")


def chain_wide() -> Case:
    return chain("float64")


def narrow_lanes() -> Case:
    """Lane axes of which the inner one is narrower than a vector."""
    k = Sketch({"H": 5, "W": 7})
    k.input("x", 5, 7)
    k.output("o", 7, 5)
    k.tiled("h", "H", 8)
    k.tiled("w", "W", 2)
    mask = inside(k, "h", "w")
    k.load("X", "x", "h", "w", mask=mask)
    k.let("y", "mul", "X", "X")
    k.store("o", "w", "h", value="y", mask=mask)
    return k.case("narrow")


def shifted_at_borders() -> Case:
    """Reads one row up and two columns back, 0 outside: ranges of a run, of both signs of step."""
    k = Sketch({"H": 6, "W": 21})
    k.input("x", 6, 21)
    k.output("o", 6, 21)
    k.tiled("h", "H", 2)
    k.tiled("w", "W", 16)
    mask = inside(k, "h", "w")
    k.let("up", "sub", "h", 1, kind="int")
    k.let("back", "sub", "w", 2, kind="int")
    k.let("mirror", "sub", "W", "w", kind="int")
    k.let("t1", "ge", "up", 0, kind="bool")
    k.let("t2", "ge", "back", 0, kind="bool")
    k.let("t3", "lt", "mirror", "W", kind="bool")
    k.let("in1", "and", "t1", "t2", kind="bool")
    k.let("in2", "and", "in1", mask, kind="bool")
    k.let("in3", "and", "t3", mask, kind="bool")
    k.load("A", "x", "up", "back", mask="in2")
    k.load("M", "x", "h", "mirror", mask="in3")
    k.let("r", "sub", "A", "M")
    k.store("o", "h", "w", value="r", mask=mask)
    return k.case("shifted")


def norm(real: RealType = "float32", channels: int = 19) -> Case:
    """Layer norm over a resident axis: three passes over X, two folds, a store of rows by lanes."""
    k = Sketch({"B": 2, "T": 37}, real)
    k.input("x", 2, channels, 37)
    k.input("g", channels)
    k.output("o", 2, channels, 37)
    k.tiled("b", "B", 1)
    k.tiled("t", "T", 32)
    k.local("c", channels)
    k.load("X", "x", "b", "c", "t", mask="t.valid")
    k.load("G", "g", "c")
    k.fold("sum", "sum", "X", "c")
    k.let("mean", "div", "sum", channels)
    k.let("d", "sub", "X", "mean")
    k.let("dd", "mul", "d", "d")
    k.fold("squares", "sum", "dd", "c")
    k.let("var", "div", "squares", channels)
    k.let("more", "add", "var", 1e-5)
    k.let("root", "sqrt", "more")
    k.let("n", "div", "d", "root")
    k.let("y", "mul", "n", "G")
    k.store("o", "b", "c", "t", value="y", mask="t.valid")
    return k.case("norm")


def norm_wide() -> Case:
    return norm("float64", 5)


def norm_of_few_channels() -> Case:
    return norm(channels=3)


def column_sums() -> Case:
    """A streamed reduction over rows, lanes side by side; the sum in a carry, an output beside it."""
    k = Sketch({"T": 13, "C": 41})
    k.input("x", 13, 41)
    k.output("o", 41)
    k.output("top", 41)
    k.tiled("c", "C", 32)
    carries = [Carry("s", 0.0, "s2", ("c",), "real"), Carry("m", float("-inf"), "m2", ("c",), "real")]
    with k.stream([StreamAxis("t", 0, "T", 4)], carries):
        k.let("there", "and", "t.valid", "c.valid", kind="bool")
        k.load("X", "x", "t", "c", mask="there")
        k.fold("f", "sum", "X", "t")
        k.let("s2", "add", "s", "f")
        k.fold("g", "max", "X", "t")
        k.let("m2", "maximum", "m", "g")
    k.store("o", "c", value="s", mask="c.valid")
    k.store("top", "c", value="m", mask="c.valid")
    return k.case("columns")


def row_sums() -> Case:
    """Lanes along a stream, rows resident: sums, a largest value, and whether any is positive; carried
    arrays without lanes, that change places."""
    k = Sketch({"J": 45})
    k.input("x", 3, 45)
    k.output("o", 3)
    k.output("p", 3)
    k.output("n", 3)
    k.output("some", kind="bool")
    k.local("i", 3)
    k.lanes = ("j",)
    carries = [
        Carry("s", 0.0, "s2", ("i",), "real"),
        Carry("before", 1.0, "s", ("i",), "real"),
        Carry("m", float("-inf"), "m2", ("i",), "real"),
        Carry("any", False, "any2", (), "bool"),
    ]
    with k.stream([StreamAxis("j", 0, "J", 16)], carries):
        k.load("X", "x", "i", "j", mask="j.valid")
        k.fold("f", "sum", "X", "j")
        k.let("s2", "add", "s", "f")
        k.fold("g", "max", "X", "j")
        k.let("m2", "maximum", "m", "g")
        k.let("large", "gt", "X", 2.0, kind="bool")
        k.fold("h", "any", "large", "i", "j", kind="bool")
        k.let("any2", "or", "any", "h", kind="bool")
    k.store("o", "i", value="s")
    k.store("p", "i", value="before")
    k.store("n", "i", value="m")
    k.store("some", value="any")
    return k.case("rows")


def gradient_of_weights() -> Case:
    """W[o, c] = sum over t of y[t, o] x[t, c]: lanes c, chunks of t, the product starting from the carry."""
    k = Sketch({"T": 29, "O": 11, "C": 21})
    k.input("y", 29, 11)
    k.input("x", 29, 21)
    k.output("W", 11, 21)
    k.tiled("o", "O", 8, lane=False)
    k.tiled("c", "C", 16)
    with k.stream([StreamAxis("t", 0, "T", 8)], [Carry("acc", 0.0, "more", ("o", "c"), "real")]):
        k.let("there", "and", "t.valid", "c.valid", kind="bool")
        k.let("row", "and", "t.valid", "o.valid", kind="bool")
        k.load("X", "x", "t", "c", mask="there")
        k.load("Y", "y", "t", "o", mask="row")
        k.dot("more", "Y", "X", "t", init="acc")
    k.let("in", "and", "o.valid", "c.valid", kind="bool")
    k.store("W", "o", "c", value="acc", mask="in")
    return k.case("weights")


def dense_convolution() -> Case:
    """3 x 3 with channels: the right side of the product an im2col array, outputs streamed and stored."""
    k = Sketch({"H": 5, "W": 18, "O": 11})
    k.input("x", 4, 5, 18)
    k.input("w", 11, 4, 3, 3)
    k.input("bias", 11)
    k.output("y", 11, 5, 18)
    k.tiled("h", "H", 2)
    k.tiled("v", "W", 16)
    for name, size, low in (("c", 4, 0), ("p", 3, -1), ("q", 3, -1)):
        k.local(name, size, low)
    mask = inside(k, "h", "v")
    tests = [mask]
    for lane, tap, size in (("h", "p", "H"), ("v", "q", "W")):
        k.let(f"{lane}t", "add", lane, tap, kind="int")
        tests += [k.let(f"{lane}0", "ge", f"{lane}t", 0, kind="bool")]
        tests += [k.let(f"{lane}1", "lt", f"{lane}t", size, kind="bool")]
    for i in range(1, len(tests)):
        tests[i] = k.let(f"and{i}", "and", tests[i - 1], tests[i], kind="bool")
    k.load("X", "x", "c", "ht", "vt", mask=tests[-1])
    k.let("p1", "add", "p", 1, kind="int")
    k.let("q1", "add", "q", 1, kind="int")
    with k.stream([StreamAxis("o", 0, "O", 8)], []):
        k.load("K", "w", "o", "c", "p1", "q1", mask="o.valid")
        k.load("B", "bias", "o", mask="o.valid")
        k.dot("s", "K", "X", "c", "p", "q")
        k.let("r", "add", "s", "B")
        k.let("in", "and", mask, "o.valid", kind="bool")
        k.store("y", "o", "h", "v", value="r", mask="in")
    return k.case("convolution")


def halo_of_a_map() -> Case:
    """Takes from a computed resident tile, by two columns a lane, by none, and from a table of one axis."""
    k = Sketch({"W": 21})
    k.input("x", 45)
    k.input("table", 3)
    k.output("o", 21)
    k.tiled("w", "W", 16)
    k.local("u", 33)
    k.local("e", 3)
    k.let("first", "mul", "w.first", 2, kind="int")
    k.let("at", "add", "first", "u", kind="int")
    k.let("there", "lt", "at", 45, kind="bool")
    k.load("X", "x", "at", mask="there")
    k.let("Y", "mul", "X", "X")
    k.load("T", "table", "e")
    k.let("off", "sub", "w", "w.first", kind="int")
    k.let("two", "mul", "off", 2, kind="int")
    k.let("tap", "add", "two", 1, kind="int")
    k.let("mod", "mod", "w", 3, kind="int")
    k.take("A", "Y", "two")
    k.take("B", "Y", "tap")
    k.take("C", "Y", 4)
    k.take("D", "T", "mod")
    k.let("s", "add", "A", "B")
    k.let("t", "mul", "C", "D")
    k.let("r", "sub", "s", "t")
    k.store("o", "w", value="r", mask="w.valid")
    return k.case("halo")


def stored_narrow() -> Case:
    """bfloat16 and float64 tensors under float32 arithmetic: lanes, rows, both sides of a product."""
    k = Sketch({"T": 21, "O": 9})
    k.input("x", 21, 18, stored="bfloat16")
    k.input("w", 9, 18, stored="bfloat16")
    k.input("b", 9, stored="float64")
    k.output("y", 21, 9, stored="bfloat16")
    k.output("z", 21, 18, stored="float64")
    k.tiled("t", "T", 16)
    k.local("c", 18)
    k.load("X", "x", "t", "c", mask="t.valid")
    k.let("X2", "mul", "X", 0.3)
    k.store("z", "t", "c", value="X2", mask="t.valid")
    with k.stream([StreamAxis("o", 0, "O", 8)], []):
        k.load("K", "w", "o", "c", mask="o.valid")
        k.load("B", "b", "o", mask="o.valid")
        k.dot("s", "K", "X", "c")
        k.let("r", "add", "s", "B")
        k.let("in", "and", "t.valid", "o.valid", kind="bool")
        k.store("y", "t", "o", value="r", mask="in")
    return k.case("narrow_storage")


def stored_wide() -> Case:
    """float32 tensors under float64 arithmetic, lanes side by side and apart."""
    k = Sketch({"T": 21}, "float64")
    k.input("x", 5, 21, stored="float32")
    k.output("y", 21, 5, stored="float32")
    k.tiled("t", "T", 16)
    k.local("c", 5)
    k.load("X", "x", "c", "t", mask="t.valid")
    k.fold("s", "sum", "X", "c")
    k.let("r", "div", "X", "s")
    k.store("y", "t", "c", value="r", mask="t.valid")
    return k.case("wide_storage")


def folds_of_numbers() -> Case:
    """Folds and products without lanes, some over rows that stay; read by lanes and stored alone."""
    k = Sketch({"T": 9})
    k.input("g", 4, 5)
    k.input("h", 4, 5)
    k.input("x", 9)
    k.output("o", 4, 9)
    k.tiled("t", "T", 8)
    k.local("i", 4)
    k.local("j", 5)
    k.load("G", "g", "i", "j")
    k.load("H", "h", "i", "j")
    k.fold("rows", "sum", "G", "j")
    k.dot("d", "G", "H", "j", init="rows", scale=0.5)
    k.fold("all", "max", "G", "i", "j")
    k.let("m", "add", "d", "all")
    k.load("X", "x", "t", mask="t.valid")
    k.let("y", "mul", "X", "m")
    k.store("o", "i", "t", value="y", mask="t.valid")
    return k.case("numbers")


def products_by_heads() -> Case:
    """A product for each head, the heads being rows that both sides keep; sums over a stream's chunk and
    a local axis together; rows of two axes."""
    k = Sketch({"T": 17, "S": 11})
    k.input("x", 2, 11, 3, 17)
    k.input("w", 2, 4, 5, 11, 3)
    k.output("y", 2, 4, 5, 17)
    k.tiled("t", "T", 16)
    for name, size in (("a", 4), ("e", 5), ("g", 2), ("d", 3)):
        k.local(name, size)
    carries = [Carry("acc", 0.0, "more", ("a", "e", "g", "t"), "real")]
    with k.stream([StreamAxis("s", 0, "S", 4)], carries):
        k.let("there", "and", "s.valid", "t.valid", kind="bool")
        k.load("X", "x", "g", "s", "d", "t", mask="there")
        k.load("K", "w", "g", "a", "e", "s", "d", mask="s.valid")
        k.dot("more", "K", "X", "s", "d", init="acc")
    k.store("y", "g", "a", "e", "t", value="acc", mask="t.valid")
    return k.case("heads")


def an_array_read_again_by_rows() -> Case:
    """A value whose array must outlive the fold that reads all of it for every other row."""
    n = 6
    k = Sketch({"T": 19})
    k.input("x", n, 19)
    k.input("m", n, n)
    k.output("o", n, 19)
    k.tiled("t", "T", 16)
    k.local("i", n)
    k.local("j", n)
    k.load("X", "x", "j", "t", mask="t.valid")
    k.let("Y", "mul", "X", "X")
    k.fold("all", "sum", "Y", "j")
    k.let("Z", "div", "Y", "all")
    k.load("M", "m", "i", "j")
    k.let("P", "maximum", "Z", "M")
    k.fold("r", "sum", "P", "j")
    k.fold("total", "sum", "r", "i")
    k.let("q", "sub", "r", "total")
    k.store("o", "i", "t", value="q", mask="t.valid")
    return k.case("again")


def the_last_statement_reads_all_rows() -> Case:
    """Sums over j of exp(m[j] x[j]) x[i], carried: what is written for one i must leave what is read for
    the next one, also where it is the last that reads it."""
    k = Sketch({"T": 19})
    k.input("x", 6, 19)
    k.input("m", 6)
    k.output("o", 19)
    k.tiled("t", "T", 16)
    k.local("i", 6)
    k.local("j", 6)
    k.load("X", "x", "i", "t", mask="t.valid")
    k.load("Y", "x", "j", "t", mask="t.valid")
    k.load("M", "m", "j")
    k.let("MY", "mul", "M", "Y")
    with k.stream([StreamAxis("s", 0, 2, 1)], [Carry("acc", 0.0, "more", ("i", "t"), "real")]):
        k.let("Es", "mul", "MY", "s")
        k.let("E", "exp", "Es")
        k.let("EX", "mul", "E", "X")
        k.fold("f", "sum", "EX", "j")
        k.let("more", "add", "acc", "f")
    k.fold("r", "sum", "acc", "i")
    k.store("o", "t", value="r", mask="t.valid")
    return k.case("last")


def subnormal_and_endless() -> Case:
    """Infinities, NaN, the least subnormal: through transposes, folds and stores as they are."""
    data = torch.tensor([1e-45, -0.0, float("inf"), float("nan"), -1e38, 3e38, 1.0])
    k = Sketch({"T": 23})
    k.given("x", data[torch.arange(23 * 9) % 7].reshape(23, 9).clone())
    k.output("o", 23, 9)
    k.output("m", 23)
    k.tiled("t", "T", 16)
    k.local("c", 9)
    k.load("X", "x", "t", "c", mask="t.valid")
    k.fold("f", "max", "X", "c")
    k.store("o", "t", "c", value="X", mask="t.valid")
    k.store("m", "t", value="f", mask="t.valid")
    return k.case("endless")


TILED: tuple[Callable[[], Case], ...] = (
    chain,
    chain_wide,
    narrow_lanes,
    shifted_at_borders,
    norm,
    norm_wide,
    norm_of_few_channels,
    column_sums,
    row_sums,
    gradient_of_weights,
    dense_convolution,
    halo_of_a_map,
    stored_narrow,
    stored_wide,
    folds_of_numbers,
    products_by_heads,
    an_array_read_again_by_rows,
    the_last_statement_reads_all_rows,
    subnormal_and_endless,
)
