"""Texts to syntax trees: what is read, what is refused, and in which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lark import Lark
from lark.lexer import PatternStr

from plait.dsl.elaboration.elaborate_functions import BUILDERS, SPECIAL
from plait.dsl.errors import PlaitError
from plait.dsl.mistakes import InvalidSyntax, ShadowedName, TooDeep, UnreadableFile
from plait.dsl.ops import LEVEL_OR, OPS
from plait.dsl.source import Source
from plait.dsl.text.header import HeaderTensor
from plait.dsl.text.parse import MOST_CHARACTERS, WORDS, parse_file, parse_header, parse_text, read_source
from plait.dsl.text.syntax import (
    Argument,
    Assignment,
    AxisStatement,
    Call,
    Chain,
    Domain,
    Expression,
    Fold,
    LikeStatement,
    Made,
    Name,
    Number,
    Placed,
    RangeStatement,
    Read,
    RequireStatement,
    Scanned,
    TensorStatement,
    Unary,
    UpdateStatement,
    VariableStatement,
)
from plait.dsl.words import CALLS, RESERVED

GRAMMAR = Path(__file__).parent.parent / "dsl" / "text" / "grammar.lark"


def body(*lines: str) -> str:
    return "\n".join(("mixer f(x[h]) -> y[h]:", *(f"  {line}" for line in lines)))


def value(text: str) -> Expression:
    """The expression of `y = text`."""
    (mixer,) = parse_text(body(f"y = {text}"))
    match mixer.body:
        case (Assignment(value=expression),):
            return expression
        case other:
            raise AssertionError(other)


SYMBOLS = {op.name: op.symbol for op in OPS.values()} | {"otherwise": "otherwise"}


def shown(node: Expression | Argument | Domain | None) -> str:
    """The tree with all its parentheses."""
    match node:
        case Name(text=text, quoted=quoted):
            return f'"{text}"' if quoted else text
        case Number(value=number):
            return repr(number)
        case Unary(op=op, operand=operand):
            return f"({SYMBOLS[op]}{shown(operand)})"
        case Chain(first=first, rest=rest):
            return (
                "(" + " ".join((shown(first), *(f"{SYMBOLS[op]} {shown(each)}" for op, each in rest))) + ")"
            )
        case Read(value=read, items=items):
            return f"{shown(read)}[{', '.join(map(shown, items))}]"
        case Argument(value=given, key=key, init=init):
            parts = (
                "" if key is None else f"{shown(key)}: ",
                shown(given),
                "" if init is None else f" from {shown(init)}",
            )
            return "".join(parts)
        case Call(name=name, args=args):
            return f"{name.text}({', '.join(map(shown, args))})"
        case Fold(op=op, domains=domains, which=which, args=args):
            chosen = "" if which is None else f": {shown(which)}"
            return f"{op}[{'; '.join(map(shown, domains))}{chosen}]({', '.join(map(shown, args))})"
        case Domain(axes=axes, where=where):
            return ", ".join(axis.text for axis in axes) + ("" if where is None else f" | {shown(where)}")
        case Made(op=op, over=over, new=new, args=args):
            arrow = f"{', '.join(axis.text for axis in over)} -> {', '.join(axis.text for axis in new)}"
            return f"{op}[{arrow}]({', '.join(map(shown, args))})"
        case Placed(keep=keep, args=args):
            kept = "" if keep is None else f"[{', '.join(axis.text for axis in keep)}]"
            return f"place{kept}({', '.join(map(shown, args))})"
        case Scanned(axis=axis, last=last, reverse=reverse, which=which, until=until, args=args):
            flags = ("last " if last else "") + ("reverse " if reverse else "")
            chosen = "" if which is None else f": {which.text}"
            until_ = "" if until is None else f" until {shown(until)}"
            return f"scan[{flags}{axis.text}{chosen}{until_}]({', '.join(map(shown, args))})"
        case None:
            return ""


# --- expressions


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b - c", "(a + b - c)"),
        ("a - (b - c)", "(a - (b - c))"),
        ("a + b * c ** d", "(a + (b * (c ** d)))"),
        ("a * b // c % d / e", "(a * b // c % d / e)"),
        ("a ** b ** c", "(a ** (b ** c))"),
        ("-x ** 2", "(-(x ** 2))"),
        ("x ** -0.5 * y", "((x ** (-0.5)) * y)"),
        ("2 ** -x ** 3", "(2 ** (-(x ** 3)))"),
        ("-a * -b", "((-a) * (-b))"),
        ("- - x", "(-(-x))"),
        ("~a < b & c | ~d", "(((~(a < b)) & c) | (~d))"),
        ("a & b & c | d", "((a & b & c) | d)"),
        ("a < b + 1", "(a < (b + 1))"),
        ("a == b", "(a == b)"),
        ("a + b otherwise c | d otherwise 0", "((a + b) otherwise (c | d) otherwise 0)"),
        ("x[h+dh, w - 1]", "x[(h + dh), (w - 1)]"),
        ("x[h: e, w: 2*w + 1][d: 0]", "x[h: e, w: ((2 * w) + 1)][d: 0]"),
        ("x[]", "x[]"),
        ("sum[d](x)[h: 0] ** 2", "(sum[d](x)[h: 0] ** 2)"),
        ("sum[..., h | p & q](x)", "sum[..., h | (p & q)](x)"),
        ("lse[dh, dw | p; t | q](a, b)", "lse[dh, dw | p; t | q](a, b)"),
        ("argmax[h, w | p: w](x)", "argmax[h, w | p: w](x)"),
        ("argmax[h, w: 1](x)", "argmax[h, w: 1](x)"),
        ("count[](x) + sum[; t](x, y)", "(count[](x) + sum[; t](x, y))"),
        ("count[| p](x)", "count[ | p](x)"),
        ("fft[h, w -> u, v](x)", "fft[h, w -> u, v](x)"),
        ("cat[a, b -> n](x, y)", "cat[a, b -> n](x, y)"),
        ("place(y, h: 2*i + k)", "place(y, h: ((2 * i) + k))"),
        ("place[](y, h: i)", "place[](y, h: i)"),
        ("scan[t](p: a*p + x)", "scan[t](p: ((a * p) + x))"),
        (
            "scan[last reverse t: q until p > 3](p: s from 0.0, q: r)",
            "scan[last reverse t: q until (p > 3)](p: s from 0.0, q: r)",
        ),
        ("on_gradient(w, g: 2 * g)", "on_gradient(w, g: (2 * g))"),
        ("f(a, k: b)", "f(a, k: b)"),
        ("zeros(..., c)", "zeros(..., c)"),
        ('"odd name" + 1', '("odd name" + 1)'),
        ("cot.o * grad.layers.0.w", "(cot.o * grad.layers.0.w)"),
        ("last + reverse + real + init", "(last + reverse + real + init)"),
        ("1 + 2.5 + .5 + 1e-3 + 2j + 1.", "(1 + 2.5 + 0.5 + 0.001 + 2j + 1.0)"),
        ("a\t+ b  # the rest is a remark: )", "(a + b)"),
        ("(a\n + b # here too\n)", "(a + b)"),
    ],
)
def test_expressions(text: str, tree: str) -> None:
    assert shown(value(text)) == tree


def test_levels_are_those_of_the_table_of_operations() -> None:
    infix = [op for op in OPS.values() if op.symbol and op.arity == 2]
    for loose in infix:
        for tight in infix:
            if loose.level < tight.level:
                left, right = f"a {tight.symbol} b", f"b {tight.symbol} c"
                assert shown(value(f"{left} {loose.symbol} c")) == f"(({left}) {loose.symbol} c)"
                assert shown(value(f"a {loose.symbol} {right}")) == f"(a {loose.symbol} ({right}))"
    assert min(op.level for op in infix) == LEVEL_OR


def test_spans_cover_what_was_written() -> None:
    match value("2 * (a + b)[h: 3] - exp( c )"):
        case Chain(first=Chain(rest=((_, read),)) as product, rest=((_, call),), span=whole):
            assert whole.text == "2 * (a + b)[h: 3] - exp( c )"
            assert product.span.text == "2 * (a + b)[h: 3]"
            assert read.span.text == "(a + b)[h: 3]"
            assert call.span.text == "exp( c )"
            assert call.span.place == "<text>:2:27"
        case other:
            raise AssertionError(other)


# --- statements


def test_statements() -> None:
    (mixer,) = parse_text(
        body(
            '"""What it does."""',
            "near dh, dw: radius",
            "span i: 0, n",
            "axis u: size(h)",
            "axis v: 3 from -1",
            "axis j, k=3",
            "like s, t: h",
            'param w[c, 1, (h w)]: complex = "a.w" init trunc_normal(0.02) frozen also "b.w", "c.w"',
            "buffer steps: int",
            "draw keep[b] from bernoulli(0.9)",
            "previous p[t, b]: real = 0.0",
            "cotangent g = x",
            "require size(h) % 2 == 0",
            "update steps = steps + 1",
            "y = x",
            "a, _ = argmax[h, w](x)",
        )
    )
    assert mixer.doc == "What it does."
    assert [statement.span.text for statement in mixer.body][1:4] == [
        "near dh, dw: radius",
        "span i: 0, n",
        "axis u: size(h)",
    ]
    match mixer.body[1:]:
        case (
            RangeStatement(how="near", names=(Name(text="dh"), Name(text="dw")), second=None),
            RangeStatement(how="span", second=Name(text="n")),
            RangeStatement(how="axis", second=None),
            RangeStatement(how="axis", first=Number(value=3), second=Unary()),
            AxisStatement(axes=(j, k)),
            LikeStatement(names=(_, _), of=Name(text="h")),
            TensorStatement(table="parameters", key="a.w", frozen=True, also=("b.w", "c.w")) as weight,
            TensorStatement(table="buffers", key="steps", init=None, frozen=False),
            TensorStatement(table="draws", key="keep") as keep,
            VariableStatement(role="previous", axes=(_, _), kind="real"),
            VariableStatement(role="cotangent", axes=None, kind=None),
            RequireStatement(),
            UpdateStatement(buffer=Name(text="steps")),
            Assignment(targets=(Name(text="y"),)),
            Assignment(targets=(Name(text="a"), Name(text="_"))),
        ):
            assert (j.name, j.fixed, k.name, k.fixed) == ("j", None, "k", 3)
            assert [[axis.name for axis in item.axes] for item in weight.tensor.items] == [
                ["c"],
                [],
                ["h", "w"],
            ]
            assert weight.init is not None
            assert weight.init.span.text == "trunc_normal(0.02)"
            assert keep.init is not None
            assert keep.init.span.text == "bernoulli(0.9)"
        case other:
            raise AssertionError(other)


def test_several_mixers_comments_and_line_ends() -> None:
    first, second = parse_text(
        "# a remark\r\n\r\nmixer f(\r\n  x[h],  # an input\r\n  k[h]) -> y:\r\n# nothing\r\n   y = x\r\n\r\n"
        "mixer g() -> : # empty\n"
    )
    assert (first.name, second.name) == ("f", "g")
    assert [tensor.name for tensor in first.header.inputs] == ["x", "k"]
    assert (second.header.inputs, second.header.outputs, second.body) == ((), (), ())


def test_a_text_need_not_end_its_last_line() -> None:
    assert len(parse_text("mixer f(x) -> y:\n  y = x")[0].body) == 1
    assert parse_text("mixer f(x) -> :")[0].body == ()


# --- headers


def layout(tensor: HeaderTensor) -> str:
    def item(axes: list[str]) -> str:
        return "1" if not axes else axes[0] if len(axes) == 1 else f"({' '.join(axes)})"

    names = [
        [axis.name + (f"={axis.fixed}" if axis.fixed else "") for axis in each.axes] for each in tensor.items
    ]
    of = f" {tensor.index_of.name}" if tensor.index_of else ""
    return f"{tensor.name}[{', '.join(map(item, names))}]{'?' if tensor.optional else ''}: {tensor.kind}{of}"


@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        ("q[..., h, w, d] -> o[..., h]", ["q[..., h, w, d]: real"], ["o[..., h]: real"]),
        ("x[b, (h w), c], y[1, z=3] -> o", ["x[b, (h w), c]: real", "y[1, z=3]: real"], ["o[]: real"]),
        ("x[(z=3, h)] -> o", ["x[(z=3 h)]: real"], ["o[]: real"]),
        ("ids[b, t]: index v -> m[b]: bool", ["ids[b, t]: index v"], ["m[b]: bool"]),
        ("g[b]?, z: complex -> n: int", ["g[b]?: real", "z[]: complex"], ["n[]: int"]),
        (" -> o[c]", [], ["o[c]: real"]),
        ("mean[c], sum[c], near -> out", ["mean[c]: real", "sum[c]: real", "near[]: real"], ["out[]: real"]),
        ("cot.o[h],\n  'x' -> o".replace("'", '"'), ["cot.o[h]: real", "x[]: real"], ["o[]: real"]),
    ],
)
def test_headers(text: str, inputs: list[str], outputs: list[str]) -> None:
    header = parse_header(text, Source(text))
    assert [layout(tensor) for tensor in header.inputs] == inputs
    assert [layout(tensor) for tensor in header.outputs] == outputs


def test_a_header_points_into_the_source_that_holds_it() -> None:
    source = Source('@mixer("q[h] -> o[h]")\ndef f(q): ...', "file.py")
    header = parse_header("q[h] -> o[h]", source, 8)
    assert header.outputs[0].span.place == "file.py:1:17"
    assert header.span.text == "q[h] -> o[h]"
    with pytest.raises(InvalidSyntax) as caught:
        parse_header("q[h] - o[h]", source, 8)
    assert caught.value.span is not None
    assert caught.value.span.place == "file.py:1:14"


# --- refusals


def refused(text: str) -> str:
    with pytest.raises(PlaitError) as caught:
        parse_text(text, "bad.plait")
    return str(caught.value)


def test_a_line_that_ends_too_early() -> None:
    assert refused(body("y = (x +")) == (
        "InvalidSyntax: the line ends too early\n"
        "  --> bad.plait:2:11\n"
        "    |\n"
        "  2 |   y = (x +\n"
        "    |       - not closed before\n"
        "    |           ^ something is missing\n"
        "    |\n"
        "  = expected a value\n"
        "  see: docs/errors.md#invalid-syntax"
    )


def test_a_bracket_that_is_not_closed() -> None:
    assert refused(body("y = sum[h](x * (x + 1)", "z = 3")) == (
        "InvalidSyntax: `z` is not expected here\n"
        "  --> bad.plait:3:3\n"
        "    |\n"
        "  2 |   y = sum[h](x * (x + 1)\n"
        "    |             - not closed before\n"
        "  3 |   z = 3\n"
        "    |   ^ not expected\n"
        "    |\n"
        "  = expected an operator, `)`, `,`, `:` or `[`\n"
        "  see: docs/errors.md#invalid-syntax"
    )


def test_a_reduction_as_python_writes_it() -> None:
    assert refused(body("y = sum(x, h)")) == (
        "InvalidSyntax: `(` is not expected here\n"
        "  --> bad.plait:2:10\n"
        "    |\n"
        "  2 |   y = sum(x, h)\n"
        "    |          ^ not expected\n"
        "    |\n"
        "  = expected `[`\n"
        "  help: write `sum[d](x)`\n"
        '  help: a value of that name is written `"sum"`\n'
        "  see: docs/errors.md#invalid-syntax"
    )


def test_two_comparisons() -> None:
    assert refused(body("y = when(0 <= h < 3, x)")) == (
        "InvalidSyntax: two comparisons in a row have no meaning\n"
        "  --> bad.plait:2:19\n"
        "    |\n"
        "  2 |   y = when(0 <= h < 3, x)\n"
        "    |                   ^ the second\n"
        "    |\n"
        "  help: write `0 <= i < n` as `(0 <= i) & (i < n)`\n"
        "  see: docs/errors.md#invalid-syntax"
    )


def test_python_in_a_text() -> None:
    assert refused("import os\nos.system('x')") == (
        "InvalidSyntax: `import` is not expected here\n"
        "  --> bad.plait:1:1\n"
        "    |\n"
        "  1 | import os\n"
        "    | ^^^^^^ not expected\n"
        "    |\n"
        "  = expected `mixer`, the end of the line or the end of the text\n"
        "  help: a program is text without Python in it; `select(p, x, y)` chooses, `scan` repeats\n"
        "  see: docs/errors.md#invalid-syntax"
    )


def test_too_many_brackets() -> None:
    text = refused(body(f"y = {'(' * 10_000}x{')' * 10_000}"))
    assert text.startswith("TooDeep: more than 500 brackets are open at once\n  --> bad.plait:2:507\n")
    assert text.endswith(
        "^ one too many\n    |\n  help: give a part of the expression a name: `v = ...`\n  see: docs/errors.md#too-deep"
    )


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("", "there is no mixer in this text", "help: a program begins with `mixer name(inputs) -> outputs:`"),
        ("  \n# only a remark\n", "there is no mixer in this text", "expected `mixer`"),
        ("mixer f(x) -> y", "the line ends too early", "= expected `:`"),
        ("mixer f(x):\n  y = x", "`:` is not expected here", "= expected `->`"),
        ("mixer f(x: float) -> y:\n", "`float` is not expected here", "a kind (real, int, bool or complex)"),
        ("mixer f(x[3]) -> y:\n", "the only number that is a dimension is 1", "name an axis of fixed size: `z=3`"),
        ("mixer f(x[z=1.5]) -> y:\n", "a fixed size is a whole number", "here"),
        (body('y = "abc'), "this text in quotes does not end on its line", "begins here"),
        (body('y = "\\q"'), "this text in quotes has a character or an escape that it cannot hold", "JSON"),
        (body("y = x @ 3"), "the character `@` has no meaning here", "expected an operator"),
        (body("y = \0"), "the character U+0000 has no meaning here", "expected a value"),
        (body("y = x\u2212 1"), "the character `\u2212` has no meaning here", "expected an operator"),
        (body("near u 3"), "`3` is not expected here", "expected"),
        (body("near u: 1, 2"), "`near` is written otherwise", "help: write `near dh, dw: radius`"),
        (body("axis u=3: 2"), "`axis` is written otherwise", "help: write `axis n: size`, or `axis n: size from lo`"),
        (body("span i: 3"), "`span` is written otherwise", "the last index is hi - 1"),
        (body("param w[k=3]"), "an optional tensor and a fixed size belong in the header", "`axis k=3`"),
        (body("draw w: bool from bernoulli(0.5)"), "a draw holds real numbers, and `w` is declared bool", "`select("),
        (body("param w frozen frozen"), "`frozen` is said twice", "again here"),
        (body("previous p = 0"), "`previous` is written otherwise", "help: write `previous p[t] = init`"),
        (body("y = x * ~p"), "`~` behind `*` needs parentheses", "help: write `* (~...)`"),
        (body("y = 1e999"), "this number is too large", "help: write `inf` for infinity"),
        (body(f"y = {'9' * 500}"), "a number of 500 digits is too long", "here"),
        (body("y = x]"), "`]` is not expected here", "expected"),
        (body("y = x if x else x"), "`if` is not expected here", "`select(p, x, y)` chooses"),
        (body("y = x y"), "`y` is not expected here", "= expected an operator, `(`, `[` or the end of the line"),
        (body("for h in x:"), "`h` is not expected here", "expected `,` or `=`"),
        ("\ufeffmixer f(x) -> y:", "the character U+FEFF has no meaning here", "expected `mixer`"),
    ],
)  # fmt: skip
def test_refusals(text: str, first: str, rest: str) -> None:
    message = refused(text)
    assert message.splitlines()[0] == f"InvalidSyntax: {first}"
    assert "--> bad.plait:" in message
    assert rest in message
    assert not re.search(r"__ANON|\b[A-Z]{3,}\b", message.replace("U+FEFF", "").replace("JSON", "")), message


def test_two_mixers_of_one_name() -> None:
    with pytest.raises(ShadowedName, match="there are two mixers `f`"):
        parse_text("mixer f(x) -> y:\n  y = x\nmixer f(x) -> y:\n  y = x\n")


def test_no_message_names_a_terminal_of_the_grammar() -> None:
    """Every terminal that a message may list has words; those of one spelling are that spelling."""
    grammar = Lark(GRAMMAR.read_text(encoding="utf-8"), start=["file", "header"], parser="lalr")
    for terminal in grammar.terminals:
        if terminal.name not in grammar.ignore_tokens:
            assert isinstance(terminal.pattern, PatternStr) or terminal.name in WORDS, terminal.name


def test_the_words_of_the_language_are_those_of_the_grammar() -> None:
    grammar = Lark(GRAMMAR.read_text(encoding="utf-8"), start=["file", "header"], parser="lalr")
    words: set[str] = set()
    for terminal in grammar.terminals:
        spelled = terminal.pattern.value
        listed = re.match(r"\(([a-z_|]+)\)", spelled)
        words |= set(listed[1].split("|")) if listed else {spelled} if spelled.isalpha() else set()
    kinds = {"real", "bool", "int", "complex", "index"}
    assert words - kinds == RESERVED
    assert kinds <= words


def test_every_call_has_a_meaning() -> None:
    assert {*BUILDERS, *SPECIAL, *(name for name, op in OPS.items() if not op.symbol)} == CALLS


# --- much text


def test_a_thousand_terms_and_three_hundred_parentheses() -> None:
    match value(" + ".join(["x"] * 1000)):
        case Chain(rest=rest):
            assert len(rest) == 999
        case other:
            raise AssertionError(other)
    assert shown(value("(" * 300 + "x" + ")" * 300)) == "x"
    nested = "x"
    for _ in range(300):
        nested = f"(x + {nested})"
    assert value(nested).span.text == nested


def test_ten_thousand_signs() -> None:
    assert value("-" * 10_000 + "x").span.end == len(body("y = ")) + 10_001


# --- files


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.plait"
    path.write_bytes(b"\xef\xbb\xbfmixer f(x[h]) -> y[h]:\r\n  y = x\r\n")
    (mixer,) = parse_file(path)
    assert mixer.name == "f"
    assert mixer.span.place == f"{path}:1:1"


TOO_LARGE = "`{}` has more than 1,000,000 characters, which is too large for a program"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "there is no file `{}`"),
        (b"", "`{}` is empty"),
        (b" \n\t\n", "`{}` is empty"),
        (b"mixer\x00f", "`{}` is binary, and a program is text"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "`{}` is binary, and a program is text"),
        (b"mixer \xff\xfe", "`{}` is no text in UTF-8: byte 6 cannot be read"),
        (b"#" * (MOST_CHARACTERS + 1), TOO_LARGE),
        ("é".encode() * (4 * MOST_CHARACTERS), TOO_LARGE),
    ],
)  # fmt: skip
def test_files_that_are_no_programs(data: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "f.plait"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UnreadableFile) as caught:
        read_source(path)
    assert caught.value.message == message.format(path)
    assert isinstance(caught.value, ValueError)


def test_a_folder_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be read: is a directory"):
        parse_file(tmp_path)


def test_a_text_that_is_too_large() -> None:
    with pytest.raises(UnreadableFile, match="`<text>` has more than 1,000,000 characters"):
        parse_text("#" * (MOST_CHARACTERS + 1))


def test_mistakes_of_syntax_are_python_s_too() -> None:
    assert issubclass(InvalidSyntax, SyntaxError)
    assert issubclass(TooDeep, RecursionError)
