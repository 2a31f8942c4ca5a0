"""Sums of products in another order: the same value, present in the same places, and cheaper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import on_triton
from agreement import agree, check_gradients, run_on
from interpreting import Interpreting
from partials import Bench, same, sized
from plait import compile as compiled
from plait import parse
from plait.backends.compiled import Compiled
from plait.compiler.algorithms.order import choices, ordered
from plait.compiler.pipeline import plan_program, write_kernels
from plait.compiler.rewrites.simplify import simplify
from plait.compiler.schedules.schedule import Schedule, StreamSchedule, cpu_tiles
from plait.dsl.program import Output, Program
from plait.dsl.python.functions import axes, when
from plait.dsl.python.value import AxisValue, Value
from plait.dsl.shapes.size_forms import Sizes, evaluate_size, program_axes
from plait.dsl.shapes.sizes import bind_sizes
from strategies import Example

STREAMS = StreamSchedule(64, 32, False)
HEAD = "q[b, t, d], k[b, t, d], v[b, t, d]"
LINEAR = f"mixer linear({HEAD}) -> o[b, t, d]:\n  like s: t\n  o = sum[s](sum[d](q * k[t: s]) * v[t: s])\n"
SCALED = LINEAR.replace("sum[d](q * k[t: s])", "(sum[d](q * k[t: s]) / (1 + size(d)))").replace(
    "linear", "scaled"
)
PADDED = f"""
mixer padded({HEAD}, real[b, t]: bool) -> o[b, t, d]:
  like s: t
  o = sum[s](when(real[t: s], sum[d](q * k[t: s])) * v[t: s]) otherwise 0
"""
CAUSAL = f"""
mixer causal({HEAD}) -> o[b, t, d]:
  like s: t
  o = sum[s](when(s <= t, sum[d](q * k[t: s])) * v[t: s])
"""
SOFTMAX = f"""
mixer attention({HEAD}) -> o[b, t, d]:
  like s: t
  o = sum[s](softmax[s](sum[d](q * k[t: s])) * v[t: s])
"""
VECTOR = "mixer vector(a[i, j], b[j, k], c[k]) -> o[i]:\n  o = sum[k](sum[j](a * b) * c)\n"
THREE = "mixer three(a[i, j], b[j, k], c[k, l]) -> o[i, l]:\n  o = sum[j, k](a * b * c)\n"
FOUR = "mixer four(a[i, j], b[j, k], c[k, l], e[l]) -> o[i]:\n  o = sum[l](sum[k](sum[j](a * b) * c) * e)\n"
SHARED = "mixer shared(a[i, j], b[j, k], c[k]) -> o[i], m[i, k]:\n  m = sum[j](a * b)\n  o = sum[k](m * c)\n"
WINDOW = """
mixer window(x[b, c, h], w[o, c], u[o]) -> y[b, h]:
  near dh: 1
  y = sum[o](sum[c, dh](w * (x[h+dh] otherwise 0)) * u)
