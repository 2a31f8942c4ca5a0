"""Syntax trees to programs: what statements and calls mean, and every mistake that a text can make."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

import plait
from plait.dsl.canonical import canonical
from plait.dsl.elaboration.elaborate import callee_of, elaborate, make
from plait.dsl.errors import PlaitError
from plait.dsl.mistakes import (
    AmbiguousSubscript,
    AxisSizeMismatch,
    DuplicateParameter,
    InvalidArgument,
    InvalidHeader,
    InvalidSize,
    InvalidSyntax,
    KindMismatch,
    RequirementFailed,
    ShadowedName,
    TooDeep,
    UndeclaredAxis,
    UnknownArgument,
    UnknownAxis,
    UnknownName,
    UnusedName,
)
from plait.dsl.printing.show import show
from plait.dsl.program import Const, Program, Scalar, When
from plait.dsl.text.parse import parse_text


def read(text: str, *, sizes: dict[str, int] | None = None, **statics: Scalar | str) -> Program:
    """The last mixer of a text."""
    mixers = parse_text(text, "f.plait")
    return elaborate(mixers[-1], statics, {each.name: each for each in mixers}, sizes=sizes)


def body(*lines: str) -> str:
    return "\n".join(("mixer f(x[b, h], y[b]) -> o[b, h]:", *(f"  {line}" for line in lines)))


def mistakes(text: str) -> list[PlaitError]:
    with pytest.raises(PlaitError) as caught:
        read(text)
    return [caught.value, *caught.value.others]


def mistake(text: str) -> PlaitError:
    (found,) = mistakes(text)
    return found


def lines(program: Program) -> list[str]:
    return [line.removeprefix("  ") for line in show(program).splitlines()[1:]]


# --- all mistakes together


@pytest.mark.parametrize(
    ("statement", "unused"),
    [("near dh, dw: 3", "dw"), ("axis n: size(h)", "n"), ("span i: 0, 2", "i"), ("like g: h", "g")],
)
def test_an_axis_that_nothing_mentions_is_unused(statement: str, unused: str) -> None:
    read = "x[h: h + dh] otherwise 0.0" if "dh" in statement else "x"
    text = (
        f"mixer f(x[b, h]) -> o[b]:\n  {statement}\n  o = sum[h{', dh' if 'dh' in statement else ''}]({read})"
    )
    found = mistake(text)
    assert type(found) is UnusedName
    assert found.message == f"axis `{unused}` is made in `f` and never used"
    assert found.span is not None
    assert text[found.span.start : found.span.end] == unused


def test_an_axis_in_a_size_is_used() -> None:
    assert read("mixer f(x[h]) -> o[h]:\n  axis n: 2\n  o = x * size(n)").outputs


def test_all_mistakes_of_a_text_are_told_together() -> None:
    found = mistakes(
        body(
            "near u: k + 1",
            "s = sum[e](x) + foo",
            "t = exp(x, x)",
            "x = 3",
            "r = x[h]",
            "o = s + t + r + later",
            "later = x",
            "p = when(x, x) + (y & y)",
        )
    )
    assert [f"{type(each).__name__}: {each.message}" for each in found] == [
        "UnknownName: there is no `k` here",
        "UnknownAxis: there is no axis `e` here",
        "UnknownName: there is no `foo` here",
        "UnknownArgument: `exp` takes 1 value, and found 2",
        "ShadowedName: `x` is given twice",
        "AmbiguousSubscript: a subscript must say which axis it replaces, and this one is the bare axis `h`, "
        "which could mean itself or a transpose",
        "UnknownName: `later` is used before it is given",
        "KindMismatch: `when` needs a predicate, and found real",
        "KindMismatch: `&` takes truth values, and found real",
    ]


def test_an_unknown_axis() -> None:
    assert str(mistake(body("near dh: 1", "o = sum[dw](x[h+dh])"))) == (
        "UnknownAxis: there is no axis `dw` here\n"
        "  --> f.plait:3:11\n"
        "    |\n"
        "  3 |   o = sum[dw](x[h+dh])\n"
        "    |           ^^ no axis has this name\n"
        "    |\n"
        "  = axes in scope: ..., b, h, dh\n"
        "  help: did you mean `dh`?\n"
        "  see: docs/errors.md#unknown-axis"
    )


def test_a_name_given_twice() -> None:
    assert str(mistake(body("s = x", "s = y", "o = s"))) == (
        "ShadowedName: `s` is given twice\n"
        "  --> f.plait:3:3\n"
        "    |\n"
        "  2 |   s = x\n"
        "    |   - first given here\n"
        "  3 |   s = y\n"
        "    |   ^ given again here\n"
        "    |\n"
        "  help: choose another name; a name keeps its meaning to the end of the mixer\n"
        "  see: docs/errors.md#shadowed-name"
    )


def test_an_input_over_an_axis_that_is_made_too_late() -> None:
    assert str(mistake(body("s = x * 2", "axis h: 5", "o = s"))) == (
        "UnknownName: input `x` is used before its axis `h` is made\n"
        "  --> f.plait:2:7\n"
        "    |\n"
        "  2 |   s = x * 2\n"
        "    |       ^ used here\n"
        "  3 |   axis h: 5\n"
        "    |        - makes the axis `h` of the header\n"
        "    |\n"
        "  help: move that line up; for another axis than the header's, choose another name\n"
        "  see: docs/errors.md#unknown-name"
    )


def test_an_output_that_is_never_given() -> None:
    assert str(mistake(body("s = x"))) == (
        "InvalidHeader: output `o` is never given a value\n"
        "  --> f.plait:1:27\n"
        "    |\n"
        "  1 | mixer f(x[b, h], y[b]) -> o[b, h]:\n"
        "    |                           ^^^^^^^ declared here\n"
        "    |\n"
        "  help: write `o = ...` in the body\n"
        "  see: docs/errors.md#invalid-header"
    )


NOT_COMPUTED = "`jvp` asks for the derivative along a value that the result is not computed from"


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("o = size(x)", UnknownAxis, "there is no axis `x` here"),
        ("o = size(h, b)", UnknownArgument, "`size` is written otherwise"),
        ("o = x * h.size", UnknownName, "there is no `h.size` here"),
        ("o = x.otherwise(0)", UnknownName, "there is no function and no mixer `x.otherwise`"),
        ("o = sofmax(x)", UnknownName, "there is no function and no mixer `sofmax`"),
        ("o = exp(x; k = 3)", UnknownArgument, "`exp` takes values only"),
        ("o = exp(x: x)", UnknownArgument, "`exp` takes values without names"),
        ("o = sum[h; b](x)", UnknownArgument, "`sum` has 2 lists of axes and 1 value"),
        ("o = sum[h: h](x)", UnknownArgument, "`sum` gives one value, and only `argmax` has several to pick from"),
        ("o = argmax[b, h](x)", InvalidArgument, "this gives 2 values, and one is needed here"),
        ("o = argmax[h: b](x)", UnknownAxis, "`argmax` does not go over `b`"),
        ("o = argmax[h: 1](x)", UnknownAxis, "`argmax` does not go over `1`"),
        ("i, j, o = argmax[b, h](x)", InvalidArgument, "this gives 2 values, and 3 names are to be given"),
        ("o, p = x", InvalidArgument, "this gives 1 value, and 2 names are to be given"),
        ("o = x[h: h+1, b+1]", AmbiguousSubscript, "of these indices some name their axis and some do not"),
        ("o = x[h: 1, h: 2]", AmbiguousSubscript, "axis `h` is replaced twice"),
        ("o = x[h + 1: 2]", KindMismatch, "a name stands before `:`, and this is an expression"),
        ("o = x[h: 1.5]", KindMismatch, "the index for axis `h` is real, not int"),
        ("o = real(cplx(x > 0, x))", KindMismatch, "`cplx` takes numbers, not truth values, and found bool and real"),
        ("o = y[h: 1]", UnknownAxis, "axis `h` is read, but the value has no such axis"),
        ("o = place(h: 2)", UnknownArgument, "`place` needs a value first"),
        ("o = fft[h -> h, b](x)", UnknownArgument, "`fft` is written otherwise"),
        ("o = solve[b, h -> b](x, y)", UnknownAxis, "`solve` gives a value over `h`, the axis that it sums over"),
        ("o = cat[h -> b](x, y)", UnknownArgument, "`cat` is written otherwise"),
        ("o = scan[h]()", UnknownArgument, "`scan` needs a carry"),
        ("o = scan[h](x: x)", KindMismatch, "`x` is no previous value along `h`"),
        ("o = last(x)", KindMismatch, "this takes the result of a scan"),
        ("o = on_gradient(x, y: x)", KindMismatch, "`y` is no cotangent"),
        ("o = on_gradient(x, x)", UnknownArgument, "`on_gradient` is written otherwise"),
        ("o = jvp(x, y)", UnknownArgument, "`jvp` is written otherwise"),
        ("o = jvp(x, y: y)", InvalidArgument, NOT_COMPUTED),
        ("o = cases(x)", UnknownArgument, "`cases` is written otherwise"),
        ("o = trust(h, 3)", UnknownArgument, "`trust` is written otherwise"),
        ("o = complex(x, 1)", InvalidArgument, "`complex` takes two real numbers"),
        ("o = unfolded(x)", UnknownArgument, "`unfolded` is written otherwise"),
        ("o = unfolded(y & x)", KindMismatch, "`&` takes truth values, and found real"),
        ("require x > 0", KindMismatch, "`require` takes a condition on sizes, and found a predicate over b, h"),
        ("require 1 > 2", RequirementFailed, "this requirement never holds"),
        ("near h2: 0 - 1", InvalidSize, "the radius of axis `h2` is -1; it is at least 0"),
        ("axis n: 1.5", InvalidSize, "the range of axis `n` needs whole numbers, and this is real"),
        ("span i: 3, 3", InvalidSize, "axis `i` would have size 0; a size is at least 1"),
        ("like s: q", UnknownAxis, "there is no axis `q` here"),
        ("axis h", ShadowedName, "`h` is given twice"),
        ("axis n: 2 from size(h) * 0.5", InvalidSize, "the range of axis `n` needs whole numbers, and this is real"),
        ("sum = x", ShadowedName, "`sum` is a word of the language"),
        ("pi = x", ShadowedName, "`pi` is a word of the language"),
        ("h = x", ShadowedName, "`h` is given twice"),
        ("like y: h", ShadowedName, "`y` is given twice"),
        ("param y[h]", ShadowedName, "`y` is given twice"),
        ("param w[q]", UnknownAxis, "there is no axis `q` here"),
        ("param w[h] init foo(3)", InvalidArgument, "there is no initialiser `foo`"),
        ("update y = y", KindMismatch, "`update` takes a buffer, as `buffer(...)` gave it"),
        ("output q = x", UnknownArgument, "the header has no output `q`"),
        ("mode test", InvalidArgument, "the mode is eval or train, and found `test`"),
        ("o = 9 ** 9 ** 9", InvalidArgument, "this constant would have more than 4096 bits"),
        ("o = f(x, y)", InvalidArgument, "a mixer cannot call itself: `f` calls `f`"),
        ("o = y", UndeclaredAxis, "output `o` is declared over b, h, and its value lacks h"),
        ("o = x > 0", KindMismatch, "output `o` is declared real, and its value is bool"),
    ],
)  # fmt: skip
def test_mistakes(line: str, kind: type[PlaitError], message: str) -> None:
    gives = line.startswith(("o =", "o, p", "i, j, o"))
    found = mistake(body(line, *(() if gives else ("o = x",))))
    assert type(found) is kind
    assert found.message == message
    assert found.span is not None
    assert found.span.line == 2


def test_a_previous_value_outside_its_scan() -> None:
    found = mistake(body("previous p[h] = y", "o = p"))
    assert isinstance(found, UnknownName)
    assert found.message == "the previous value of a scan is used outside that scan"


def test_a_docstring_further_on() -> None:
    assert isinstance(mistake(body("o = x", '"says what"')), InvalidSyntax)


def test_two_parameters_of_one_key() -> None:
    found = mistake(body('param v[h] = "w"', 'param w[b] = "w"', "o = x"))
    assert isinstance(found, DuplicateParameter)
    assert found.message == "`w` is declared twice"


def test_signs_beyond_measure() -> None:
    found = mistake(body("o = " + "-" * 5000 + "x"))
    assert isinstance(found, TooDeep)
    assert found.message == "more than 2000 expressions within each other"


# --- static arguments and sizes


STATICS = 'mixer f(x[h]; k = 3, s = 0.5, on = true, kind = "zero", n) -> o[h]:\n  o = x * k * s * n\n'


def test_static_arguments_replace_defaults() -> None:
    assert show(read(STATICS, n=2, k=5)) == (
        'mixer f(x[h]; k = 5, s = 0.5, on = true, kind = "zero", n = 2) -> o[h]:\n  o = x * k * s * n'
    )
    assert read(STATICS, n=2, k=5) == read(STATICS.replace("* k", "* 5"), n=2, k=4)
    assert read(STATICS, n=2) != read(STATICS, n=3)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({}, UnknownArgument, "`f` needs the static argument `n`"),
        ({"n": 1, "radius": 2.0}, UnknownArgument, "`f` has no argument `radius`"),
        ({"n": 1, "radius": 2}, UnknownArgument, "`f` has no argument `radius`"),
        ({"n": 1, "k": 1.5}, InvalidArgument, "`k` of `f` is an int, and found float 1.5"),
        ({"n": 1, "k": True}, InvalidArgument, "`k` of `f` is an int, and found bool True"),
        ({"n": 1, "on": 1}, InvalidArgument, "`on` of `f` is a bool, and found int 1"),
        ({"n": 1, "kind": 1}, InvalidArgument, "`kind` of `f` is a string, and found int 1"),
        ({"n": 1, "h": 0}, InvalidSize, "axis `h` would have size 0; a size is at least 1"),
        ({"n": 1, "h": 2.5}, InvalidSize, "the size of axis `h` is a whole number, and found 2.5"),
    ],
)
def test_static_arguments_that_do_not_fit(
    given: dict[str, Scalar], kind: type[PlaitError], message: str
) -> None:
    (mixer,) = parse_text(STATICS)
    with pytest.raises(PlaitError) as caught:
        elaborate(mixer, given, {})
    assert type(caught.value) is kind
    assert caught.value.message == message


def test_a_radius_out_of_range_names_the_argument() -> None:
    text = "mixer f(x[h]; radius = 3) -> o[h]:\n  near u: radius - 4\n  o = sum[u](x[h+u])"
    with pytest.raises(InvalidSize, match=r"the radius of axis `u` is -1 \(radius - 4\); it is at least 0"):
        read(text)
    assert lines(read(text, radius=5))[0] == "near u: radius - 4"


def test_defaults_are_constants() -> None:
    found = read("mixer f(x[h]; k = 2 ** 10, r = -0.5) -> o[h]:\n  o = x * k")
    assert found.statics == (("k", 1024), ("r", -0.5))
    with pytest.raises(UnknownName, match="there is no `q` here"):
        read("mixer f(x[h]; k = q) -> o[h]:\n  o = x * k")
    with pytest.raises(InvalidArgument, match="a default is a number, a truth value or a text"):
        read("mixer f(x[h]; k = exp(1)) -> o[h]:\n  o = x * k")
    with pytest.raises(InvalidHeader, match="`k` is given twice"):
        read("mixer f(x[h]; k = 1, k = 2) -> o[h]:\n  o = x * k")
    with pytest.raises(InvalidHeader, match="`x` is an input and a static argument"):
        read("mixer f(x[h]; x = 1) -> o[h]:\n  o = h")


def test_known_sizes_are_numbers() -> None:
    text = "mixer f(x[h, z=3]) -> o[h, z]:\n  axis n: size(h) // 2 + size(z)\n  o = x * sum[n](n) / size(h)"
    known = read(text, sizes={"h": 10})
    assert show(known) == (
        "mixer f(x[h=10, z=3]) -> o[h, z]:\n  axis n: size(h)//2 + size(z)\n  o = x * sum[n](n) / size(h)"
    )
    (axis,) = {axis for form in known.forms for axis in form.axes if axis.name == "n"}
    assert axis.size == Const(8)
    with pytest.raises(AxisSizeMismatch, match="axis `z` has two sizes, 3 and 4"):
        read(text, sizes={"z": 4})
    with pytest.raises(UnknownArgument, match="`f` has no argument `w`"):
        read(text, sizes={"w": 4})
    assert read(text + "\n  axis w", sizes={"w": 4}).fixed != known.fixed


def test_optional_inputs_may_be_left_out() -> None:
    (mixer,) = parse_text("mixer f(x[h], g[h]?) -> o[h]:\n  o = x * (g otherwise 1.0)")
    assert len(elaborate(mixer, {}, {}).inputs) == 2
    without = elaborate(mixer, {}, {}, without=("g",))
    assert [declaration.leaf.name for declaration in without.inputs] == ["x"]
    assert any(isinstance(form, When) and form.predicate == Const(False) for form in without.forms)


# --- other mixers


LAYERS = """
mixer norm(x[..., c]; eps = 1e-5) -> y[..., c]:
  param weight[c] init 1
  m = mean[c](x)
  y = (x - m) / sqrt(mean[c]((x - m) ** 2) + eps) * weight

