"""Kernels at the corners of the Kernel language: each function is one, called without arguments."""

from __future__ import annotations

from collections.abc import Callable

from kernel_products import (
    contractions_of_other_shapes,
    half_precision,
    half_storage,
    heads_beside_lanes,
    nothing_beyond_the_edge,
    products_in_a_batch,
    products_in_two_orders,
    products_of_what_may_be_absent,
    split_products,
)
from kernel_sketches import INF, Case, Sketch
from plait.compiler.kernels.kernel import Carry, StreamAxis


def several_axes_of_one_dimension() -> Case:
    """Folds over one of the axes that share a dimension: of lanes, of a chunk; the rest stays or goes."""
    k = Sketch({"H": 5, "W": 7, "Y": 6, "X": 5})
    k.input("a", 5, 7)
    k.input("b", 6, 5)
    for name in ("o", "p", "q"):
        k.output(name, 5, 7)
    k.tiled("h", "H", 4)
    k.tiled("w", "W", 2)
    k.let("inside", "and", "h.valid", "w.valid", kind="bool")
    k.load("A", "a", "h", "w", mask="inside")
    k.fold("row", "sum", "A", "w")  # over a part of the lanes; repeated along w
    k.let("u", "mul", "row", "A")
    rows = ("h", "w")
    carries = [Carry("s", 0.0, "s2", rows, "real"), Carry("t", 0.0, "t2", rows, "real")]
    with k.stream([StreamAxis("y", 0, "Y", 4), StreamAxis("x", 0, "X", 2)], carries):
        k.let("there", "and", "y.valid", "x.valid", kind="bool")
        k.load("B", "b", "y", "x", mask="there")
        k.fold("ys", "max", "B", "x")  # one number a y
        k.fold("sum_y", "sum", "ys", "y")
        k.let("s2", "add", "s", "sum_y")
        k.let("yy", "to_real", "y")
        k.fold("sum_yy", "sum", "yy", "y")  # x is no axis of it
        k.fold("sum_xy", "sum", "yy", "y", "x", mask="there")  # and here it counts how many x there are
        k.let("st", "mul", "sum_yy", 100.0)
        k.let("su", "add", "st", "sum_xy")
        k.let("t2", "add", "t", "su")
    k.store("o", "h", "w", value="u", mask="inside")
    k.store("p", "h", "w", value="s", mask="inside")
    k.store("q", "h", "w", value="t", mask="inside")
    return k.case()


def bounds_of_outer_chunks() -> Case:
    """A triangle: the inner axis stops where the outer chunk does; all pairs x <= y.last."""
    k = Sketch({"N": 3, "Y": 7})
    k.input("a", 7, 7)
    k.output("o", 3)
    k.output("n", 3, kind="int")
    k.tiled("i", "N", 4)
    carries = [Carry("s", 0.0, "s2", ("i",), "real"), Carry("c", 0, "c2", ("i",), "int")]
    with k.stream([StreamAxis("y", 1, "Y", 2), StreamAxis("x", "y.first", "y.last", 4)], carries):
        k.let("there", "and", "y.valid", "x.valid", kind="bool")
        k.load("A", "a", "y", "x", mask="there")
        k.fold("f", "sum", "A", "y", "x")
        k.let("g", "mul", "f", "i")
        k.let("s2", "add", "s", "g")
        k.let("one", "select", "there", 1, 0, kind="int")
        k.fold("m", "sum", "one", "y", "x", kind="int")
        k.let("c2", "add", "c", "m", kind="int")
    k.store("o", "i", value="s", mask="i.valid")
    k.store("n", "i", value="c", mask="i.valid")
    return k.case()


def streams_in_streams() -> Case:
    """A stream inside another one, and two in a row over axes and values of one name."""
    k = Sketch({"N": 6, "S": 3})
    k.input("a", 6, 3)
    k.output("o", 6)
    k.tiled("i", "N", 4)
    for round_, step in enumerate((1, 2)):
        with k.stream([StreamAxis("s", 0, "S", step)], [Carry(f"c{round_}", 0.0, "n", ("i",), "real")]):
            k.let("there", "and", "i.valid", "s.valid", kind="bool")
            k.load("A", "a", "i", "s", mask="there")
            with k.stream(
                [StreamAxis("z", "s.first", 3, 1)], [Carry("d", f"c{round_}", "e", ("i",), "real")]
            ):
                k.let("az", "mul", "A", "z")
                k.fold("f", "sum", "az", "s")
                k.let("e", "add", "d", "f")
            k.let("n", "mul", "d", 0.5)
    k.let("r", "sub", "c0", "c1")
    k.store("o", "i", value="r", mask="i.valid")
    return k.case()


