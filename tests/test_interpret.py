"""The interpreter form by form, against the denotation by the book (`denotation.py`) and by hand."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement import nearly
from denotation import SCALARS, Meaning, differences
from partials import Bench, declared, items, not_yet_forms, of, program, random, same, sized, union
from plait.compiler.meaning.interpret import evaluate, interpret, run
from plait.compiler.meaning.memory import operands_of, plan
from plait.compiler.meaning.operations import OPERATIONS
from plait.compiler.meaning.partial import DTYPES, NO_INTEGER, POISON, Partial
from plait.dsl.constructors import build
from plait.dsl.constructors.batch import expand_batch
from plait.dsl.mistakes import (
    AbsentOutput,
    AxisSizeMismatch,
    InvalidArgument,
    NotYet,
    TooLarge,
    UnknownArgument,
    WrongDtype,
)
from plait.dsl.ops import OPS, Kind
from plait.dsl.program import (
    BATCH,
    AsIf,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Leaf,
    OnGradient,
    Output,
    Program,
    Update,
)
from plait.dsl.python.domains import softmax
from plait.dsl.python.functions import axes, axis, clamp, near, place, present, reflect, select, when
from plait.dsl.python.pointwise import exp
from plait.dsl.python.value import AxisValue, Value
from plait.dsl.source import Source, Span
from tree import ROOT

b, h, w, c, v = axes("b h w c v")
inf, nan = math.inf, math.nan


# --- scalars

POINTS: dict[Kind, list[object]] = {
    "bool": [False, True],
    "int": [-7, -3, -1, 0, 1, 2, 5],
    "real": [-inf, -2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.0, 2.5, inf, nan],
    "complex": [1 + 2j, -0.5 - 1j, 3 + 0j],
}


def test_every_operation_has_a_meaning() -> None:
    assert set(OPERATIONS) == set(OPS)
    assert set(SCALARS) == set(OPS)


def kinds_of(op: str) -> list[tuple[Kind, ...]]:
    """The kinds of arguments that an operation takes."""
    one: list[Kind] = ["bool", "int", "real", "complex"]
    every: list[tuple[Kind, ...]] = [(a,) for a in one]
    if OPS[op].arity == 2:
        every = [(a, b) for a in one for b in one]
    return [kinds for kinds in every if " " not in OPS[op].rule(kinds)]


def points_of(kind: Kind, kinds: tuple[Kind, ...]) -> list[object]:
    """What to try a kind at. Beside complex numbers only finite ones, not 0: at the others torch and
    numpy part, and C's own standard leaves the choice."""
    if "complex" not in kinds or kind in ("complex", "bool"):
        return POINTS[kind]
    return [each for each in POINTS[kind] if math.isfinite(each) and each]  # type: ignore[arg-type]


@pytest.mark.parametrize("op", OPS)
def test_operation_by_the_book(op: str) -> None:
    for kinds in kinds_of(op):
        leaves: dict[Form, Partial] = {}
        args: list[Form] = []
        for name, kind in zip("hw", kinds, strict=False):
            points = torch.tensor(points_of(kind, kinds), dtype=DTYPES[kind])
            args.append(Leaf("input", name, (Axis(name),), kind))
            leaves[args[-1]] = Partial(args[-1].axes, points)
        sizes = sized(h=len(points_of(kinds[0], kinds)), w=len(points_of(kinds[-1], kinds)))
        form = build.apply(op, *args)
        values = run(plan((form,)), leaves, sizes)
        assert values[form].kind == form.kind
        assert differences(values, Meaning({k: v.data for k, v in leaves.items()}, sizes)) == []