"""


def the(text: str) -> Program:
    return simplify(parse(text).program())


def orders(program: Program) -> list[Program]:
    """The program with each choice made each way, the others as they are written."""
    every = choices(program)
    wanted = [(i, n) for i, each in enumerate(every) for n in range(1, len(each.costs))]
    return [ordered(program, [n if i == at else 0 for i in range(len(every))])[0] for at, n in wanted]


def drawn(
    program: Program, sizes: Mapping[str, int], dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    found: dict[str, Tensor] = {}
    for each in (declaration.leaf for declaration in program.declarations):
        shape = [sizes[axis.name] for axis in each.over]
        real = torch.randn(shape, generator=generator, dtype=torch.float64)
        found[each.name] = real.to(dtype) if each.kind == "real" else real > 0
    return found


@pytest.mark.parametrize(
    ("text", "count"),
    [(LINEAR, 1), (SCALED, 1), (PADDED, 1), (VECTOR, 1), (THREE, 2), (CAUSAL, 0), (SOFTMAX, 0), (SHARED, 0)],
)
def test_what_has_another_order(text: str, count: int) -> None:
    assert sum(len(each.others) for each in choices(the(text))) == count


def test_four_in_a_row_go_from_the_vector_back() -> None:
    program = the(FOUR)
    (choice,) = choices(program)
    cheapest = min(choice.others, key=lambda order: evaluate_size(order.cost, alike(program, 500)))
    assert cheapest.words == "sum[j](a * sum[k](b * sum[l](c * e)))"


def alike(program: Program, extent: int) -> Sizes:
    return {axis: extent for axis in program_axes(program) if axis.size is None}


@pytest.mark.parametrize("text", [LINEAR, SCALED, PADDED, VECTOR, THREE, FOUR, WINDOW])
def test_every_order_is_the_program_on_a_backend(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    program = the(text)
    tensors = drawn(program, {"b": 2, "t": 7, "d": 3, "i": 5, "j": 4, "k": 1, "l": 6, "c": 2, "h": 5, "o": 3})
    for each in orders(program)[:1]:
        agree(run_on("cpp", each, tensors), program, tensors, torch.float64)


# --- the choice at a call

SIZES = ({"b": 8, "t": 31, "d": 2}, {"b": 8, "t": 201, "d": 2})
"""As it is written is cheaper, and is not."""


def linear(sizes: Mapping[str, int]) -> tuple[Program, dict[str, Tensor]]:
    program = parse(LINEAR).program()
    return program, drawn(program, sizes, torch.float32)


def test_a_call_takes_the_cheaper_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """One build for all lengths on either side, and the report says what was done."""
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    program = parse(LINEAR).program()
    call = Compiled(program, backend="cpp")
    keys: set[tuple[int, ...]] = set()
    for t in (5, 30, 31, 190, 201):
        tensors = drawn(program, {"b": 8, "t": t, "d": 2}, torch.float32)
        agree(call.run(tensors), program, tensors, torch.float32)
        assert call.last is not None
        keys.add(call.last.request[3])
    assert keys == {(0,), (1,)}
    assert len(call._executables) == 2


def test_the_kernels_of_either_order() -> None:
    counts: list[int] = []
    words: list[bool] = []
    for sizes in SIZES:
        program, tensors = linear(sizes)
        call = compiled(program, backend="cpp")
        call(*tensors.values())
        counts.append(len(call.tile_programs))
        report = " ".join(str(call.explain()).split())
        words.append(
            "rewritten: order of products: sum[s](sum[d](q * k) * v) as sum[d_](q * sum[s](k * v))" in report
        )
    assert counts == [1, 2]
    assert words == [False, True]


def test_gradients_in_the_other_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_CXX_LEVEL", "-O1")
    program, tensors = linear(SIZES[1])
    tensors = {name: each.double() for name, each in tensors.items()}
    sizes = bind_sizes(program, {name: tuple(each.shape) for name, each in tensors.items()})
    check_gradients(Example(program, tensors, sizes))


@pytest.fixture(scope="module")
def triton() -> Iterator[Interpreting]:
    process = Interpreting()
    yield process
    process.close()


def test_the_other_order_on_triton(triton: Interpreting) -> None:
    (program,) = orders(the(LINEAR))
    tensors = drawn(program, {"b": 1, "t": 19, "d": 5}, torch.float32)
    found = triton.call(on_triton.run, str(program), tensors)
    agree(found, the(LINEAR), tensors, torch.float32, "triton")


# --- partial values

AXES = axes("e f g h")
EXTENTS = sized(e=2, f=3, g=1, h=4)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Bench, Value]:
    """A sum of products of sums of products, of values that are absent in places."""
    bench = Bench(EXTENTS, draw(st.integers(0, 2**16)), draw(st.sampled_from((0.3, 0.8))))
    names = (f"x{i}" for i in count())

    def some(least: int) -> list[AxisValue]:
        return draw(
            st.lists(st.sampled_from(AXES), min_size=least, max_size=2, unique_by=lambda each: each.axis)
        )

    def total(depth: int) -> Value:
        made = bench.partial(next(names), *some(2))
        for _ in range(draw(st.integers(1, 2))):
            nested = depth > 0 and draw(st.integers(0, 3)) > 0
            made = made * (total(depth - 1) if nested else bench.partial(next(names), *some(1)))
            match draw(st.integers(0, 5)):
                case 0:
                    made = when(bench.mask(next(names), *some(0)), made)
                case 1:
                    made = made / (bench.partial(next(names), *some(0)) + 9)
                case _:
                    pass
        own = [AxisValue(each) for each in made.form.axes]
        return made.sum(
            *draw(st.lists(st.sampled_from(own), min_size=1, max_size=2, unique_by=lambda e: e.axis))
        )

    return bench, total(2)


@settings(max_examples=60)
@given(networks())
def test_every_order_is_the_sum_wherever_anything_is_absent(case: tuple[Bench, Value]) -> None:
    bench, value = case
    items = tuple((axis,) for axis in value.form.axes)
    program = Program("drawn", (), (Output("o", value.form, items),))
    for each in orders(program):
        made = each.outputs[0].value
        assert set(made.axes) == set(value.form.axes)
        assert same(*bench.values(value, Value(made)))


def test_networks_that_are_drawn_have_orders() -> None:
    found = 0

    @settings(max_examples=40, database=None)
    @given(networks())
    def look(case: tuple[Bench, Value]) -> None:
        nonlocal found
        _, value = case
        found += len(choices(Program("drawn", (), (Output("o", value.form, ()),))))

    look()
    assert found > 5


def test_what_both_sides_have_lies_in_no_lane() -> None:
    """The batch of a product of two computed values is taken one by one: a load of one side serves all lanes."""
    program = parse("mixer product(a[b, t, d], c[b, t, e]) -> o[b, d, e]:\n  o = sum[t](a * c)\n").program()
    (one,) = write_kernels(
        plan_program(program), {}, "float32", Schedule(16, STREAMS, cpu_tiles(32, 4))
    ).values()
    assert one.kernel.lanes == ("e",)
    assert [axis.tile for axis in one.kernel.grid if axis.name == "b"] == [1]


def test_a_projection_of_attention_keeps_its_order() -> None:
    """Projecting the values first would sum over the heads as well: the weights of the softmax would be stored."""
    text = """
mixer projected(q[b, m, t, d], k[b, m, t, d], v[b, m, t, e]) -> o[b, t, c]:
  like s: t
  axis c: 12
  param w[c, m, e]
  p = softmax[s](sum[d](q * k[t: s]))
  o = sum[m, e](w * sum[s](p * v[t: s]))
"""
    assert choices(the(text)) == ()