def carries_that_change_places() -> Case:
    """next a = b, next b = a + b: all carries move at once. Numbers, blocks, truth values; no chunk at all."""
    k = Sketch({"N": 5, "T": 8, "Z": 0})
    k.output("o", 5, kind="int")
    k.output("p", 5, kind="bool")
    k.output("q", 5)
    k.tiled("i", "N", 2)
    carries = [
        Carry("a", 0, "b", (), "int"),
        Carry("b", 1, "ab", (), "int"),
        Carry("u", "i", "v", ("i",), "int"),
        Carry("v", 1, "u", ("i",), "int"),
        Carry("flag", False, "other", ("i",), "bool"),
    ]
    with k.stream([StreamAxis("t", 0, "T", 1)], carries):
        k.let("ab", "add", "a", "b", kind="int")
        k.let("other", "not", "flag", kind="bool")
    with k.stream([StreamAxis("z", 0, "Z", 4)], [Carry("never", 2.5, "nothing", ("i",), "real")]):
        k.fold("n", "sum", "z", "z", kind="int")
        k.let("nothing", "to_real", "n")
    k.let("au", "add", "a", "u", kind="int")
    k.store("o", "i", value="au", mask="i.valid")
    k.store("p", "i", value="flag", mask="i.valid")
    k.store("q", "i", value="never", mask="i.valid")
    return k.case()


def reads_where_data_says() -> Case:
    """A gather by loaded indices, some outside; truth values loaded and stored; a reversed read."""
    k = Sketch({"N": 9, "M": 4})
    k.input("x", 4, 3)
    k.input("at", 9, kind="int")
    k.input("m", 9, kind="bool")
    k.output("o", 9, 3)
    k.output("p", 9, kind="bool")
    k.output("q", 9, kind="int")
    k.tiled("i", "N", 4)
    k.local("c", 3)
    k.load("A", "at", "i", mask="i.valid", kind="int")
    k.load("flag", "m", "i", mask="i.valid", kind="bool")
    k.let("above", "ge", "A", 0, kind="bool")
    k.let("in1", "and", "above", "i.valid", kind="bool")
    k.let("in", "and", "in1", "flag", kind="bool")
    k.let("back", "sub", 2, "c", kind="int")
    k.load("X", "x", "A", "back", mask="in")
    k.let("no", "not", "flag", kind="bool")
    k.store("o", "i", "c", value="X", mask="i.valid")
    k.store("p", "i", value="no", mask="i.valid")
    k.store("q", "i", value="A", mask="i.valid")
    return k.case()


def window_with_low_bounds() -> Case:
    """A convolution over a window -1 .. 1 and -2 .. 2 of local axes, channels mixed: taps and channels are
    contracted together, over dimensions that are flattened for it."""
    k = Sketch({"H": 6, "W": 9})
    k.input("x", 6, 9, 4)
    k.input("g", 3, 5, 4, 18)
    k.output("o", 6, 9, 18)
    k.tiled("h", "H", 4)
    k.tiled("w", "W", 4)
    k.local("i", 3, -1)
    k.local("j", 5, -2)
    k.local("c", 4)
    k.local("e", 18)
    k.let("y", "add", "h", "i", kind="int")
    k.let("x_", "add", "w", "j", kind="int")
    for name, low, high in (("y", 0, "H"), ("x_", 0, "W")):
        k.let(f"{name}1", "ge", name, low, kind="bool")
        k.let(f"{name}2", "lt", name, high, kind="bool")
        k.let(f"{name}3", "and", f"{name}1", f"{name}2", kind="bool")
    k.let("inside", "and", "h.valid", "w.valid", kind="bool")
    k.let("in", "and", "y3", "x_3", kind="bool")
    k.let("in2", "and", "in", "inside", kind="bool")
    k.let("gi", "add", "i", 1, kind="int")
    k.let("gj", "add", "j", 2, kind="int")
    k.load("X", "x", "y", "x_", "c", mask="in2")
    k.load("G", "g", "gi", "gj", "c", "e")
    k.dot("r", "X", "G", "i", "j", "c", init=0.5, scale=2.0)
    k.store("o", "h", "w", "e", value="r", mask="inside")
    return k.case()