def test_division_and_rounding_conventions() -> None:
    a = Bench(sized(h=4)).given("a", h, data=torch.tensor([-7, 7, -7, 7]))
    assert_values(a // torch_int(3), [-3, 2, -3, 2], given=a, data=[-7, 7, -7, 7])
    assert_values(a % torch_int(-3), [-1, -2, -1, -2], given=a, data=[-7, 7, -7, 7])
    assert_values(a / torch_int(2), [-3.5, 3.5, -3.5, 3.5], given=a, data=[-7, 7, -7, 7])
    assert_values(a // (a * 0), [NO_INTEGER] * 4, given=a, data=[-7, 7, -7, 7])
    x = Value(Leaf("input", "x", (h.axis,)))
    rounded = Value(build.apply("round", x.form))
    assert_values(rounded, [0, 2, 2, -2], given=x, data=[0.5, 1.5, 2.5, -1.5])
    floor = Value(build.apply("floor", x.form))
    assert_values(floor, [-2, NO_INTEGER, NO_INTEGER, NO_INTEGER], given=x, data=[-1.5, nan, inf, 1e300])


def torch_int(number: int) -> Value:
    return Value(Const(number))


def assert_values(
    value: Value, expected: Sequence[object], *, given: Value, data: Sequence[object], exactly: bool = True
) -> None:
    """A value over h from one leaf over h; None stands for absent, NaN in `data` for itself."""
    leaf = Partial((h.axis,), torch.tensor(data, dtype=DTYPES[given.form.kind]))
    found = run(plan((value.form,)), {given.form: leaf}, sized(h=len(data)))[value.form]
    mask = torch.tensor([each is not None for each in expected])
    fill = [POISON[value.form.kind] if each is None else each for each in expected]
    wanted = Partial((h.axis,), torch.tensor(fill, dtype=DTYPES[value.form.kind]), mask)
    assert same(found, wanted, exactly=exactly), found


# --- forms, by the book

j = c.like("j")
dh = near("dh", 1)
half = axis("half", (h.size + 1) // 2)


def example_values(bench: Bench) -> dict[str, Value]:
    """Values that use every form, also where it is partial."""
    x, y = bench.partial("x", h, c), bench.partial("y", h, w)
    p, e = bench.mask("p", h, w), bench.whole("e", h, low=-2, high=4)
    z = bench.total("z", dh, w)
    return {
        "map": x * y + h - 2 * c,
        "constant": Value(Const(3)) + 0 * h,
        "size": h.size * half.size + 0 * w,
        "when": when(p, x),
        "when of a partial predicate": when(y > 0, h + c),
        "otherwise": x.otherwise(y),
        "otherwise of integers and reals": when(p, h).otherwise(0.5 * w),
        "select": select(p, x, y),
        "present": present(x * y),
        "shift": x[{h: h + dh}],
        "stride": x[{h: 2 * half}],
        "flip": x[{h: h.size - 1 - h}],
        "split": y[{h: (h * 3 + w) // 3, w: (h * 3 + w) % 3}],
        "clamp": x[{h: clamp(h + dh, 0, h.size - 1)}],
        "reflect": x[{h: reflect(h + 3 * dh, h.size)}],
        "transpose": x[{h: c, c: h}],
        "gather": y[{h: e, w: e - 1}],
        "gather by a partial index": x[{h: when(p, e)}],
        "drop an axis": x[{h: 0}],
        "read from an offset axis": z[{dh: h - 1}],
        "place": place(x, {w: h - 1}),
        "place onto its own axis": place(x, {h: h + 1}),
        "place by data": place(y, {h: e}),
        "place keeping": place(y, {c: e + w}, keep=(h,)),
        "place into an offset axis": place(x, {dh: h - 1}),
        "place of integers": place(h * w, {c: e}),
        **{f"{op} over c": union(op, (x, [c])) for op in ("sum", "prod", "max", "min", "lse", "count")},
        **{
            f"{op} over both": union(op, (x, [h, c])) for op in ("sum", "prod", "max", "min", "lse", "argmax")
        },
        **{
            f"{op} of integers": union(op, (when(p, h - w), [w]))
            for op in ("sum", "prod", "max", "min", "lse")
        },
        **{f"{op} of truth": union(op, (when(y > -1, p), [w])) for op in ("any", "all", "count")},
        **{
            f"{op} of a union": union(op, (x, [c]), (y, [w]))
            for op in ("sum", "max", "lse", "count", "argmax")
        },
        "argmax of a union, second piece": union("argmax", (x, [c]), (y, [w]), component=1),
        "argmax, second component": union("argmax", (x, [c, h]), component=1),
        "a union whose piece binds an axis of the other": union("sum", (x, [c]), (x + y, [h])),
        "a union with a scalar": union("lse", (x, [c]), (0.5 * h, [])),
        "a union of integers and reals": union("sum", (h * c, [c]), (y, [w])),
        "a reduction over an axis of two": union("sum", (x[{h: h + dh}], [dh])),
        "softmax": softmax(x, c),
        "complex": Value(build.apply("cplx", x.form, y.form))
        * exp(Value(build.apply("cplx", (0 * h).form, y.form))),
        "as if": Value(AsIf(x.form, y.form)),
        "on gradient": Value(OnGradient(x.form, Leaf("bound", "g", x.form.axes), (x * 2).form)),
    }


NAMES = list(example_values(Bench(sized(h=3, w=2, c=2))))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(
    st.tuples(*(st.sampled_from([1, 2, 3, 5]) for _ in "hwc")),
    st.sampled_from([0.6, 0.2, 0.0, 1.0]),
    st.integers(0, 1000),
)
def test_form_by_the_book(name: str, sizes: tuple[int, ...], density: float, seed: int) -> None:
    bench = Bench(sized(**dict(zip("hwc", sizes, strict=True))), seed, density)
    value = example_values(bench)[name].form
    steps = [(form, ()) for form, _ in plan((value,))]
    meaning = Meaning({leaf: each.data for leaf, each in bench.leaves.items()}, bench.sizes)
    assert differences(run(steps, bench.leaves, bench.sizes), meaning) == []


@pytest.mark.parametrize("name", NAMES)
def test_absent_entries_are_poison_and_never_used(name: str) -> None:
    """Whatever stands under the masks of the operands, the value is the same, bit for bit."""
    for density in (0.5, 0.0):
        bench = Bench(sized(h=3, w=2, c=2), 1, density)
        value = example_values(bench)[name].form
        values = run([(form, ()) for form, _ in plan((value,))], bench.leaves, bench.sizes)
        for form, found in values.items():
            assert torch.all(found.data[~found.mask].isnan()) or form.kind in ("int", "bool")
            assert torch.all(found.data[~found.mask] == NO_INTEGER) or form.kind != "int"
            if isinstance(form, Leaf):
                continue
            other = tuple(disguised(values[each]) for each in operands_of(form))
            assert same(evaluate(form, other, bench.sizes), found, exactly=True), type(form)


def disguised(value: Partial) -> Partial:
    """The same partial function, with harmless numbers where it is absent."""
    harmless = torch.zeros_like(value.data)
    return replace(value, data=torch.where(value.mask, value.data, harmless))


def test_when_never_looks_outside() -> None:
    x = Value(Leaf("input", "x", (h.axis,)))
    root = Value(build.apply("sqrt", when(x > 0, x).form)).otherwise(0)
    assert_values(root, [0, 2, 0, 0], given=x, data=[-1.0, 4.0, 0.0, nan])
    assert_values(when(x > 0, 1 / x).sum(h) + 0 * h, [0.5] * 3, given=x, data=[0.0, 2.0, nan])


# --- what IEEE and ties decide


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([-inf, -inf], -inf),
        ([inf, -inf], inf),
        ([nan, 1.0], nan),
        ([inf, nan], nan),
        ([1000.0, 1000.0], 1000 + math.log(2)),
        ([-1000.0, -1000.0], -1000 + math.log(2)),
        ([-inf, 3.0], 3.0),
    ],
)
def test_lse_is_stable_and_ieee(data: list[float], expected: float) -> None:
    x = Value(Leaf("input", "x", (h.axis,)))
    assert_values(x.lse(h) + 0 * h, [expected] * 2, given=x, data=data, exactly=False)


def test_lse_over_nothing_is_absent_and_not_minus_infinity() -> None:
    x = Value(Leaf("input", "x", (h.axis,)))
    nothing = when(x > 100, x).lse(h)
    assert_values(present(nothing) & (h >= 0), [False] * 2, given=x, data=[-inf, 1.0])
    assert_values(present(x.lse(h)) & (h >= 0), [True] * 2, given=x, data=[-inf, -inf])


@pytest.mark.parametrize(
    ("data", "first"),
    [
        ([1.0, 3.0, 3.0], 1),
        ([-inf, -inf, -inf], 0),
        ([1.0, nan, nan], 1),
        ([inf, nan, 0.0], 1),
    ],
)
def test_argmax_is_the_first_and_nan_is_largest(data: list[float], first: int) -> None:
    x = Value(Leaf("input", "x", (h.axis,)))
    assert_values(argmax(x, h) + 0 * h, [first] * 3, given=x, data=data)


def argmax(value: Value, *over: AxisValue) -> Value:
    return union("argmax", (value, over))


def test_argmax_answers_among_present_entries_only() -> None:
    x = Value(Leaf("input", "x", (h.axis,)))
    assert_values(argmax(when(h > 1, x), h) + 0 * h, [2] * 4, given=x, data=[9.0, nan, -inf, -inf])


def test_max_and_min_propagate_nan() -> None:
    x = Value(Leaf("input", "x", (h.axis,)))
    assert_values(x.max(h) + 0 * h, [nan] * 2, given=x, data=[1.0, nan])
    assert_values(x.min(h) + 0 * h, [nan] * 2, given=x, data=[1.0, nan])
    assert_values(when(x == x, x).max(h) + 0 * h, [1.0] * 2, given=x, data=[1.0, nan])


def test_integers_are_exact() -> None:
    n = Value(Leaf("input", "n", (h.axis,), "int"))
    large = 2**53 + 1
    assert_values(n.max(h) + 0 * h, [large] * 2, given=n, data=[large, large - 1])
    assert_values(n.sum(h) + 0 * h, [2 * large - 1] * 2, given=n, data=[large, large - 1])
    assert_values(n**2, [9, 16], given=n, data=[-3, 4])


# --- tensors and sizes


def test_layouts_are_unpacked_and_packed() -> None:
    z = axes("z")
    x = declared("x", b, (h, z), 1, c)
    bias = declared("bias", (c, z), role="parameter")
    p = replace(program([x], of(x) + of(bias), (z, c), 1, b, h), parameters=(bias,), fixed=((z.axis, 2),))
    tensors = {"x": random(3, 10, 1, 4), "bias": random(8)}
    found = interpret(p, tensors)["o"]
    expected = tensors["x"].reshape(3, 5, 2, 4) + tensors["bias"].reshape(4, 2).T
    assert found.shape == (8, 1, 3, 5)
    assert torch.equal(found, expected.permute(2, 3, 0, 1).reshape(8, 1, 3, 5))


def test_offset_axes_are_stored_from_their_lowest_index() -> None:
    x, kernel = declared("x", h), declared("kernel", dh, role="parameter")
    p = replace(program([x], (of(kernel) * of(x)[h + dh]).sum(dh), h), parameters=(kernel,))
    x_, k_ = random(6), random(3)
    expected = torch.nn.functional.conv1d(x_[None, None], k_[None, None], padding=1)[0, 0]
    nearly(interpret(p, {"x": x_, "kernel": k_})["o"], expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0, 3), (1, 1)])
def test_batch_is_any_number_of_axes(shape: tuple[int, ...]) -> None:
    x = declared("x", ..., h)
    p = program([x], softmax(of(x), h) + of(x).count(...) + 0.5 * Value(build.size(BATCH)), h, ...)
    found = interpret(p, {"x": random(*shape, 4)})["o"]
    assert found.shape == (4, *shape)
    total = math.prod(shape)
    expected = torch.softmax(random(*shape, 4), -1) + 1.5 * total
    nearly(found.movedim(0, -1), expected)
    expanded = expand_batch(p, len(shape))
    assert torch.equal(interpret(expanded, {"x": random(*shape, 4)})["o"], found)


def test_a_sum_over_an_empty_batch_is_absent() -> None:
    x = declared("x", ..., h)
    p = program([x], of(x).sum(...), h)
    assert torch.equal(interpret(p, {"x": random(2, 3)})["o"], random(2, 3).sum(0))
    with pytest.raises(AbsentOutput, match="output `o` is absent at h=0"):
        interpret(p, {"x": random(0, 3)})
    filled = program([x], of(x).sum(...).otherwise(7), h)
    assert interpret(filled, {"x": random(0, 3)})["o"].tolist() == [7.0] * 3


def test_reading_an_empty_batch_is_absent() -> None:
    x, y = declared("x", b, h), declared("y", h)
    read = Value(build.at(of(x).form, {b.axis: Const(0)}))
    p = program([x, y], read.otherwise(of(y)), h)
    sizes = {Axis("b"): 0, Axis("h"): 3, BATCH: ()}
    assert torch.equal(interpret(p, {"x": random(0, 3), "y": random(3)}, sizes)["o"], random(3))


def test_results_are_new_contiguous_tensors() -> None:
    x = declared("x", h, w)
    data = random(2, 3)
    found = interpret(program([x], of(x), h, w), {"x": data})["o"]
    assert torch.equal(found, data)
    assert found.data_ptr() != data.data_ptr()
    assert found.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32])
