"""The cost model: counts done by hand, counts of what kernels really do, formulas, and the time that bounds them."""

from __future__ import annotations

from collections import Counter as Bag
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernel_meaning
from kernel_families import FAMILIES
from kernel_meaning import Meaning, Value
from plait.backends.cpp import rates
from plait.compiler.kernels.check_kernel import check_kernel
from plait.compiler.kernels.kernel import (
    Buffer,
    Carry,
    Dot,
    Fold,
    Grid,
    Kernel,
    Let,
    Load,
    Store,
    Stream,
    StreamAxis,
)
from plait.compiler.report.cost import (
    FREE,
    FUNCTIONS,
    Amount,
    Cost,
    Machine,
    bound,
    kernel_cost,
    program_least,
    tallies,
    totals,
    width_of,
)
from plait.compiler.report.trips import Counter, Formula
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.constructors.build import size
from plait.dsl.mistakes import InvalidArgument
from plait.dsl.program import BATCH, Program
from plait.dsl.shapes.size_forms import evaluate_size, program_axes
from plait.dsl.shapes.sizes import bind_sizes
from strategies import Example
from tiled import SMALL, kernels, meant, numbers_of, read

Shapes = Mapping[str, tuple[int, ...]]


def costs(text: str, shapes: Shapes, batch: int = 0) -> dict[str, Cost]:
    program = read(text, batch)
    sizes = numbers_of(program, shapes)
    planned, written = kernels(program, sizes, real="float32")
    stored = {group.result.form: group.result for group in planned.plan.groups}
    return {name: kernel_cost(each, stored, sizes) for name, each in written.items()}


def named(text: str, shapes: Shapes) -> dict[str, int]:
    """The sizes of all axes that the plan of a program has, by name."""
    program = read(text)
    sizes = numbers_of(program, shapes)
    planned, _ = kernels(program, sizes, real="float32")
    return {axis.name: evaluate_size(size(axis), sizes) for axis in program_axes(planned.program)}


def only(text: str, shapes: Shapes, batch: int = 0) -> Cost:
    (cost,) = costs(text, shapes, batch).values()
    return cost


def at(amount: Amount, **sizes: int) -> float:
    """A formula where its sizes are these."""
    symbols: dict[str, Any] = {name: sympy.Symbol(name) for name in sizes}
    found: Any = sympy.parse_expr(amount.formula, symbols)
    return float(found.subs(sizes))


# --- by hand


