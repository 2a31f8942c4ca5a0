"""The checker: every rule has a program that it refuses and one that it lets pass, in both spellings; and
what is open is looked at once for each new set of sizes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given

import plait
import test_python_programs
from plait.dsl.constructors import build
from plait.dsl.errors import PlaitError
from plait.dsl.mistakes import (
    AbsentOutput,
    AxisSizeMismatch,
    DuplicateParameter,
    InvalidHeader,
    InvalidSize,
    KindMismatch,
    ShadowedName,
    UndeclaredAxis,
    UnknownAxis,
    UnknownName,
    UnusedName,
)
from plait.dsl.program import (
    BATCH,
    Axis,
    Carry,
    Const,
    Coordinate,
    Declaration,
    Form,
    Item,
    Leaf,
    Library,
    Output,
    Program,
    Require,
    Role,
    Scan,
    Size,
    Update,
    fresh_axis,
)
from plait.dsl.proofs import check, rules
from plait.dsl.proofs.check import check_sizes, findings
from plait.dsl.shapes import size_rules
from plait.dsl.source import Source, Span
from strategies import Example, examples

h, w, c, t, b = (Axis(name) for name in "hwctb")


def declared(
    name: str, *items: Item | Axis, role: Role = "input", kind: str = "real", **more: object
) -> Declaration:
    layout = tuple((item,) if isinstance(item, Axis) else item for item in items)
    over = tuple(axis for item in layout for axis in item)
    leaf = Leaf(role, name, over, kind)  # pyright: ignore[reportArgumentType]
    return Declaration(leaf, layout, **more)  # pyright: ignore[reportArgumentType]


x, y = declared("x", h), declared("y", h, w)
n = declared("n", role="buffer", kind="int")
mu = declared("mu", h, role="buffer")


def out(value: Form, *items: Item | Axis, name: str = "o") -> Output:
    return Output(name, value, tuple((item,) if isinstance(item, Axis) else item for item in items))


def program(*outputs: Output, inputs: Sequence[Declaration] = (x,), **more: object) -> Program:
    return Program("p", tuple(inputs), outputs, **more)  # pyright: ignore[reportArgumentType]


def apply(name: str, *operands: Form | float) -> Form:
    return build.apply(name, *(each if isinstance(each, Form) else Const(each) for each in operands))


GOOD = out(x.leaf, h)
CARRY = Leaf("bound", "p", (t, h))
A = declared("a", t, h)
BATCHED = declared("z", BATCH)


def scanned(init: Form, step: Form) -> Program:
    form = Scan(t, (Carry(CARRY, init, step),))
    return program(out(form, t, h), inputs=(x, A, y))


def fresh(size: Form) -> Axis:
    return fresh_axis("n", Const(0), size, "axis")


data = Leaf("input", "k", (), "int")

REFUSED: dict[str, tuple[Callable[[Program], object], Program, type[PlaitError], str]] = {
    "two inputs of one name": (
        rules.one_name_one_tensor, program(GOOD, inputs=(x, declared("x", w))), ShadowedName, "`x` names two tensors",
    ),
    "an output named as an input": (
        rules.one_name_one_tensor, program(out(x.leaf, h, name="x")), ShadowedName, "`x` names two tensors",
    ),
    "an output twice": (rules.one_name_one_tensor, program(GOOD, GOOD), ShadowedName, "`o` names two tensors"),
    "a key twice": (
        rules.one_key_one_parameter,
        program(GOOD, parameters=(declared("weight", role="parameter"),), buffers=(declared("weight", role="buffer"),)),
        DuplicateParameter, "`weight` is declared twice",
    ),
    "a key that is another's other key": (
        rules.one_key_one_parameter,
        program(GOOD, parameters=(
            declared("v", h, role="parameter", also=("weight",)), declared("weight", h, role="parameter"),
        )),
        DuplicateParameter, "`weight` is declared twice",
    ),
    "two updates of one buffer": (
        rules.one_update_a_buffer,
        program(GOOD, buffers=(n,), updates=(Update(n.leaf, Const(1)), Update(n.leaf, Const(2)))),
        ShadowedName, "buffer `n` is updated twice",
    ),
    "an update of what is no buffer": (
        rules.one_update_a_buffer, program(GOOD, updates=(Update(n.leaf, Const(1)),)), UnknownName,
        "`n` is updated, and is no buffer of `p`",
    ),
    "an input that nothing reads": (
        rules.all_inputs_used, program(GOOD, inputs=(x, y)), UnusedName, "input `y` of `p` is never used",
    ),
    "the carry of a scan outside it": (
        rules.no_variable_escapes, program(out(CARRY, t, h), inputs=(x, A)), UnknownName,
        "the previous value of a scan is used outside that scan",
    ),
    "an axis twice": (
        rules.no_axis_twice, program(GOOD, inputs=(declared("x", (h, h)),)), InvalidHeader, "`x` has axis `h` twice",
    ),
    "an axis twice in an output": (
        rules.no_axis_twice, program(out(x.leaf, h, h)), InvalidHeader, "`o` has axis `h` twice",
    ),
    "a parameter over the batch": (
        rules.batch_is_no_axis, program(GOOD, parameters=(declared("v", BATCH, role="parameter"),)), UnknownAxis,
        "`v` is over `...`",
    ),
    "an argmax that answers for the batch": (
        rules.batch_is_no_axis,
        program(out(build.reduce("argmax", [(BATCHED.leaf, (BATCH,))])), inputs=(BATCHED,)),
        UnknownAxis, "`argmax` needs one axis",
    ),
    "a transform of the batch": (
        rules.batch_is_no_axis,
        program(out(Library("fft", (BATCHED.leaf,), (BATCH,), (h,), "complex"), h)), UnknownAxis,
        "`fft` needs one axis",
    ),
    "an axis too many": (
        rules.outputs_as_declared, program(out(y.leaf, h), inputs=(y,)), UndeclaredAxis,
        "output `o` has axis `w`, which its declaration lacks",
    ),
    "an axis too few": (
        rules.outputs_as_declared, program(out(x.leaf, h, w), inputs=(x, y)), UndeclaredAxis,
        "output `o` is declared over h, w, and its value lacks w",
    ),
    "an update over other axes": (
        rules.updates_fit, program(GOOD, buffers=(mu,), updates=(Update(mu.leaf, Const(0.0)),)), UndeclaredAxis,
        "buffer `mu` is over h, and its new value over none",
    ),
    "an update of another kind": (
        rules.updates_fit, program(GOOD, buffers=(n,), updates=(Update(n.leaf, Const(0.5)),)), KindMismatch,
        "buffer `n` is int, and its new value real",
    ),
    "a step with an axis of its own": (
        rules.carries_fit, scanned(x.leaf, apply("add", CARRY, y.leaf)), UndeclaredAxis,
        "the step of a scan over `t` has axis `w`, which its carry lacks",
    ),
    "a step of another kind": (
        rules.carries_fit, scanned(x.leaf, apply("to_int", CARRY)), KindMismatch,
        "the carry of a scan begins as real and its step makes it int",
    ),
    "a fixed size twice": (
        size_rules.fixed_sizes_agree, program(GOOD, fixed=((h, 3), (h, 4))), AxisSizeMismatch,
        "axis `h` has two sizes in `p`, 3 and 4",
    ),
    "a fixed size of nothing": (
        size_rules.fixed_sizes_agree, program(GOOD, fixed=((h, 0),)), InvalidSize, "axis `h` has size 0",
    ),
    "a size that is data": (
        size_rules.sizes_are_sizes,
        program(out(Coordinate(axis := fresh(apply("add", data, 1))), axis), inputs=(declared("k", kind="int"),)),
        InvalidSize, "a size must be known before the tensors are read, and `k` is data",
    ),
    "a requirement on data": (
        size_rules.sizes_are_sizes,
        program(GOOD, inputs=(x, declared("k", kind="int")), requires=(Require(apply("gt", data, 0)),)),
        InvalidSize, "a size must be known before the tensors are read, and `k` is data",
    ),
    "a requirement that is a number": (
        size_rules.requirements_are_conditions, program(GOOD, requires=(Require(Size(h)),)), KindMismatch,
        "`require` takes a condition on sizes, and found int",
    ),
    "an axis of unknown size": (
        size_rules.all_sizes_known, program(GOOD, out(apply("to_real", Coordinate(w)), w, name="u")), InvalidSize,
        "axis `w` of `p` has no size",
    ),
    "two axes of a known product": (
        size_rules.all_sizes_known, program(out(y.leaf, (h, w)), inputs=(declared("y", (h, w)),)), InvalidSize,
        "axis `h` of `p` has no size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_rule_refuses(name: str) -> None:
    rule, bad, kind, words = REFUSED[name]
    found = list(rule(bad))  # pyright: ignore[reportArgumentType]
    assert [type(each) for each in found] == [kind] * len(found)
    assert found
    assert found[0].message.startswith(words), found[0].message
    with pytest.raises(PlaitError) as caught:
        check.check(bad)
    assert any(each.message == found[0].message for each in (caught.value, *caught.value.others))


def test_every_rule_has_such_a_program() -> None:
    tested = {rule for rule, *_ in REFUSED.values()} | {rules.all_statements_used}
    assert tested == {*rules.WHOLE, *rules.WRITTEN, size_rules.all_sizes_known}


GOOD_PROGRAMS = {
    "plain": program(GOOD),
    "an input for its size": program(out(apply("add", x.leaf, Size(w)), h), inputs=(x, y)),
    "an optional input": program(GOOD, inputs=(x, declared("g", h, optional=True))),
    "a packed output": program(out(y.leaf, (h, w)), inputs=(y,)),
    "a packed input with one size known": program(out(y.leaf, (h, w)), inputs=(x, declared("y", (h, w)))),
    "fixed": program(out(apply("to_real", Coordinate(w)), w), inputs=(), fixed=((w, 3),)),
    "a size from a parameter": program(
        out(Leaf("parameter", "v", (c,)), c), inputs=(), parameters=(declared("v", c, role="parameter"),)
    ),
    "a scan": scanned(
        x.leaf, apply("add", apply("add", CARRY, A.leaf), build.reduce("sum", [(y.leaf, (w,))]))
    ),
    "a step without the scanned axis": replace(scanned(x.leaf, x.leaf), inputs=(x, A)),
    "an update": program(GOOD, buffers=(mu,), updates=(Update(mu.leaf, x.leaf),)),
    "two batches": program(
        out(apply("mul", Leaf("input", "z", (BATCH, h)), x.leaf), BATCH, h),
        inputs=(x, declared("z", BATCH, h)),
    ),
}


@pytest.mark.parametrize("name", GOOD_PROGRAMS)
def test_the_rules_let_pass(name: str) -> None:
    assert check.check(GOOD_PROGRAMS[name]) == ()


def test_all_mistakes_come_together() -> None:
    bad = program(
        out(apply("add", build.at(x.leaf, {h: apply("add", Coordinate(h), 1)}), 0.0), h),
        out(y.leaf, h, name="u"), inputs=(x, y, declared("z", h)),
    )  # fmt: skip
    with pytest.raises(PlaitError) as caught:
        check.check(bad)
    found = [type(each) for each in (caught.value, *caught.value.others)]
    assert found == [UndeclaredAxis, UnusedName, AbsentOutput]


def test_a_derived_program_may_leave_inputs_unused() -> None:
    assert check.check(program(GOOD, inputs=(x, y)), derived=True) == ()


def test_sizes_may_be_given_later() -> None:
    late = program(out(y.leaf, (h, w)), inputs=(declared("y", (h, w)),))
    assert check.check(late, sized=False) == ()
    assert check.check(replace(late, fixed=((w, 3),))) == ()


def test_a_number_of_which_an_axis_is_made_is_used() -> None:
    text = "mixer f(x[h]) -> y[u]:\n  n = 2 * size(h)\n  axis u: n + 1\n  y = sum[h](x) + u\n"
    assert check.check(plait.parse(text).program()) == ()


def test_statements_of_a_text_are_used() -> None:
    text = Source("mixer p(x[h]) -> o[h]:\n  s = 2*x\n  o = x\n", "p.plait")
    unused = build.apply("mul", Const(2), x.leaf, span=Span(text, 29, 32))
    bad = program(GOOD, names=(("s", unused), ("o", x.leaf)))
    with pytest.raises(UnusedName, match="`s` is computed in `p` and never used"):
        check.check(bad)
    python = build.apply("mul", Const(2), x.leaf, span=Span(Source(text.text, "p.py"), 29, 32))
    assert check.check(replace(bad, names=(("s", python),))) == ()


def test_a_stray_axis_is_shown_where_it_comes_in() -> None:
    with pytest.raises(UndeclaredAxis) as caught:
        plait.parse("mixer p(x[h], y[h, w]) -> o[h]:\n  s = x + 1\n  u = s * y\n  o = exp(u)\n")
    assert caught.value.span is not None
    assert (caught.value.span.text, caught.value.span.line) == ("s * y", 3)


# --- what is open


def late() -> Program:
    """Absent where h is beyond 40: floor(1.02 h) is then above the last index."""
    index = apply("floor", apply("mul", apply("to_real", Coordinate(h)), 1.02))
    return program(out(build.at(x.leaf, {h: index}), h))


def test_open_values_are_listed_and_checked_once_a_size() -> None:
    whole = late()
    (finding,) = check.check(whole)
    assert str(finding) == "that output `o` is present everywhere is checked once for each new set of sizes"
    assert findings(whole) == (finding,)
    for _ in range(2):
        check_sizes(whole, {h: 40, BATCH: ()})
    with pytest.raises(AbsentOutput) as caught:
        check_sizes(whole, {h: 60, BATCH: ()}, where="train.py:7")
    assert caught.value.notes == ("called at train.py:7: with sizes h = 60, at index h = 59",)
    assert caught.value.facts == {"sizes": {"h": 60}, "index": {"h": 59}}


def test_a_size_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = late(), list[object]()
    monkeypatch.setattr(check, "absence_at", lambda predicate, sizes: asked.append(sizes[h]))
    for size in (3, 4, 3, 3, 4):
        check_sizes(whole, {h: size})
    assert asked == [3, 4]


def test_proved_values_are_not_evaluated() -> None:
    check_sizes(program(GOOD), {h: 10**9})


def test_an_empty_batch_is_a_size_of_its_own() -> None:
    z = declared("z", BATCH, h)
    centred = apply("sub", z.leaf, build.mean([(z.leaf, (BATCH,))]))
    over_batch = program(out(build.reduce("max", [(z.leaf, (BATCH,))]), h), inputs=(z,))
    whole = program(out(centred, BATCH, h), inputs=(z,))
    for each in (over_batch, whole):
        assert check.check(each) == ()
        check_sizes(each, {h: 3, BATCH: (2, 4)})
    check_sizes(whole, {h: 3, BATCH: (0, 4)})
    with pytest.raises(AbsentOutput) as caught:
        check_sizes(over_batch, {h: 3, BATCH: (0, 4)})
    assert caught.value.notes == ("called at these sizes: with an empty `...`",)
    counted = program(out(build.reduce("count", [(z.leaf, (BATCH,))]), h), inputs=(z,))
    check_sizes(counted, {h: 3, BATCH: (0,)})


# --- limits and costs


def test_depth_is_no_limit() -> None:
    value: Form = x.leaf
    for step in range(3000):
        value = apply("add", value, float(step)) if step % 2 else build.otherwise(value, Const(0.0))
    assert check.check(program(out(value, h))) == ()


def test_hostile_nests_end_in_an_answer() -> None:
    value: Form = x.leaf
    for _ in range(60):
        shifted = build.at(value, {h: apply("add", Coordinate(h), 1)})
        value = apply("add", shifted, build.at(value, {h: apply("sub", Coordinate(h), 1)}))
    with pytest.raises(AbsentOutput):
        check.check(program(out(value, h)))
    index: Form = Coordinate(h)
    for _ in range(400):
        index = apply("mod", apply("add", apply("mul", index, index), 1), Size(h))
    assert len(check.check(program(out(build.at(x.leaf, {h: index}), h)))) <= 1


def test_many_pieces_are_no_limit() -> None:
    parts = [(Leaf("input", f"e{k}", (Axis(f"c{k}"),)), Axis(f"c{k}")) for k in range(12)]
    total: Form = Const(0)
    for _, axis in parts:
        total = apply("add", total, Size(axis))
    long = fresh_axis("n", Const(0), total, "axis")
    inputs = [declared(f"e{k}", Axis(f"c{k}")) for k in range(12)]
    assert check.check(program(out(build.cat(long, parts), long), inputs=inputs)) == ()


def test_nested_conditions_are_no_limit() -> None:
    test = apply("gt", x.leaf, 0)
    for step in range(500):
        test = apply("and" if step % 2 else "or", test, apply("gt", x.leaf, float(step)))
    assert check.check(program(out(build.select(test, x.leaf, Const(0.0)), h))) == ()
    with pytest.raises(AbsentOutput):
        check.check(program(out(build.when(test, x.leaf), h)))


PAPERS = {
    name: each
    for name, each in vars(test_python_programs).items()
    if isinstance(each, plait.Mixer)
    and not any(static.required for static in each.definition.arguments.statics)
}


@pytest.mark.parametrize("name", PAPERS)
def test_the_programs_of_the_papers_are_proved(name: str) -> None:
    for mode in ("eval", "train"):
        assert check.check(PAPERS[name].program(mode=mode), sized=False) == ()


@given(examples(depth=3))
def test_generated_programs_pass(example: Example) -> None:
    """The strategy makes well-typed programs whose results are total for every size it draws."""
    try:
        open_ = check.check(example.program, derived=True)
    except AbsentOutput as error:
        pytest.fail(f"{error}\n{example.program}")
    if open_:
        check_sizes(example.program, example.sizes)


def test_the_checker_loads_no_library_for_ordinary_programs() -> None:
    code = (
        "import sys\n"
        "from plait.dsl.constructors import build\n"
        "from plait.dsl.proofs.check import check\n"
        "from plait.dsl.program import *\n"
        "h = Axis('h'); x = Leaf('input', 'x', (h,)); dh = build.near_axis('dh', Const(3))\n"
        "value = build.reduce('sum', [(build.at(x, {h: build.apply('add', Coordinate(h), Coordinate(dh))}), (dh,))])\n"
        "check(Program('p', (Declaration(x, ((h,),)),), (Output('o', value, ((h,),)),)))\n"
        "print([name for name in ('sympy', 'numpy', 'torch', 'networkx') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