def test_real_inputs_come_in_any_width(dtype: torch.dtype) -> None:
    x = declared("x", h)
    data = torch.tensor([1, 2, 3]).to(dtype)
    found = interpret(program([x], of(x) / 3, h), {"x": data})["o"]
    assert found.dtype == torch.float64
    assert torch.equal(found, torch.tensor([1, 2, 3]).double() / 3)


def test_strides_do_not_matter() -> None:
    x = declared("x", h, w)
    p = program([x], of(x) - of(x).mean(h), h, w)
    base = random(8, 6)
    for data in (base.T, base[::2, 1::2], base[:1].expand(5, 6), base.flip(0)):
        assert torch.equal(interpret(p, {"x": data})["o"], interpret(p, {"x": data.contiguous()})["o"])


def test_an_optional_input_that_is_not_given_is_absent() -> None:
    x, g = declared("x", h), declared("g", h, optional=True)
    p = program([x, g], of(x) * of(g).otherwise(1), h)
    assert torch.equal(interpret(p, {"x": random(3)})["o"], random(3))
    assert torch.equal(interpret(p, {"x": random(3), "g": random(3)})["o"], random(3) ** 2)


def test_updates_read_the_value_before_the_call() -> None:
    x = declared("x", h)
    seen = declared("seen", kind="int", role="buffer")
    mean = declared("mean", h, 1, role="buffer")
    p = replace(
        program([x], of(x) - of(mean) + of(seen), h),
        buffers=(seen, mean),
        updates=(
            Update(seen.leaf, (of(seen) + 1).form),
            Update(mean.leaf, (of(mean) * 0.5 + of(x) * 0.5).form),
        ),
    )
    found = interpret(p, {"x": random(3), "seen": torch.tensor(4), "mean": torch.ones(3, 1)})
    assert set(found) == {"o", "update:seen", "update:mean"}
    assert torch.equal(found["o"], random(3) - 1 + 4)
    assert found["update:seen"].item() == 5
    assert found["update:seen"].dtype == torch.int64
    assert torch.equal(found["update:mean"], (0.5 + random(3) * 0.5)[:, None])