def test_a_matrix_product() -> None:
    """y[t, o] = sum over c of w[o, c] x[t, c]: t o c multiply-adds; each of the three tensors once."""
    t, c, o = 9, 7, 5
    text = "mixer f(x[t, c]) -> y[t, o]:\n  param w[o, c]\n  y = sum[c](w * x)\n"
    cost = only(text, {"x": (t, c), "w": (o, c)})
    assert cost.products == Amount("7*o*t", t * o * c)
    assert cost.flops.value == 2 * t * o * c
    assert cost.least.value == 4 * (t * c + o * c + t * o)
    assert at(cost.least, t=t, c=c, o=o) == cost.least.value
    assert cost.stored.value == 4 * t * o
    tiles = -(-t // SMALL.width)
    assert cost.loaded.value == 4 * (t * c + tiles * o * c), "each tile reads the weights"


def test_a_depthwise_convolution() -> None:
    """3 x 3 taps an output: 9 multiply-adds; a tile stages its halo of one place on either side."""
    b, c, h, w = 2, 3, 8, 4
    text = (
        "mixer f(x[b, c, h, w]) -> y[b, c, h, w]:\n  near dh, dw: 1\n  param k[c, dh, dw]\n"
        "  y = sum[dh, dw](k * x[h+dh, w+dw])\n"
    )
    cost = only(text, {"x": (b, c, h, w), "k": (c, 3, 3)})
    assert cost.flops.value in (18 * b * c * h * w, 17 * b * c * h * w + b * c * h * w)
    assert cost.least.value == 4 * (2 * b * c * h * w + 9 * c)
    tile = SMALL.width // SMALL.window_run, SMALL.window_run
    tiles = (h // tile[0]) * (w // tile[1])
    halo = (tile[0] + 2) * (tile[1] + 2)
    assert cost.loaded.value == 4 * b * c * tiles * (halo + 9)


def test_windowed_attention() -> None:
    """A query sees keys less than 2 places away, so those at most 1 away along either axis: a stream passes a
    tile and one place on either side of it where no border cuts that, and each key costs d products for its score
    and d for its value."""
    text = """
mixer circular(q[h, w, d], k[h, w, d], v[h, w, d]) -> o[h, w, d]:
  near dh, dw: 2
  p = softmax[dh, dw | dh*dh + dw*dw < 4](sum[d](q * k[h+dh, w+dw]))
  o = sum[dh, dw](p * v[h+dh, w+dw])
"""
    h, w, d, reach = 12, 11, 3, 1
    shapes = dict.fromkeys("qkv", (h, w, d))
    program = read(text)
    _, written = kernels(program, numbers_of(program, shapes), real="float32")
    (kernel,) = (each.kernel for each in written.values())
    rows, columns = (axis.tile for axis in kernel.grid[-2:])
    cost = only(text, shapes)

    def pairs(extent: int, tile: int) -> int:
        total = 0
        for first in range(0, extent, tile):
            last = min(first + tile, extent) - 1
            total += (last - first + 1) * (min(last + reach, extent - 1) - max(first - reach, 0) + 1)
        return total

    assert cost.products.value == 2 * d * pairs(h, rows) * pairs(w, columns)
    inner = (rows + 2 * reach) * (columns + 2 * reach)
    assert at(cost.products, h=1, w=1) == 2 * d * inner
    assert cost.least.value == 4 * 4 * h * w * d


def test_a_stream_that_ends_with_its_tile_does_half_of_the_work() -> None:
    """Rows t in tiles of 8 against columns 0 .. the last row: 8 (8 + 16 + ... + t) products."""
    t = 64
    stream = Stream(
        (StreamAxis("s", 0, "stop", 4),), (Carry("total", 0.0, "more", ("t",), "real"),),
        (
            Load("column", "x", ("s",), "s.valid", ("s",), "real"),
            Dot("dot", "row", "column", ("s",), None, None, ("t",)),
            Let("more", "add", ("total", "dot"), ("t",), "real"),
        ),
        True,
    )  # fmt: skip
    kernel = Kernel(
        "triangle", "float32", ("t_size",),
        (Buffer("x", 1, "real", "float32", "in"), Buffer("y", 1, "real", "float32", "out")),
        (Grid("t", 0, "t_size", 8),), (), ("t",),
        (
            Let("stop", "add", ("t.last", 1), (), "int"),
            Load("row", "x", ("t",), "t.valid", ("t",), "real"), stream,
            Store("y", ("t",), "total", "t.valid"),
        ),
    )  # fmt: skip
    check_kernel(kernel)
    nest, found = tallies(kernel)
    products = sum(8 * (first + 8) for first in range(0, t, 8))
    exact = totals(found, Counter(nest, {"t_size": t}))
    assert exact["products"] == products
    assert exact["operations"] == t * (t + 8) // 2 // 4, "an addition a row and chunk of 4"
    symbol = sympy.Symbol("t")
    by_formula = totals(found, Formula(nest, {"t_size": symbol}))
    assert by_formula["products"].subs(symbol, t) == products
    assert sympy.expand(by_formula["products"] - (symbol**2 / 2 + 4 * symbol)) == 0


def test_a_layer_norm() -> None:
    """An entry: one addition for the mean, a subtraction and a square and an addition for the variance, a
    subtraction and a product to scale; a row: two products by 1/c, the small number, and a root."""
    t, c = 9, 7
    text = (
        "mixer f(x[t, c]) -> y[t, c]:\n  param g[c]\n  m = mean[c](x)\n  s = mean[c]((x - m)**2)\n"
        "  y = (x - m) / sqrt(s + 1e-6) * g\n"
    )
    cost = only(text, {"x": (t, c), "g": (c,)})
    assert cost.products.value is not None
    assert cost.operations.value is not None
    by_entry, by_row = divmod(cost.flops.value or 0, t)[0] // c, (cost.flops.value or 0) // t % c
    assert by_entry in (6, 7, 8), (
        "x - m is shared or made twice; dividing is a product by a reciprocal, or not"
    )
    assert by_row <= 6
    assert cost.functions == Amount("t", t)
    assert cost.least.value == 4 * (2 * t * c + c)


# --- by doing it


class Counting(Meaning):
    """What runs, counted while it runs."""

    done: ClassVar[Bag[str]] = Bag()

    def count(self, what: str, operands: list[object], weight: int = 1) -> None:
        _, tensors = self.together(operands)  # type: ignore[arg-type]
        self.done[what] += weight * (tensors[0].numel() if tensors else 1)

    def dot(self, dot: Dot) -> Value:
        self.count("products", [dot.left, dot.right])
        made = super().dot(dot)
        self.done["operations"] += ((dot.init is not None) + (dot.scale is not None)) * made.data.numel()
        return made

    def fold(self, fold: Fold) -> Value:
        if fold.kind == "real":
            self.count("operations", [fold.value, fold.mask])
        return super().fold(fold)

    def let(self, let: Let) -> Value:
        made = super().let(let)
        if let.kind == "real" and let.op not in FREE:
            whole = let.op == "pow" and isinstance(let.args[1], int)
            self.done["functions" if let.op in FUNCTIONS and not whole else "operations"] += made.data.numel()
        return made

    def load(self, load: Load) -> Value:
        self.count("loaded", [load.mask, *load.index], width_of(self.kernel.buffer(load.buffer)))
        return super().load(load)

    def store(self, store: Store) -> None:
        width = width_of(self.kernel.buffer(store.buffer))
        self.count("stored", [store.value, store.mask, *store.index], width)
        super().store(store)


def predicted(program: Program, shapes: Shapes) -> Bag[str]:
    sizes = numbers_of(program, shapes)
    _, written = kernels(program, sizes)
    total: Bag[str] = Bag()
    for each in written.values():
        nest, found = tallies(each.kernel)
        numbers = {
            name: evaluate_size(form, sizes)
            for name, form in zip(each.kernel.sizes, each.numbers, strict=True)
        }
        total.update(totals(found, Counter(nest, numbers)))
    return total


def check(program: Program, tensors: Mapping[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_meaning, "Meaning", Counting)
    monkeypatch.setattr(Counting, "done", Bag())
    meant(program, tensors)
    found = predicted(program, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert {what: n for what, n in found.items() if n} == {w: n for w, n in Counting.done.items() if n}


PROGRAMS: dict[str, tuple[str, Shapes]] = {
    "block": (
        "mixer f(x[b, t, c]) -> y[b, t, c]:\n  axis e: size(c) * 4\n  param w[e, c]\n  param v[c, e]\n"
        "  m = mean[c](x)\n  s = mean[c]((x - m)**2)\n  z = (x - m) / sqrt(s + 1e-6)\n"
        "  h = tanh(sum[c](w * z))\n  y = x + sum[e](v * h)\n",
        {"x": (2, 9, 3), "w": (12, 3), "v": (3, 12)},
    ),
    "stencil at the border": (
        "mixer f(x[b, h, w]) -> y[b, h, w]:\n  near dh, dw: 2\n  param k[dh, dw]\n"
        "  y = sum[dh, dw](k * x[h+dh, w+dw])\n",
        {"x": (2, 7, 5), "k": (5, 5)},
    ),
    "pooling to one number": ("mixer f(x[t, c]) -> y:\n  y = max[t, c](x)\n", {"x": (9, 11)}),
    "band": (
        "mixer f(q[t, d], k[t, d], v[t, d]) -> o[t, d]:\n  like s: t\n"
        "  p = softmax[s | abs(s - t) < 4](sum[d](q * k[t: s]))\n  o = sum[s](p * v[t: s])\n",
        dict.fromkeys("qkv", (23, 3)),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_count_is_what_the_kernel_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, shapes = PROGRAMS[name]
    tensors = {each: torch.rand(shape, dtype=torch.float64) for each, shape in shapes.items()}
    check(read(text), tensors, monkeypatch)


@settings(max_examples=20)
@given(st.one_of(*FAMILIES.values()))
def test_the_count_is_what_generated_kernels_do(example: Example) -> None:
    tensors = {
        name: each.double() if each.is_floating_point() else each for name, each in example.tensors.items()
    }
    found = bind_sizes(example.program, {name: tuple(each.shape) for name, each in tensors.items()})
    batch = found.get(BATCH, ())
    assert isinstance(batch, tuple)
    program = expand_batch(example.program, len(batch))
    with pytest.MonkeyPatch.context() as patch:
        check(program, tensors, patch)


def test_an_empty_batch_costs_nothing() -> None:
    text = "mixer f(x[..., t, c]) -> y[..., t, c]:\n  y = x / sum[c](x)\n"
    for cost in costs(text, {"x": (0, 5, 3)}, batch=1).values():
        assert (cost.flops.value, cost.least.value, cost.moved) == (0, 0, 0)


def test_a_formula_is_at_least_the_count() -> None:
    """It leaves borders out; without any it is the count."""
    for name, (text, shapes) in PROGRAMS.items():
        for cost in costs(text, shapes).values():
            for amount in (cost.flops, cost.loaded, cost.stored, cost.functions):
                assert at(amount, **named(text, shapes)) >= (amount.value or 0), name


def test_without_sizes_there_are_formulas_only() -> None:
    text, shapes = PROGRAMS["block"]
    program = read(text)
    planned, written = kernels(program, numbers_of(program, shapes))
    stored = {group.result.form: group.result for group in planned.plan.groups}
    (made,) = written.values()
    cost = kernel_cost(made, stored, None)
    assert cost.flops.value is None
    assert cost.moved is None
    assert cost.intensity is None
    assert bound(cost, Machine("any", 1.0, 1.0, 1.0)) is None


# --- the least of a whole program


def test_the_least_of_a_program_is_its_tensors_once() -> None:
    text = "mixer f(x[t, c]) -> y[t, c]:\n  s = sum[t](x)\n  y = x * s\n"
    program = read(text)
    shapes = {"x": (9, 7)}
    sizes = numbers_of(program, shapes)
    planned, written = kernels(program, sizes, real="float32")
    stored = {group.result.form: group.result for group in planned.plan.groups}
    assert len(written) == 2
    outputs = {output.value for output in planned.program.outputs}
    assert program_least(written, stored, outputs, sizes) == 4 * 2 * 63


# --- the bound


def cost_of(products: int, functions: int, least: int) -> Cost:
    def amount(value: int) -> Amount:
        return Amount(str(value), value)

    return Cost(
        amount(products), amount(0), amount(functions), amount(2 * products), amount(least), amount(0),
        amount(least),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "roof", "seconds"),
    [
        (cost_of(1000, 0, 10), "multiply-adds", 10.0),
        (cost_of(10, 0, 1000), "memory", 100.0),
        (cost_of(100, 50, 10), "functions", 51.0),
    ],
)
def test_the_highest_roof_bounds(cost: Cost, roof: str, seconds: float) -> None:
    found = bound(cost, Machine("any", products=100.0, bytes=10.0, functions=1.0))
    assert found is not None
    assert (found.roof, found.seconds) == (roof, seconds)


def test_figures_are_measured_once_and_can_be_said(
    cache_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLAIT_MACHINE", raising=False)
    monkeypatch.setattr(rates, "REALS", 1 << 16)
    monkeypatch.setattr(rates, "SHORT", 1e-4)
    found = rates.this_machine()
    assert found.products > found.functions > 1e6, "a function takes longer than a multiply-add"
    assert found.bytes > 1e6
    monkeypatch.setattr(rates, "measured", lambda *given: pytest.fail("measured again"))
    assert rates.this_machine() == found
    monkeypatch.setenv("PLAIT_MACHINE", "products=1e11 bytes=2e10 functions=3e9 name=mine")
    assert rates.this_machine() == Machine("mine", 1e11, 2e10, 3e9)
    for wrong in ("products=1e11", "products=x bytes=1 functions=1", "products=0 bytes=1 functions=1"):
        monkeypatch.setenv("PLAIT_MACHINE", wrong)
        with pytest.raises(InvalidArgument, match="PLAIT_MACHINE"):
            rates.this_machine()