def reads_that_need_no_mask() -> Case:
    """A clamped index is legal everywhere, so what it reads is no 0 beyond the edge; and a value that is
    masked in a stream that never runs, and once more after it."""
    k = Sketch({"N": 5, "J": 7, "Z": 0})
    k.input("x", 5, 7)
    k.input("y", 5, 6)
    k.output("o", 5)
    k.output("p", 5)
    k.tiled("i", "N", 4)
    k.local("d", 6)
    k.let("il", "minimum", "i", "i.last", kind="int")
    k.load("Y", "y", "il", "d")
    k.let("Y1", "add", "Y", 1.0)
    with k.stream([StreamAxis("j", 0, "J", 4)], [Carry("s", 0.0, "s2", ("i",), "real")]):
        k.let("jl", "minimum", "j", "j.last", kind="int")
        k.load("X", "x", "il", "jl")
        k.fold("f", "sum", "X", "j")
        k.let("s2", "add", "s", "f")
    with k.stream([StreamAxis("z", 0, "Z", 2)], [Carry("never", 0.0, "g", ("i",), "real")]):
        k.fold("g", "sum", "Y1", "d")
    k.fold("h", "sum", "Y1", "d")
    k.let("r", "add", "h", "never")
    k.store("o", "i", value="s", mask="i.valid")
    k.store("p", "i", value="r", mask="i.valid")
    return k.case()


def a_condition_that_always_holds() -> Case:
    """`d.valid` of a local axis without padding is true everywhere; what it selects is one number a d still."""
    k = Sketch({"N": 5, "J": 19})
    k.input("a", 19)
    k.output("o", 5)
    k.tiled("i", "N", 4)
    k.local("d", 2)
    with k.stream([StreamAxis("j", 0, "J", 16)], [Carry("s", 0.0, "s2", ("i",), "real")]):
        k.load("A", "a", "j", mask="j.valid")
        k.let("there", "select", "d.valid", "A", 0.0)
        k.let("known", "select", "d.valid", 2.0, 0.0)
        k.let("x", "mul", "there", "known")
        k.fold("f", "sum", "x", "j", "d", mask="j.valid")
        k.let("s2", "add", "s", "f")
    k.store("o", "i", value="s", mask="i.valid")
    return k.case()


def integers_beyond_32_bits() -> Case:
    """Coordinates times a large number; a shifted grid; remainders of negative numbers."""
    k = Sketch({"N": 6})
    k.output("o", 6, kind="int")
    k.output("p", 6, kind="int")
    k.tiled("i", "N", 4, low=-2)
    k.let("big", "mul", "i", 3_000_000_000, kind="int")
    k.let("half", "floordiv", "big", 7, kind="int")
    k.let("rest", "mod", "big", -11, kind="int")
    k.let("at", "add", "i", 2, kind="int")
    k.store("o", "at", value="half", mask="i.valid")
    k.store("p", "at", value="rest", mask="i.valid")
    return k.case()


def literals_and_sizes() -> Case:
    """Operations on literals alone, sizes as numbers, constants of which float32 would lose digits."""
    k = Sketch({"N": 3, "S": 40}, "float64")
    k.output("o", 3)
    k.output("p", 3, kind="int")
    k.output("q", 3, kind="bool")
    k.tiled("i", "N", 2)
    k.let("a", "add", 0.1, 0.2)
    k.let("b", "pow", 0.7, 1.3)
    k.let("c", "maximum", "a", 0.1)
    k.let("d", "select", True, 0.1, 0.2)
    k.let("e", "select", "i.valid", 0.1, "b")
    k.let("f", "pow", "S", -0.5)
    k.let("g", "exp", 1)
    for left, right in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "g")):
        k.let(right + "_", "add", f"{left}_" if left != "a" else "a", right)
    k.let("m", "minimum", 7, "S", kind="int")
    k.let("n", "floordiv", 100, "m", kind="int")
    k.let("n2", "mul", "n", "i", kind="int")
    k.let("yes", "and", True, True, kind="bool")
    k.let("no", "eq", "yes", "i.valid", kind="bool")
    k.store("o", "i", value="g_", mask="i.valid")
    k.store("p", "i", value="n2", mask="i.valid")
    k.store("q", "i", value="no", mask="i.valid")
    return k.case()


def names_that_python_has() -> Case:
    """Names that are Python's, Triton's or the printer's own, or no identifiers at all."""
    k = Sketch({"for": 3, "tl": 4})
    k.input("lambda", 3, 4)
    k.output("tile", 3, 4)
    k.tiled("range", "for", 2)
    k.tiled("1w", "tl", 2)
    k.let("INT", "and", "range.valid", "1w.valid", kind="bool")
    k.load("rows", "lambda", "range", "1w", mask="INT")
    k.let("w'", "add", "rows", 1.0)
    k.let("\u03c9", "mul", "w'", 2.0)
    k.let("fold_max", "maximum", "\u03c9", 0.5)
    k.store("tile", "range", "1w", value="fold_max", mask="INT")
    return k.case("def")