mixer attend(q[..., t, d], k[..., s, d], v[..., s, d]; scale = 1.0) -> o[..., t, d], w[..., t, s]:
  w = softmax[s](sum[d](q * k) * scale)
  o = sum[s](w * v)
"""


def test_mixers_call_mixers() -> None:
    found = read(
        LAYERS
        + """
mixer block(x[b, t, d]; eps = 1e-6) -> o[b, t, d]:
  y = norm(x; eps = 10 * eps, name = "norm1"; axes c = d)
  like s: t
  a, _ = attend(y, y[t: s], y[t: s]; scale = 0.5)
  o = x + norm(a; name = "norm2"; axes c = d)
"""
    )
    assert [declaration.leaf.name for declaration in found.parameters] == ["norm1.weight", "norm2.weight"]
    assert [str(item) for item in found.parameters[0].items] == ["(d,)"]
    assert canonical(read(show(found))) == canonical(found)
    assert any(isinstance(form, Const) and form.written == "10 * eps" for form in found.forms)


def test_a_call_by_name_and_with_batch_axes() -> None:
    text = LAYERS + "mixer f(a[b, h, t, d], k[s, d], v[s, d]) -> o[b, h, t, d]:\n"
    one = read(text + "  o, _ = attend(v: v, k: k, q: a)\n")
    other = read(text + "  w = softmax[s](sum[d](a * k) * 1.0)\n  o = sum[s](w * v)\n")
    assert one == other


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        ("norm()", UnknownArgument, "`norm` needs the input `x`"),
        ("norm(x, x; axes c = d)", UnknownArgument, "`norm` takes 1 input, and this is one more"),
        ("norm(q: x)", UnknownArgument, "`norm` has no input `q`"),
        ("norm(x, x: x)", UnknownArgument, "`norm` is given `x` twice"),
        ("norm(x; epss = 3)", UnknownArgument, "`norm` has no argument `epss`"),
        ("norm(x; eps = 1, eps = 2)", UnknownArgument, "`eps` is given twice"),
        ("norm(x; eps = x)", InvalidArgument, "`eps` is a number known here, and this is a value"),
        ('norm(x; eps = "a"; axes c = d)', InvalidArgument, "`eps` of `norm` is a float, and found str 'a'"),
        ("norm(x; name = 3)", InvalidArgument, "`name` is a text: what the keys begin with"),
        ("norm(x)", UnknownAxis, "`x` of `norm` is over axis `c`, and the argument is not"),
        ("norm(x; axes c = q)", UnknownAxis, "there is no axis `q` here"),
        ("norm(x; axes e = d)", UnknownAxis, "`norm` has no axis `e` to bind"),
        ("norm(x; axes c = d, c = t)", UnknownArgument, "axis `c` is bound twice"),
        ("norm(x > 0; axes c = d)", KindMismatch, "`x` of `norm` is real, and the argument is bool"),
        ("attend(x, x, x)", UnknownAxis, "`k` of `attend` is over axis `s`, and the argument is not"),
    ],
)
def test_calls_that_do_not_fit(call: str, kind: type[PlaitError], message: str) -> None:
    found = mistake(f"{LAYERS}mixer f(x[b, t, d]) -> o[b, t, d]:\n  o = {call}\n")
    assert type(found) is kind
    assert found.message == message
    assert found.span is not None
    assert found.span.line == 11


def test_mistakes_of_a_callee_point_into_it() -> None:
    found = mistake("mixer g(x[h]) -> o[h]:\n  o = x * q\nmixer f(x[h]) -> o[h]:\n  o = g(x)\n")
    assert found.span is not None
    assert found.span.place == "f.plait:2:11"


def test_mixers_that_call_each_other() -> None:
    text = "mixer g(x[h]) -> o[h]:\n  o = f(x)\nmixer f(x[h]) -> o[h]:\n  o = g(x)\n"
    assert mistake(text).message == "a mixer cannot call itself: `f` calls `g` calls `f`"


def test_a_mixer_with_the_name_of_a_function() -> None:
    text = "mixer clamp(x[h]) -> o[h]:\n  o = x\nmixer f(x[h]) -> o[h]:\n  o = clamp(x)\n"
    assert mistake(text).message == "`clamp` is a function of the language, and a mixer of this text"


def test_calls_that_double_come_to_an_end() -> None:
    """Thirty mixers, each of which calls the next one twice: a thousand million operations. It is found once, and
    not again for every mixer that calls it."""
    parts = ["mixer m0(x[h]) -> o[h]:\n  o = exp(x) + 1\n"]
    parts += [f"mixer m{n}(x[h]) -> o[h]:\n  o = m{n - 1}(m{n - 1}(x))\n" for n in range(1, 30)]
    with pytest.raises(TooDeep) as caught:
        plait.parse("".join(parts))
    assert caught.value.message == "the mixers called here make more than 50,000 operations together"
    assert not caught.value.others


def test_what_is_too_large_together_is_not_too_large_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`two` is where the count ends, and by itself makes few operations."""
    for module in ("elaborate", "elaborate_calls"):
        monkeypatch.setattr(f"plait.dsl.elaboration.{module}.MOST_FORMS", 45)
    parts = ["mixer m0(x[h]) -> o[h]:\n  o = exp(x) + 1\n"]
    parts += [f"mixer m{n}(x[h]) -> o[h]:\n  o = m{n - 1}(m{n - 1}(x))\n" for n in (1, 2)]
    parts += [f"mixer {name}(x[h]) -> o[h]:\n  o = m2(x)\n" for name in ("one", "two")]
    parts += ["mixer both(x[h]) -> o[h]:\n  o = two(one(x))\n"]
    trees = {each.name: each for each in parse_text("".join(parts))}
    too_large: dict[object, TooDeep] = {}
    for name, refused in (("both", True), ("two", False)):
        callee = callee_of(trees[name])
        with pytest.raises(TooDeep) if refused else nullcontext():
            make(callee, callee.arguments.request({}, "eval", (), None), trees, too_large)
    assert len(too_large) == 1


