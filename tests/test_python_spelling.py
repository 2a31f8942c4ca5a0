"""The Python spelling: what each operator builds, where its span points, how functions become programs."""

from __future__ import annotations

import linecache
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any

import pytest

import plait
from plait import (
    AxisValue,
    PlaitError,
    Program,
    Value,
    axes,
    axis,
    buffer,
    cases,
    cat,
    cdiv,
    ceil,
    floor,
    layer,
    lerp,
    merge,
    mixer,
    mode,
    near,
    on_gradient,
    param,
    present,
    previous,
    reflect,
    require,
    round_,
    scan,
    select,
    smax,
    smin,
    softmax,
    span,
    split,
    trunc,
    trust,
    union,
    update,
    when,
    zeros,
)
from plait.dsl.constructors import build
from plait.dsl.constructors.initialisers import initialiser, read_initialiser
from plait.dsl.constructors.static import StaticInt, static
from plait.dsl.mistakes import (
    AxisSizeMismatch,
    DuplicateParameter,
    InvalidArgument,
    InvalidHeader,
    InvalidSize,
    MissingName,
    RequirementFailed,
    ShadowedName,
    UndeclaredAxis,
    UnknownArgument,
    UnknownAxis,
    UnknownName,
)
from plait.dsl.program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    Otherwise,
    Reduce,
    Scan,
    Size,
    When,
)

h, w, d, c, t = axes("h w d c t")
x = Value(Leaf("input", "x", (h.axis, w.axis, d.axis)))
y = Value(Leaf("input", "y", (h.axis,)))
i = Value(Leaf("input", "i", (h.axis,), "int"))
p = Value(Leaf("input", "p", (h.axis,), "bool"))


def shown(form: Form) -> str:
    """A form as nested calls: `add(x, 1)`."""
    match form:
        case Const(value=value):
            return repr(value)
        case Size(axis=axis):
            return f"size({axis.name})"
        case Coordinate(axis=axis):
            return axis.name
        case Leaf(name=name):
            return name
        case Map(op=op, args=args):
            return f"{op}({', '.join(map(shown, args))})"
        case When(predicate=predicate, value=value):
            return f"when({shown(predicate)}, {shown(value)})"
        case Otherwise(value=value, fallback=fallback):
            return f"otherwise({shown(value)}, {shown(fallback)})"
        case At(value=value, indices=indices):
            reads = ", ".join(f"{axis.name}: {shown(index)}" for axis, index in indices)
            return f"{shown(value)}[{reads}]"
        case Reduce(op=op, pieces=pieces):
            parts = "; ".join(
                f"{shown(piece.value)} over {' '.join(a.name for a in piece.axes)}" for piece in pieces
            )
            return f"{op}({parts})"
        case _:
            return type(form).__name__


# --- operators


OPERATORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: x + y, "add(x, y)"),
    (lambda: 1 + y, "add(1, y)"),
    (lambda: x - 2.5, "sub(x, 2.5)"),
    (lambda: 1 - y, "sub(1, y)"),
    (lambda: x * y, "mul(x, y)"),
    (lambda: 2 * y, "mul(2, y)"),
    (lambda: y / 2, "div(y, 2)"),
    (lambda: 1 / y, "div(1, y)"),
    (lambda: h // 2, "floordiv(h, 2)"),
    (lambda: 7 // h, "floordiv(7, h)"),
    (lambda: h % 2, "mod(h, 2)"),
    (lambda: 7 % h, "mod(7, h)"),
    (lambda: y**2, "pow(y, 2)"),
    (lambda: 2**y, "pow(2, y)"),
    (lambda: -y, "neg(y)"),
    (lambda: +y, "y"),
    (lambda: abs(y), "abs(y)"),
    (lambda: y < 1, "lt(y, 1)"),
    (lambda: y > 1, "gt(y, 1)"),
    (lambda: y <= 1, "le(y, 1)"),
    (lambda: y > 1, "gt(y, 1)"),
    (lambda: y >= 1, "ge(y, 1)"),
    (lambda: h == w, "eq(h, w)"),
    (lambda: h != 0, "ne(h, 0)"),
    (lambda: p & (h > 0), "and(p, gt(h, 0))"),
    (lambda: True & p, "and(True, p)"),
    (lambda: p | p, "or(p, p)"),
    (lambda: False | p, "or(False, p)"),
    (lambda: ~p, "not(p)"),
    (lambda: y * 1j, "mul(y, 1j)"),
    (lambda: h.size * 2, "mul(size(h), 2)"),
    (lambda: x[h + 1, w - 1], "x[h: add(h, 1), w: sub(w, 1)]"),
    (lambda: x[2 * h], "x[h: mul(2, h)]"),
    (lambda: x[{h: w, w: h}], "x[h: w, w: h]"),
    (lambda: x[{h: 0}], "x[h: 0]"),
    (lambda: x[{h: h}], "x"),
    (lambda: x[{h: i}], "x[h: i]"),
    (lambda: y.otherwise(0), "otherwise(y, 0)"),
    (lambda: x.over(d, h, w), "x"),
    (lambda: x.sum(d), "sum(x over d)"),
    (lambda: x.sum(d, (h, w)), "sum(x over d h w)"),
    (lambda: x.sum(d, where=h > 0), "sum(when(gt(h, 0), x) over d)"),
    (lambda: x.mean(d), "div(sum(x over d), count(x over d))"),
    (lambda: x.max(d), "max(x over d)"),
    (lambda: x.min(d), "min(x over d)"),
    (lambda: x.prod(d), "prod(x over d)"),
    (lambda: x.lse(d), "lse(x over d)"),
    (lambda: x.count(d), "count(x over d)"),
    (lambda: p.any(h), "any(p over h)"),
    (lambda: p.all(h), "all(p over h)"),
    (lambda: x.argmax(d), "argmax(x over d)"),
    (lambda: when(p, y), "when(p, y)"),
    (lambda: select(p, y, 0.0), "otherwise(when(p, y), when(not(p), 0.0))"),
    (lambda: present(y), "gt(count(y over ), 0)"),
    (lambda: softmax(y, h), "exp(sub(y, lse(y over h)))"),
    (lambda: softmax(y, over=h, where=p), "exp(sub(when(p, y), lse(when(p, y) over h)))"),
    (lambda: union((y, h), (x, (w, d))).sum(), "sum(y over h; x over w d)"),
    (lambda: union((y, h), (y, h)).mean(where=p), "div(sum(when(p, y) over h; when(p, y) over h), "
     "count(when(p, y) over h; when(p, y) over h))"),
    (lambda: plait.clamp(h - 1, 0, 3), "minimum(maximum(sub(h, 1), 0), 3)"),
    (lambda: plait.relu(y), "otherwise(when(gt(y, 0.0), y), when(not(gt(y, 0.0)), 0.0))"),
    (lambda: plait.cplx(y, 0), "cplx(y, 0)"),
    (lambda: plait.re(plait.cplx(y, 0)), "real(cplx(y, 0))"),
    (lambda: floor(y), "floor(y)"),
    (lambda: round_(y), "round(y)"),
    (lambda: smin(h.size, 3), "minimum(size(h), 3)"),
    (lambda: cdiv(h.size, 3), "floordiv(add(size(h), 2), 3)"),
    (lambda: zeros(h, w), "mul(0.0, add(h, w))"),
    (lambda: zeros(), "0.0"),
    (lambda: cases((h.size > 3, y), (True, -y)),
     "otherwise(when(gt(size(h), 3), y), when(not(gt(size(h), 3)), neg(y)))"),
    (lambda: trust(i, w), "minimum(maximum(i, 0), sub(size(w), 1))"),
    (lambda: lerp(y, h, i, 0.5, border=0.0),
     "add(mul(0.5, otherwise(y[h: i], 0.0)), mul(0.5, otherwise(y[h: add(i, 1)], 0.0)))"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), OPERATORS, ids=[expected for _, expected in OPERATORS])
def test_an_operator_builds(make: Callable[[], Value], expected: str) -> None:
    assert shown(make().form) == expected


NAMES = (
    "exp log log1p expm1 sqrt sin cos tanh erf sigmoid sign ceil trunc conj precise to_int to_real".split()
)


@pytest.mark.parametrize("name", NAMES)
def test_a_scalar_function_builds_its_row(name: str) -> None:
    assert shown(getattr(plait, name)(y).form) == f"{name}(y)"


def test_whole_number_functions_of_numbers_are_numbers() -> None:
    assert (floor(2.5), ceil(2.5), trunc(-2.5), round_(2.5)) == (2, 3, -2, 2)
    assert (smin(2, 3), smax(2, 3), cdiv(7, 2)) == (2, 3, 4)


def test_an_argmax_over_several_axes_is_one_value_an_axis() -> None:
    rows, columns = x.argmax(h, w)
    assert [each.form.component for each in (rows, columns) if isinstance(each.form, Reduce)] == [0, 1]
    assert rows.form != columns.form


def test_reflect_is_its_own_inverse_at_the_border() -> None:
    assert shown(reflect(h - 1, h.size).form).startswith("minimum(mod(sub(h, 1), maximum(")


# --- axes


def test_axes_of_one_name_are_one_object() -> None:
    assert axes("h") is h
    assert all(one is other for one, other in zip(axes("h, w"), (h, w), strict=True))


def test_fresh_axes_are_equal_to_no_other() -> None:
    u, v = near("u v", 2)
    assert u.axis != near("u", 2).axis
    assert (u.size, v.size) == (5, 5)
    assert shown(build.low(u.axis)) == "-2"
    k = span("k", -1, 3)
    assert (k.size, shown(build.low(k.axis))) == (4, "-1")
    j = h.like()
    assert shown(j.size.form) == "size(h)"


def test_axes_are_keys_and_survive_copies() -> None:
    import copy

    assert copy.deepcopy(h) is h
    assert {h: 1, w: 2}[h] == 1
    assert len({x, x, y}) == 2


def test_split_and_merge_are_inverse_reads() -> None:
    Y, q = axis("Y", h.size // 4), axis("q", 4)
    assert {each.axis.name: shown(index.form) for each, index in split(h, Y, q).items()} == {
        "h": "add(mul(Y, 4), q)"
    }
    assert {each.axis.name: shown(index.form) for each, index in merge(h, Y, q).items()} == {
        "Y": "floordiv(h, 4)",
        "q": "mod(h, 4)",
    }


def test_cat_reads_each_part_at_its_own_offset() -> None:
    e, f = axis("e", 2), axis("f", 3)
    a, b = Value(Leaf("input", "a", (e.axis,))), Value(Leaf("input", "b", (f.axis,)))
    assert shown(cat(c, (a, e), (b, f)).form) == "otherwise(a[e: c], b[f: sub(c, 2)])"


# --- static numbers


def written(number: object) -> str | None:
    return getattr(number, "written", None)


def test_static_numbers_are_numbers_that_print_as_written() -> None:
    radius = static(8, "radius")
    assert isinstance(radius, int)
    assert (radius == 8, hash(radius) == hash(8), radius < 9, len(range(radius))) == (True, True, True, 8)
    assert isinstance(radius * radius, StaticInt)
    spelled = [
        written(each) for each in (radius * radius, 2 * radius + 1, -radius, radius**-0.5, radius - True)
    ]
    assert spelled == ["radius * radius", "(2 * radius) + 1", "-radius", "radius ** (-0.5)", None]
    form = (h * radius).form
    assert isinstance(form, Map)
    assert form.args[1] == Const(8)
    assert written(form.args[1]) == "radius"


def test_numpy_scalars_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    assert shown((numpy.float32(0.5) * y).form) == "mul(0.5, y)"
    assert shown((h + numpy.int64(2)).form) == "add(h, 2)"


# --- spans


FILE = "spans.py"


def spans_of(code: str, file: str = FILE) -> Value:
    """The value `v` of a piece of user's code whose text is known."""
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"x": x, "y": y, "h": h, "w": w, "d": d, "softmax": softmax}
    exec(compile(code, file, "exec"), scope)
    return scope["v"]


@pytest.mark.parametrize(
    ("code", "text", "place"),
    [
        ("v = x + y\n", "x + y", "spans.py:1:5"),
        ("v = (x * y).sum(d)\n", "(x * y).sum(d)", "spans.py:1:5"),
        ("\n\nv = 2 * x[h + 1]\n", "2 * x[h + 1]", "spans.py:3:5"),
        ("def f():\n\treturn -x\nv = f()\n", "-x", "spans.py:2:9"),
        ("é, v = 1, x * y\n", "x * y", "spans.py:1:11"),
        ("v = softmax(\n    x,\n    over=d,\n)\n", "softmax(\n    x,\n    over=d,\n)", "spans.py:1:5"),
        ("v = [z + 1 for z in (y,)][0]\n", "z + 1", "spans.py:1:6"),
        ("u = x; u += y; v = u\n", "u += y", "spans.py:1:8"),
    ],
)
def test_a_span_is_the_users_expression(code: str, text: str, place: str) -> None:
    span = spans_of(code).form.span
    assert span is not None
    assert (span.text, span.place) == (text, place)


def test_operands_have_their_own_columns() -> None:
    form = spans_of("v = x * x[h + 1, w - 1]\n").form
    assert isinstance(form, Map)
    read = form.args[1]
    assert isinstance(read, At)
    assert [part.span.text for part in (read, *(index for _, index in read.indices)) if part.span] == [
        "x[h + 1, w - 1]",
        "h + 1",
        "w - 1",
    ]


def test_a_file_that_changed_is_read_again(tmp_path: Any) -> None:
    path = tmp_path / "changed.py"
    for code, text in (("v = x + y\n", "x + y"), ("# new\nv = x - y * 2\n", "x - y * 2")):
        path.write_text(code)
        scope: dict[str, Any] = {"x": x, "y": y}
        exec(compile(code, str(path), "exec"), scope)
        assert scope["v"].form.span.text == text


def test_code_without_text_has_no_span() -> None:
    scope: dict[str, Any] = {"x": x, "y": y}
    exec("v = x + y", scope)
    assert scope["v"].form.span is None
    with pytest.raises(UnknownAxis) as caught:
        exec("x.sum(t)", {"x": x, "t": t})
    assert "-->" not in str(caught.value)


def test_spans_without_columns_are_whole_lines() -> None:
    code = "from plait import axes\nh, w = axes('h w')\nv = (h +\n     w)\nprint(v.form.span.text)"
    script = f"import linecache\ntext = {code!r}\n"
    script += "linecache.cache['u.py'] = (9, None, text.splitlines(True), 'u.py')\n"
    script += "exec(compile(text, 'u.py', 'exec'))"
    run = [sys.executable, "-X", "no_debug_ranges", "-c", script]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "v = (h +\n"


# --- mixers


@mixer("q[..., h, w, d], k[..., h, w, d], v[..., h, w, d] -> o[..., h, w, d]")
def circular_attention(q, k, v, *, radius: int = 8):
    """Attention over the tokens nearer than `radius` (CLEAR, arXiv 2412.16112)."""
    dh, dw = near("dh dw", radius)
    s = (q * k[h + dh, w + dw]).sum(d) * d.size**-0.5
    p = softmax(s, over=(dh, dw), where=dh * dh + dw * dw < radius * radius)
    return (p * v[h + dh, w + dw]).sum(dh, dw)


def test_a_function_becomes_a_program() -> None:
    program = circular_attention.program()
    assert program.name == "circular_attention"
    assert program.statics == (("radius", 8),)
    assert [declaration.leaf.name for declaration in program.inputs] == ["q", "k", "v"]
    assert program.inputs[0].items == ((BATCH,), (Axis("h"),), (Axis("w"),), (Axis("d"),))
    assert [output.name for output in program.outputs] == ["o"]
    assert [name for name, _ in program.names] == ["s", "p"]
    assert program.doc == "Attention over the tokens nearer than `radius` (CLEAR, arXiv 2412.16112)."
    assert program.span is not None
    assert program.span.text == "q[..., h, w, d], k[..., h, w, d], v[..., h, w, d] -> o[..., h, w, d]"
    assert repr(circular_attention) == "<mixer circular_attention(q, k, v; radius: int = 8) -> o>"
    assert circular_attention.__name__ == "circular_attention"
    assert circular_attention.__doc__ == program.doc


def test_a_program_is_made_once_for_its_arguments() -> None:
    assert circular_attention.program(radius=3) is circular_attention.program(radius=3)
    assert circular_attention.program(radius=3) != circular_attention.program(radius=4)
    assert circular_attention.program() == circular_attention.program(radius=8)


def test_static_numbers_are_spelled_in_the_program() -> None:
    written = {form.written for form in circular_attention.program().forms if isinstance(form, Const)}
    assert "radius * radius" in written


def test_names_are_the_locals_at_the_return() -> None:
    @mixer("x[h] -> o[h]")
    def named(x):
        def helper(z):
            inner = z * 2
            return inner

        first = helper(x)
        if first is not None:
            second = first + 1
        x = second
        return x * second

    assert [name for name, _ in named.program().names] == ["first", "second"]


def test_annotations_stand_for_a_header() -> None:
    @mixer
    def annotated(
        q: Annotated[Value, "... h (w d)"], g: Annotated[Value, "h 1 c=3"]
    ) -> Annotated[Value, "... h (w d) c"]:
        return q * g

    program = annotated.program()
    assert program.inputs[0].items == ((BATCH,), (Axis("h"),), (Axis("w"), Axis("d")))
    assert program.inputs[1].items == ((Axis("h"),), (), (Axis("c"),))
    assert program.fixed == ((Axis("c"), 3),)
    assert [output.name for output in program.outputs] == ["out"]


def test_results_by_name_and_in_order() -> None:
    @mixer("x[h] -> a[h], b[h]: int")
    def by_name(x):
        return {"b": h + 0, "a": x}

    @mixer("x[h] -> a[h], b[h]: int")
    def in_order(x):
        return x, h + 0

    for program in (by_name.program(), in_order.program()):
        assert [(each.name, shown(each.value)) for each in program.outputs] == [
            ("a", "x"),
            ("b", "add(h, 0)"),
        ]


def test_an_optional_input_may_be_left_out() -> None:
    @mixer("x[h], g[h]? -> o[h]")
    def gated(x, g=None):
        return x if g is None else x * g

    assert [each.leaf.name for each in gated.program().inputs] == ["x", "g"]
    assert [each.leaf.name for each in gated.program(without=("g",)).inputs] == ["x"]
    with pytest.raises(UnknownArgument, match="no optional input `x`"):
        gated.program(without=("x",))


def test_sizes_that_are_given_become_numbers() -> None:
    seen: list[object] = []

    @mixer("x[c] -> o[c]")
    def looped(x):
        seen.append(c.size)
        return sum((x[{c: j}] for j in range(c.size)), x * 0)

    with pytest.raises(InvalidSize, match="whole number is needed"):
        looped.program()
    assert dict(looped.program(c=3).fixed) == {Axis("c"): 3}
    assert seen[-1] == 3


def test_a_size_of_the_body_may_be_given_and_no_other() -> None:
    @mixer("x[c] -> o[c]")
    def hidden(x):
        m = axes("m")
        return x + param("w", m, c).sum(m)

    assert dict(hidden.program(m=4).fixed) == {Axis("m"): 4}
    with pytest.raises(UnknownArgument, match="`hidden` has no argument `n`"):
        hidden.program(n=4)


def test_arguments_are_checked() -> None:
    with pytest.raises(UnknownArgument) as caught:
        circular_attention.program(radios=3)
    assert "did you mean `radius`?" in str(caught.value)
    assert "static arguments: radius: int = 8" in str(caught.value)
    for wrong in ("eight", 2.5, True, None):
        with pytest.raises((InvalidArgument, UnknownArgument)):
            circular_attention.program(radius=wrong)
    with pytest.raises(InvalidArgument, match="the mode is"):
        circular_attention.program(mode="deploy")
    with pytest.raises(InvalidSize, match="at least 1"):
        circular_attention.program(h=0)
    with pytest.raises(InvalidSize, match="whole number"):
        circular_attention.program(h=2.5)
    with pytest.raises(InvalidSize, match=r"radius of axis `dh` is -1 \(radius\)"):
        circular_attention.program(radius=-1)


def test_a_header_size_and_a_given_one_agree() -> None:
    @mixer("x[z=3] -> o[z]")
    def fixed(x):
        return x * axes("z").size

    assert dict(fixed.program(z=3).fixed) == {Axis("z"): 3}
    with pytest.raises(AxisSizeMismatch, match="two sizes, 3 and 4"):
        fixed.program(z=4)


@pytest.mark.parametrize(
    ("header", "code", "match"),
    [
        ("x[h] -> o[h]", "def f(z): return z", "the header's inputs are x, and `f` takes z"),
        ("x[h] -> o[h]", "def f(x, *rest): return x", r"takes `\*rest`"),
        ("x[h] -> o[h]", "def f(x, *, h: int = 3): return x", "`h` of `f` is also an axis"),
        ("x[h] -> o[h]", "def f(x, *, name: str = ''): return x", "`name` of `f` is also a keyword"),
        ("x[h] -> o[h]", "def f(x, *, k: list = ()): return x", "`k` of `f` is annotated"),
        ("x[h] -> o[h]", "def f(x, *, k=(1, 2)): return x", r"`k` of `f` is \(1, 2\) by default"),
        ("x[h] -> o[h]", "def f(x): pass", "the function returns nothing"),
        ("x[h] -> o[h]", "def f(x): return x, x", "the function returns 2 values"),
        ("x[h] -> a[h], b[h]", "def f(x): return {'a': x}", "the function returns a, and the header names"),
        ("x[h], x[h] -> o[h]", "def f(x): return x", "`x` is named twice"),
        ("x[h, h] -> o[h]", "def f(x): return x", "`x` has axis `h` twice"),
        ("x[z=3], y[z=4] -> o[z]", "def f(x, y): return x", "two sizes in the header, 3 and 4"),
    ],
)  # fmt: skip
def test_a_header_and_its_function_must_fit(header: str, code: str, match: str) -> None:
    scope: dict[str, Any] = {}
    exec(code, scope)
    with pytest.raises(InvalidHeader, match=match):
        mixer(header)(scope["f"])


def test_outputs_have_the_declared_axes_and_kind() -> None:
    with pytest.raises(UndeclaredAxis) as caught:

        @mixer("x[h, w] -> o[h, w]")
        def widened(x):
            bias = param("bias", c)
            y = x + bias
            return y * 2

    assert "y = x + bias" in str(caught.value)
    assert "`c` comes in here" in str(caught.value)
    with pytest.raises(UndeclaredAxis, match="its value lacks w"):

        @mixer("x[h, w] -> o[h, w]")
        def narrowed(x):
            return x.sum(w)

    with pytest.raises(PlaitError, match="is declared real, and its value is bool"):

        @mixer("x[h] -> o[h]")
        def decided(x):
            return x > 0


def test_whole_results_of_a_real_output_become_real() -> None:
    @mixer("x[h] -> o[h]")
    def counted(x):
        return h * 2

    assert shown(counted.program().outputs[0].value) == "to_real(mul(h, 2))"


def test_all_mistakes_are_told_together() -> None:
    with pytest.raises(PlaitError) as caught:

        @mixer("x[h, w] -> o[h, w]")
        def wrong(x):
            first = x.sum(d)
            second = x[h] + first
            param("key", c)
            param("key", c)
            third = x // 2
            return first + second + third

    text = str(caught.value)
    assert text.startswith("4 mistakes")
    for name in ("UnknownAxis", "AmbiguousSubscript", "DuplicateParameter", "KindMismatch"):
        assert f"{name}:" in text
    assert "first declared here" in text


def test_a_mistake_goes_before_what_python_raises_because_of_it() -> None:
    with pytest.raises(UnknownAxis):

        @mixer("x[h] -> o[h]")
        def wrong(x):
            first, second = softmax(union((x.sum(d), h), (x, h)))
            return first + second

    with pytest.raises(ZeroDivisionError):

        @mixer("x[h] -> o[h]")
        def divided(x):
            return x * (1 // 0)


def test_a_mixer_that_needs_a_size_waits_for_it_and_no_longer() -> None:
    @mixer("x[h] -> o[h]")
    def waits(x):
        return x if h.size % 2 == 0 else x * 2

    assert shown(waits.program(h=3).outputs[0].value) == "mul(x, 2)"
    with pytest.raises(UnknownAxis):

        @mixer("x[h] -> o[h]")
        def wrong(x):
            y = x.sum(d)
            return y if h.size % 2 == 0 else x


def test_a_previous_value_stays_in_its_scan() -> None:
    with pytest.raises(UnknownName, match="used outside that scan"):

        @mixer("x[t] -> o[t]")
        def leaked(x):
            q = previous(t, init=0.0)
            return scan(q, q + x) + q


def test_buffers_are_updated_once() -> None:
    with pytest.raises(ShadowedName, match="`n` is updated twice"):

        @mixer("x[h] -> o[h]")
        def twice(x):
            n = buffer("n", kind="int")
            update(n, n + 1)
            update(n, n + 2)
            return x + n

    with pytest.raises(UndeclaredAxis, match="buffer `n` is over none, and its new value over h"):

        @mixer("x[h] -> o[h]")
        def widened(x):
            n = buffer("n")
            update(n, x)
            return x


def test_a_requirement_on_known_sizes_is_decided() -> None:
    @mixer("x[h] -> o[h]")
    def even(x):
        require(h.size % 2 == 0)
        return x

    assert len(even.program().requires) == 1
    assert even.program(h=4).requires == ()
    with pytest.raises(RequirementFailed, match="never holds"):
        even.program(h=3)


def test_declarations_hold_the_layout_and_what_modules_need() -> None:
    @mixer("x[c] -> o[c]")
    def declared(x):
        u, v = near("u v", 1)
        W = param("w", c, 1, (u, v), init=plait.trunc_normal(0.02), grad=False, also=("tied.w",))
        return x * W.sum(u, v)

    (weight,) = declared.program().parameters
    assert [len(item) for item in weight.items] == [1, 0, 2]
    assert (weight.init, weight.trainable, weight.also) == ("trunc_normal(0.02)", False, ("tied.w",))
    assert weight.span is not None
    assert weight.span.text.startswith('param("w", c, 1')


@pytest.mark.parametrize(
    "text", ["0", "1e-06", "trunc_normal(0.02)", "normal(0.0, 0.5)", "uniform()", "bernoulli(0.9)"]
)
def test_an_initialiser_is_read_as_it_prints(text: str) -> None:
    assert str(read_initialiser(text)) == text


def test_initialisers_are_data() -> None:
    assert (
        read_initialiser("kaiming_uniform") if False else initialiser("constant", 2) == read_initialiser("2")
    )
    for text in ("__import__('os')", "normal(x)", "normal(1, 2, 3)", "bernoulli()", "nothing(1)", ""):
        with pytest.raises(InvalidArgument):
            read_initialiser(text)


def test_deploy_and_properties_are_stored() -> None:
    @mixer("x[h] -> o[h]", properties=["linear"])
    def plain(x):
        return x

    @plain.deploy
    def merged(parameters):
        return parameters

    assert plain.properties == ("linear",)
    assert plain.deployed is merged


# --- layers


@layer
def scaled(v, ch):
    return v * param("scale", ch)


def keys(program: Program) -> list[str]:
    return [declaration.leaf.name for declaration in program.parameters]


def test_layers_need_a_name() -> None:
    @mixer("x[c] -> o[c]")
    def nested(x):
        return scaled(scaled(x, c, name="a"), c, name="b.0")

    @mixer("x[c] -> o[c]")
    def spliced(x):
        return scaled(x, c, name="")

    assert keys(nested.program()) == ["a.scale", "b.0.scale"]
    assert keys(spliced.program()) == ["scale"]
    with pytest.raises(MissingName, match="the layer `scaled` needs a name"):

        @mixer("x[c] -> o[c]")
        def unnamed(x):
            return scaled(x, c)

    with pytest.raises(DuplicateParameter, match=r"`a\.scale` is declared twice"):

        @mixer("x[c] -> o[c]")
        def repeated(x):
            return scaled(scaled(x, c, name="a"), c, name="a")


def test_once_shares() -> None:
    @layer
    def mixed(v, ch):
        j = ch.like()
        return (param("weight", ch, j) * v[{ch: j}]).sum(j)

    @mixer("x[c] -> o[c]")
    def shared(x):
        f = mixed.once(name="down")
        return f(f(x, c), c)

    assert keys(shared.program()) == ["down.weight"]
    leaves = {form for form in shared.program().forms if isinstance(form, Leaf) and form.role == "parameter"}
    assert len(leaves) == 1
    with pytest.raises(InvalidArgument, match="shared by calls over different axes"):

        @mixer("x[c, d] -> o[c, d]")
        def other(x):
            f = scaled.once(name="s")
            return f(x, c) + f(x, d)


# --- what is loaded


def test_tracing_loads_no_torch() -> None:
    script = (
        "import sys, plait\n"
        "from plait import axes, mixer\n"
        "h = axes('h')\n"
        "@mixer('x[h] -> o[h]')\n"
        "def f(x): return x * 2\n"
        "f.program()\n"
        "print([name for name in ('torch', 'triton', 'sympy', 'numpy') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_rules_are_traced_at_the_call() -> None:
    seen: list[Value] = []

    def rule(g: Value) -> Value:
        seen.append(g)
        return g * 2

    value = on_gradient(y, rule)
    assert len(seen) == 1
    assert value.form.axes == y.form.axes


def test_modes_give_programs_of_one_function() -> None:
    @mixer("x[h] -> o[h]")
    def moded(x):
        return x * 2 if mode() == "train" else x

    assert shown(moded.program(mode="train").outputs[0].value) == "mul(x, 2)"
    assert shown(moded.program().outputs[0].value) == "x"


def test_scans_of_tuples() -> None:
    a, b = previous(t, init=(0.0, 1.0))
    both = scan((a, b), (b, a + b))
    assert [each.form.component for each in both if isinstance(each.form, Scan)] == [0, 1]
    assert [each.form.last for each in both.last if isinstance(each.form, Scan)] == [True, True]
    with pytest.raises(InvalidArgument, match="all of it and in its order"):
        scan((b, a), (b, a + b))
    with pytest.raises(InvalidArgument, match="2 carries and 1 steps"):
        scan((a, b), (b,))


def test_axis_values_repr() -> None:
    assert repr(h) == "<axis h>"
    assert repr(x) == "<real value over h, w, d>"
    assert isinstance(h.like("j"), AxisValue)


def test_a_definition_is_checked_in_both_modes_and_without_optional_inputs() -> None:
    with pytest.raises(UnknownAxis):

        @mixer("x[h] -> o[h]")
        def trained(x):
            return x.sum(d) if mode() == "train" else x

    with pytest.raises(UnknownAxis):

        @mixer("x[h], g[h]? -> o[h]")
        def gated(x, g=None):
            return x.sum(d) if g is None else x * g

    @mixer("x[h] -> o[h]")
    def moded(x):
        return x * 2 if mode() == "train" else x

    with pytest.raises(UnknownAxis):

        @mixer("x[h] -> o[h]")
        def around(x):
            y = moded(x)
            return y.sum(d) if "mul" in shown(y.form) else y


def test_a_tower_of_powers_of_a_static_number_ends() -> None:
    """Before, Python computed it for ever."""

    @mixer("x[h] -> y[h]")
    def towering(x, *, n: int):
        return x * n**n**n

    with pytest.raises(InvalidArgument, match="this constant would have more than 4096 bits") as caught:
        towering.program(n=9)
    assert "return x * n**n**n" in str(caught.value)
    assert str(towering.program(n=2)).endswith("y = x * n ** n ** n")
    with pytest.raises(InvalidArgument, match="more than 4096 bits"):
        towering.program(n=2**2000 * 2**2000)


def test_a_float_that_overflows_stays_pythons() -> None:
    @mixer("x[h] -> y[h]")
    def squared(x, *, scale: float):
        return x * scale**2

    with pytest.raises(OverflowError):
        squared.program(scale=1e308)


def test_names_in_any_alphabet() -> None:
    """As in text: what Python takes for a name."""
    _, 键 = axes("η 键")

    @mixer("χ[η, 键] -> ψ[η]")
    def summe(χ):
        größe = 2 * χ
        return größe.sum(键)

    assert str(summe.program()) == ("mixer summe(χ[η, 键]) -> ψ[η]:\n  größe = 2 * χ\n  ψ = sum[键](größe)")
    assert plait.parse(str(summe.program())).program() == summe.program()