def numbers_only() -> Case:
    """No lanes and no blocks: the general schedule. A softmax of three, one row a program."""
    k = Sketch({"N": 4, "J": 3}, "float64")
    k.input("x", 4, 3)
    k.output("o", 4, 3)
    k.tiled("i", "N", 1)
    k.tiled("j", "J", 1)
    with k.stream([StreamAxis("t", 0, "J", 1)], [Carry("top", -INF, "higher", (), "real")]):
        k.load("a", "x", "i", "t")
        k.fold("f", "max", "a", "t")
        k.let("higher", "maximum", "top", "f")
    with k.stream([StreamAxis("t", 0, "J", 1)], [Carry("sum", 0.0, "more", (), "real")]):
        k.load("a", "x", "i", "t", mask="t.valid")
        k.let("d", "sub", "a", "top")
        k.let("e", "exp", "d")
        k.dot("more", "e", "e", "t", init="sum")
    k.load("b", "x", "i", "j")
    k.let("r", "sub", "b", "top")
    k.let("p", "exp", "r")
    k.let("q", "div", "p", "sum")
    k.store("o", "i", "j", value="q")
    return k.case()


def truth_values_of_one_and_of_many() -> Case:
    """Single truth values, compared, loaded, folded and carried, meet blocks of them."""
    k = Sketch({"N": 6, "B": 3})
    k.input("x", 3, 6)
    k.input("m", 3, kind="bool")
    k.input("g", 3, 5, kind="bool")
    k.output("o", 3, 6, kind="bool")
    k.output("p", 3, 6)
    k.tiled("b", "B", 1)
    k.tiled("i", "N", 4)
    k.local("c", 5)
    k.load("first", "x", "b", 0)
    k.let("large", "gt", "first", 0.0, kind="bool")
    k.let("odd", "eq", "b", 1, kind="bool")
    k.load("flag", "m", "b", kind="bool")
    k.load("G", "g", "b", "c", kind="bool")
    k.fold("one", "any", "G", "c", kind="bool")
    k.fold("every", "all", "G", "c", mask="G", kind="bool")
    with k.stream([StreamAxis("t", 0, "B", 1)], [Carry("turned", "flag", "over", (), "bool")]):
        k.let("over", "ne", "turned", "odd", kind="bool")
    k.let("not_large", "not", "large", kind="bool")
    previous = "i.valid"
    for number, each in enumerate(("every", "one", "turned")):
        previous = k.let(f"all{number}", "and", previous, each, kind="bool")
    k.let("any0", "or", previous, "not_large", kind="bool")
    k.let("any1", "ne", "any0", "flag", kind="bool")
    k.let("read1", "and", "i.valid", "flag", kind="bool")
    k.let("read2", "or", "odd", "large", kind="bool")
    k.let("read", "and", "read1", "read2", kind="bool")
    k.load("X", "x", "b", "i", mask="read")
    k.let("Y", "select", "large", "X", -1.0)
    k.store("o", "b", "i", value="any1", mask="i.valid")
    k.store("p", "b", "i", value="Y", mask="i.valid")
    return k.case()


def a_grid_of_nothing() -> Case:
    """A grid without axes, and blocks of a local axis of size 1 and of size 0."""
    k = Sketch({})
    k.input("x", 1, 5)
    k.output("o", 1, 5)
    k.output("p", 1)
    k.local("u", 1)
    k.local("v", 5)
    k.local("z", 0)
    k.load("X", "x", "u", "v")
    k.let("zr", "to_real", "z")
    k.fold("none", "max", "zr", "z")
    k.let("Y", "maximum", "X", "none")
    k.fold("s", "prod", "Y", "v")
    k.store("o", "u", "v", value="Y")
    k.store("p", "u", value="s")
    return k.case()


CORNERS: tuple[Callable[[], Case], ...] = (
    several_axes_of_one_dimension,
    bounds_of_outer_chunks,
    streams_in_streams,
    carries_that_change_places,
    reads_where_data_says,
    window_with_low_bounds,
    products_in_a_batch,
    products_in_two_orders,
    heads_beside_lanes,
    reads_that_need_no_mask,
    contractions_of_other_shapes,
    nothing_beyond_the_edge,
    a_condition_that_always_holds,
    products_of_what_may_be_absent,
    integers_beyond_32_bits,
    literals_and_sizes,
    names_that_python_has,
    half_precision,
    half_storage,
    split_products,
    numbers_only,
    truth_values_of_one_and_of_many,
    a_grid_of_nothing,
)