# --- refusals


def test_absent_output_names_the_index() -> None:
    x = declared("x", ..., h)
    source = Source("o = x[h+dh].sum(dh, where=dh > 0)", "demo.plait")
    value = (of(x)[h + dh]).sum(dh, where=dh > 0).form
    p = Program("demo", (x,), (Output("o", value, items(..., h), Span(source, 4, 33)),))
    with pytest.raises(AbsentOutput) as caught:
        interpret(p, {"x": random(2, 3, 4)})
    assert str(caught.value) == (
        "AbsentOutput: output `o` is absent at ...=(0, 0), h=3\n"
        "  --> demo.plait:1:5\n"
        "    |\n"
        "  1 | o = x[h+dh].sum(dh, where=dh > 0)\n"
        "    |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ absent there\n"
        "    |\n"
        "  = sizes: ...=(2, 3), h=4\n"
        "  help: say what stands there: `.otherwise(0)`\n"
        "  see: docs/errors.md#absent-output"
    )
    assert caught.value.facts == {"index": {"...": (0, 0), "h": 3}}


def test_an_absent_update_is_named() -> None:
    x, kept = declared("x", h), declared("kept", h, role="buffer")
    update = Update(kept.leaf, when(of(x) > 0, of(x)).form)
    p = replace(program([x], of(x), h), buffers=(kept,), updates=(update,))
    with pytest.raises(AbsentOutput, match="the update of `kept` is absent at h=1"):
        interpret(p, {"x": torch.tensor([1.0, -1.0]), "kept": torch.zeros(2)})


