"""The transformer inside the parser: rules of `grammar.lark` become nodes of `dsl.text.syntax`.

One method a rule, named as the rule; its children come without punctuation, and None stands for what
was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, cast

from lark import (
    Token,
    Transformer,
    v_args,  # pyright: ignore[reportUnknownVariableType]
)

from ..mistakes import InvalidSyntax
from ..source import Span
from .header import Header, HeaderAxis, HeaderItem, HeaderKind, HeaderTensor
from .precedence import Operator, Part, infix, joined, prefix, tree
from .syntax import (
    Argument,
    Assignment,
    AxisStatement,
    Call,
    DocStatement,
    Domain,
    Expression,
    Fold,
    LikeStatement,
    Made,
    MixerAst,
    ModeStatement,
    Name,
    Number,
    OutputStatement,
    Placed,
    RangeStatement,
    Read,
    RequireStatement,
    Scanned,
    Statement,
    Static,
    TensorStatement,
    UpdateStatement,
    VariableStatement,
)
from .tokens import number_of, span_of, text_of, under_way, whole

Node = Expression | Argument | Static | HeaderAxis | HeaderItem | HeaderTensor


def _place(part: Token | Node) -> Span:
    return span_of(part) if isinstance(part, Token) else part.span


def _between(first: Token | Node, last: Token | Node) -> Span:
    return joined(_place(first), _place(last))


_inline = cast("Callable[[type[Reading]], type[Reading]]", v_args(inline=True))


@_inline
class Reading(Transformer[Token, object]):
    """Builds the nodes."""

    # --- a file, a header

    def file(self, *mixers: MixerAst) -> tuple[MixerAst, ...]:
        return mixers

    def mixer(
        self, word: Token, name: Name, inputs: tuple[HeaderTensor, ...], statics: tuple[Static, ...] | None,
        arrow: Token, outputs: tuple[HeaderTensor, ...], body: tuple[Statement, ...],
    ) -> MixerAst:  # fmt: skip
        last = outputs[-1] if outputs else arrow
        header = Header(inputs, outputs, _between(inputs[0] if inputs else arrow, last))
        source = under_way().source
        return MixerAst(name.text, header, statics or (), body, source, _between(word, last))

    def body(self, *statements: Statement) -> tuple[Statement, ...]:
        return statements

    def header(
        self, inputs: tuple[HeaderTensor, ...], arrow: Token, outputs: tuple[HeaderTensor, ...]
    ) -> Header:
        return Header(
            inputs, outputs, _between(inputs[0] if inputs else arrow, outputs[-1] if outputs else arrow)
        )

    def tensors(self, *tensors: HeaderTensor | None) -> tuple[HeaderTensor, ...]:
        return tuple(each for each in tensors if each is not None)

    def tensor(
        self, name: Name, dimensions: tuple[tuple[HeaderItem, ...], Token] | None, optional: Token | None,
        kind: tuple[HeaderKind, HeaderAxis | None, Span] | None,
    ) -> HeaderTensor:  # fmt: skip
        items, end = dimensions or ((), None)
        tokens = [span_of(token) for token in (end, optional) if token is not None]
        last = [name.span, *tokens, *((kind[2],) if kind is not None else ())][-1]
        word, index_of, _ = kind or ("real", None, None)
        return HeaderTensor(name.text, items, word, index_of, optional is not None, joined(name.span, last))

    def dimensions(
        self, *parts: HeaderAxis | HeaderItem | Token | None
    ) -> tuple[tuple[HeaderItem, ...], Token]:
        items: list[HeaderItem] = []
        for part in parts[:-1]:
            if isinstance(part, HeaderAxis):
                items.append(HeaderItem((part,), part.span))
            elif isinstance(part, HeaderItem):
                items.append(part)
        return tuple(items), cast(Token, parts[-1])

    def literal(self, token: Token) -> HeaderItem:
        if str(token) != "1":
            raise InvalidSyntax(
                "the only number that is a dimension is 1", at=span_of(token), label="here",
                helps=[f"name an axis of fixed size: `z={token}`"],
            )  # fmt: skip
        return HeaderItem((), span_of(token))

    def packed(self, *parts: HeaderAxis | Token) -> HeaderItem:
        axes = tuple(part for part in parts if isinstance(part, HeaderAxis))
        return HeaderItem(axes, _between(parts[0], parts[-1]))

    def header_axis(self, name: Name, size: Token | None) -> HeaderAxis:
        if size is None:
            return HeaderAxis(name.text, None, name.span)
        return HeaderAxis(name.text, whole(size, "a fixed size"), joined(name.span, span_of(size)))

    def kind(self, word: Token, axis: Name | None = None) -> tuple[HeaderKind, HeaderAxis | None, Span]:
        of = None if axis is None else HeaderAxis(axis.text, None, axis.span)
        return cast(HeaderKind, str(word)), of, joined(span_of(word), of.span if of else span_of(word))

    def statics(self, *statics: Static) -> tuple[Static, ...]:
        return statics

    def static(self, name: Name, value: Expression | None) -> Static:
        return Static(name, value, joined(name.span, value.span) if value else name.span)

    # --- statements

    def ranges(self, word: Token, *parts: HeaderAxis | Token | Expression | None) -> Statement:
        axes = tuple(part for part in parts if isinstance(part, HeaderAxis))
        comma = next((part for part in parts if isinstance(part, Token)), None)
        values = [p for p in parts if p is not None and not isinstance(p, HeaderAxis | Token)]
        last = values[-1] if values else axes[-1]
        return _ranges(word, axes, comma, values, _between(word, last))

    def like(self, word: Token, *names: Name) -> LikeStatement:
        return LikeStatement(names[:-1], names[-1], _between(word, names[-1]))

    def declared(
        self, word: Token, tensor: HeaderTensor, key: Token | None, *options: tuple[str, object, Span]
    ) -> TensorStatement:
        return _declared(word, tensor, key, options)

    def option(self, word: Token, *parts: Expression | Token) -> tuple[str, object, Span]:
        where = _between(word, parts[-1] if parts else word)
        if word.type in ("INIT", "FROM"):
            return "init", parts[0], where
        return str(word), tuple(text_of(part) for part in parts if isinstance(part, Token)), where

    def variable(
        self, word: Token, name: Name, dimensions: tuple[tuple[HeaderItem, ...], Token] | None,
        kind: tuple[HeaderKind, HeaderAxis | None, Span] | None, value: Expression | None,
    ) -> VariableStatement:  # fmt: skip
        items = None if dimensions is None else dimensions[0]
        return _variable(word, name, items, kind and kind[0], value)

    def require(self, word: Token, predicate: Expression) -> RequireStatement:
        return RequireStatement(predicate, _between(word, predicate))

    def given(self, word: Token, name: Name, value: Expression) -> Statement:
        if word == "update":
            return UpdateStatement(name, value, _between(word, value))
        return OutputStatement(name, value, _between(word, value))

    def mode(self, word: Token, name: Name) -> ModeStatement:
        return ModeStatement(name, _between(word, name))

    def assignment(self, *parts: Expression) -> Assignment:
        names = tuple(part for part in parts[:-1] if isinstance(part, Name))
        return Assignment(names, parts[-1], _between(parts[0], parts[-1]))

    def doc(self, token: Token) -> DocStatement:
        return DocStatement(text_of(token), span_of(token))

    # --- expressions

    def expression(self, *parts: object) -> Expression:
        opened: list[Part] = []
        for part in parts:
            if isinstance(part, Token):
                opened.append(infix(str(part), span_of(part)))
            elif isinstance(part, tuple):
                opened.extend(cast(tuple[Part, ...], part))
            else:
                opened.append(cast(Expression, part))
        return tree(opened)

    def operand(self, *parts: Token | Expression) -> tuple[Operator | Expression, ...]:
        """Prefix operators and what they stand before."""
        return tuple(prefix(str(part), span_of(part)) if isinstance(part, Token) else part for part in parts)

    def read(self, value: Expression, items: tuple[Argument, ...], end: Token) -> Read:
        return Read(value, items, _between(value, end))

    def batch(self, token: Token) -> Name:
        return Name(str(token), span_of(token))

    def number(self, token: Token) -> Number:
        return Number(number_of(token), span_of(token))

    def parenthesised(self, start: Token, value: Expression, end: Token) -> Expression:
        return replace(value, span=_between(start, end))

    def call(
        self, name: Token, start: Token, args: tuple[Argument, ...], statics: tuple[Static, ...] | None,
        *rest: object,
    ) -> Call:  # fmt: skip
        axes = cast(tuple[tuple[Name, Name], ...], rest[-2] or ())
        end = cast(Token, rest[-1])
        return Call(Name(str(name), span_of(name)), args, statics or (), axes, _between(name, end))

    def bindings(self, *bindings: tuple[Name, Name]) -> tuple[tuple[Name, Name], ...]:
        return bindings

    def binding(self, formal: Name, actual: Name) -> tuple[Name, Name]:
        return formal, actual

    def arguments(self, *arguments: Argument | None) -> tuple[Argument, ...]:
        return tuple(each for each in arguments if each is not None)

    def argument(
        self,
        first: Expression,
        second: Expression | None,
        word: Token | None = None,
        init: Expression | None = None,
    ) -> Argument:
        where = _between(first, init or second or first)
        return Argument(first, None, None, where) if second is None else Argument(second, first, init, where)

    def fold(self, op: Token, *parts: object) -> Fold:
        domains = tuple(part for part in parts if isinstance(part, Domain))
        which, args, end = parts[-3:]
        return Fold(
            str(op), domains, cast("Name | Number | None", which), cast(tuple[Argument, ...], args),
            _between(op, cast(Token, end)),
        )  # fmt: skip

    def domain(self, axes: tuple[Name, ...], where: Expression | None) -> Domain:
        return Domain(axes, where)

    def made(
        self, op: Token, over: tuple[Name, ...], arrow: Token, new: tuple[Name, ...], args: tuple[Argument, ...],
        end: Token,
    ) -> Made:  # fmt: skip
        return Made(str(op), over, new, args, _between(op, end))

    def placed(
        self, word: Token, keep: tuple[Name, ...] | None, args: tuple[Argument, ...], end: Token
    ) -> Placed:
        return Placed(keep, args, _between(word, end))

    def scanned(self, word: Token, *parts: object) -> Scanned:
        flags = [str(part) for part in parts if isinstance(part, Token) and part.type == "SCANNING"]
        axis, which, _, until, args, end = parts[len(flags) :]
        return Scanned(
            cast(Name, axis), "last" in flags, "reverse" in flags, cast("Name | None", which),
            cast("Expression | None", until), cast(tuple[Argument, ...], args), _between(word, cast(Token, end)),
        )  # fmt: skip

    # --- names

    def axis_names(self, *names: Name | None) -> tuple[Name, ...]:
        return tuple(name for name in names if name is not None)

    def name(self, token: Token) -> Name:
        quoted = token.type == "STRING"
        return Name(text_of(token) if quoted else str(token), span_of(token), quoted)

    def axis_name(self, token: Token) -> Name:
        return self.name(token)


# --- statements whose parts must fit


def _ranges(
    word: Token, axes: tuple[HeaderAxis, ...], comma: Token | None, values: Sequence[Expression], span: Span
) -> Statement:
    how = cast(Literal["near", "span", "axis"], str(word))
    if how == "axis" and not values:
        return AxisStatement(axes, span)
    wanted = {"near": (1,), "span": (2,), "axis": (1, 2)}[how]
    separated = comma is None or (comma.type == "FROM") == (how == "axis")
    sized = next((axis for axis in axes if axis.fixed is not None), None)
    if len(values) not in wanted or not separated or sized is not None:
        raise InvalidSyntax(
            f"`{how}` is written otherwise",
            at=sized.span if sized else span,
            label="here",
            helps=[RANGES[how]],
        )
    names = tuple(Name(axis.name, axis.span) for axis in axes)
    return RangeStatement(how, names, values[0], values[1] if len(values) > 1 else None, span)


RANGES = {
    "near": "write `near dh, dw: radius`",
    "span": "write `span i: lo, hi`; the last index is hi - 1",
    "axis": "write `axis n: size`, or `axis n: size from lo`",
}


def _declared(
    word: Token, tensor: HeaderTensor, key: Token | None, options: Iterable[tuple[str, object, Span]]
) -> TensorStatement:
    _no_sizes(tensor)
    if word == "draw" and tensor.kind != "real":
        raise InvalidSyntax(
            f"a draw holds real numbers, and `{tensor.name}` is declared {tensor.kind}", at=tensor.span,
            label="here", helps=["compare it where it is used: `select(keep > 0, x, 0)`"],
        )  # fmt: skip
    given: dict[str, object] = {}
    where = tensor.span if key is None else span_of(key)
    for name, value, where in options:
        if name in given:
            raise InvalidSyntax(f"`{name}` is said twice", at=where, label="again here")
        given[name] = value
    init = cast("Expression | None", given.get("init"))
    table: dict[str, Literal["parameters", "buffers", "draws"]] = {
        "param": "parameters", "buffer": "buffers", "draw": "draws",
    }  # fmt: skip
    return TensorStatement(
        table[str(word)], tensor, tensor.name if key is None else text_of(key),
        init, "frozen" in given,
        cast(tuple[str, ...], given.get("also", ())), joined(span_of(word), where),
    )  # fmt: skip


def _no_sizes(tensor: HeaderTensor) -> None:
    sized = next((axis for item in tensor.items for axis in item.axes if axis.fixed is not None), None)
    if sized is not None or tensor.optional:
        raise InvalidSyntax(
            "an optional tensor and a fixed size belong in the header", at=sized.span if sized else tensor.span,
            label="here", helps=["`axis k=3` gives the size of an axis that the header does not mention"],
        )  # fmt: skip


def _variable(
    word: Token, name: Name, items: tuple[HeaderItem, ...] | None, kind: HeaderKind | None,
    value: Expression | None,
) -> VariableStatement:  # fmt: skip
    role = cast(Literal["previous", "cotangent"], str(word))
    axes = tuple(axis for item in items or () for axis in item.axes)
    odd = any(len(item.axes) != 1 for item in items or ()) or any(axis.fixed is not None for axis in axes)
    if odd or kind == "index" or (role == "previous" and not axes):
        usual = {"previous": "previous p[t] = init", "cotangent": "cotangent g = x"}[role]
        raise InvalidSyntax(
            f"`{role}` is written otherwise", at=joined(span_of(word), name.span), label="here",
            helps=[f"write `{usual}`"],
        )  # fmt: skip
    where = _between(word, value if value is not None else name)
    return VariableStatement(role, name, None if items is None else axes, kind, value, where)