def test_calls_that_go_too_deep_come_to_an_end() -> None:
    parts = ["mixer m0(x[h]) -> o[h]:\n  o = exp(x)\n"]
    parts += [f"mixer m{n}(x[h]) -> o[h]:\n  o = m{n - 1}(x)\n" for n in range(1, 200)]
    assert mistake("".join(parts)).message == "more than 50 mixers call each other in a row"


# --- equality


def test_equality_is_of_meaning() -> None:
    one = read(
        "mixer f(x[h], y[h]) -> o[h]:\n  near u, v: 2\n  s = x[h+u] * y[h+v]\n  o = sum[u, v](s) # a remark"
    )
    other = read(
        'mixer f(x[h], y[h]; r = 2) -> o[h]:\n  "says what"\n  span a: -r, r + 1\n  axis e: 5 from -r\n'
        "  o = sum[a, e](x[h: h + a] * y[h: h + e])"
    )
    assert canonical(one) == canonical(other)
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("near u: 2", "near u: 3"),
        ("near u: 2", "axis u: 5"),
        ("sum[u](x", "max[u](x"),
        ("x[h+u]", "x[h-u]"),
        ("* 2.0", "* 2"),
        ("mixer f(", "mixer g("),
        ("o[h]", "o[1, h]"),
        ("-> o", "-> p"),
        ("x[h]", "x[h]?"),
        ("param w[h]", "param w[h] frozen"),
        ("param w[h]", 'param w[h] also "v"'),
        ("param w[h]", "param w[1, h]"),
        ("require size(h) > 2", "require size(h) > 1"),
    ],
)
def test_equality_sees_every_difference(before: str, after: str) -> None:
    text = (
        "mixer f(x[h]) -> o[h]:\n  near u: 2\n  param w[h]\n  require size(h) > 2\n"
        "  o = sum[u](x[h+u]) * 2.0 * w\n"
    )
    changed = text.replace(before, after)
    assert changed != text
    if after == "-> p":
        changed = changed.replace("o =", "p =")
    assert read(changed) != read(text)


def test_the_two_indices_of_one_argmax_are_two_values() -> None:
    text = "mixer f(x[h, w]) -> o: int:\n  o = argmax[h, w: h](x)\n"
    assert read(text) != read(text.replace(": h]", ": w]"))


def test_equality_does_not_see_the_order_of_declarations_and_indices() -> None:
    text = "mixer f(x[h, w]) -> o[h, w]:\n  param v[h]\n  param u[w] init 1\n  o = x[h: w, w: h] * u * v\n"
    other = "mixer f(x[h, w]) -> o[h, w]:\n  param u[w] init 2\n  param v[h]\n  o = x[w: h, h: w] * u * v\n"
    assert read(text) == read(other)