def test_memory_is_predicted() -> None:
    x, y = declared("x", h, c), declared("y", w, c)
    p = program([x, y], (of(x) * of(y)).sum(c), h, w)
    tensors = {"x": torch.zeros(1, 1).expand(4000, 500), "y": torch.zeros(1, 1).expand(3000, 500)}
    with pytest.raises(TooLarge) as caught:
        interpret(p, tensors, memory_limit=2**30)
    lines = str(caught.value).split("\n")
    needed = "TooLarge: the reference interpreter would need 201 GiB, and its limit is 1 GiB"
    assert lines[0] == needed
    assert "(of(x) * of(y)).sum(c)" in lines[3]
    assert lines[-3:] == [
        "  = biggest value: h=4000, w=3000, c=500 (50.3 GiB)",
        "  help: check the meaning at smaller sizes, or raise `memory_limit`",
        "  see: docs/errors.md#too-large",
    ]
    small = {"x": random(4, 5), "y": random(3, 5)}
    nearly(interpret(p, small, memory_limit=10_000)["o"], random(4, 5) @ random(3, 5).T)


def test_memory_of_dead_values_is_not_counted() -> None:
    """A chain of a thousand maps holds a few values, not a thousand."""
    x = declared("x", h)
    value = of(x)
    for number in range(1000):
        value = value * 0.5 + number
    p = program([x], value, h)
    assert interpret(p, {"x": random(1000)}, memory_limit=100_000)["o"].shape == (1000,)


@pytest.mark.parametrize("name", not_yet_forms())
def test_not_yet_names_the_form_and_the_place(name: str) -> None:
    source = Source("o = something", "demo.plait")
    form = replace(not_yet_forms()[name], span=Span(source, 4, 13))
    value = Value(form)
    p = program([declared("x", h)], value, *(AxisValue(axis) for axis in form.axes))
    with pytest.raises(NotYet) as caught:
        interpret(p, {"x": random(3)}, sized(h=3, w=3))
    assert str(caught.value) == (
        f"NotYet: the reference interpreter does not run `{name}` yet\n"
        "  --> demo.plait:1:5\n"
        "    |\n"
        "  1 | o = something\n"
        f"    |     ^^^^^^^^^ this is `{name}`\n"
        "    |\n"
        "  see: docs/errors.md#not-yet"
    )
    with pytest.raises(NotYet):
        evaluate(form, (), sized(h=3))


def test_marks_on_the_derivative_do_not_run_what_is_not_yet() -> None:
    x = declared("x", h)
    surrogate = AsIf(of(x).form, not_yet_forms()["jvp"])
    found = interpret(program([x], Value(surrogate), h), {"x": random(3)})
    assert torch.equal(found["o"], random(3))


def test_bad_tensors_are_refused() -> None:
    x, m = declared("x", h), declared("m", h, kind="bool")
    ids = Declaration(Leaf("input", "ids", (h.axis,), "int", v.axis), items(h))
    p = program([x, m], when(of(m), of(x)).otherwise(0), h)
    with pytest.raises(UnknownArgument, match="input `m` has no tensor"):
        interpret(p, {"x": random(3)})
    with pytest.raises(UnknownArgument, match="`y`"):
        interpret(p, {"x": random(3), "m": random(3) > 0, "y": random(3)})
    with pytest.raises(WrongDtype, match=r"input `m` is declared bool, and its tensor is torch.float64"):
        interpret(p, {"x": random(3), "m": random(3)})
    with pytest.raises(WrongDtype, match="`x` is declared real"):
        interpret(p, {"x": random(3) > 0, "m": random(3) > 0})
    with pytest.raises(AxisSizeMismatch, match="axis `h` has two sizes"):
        interpret(p, {"x": random(3), "m": random(4) > 0})
    with pytest.raises(AxisSizeMismatch, match=r"`x` has shape \(3,\), and the sizes ask for \(4,\)"):
        interpret(p, {"x": random(3), "m": random(4) > 0}, sized(h=4))
    table = declared("table", v, role="parameter")
    gather = replace(program([ids], Value(build.at(table.leaf, {v.axis: ids.leaf})), h), parameters=(table,))
    good = torch.tensor([0, 1, 4])
    assert torch.equal(interpret(gather, {"ids": good, "table": random(5)})["o"], random(5)[good])
    with pytest.raises(InvalidArgument) as caught:
        interpret(gather, {"ids": torch.tensor([0, -100, 5]), "table": random(5)})
    assert "`ids` holds -100, which is no index of axis `v`" in str(caught.value)
    assert "at h=1" in str(caught.value)
    assert "`v` runs from 0 to 4" in str(caught.value)


# --- the law


def test_the_interpreter_stays_short() -> None:
    """Design section 4: under 300 lines. Blank lines, docstrings and imports are not counted."""
    assert (
        sum(
            code_lines(ROOT / "compiler" / "meaning" / f"{name}.py")
            for name in ("interpret", "partial", "operations")
        )
        < 300
    )


def code_lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Expr | ast.Import | ast.ImportFrom):
            continue
        if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant):
            skipped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(bool(line.strip()) for number, line in enumerate(lines, 1) if number not in skipped)


def test_coordinates_start_at_the_lowest_index() -> None:
    value = Partial((dh.axis,), torch.tensor([-1, 0, 1]))
    assert same(evaluate(Coordinate(dh.axis), (), {}), value)
