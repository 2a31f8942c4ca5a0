"""What stands behind a mixer: a Python function with a header, or a text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Literal, Protocol, cast, get_args, get_origin

from ..constructors.arguments import KINDS, Arguments, Request, Static, StaticParameter
from ..errors import PlaitError, raise_all
from ..mistakes import InvalidHeader
from ..program import BATCH, Program
from ..source import Source, Span
from ..text.header import Header
from ..text.parse import parse_header
from ..text.signature import Signature, signature
from .tracing import Traced, run

RESERVED = ("name", "axes", "mode", "without")
"""Keywords of a mixer's own call, which its inputs and arguments cannot bear."""


class Definition(Protocol):
    """What a `Mixer` needs to know of where it comes from.

    `spells_by_caller`: the constants of a program made for another mixer may keep their spelling.
    """

    @property
    def name(self) -> str: ...
    @property
    def header(self) -> Header: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def arguments(self) -> Arguments: ...
    @property
    def doc(self) -> str: ...
    @property
    def spells_by_caller(self) -> bool: ...

    def make(self, request: Request) -> Program:
        """The program; raises every mistake of the definition together."""
        ...


@dataclass(frozen=True, slots=True)
class PythonDefinition:
    """A function that is traced."""

    header: Header
    traced: Traced
    spells_by_caller: bool = True

    @property
    def name(self) -> str:
        return self.traced.name

    @property
    def signature(self) -> Signature:
        return self.traced.signature

    @property
    def arguments(self) -> Arguments:
        return self.traced.arguments

    @property
    def doc(self) -> str:
        return self.traced.doc

    def make(self, request: Request) -> Program:
        return run(self.traced, request)


def python_definition(
    function: Callable[..., object], header: str | None, span: Span | None
) -> PythonDefinition:
    """A function with its header, or with a header made of its annotations.

    `span` is where the header stands. Raises InvalidSyntax for a header that is none, InvalidHeader
    where it and the function do not fit.
    """
    name = getattr(function, "__name__", "mixer")
    text = _header_of_annotations(function, name, span) if header is None else header
    parsed = parse_header(text, *_place(text, name, span if header is not None else None))
    read = signature(parsed)
    parameters = list(inspect.signature(function).parameters.values())
    raise_all(list(_misfits(name, parameters, read)))
    axes = tuple(axis for axis in read.axes if axis != BATCH)
    optional = tuple(d.leaf.name for d in read.inputs if d.optional)
    arguments = Arguments(name, tuple(_statics(function, name, parameters, read)), axes, optional)
    doc = inspect.cleandoc(function.__doc__ or "")
    return PythonDefinition(parsed, Traced(name, function, read, arguments, doc))


def _place(text: str, name: str, span: Span | None) -> tuple[Source, int]:
    """The source that the header's spans point into: the user's file where the text stands in it
    as it is, else a source of its own."""
    if span is not None and text in span.text:
        return span.source, span.start + span.text.index(text)
    return Source(text, f"<header of {name}>"), 0


# --- the function's own signature


def _misfits(name: str, parameters: Sequence[inspect.Parameter], read: Signature) -> Iterator[PlaitError]:
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    expected = [declaration.leaf.name for declaration in read.inputs]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            yield InvalidHeader(
                f"`{name}` takes `{parameter}`, and a mixer's arguments all have names", at=read.span, label="here",
                helps=["the inputs of the header come first, static arguments after `*`"],
            )  # fmt: skip
    if positional != expected:
        yield InvalidHeader(
            f"the header's inputs are {', '.join(expected) or 'none'}, and `{name}` takes "
            f"{', '.join(positional) or 'none'}", at=read.span, label="declared here",
            helps=["name the inputs alike and in one order; static arguments stand after `*`"],
        )  # fmt: skip
    axes = {axis.name for axis in read.axes}
    for parameter in parameters:
        if parameter.name in RESERVED or (parameter.name in axes and parameter.name not in positional):
            what = (
                "a keyword of every mixer's call" if parameter.name in RESERVED else "an axis of the header"
            )
            yield InvalidHeader(
                f"the argument `{parameter.name}` of `{name}` is also {what}", at=read.span, label="here",
                helps=["give it another name"],
            )  # fmt: skip


def _statics(
    function: Callable[..., object], name: str, parameters: Sequence[inspect.Parameter], read: Signature
) -> Iterator[StaticParameter]:
    try:
        hints: Mapping[str, object] = inspect.get_annotations(inspect.unwrap(function), eval_str=True)
    except Exception:  # an annotation that Python itself cannot evaluate: the words must do
        hints = inspect.get_annotations(inspect.unwrap(function))
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY:
            yield _static(parameter, hints.get(parameter.name), name, read)


def _static(parameter: inspect.Parameter, hint: object, mixer: str, read: Signature) -> StaticParameter:
    kind, choices = _kind_of(hint)
    default = None if parameter.default is parameter.empty else cast("object", parameter.default)
    given = parameter.default is not parameter.empty
    if kind is None or (given and not isinstance(default, bool | int | float | str)):
        found = f"is annotated {hint}" if kind is None else f"is {default!r} by default"
        raise InvalidHeader(
            f"the static argument `{parameter.name}` of `{mixer}` {found}", at=read.span, label="here",
            helps=["a static argument is an int, a float, a bool or a string, or a Literal of such"],
        )  # fmt: skip
    if not kind and isinstance(default, bool | int | float | str):
        kind = type(default).__name__
    plain = StaticParameter(parameter.name, kind, None, choices)
    checked = plain.checked(default, mixer, read.span) if given else None
    return StaticParameter(parameter.name, kind, checked, choices)


def _kind_of(hint: object) -> tuple[str | None, tuple[Static, ...]]:
    """The word of `KINDS` for an annotation and the choices of a Literal; None for another one."""
    if hint is None or hint is NoneType:
        return "", ()
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        words = {type(choice).__name__ for choice in choices}
        return (words.pop(), choices) if len(words) == 1 and words <= KINDS.keys() else (None, ())
    word = hint if isinstance(hint, str) else getattr(hint, "__name__", "?")
    return (word if word in KINDS else None), ()


# --- headers made of annotations: `q: Annotated[Value, "... h w d"]`


def _header_of_annotations(function: Callable[..., object], name: str, span: Span | None) -> str:
    """`q[..., h, w, d] -> out[..., h, w, d]`; several results are `out0`, `out1` and so on."""
    try:
        hints = inspect.get_annotations(inspect.unwrap(function), eval_str=True)
    except Exception as error:
        raise InvalidHeader(
            f"the annotations of `{name}` cannot be evaluated: {error}", at=span, label="here"
        ) from error
    parameters = inspect.signature(function).parameters.values()
    inputs = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    layouts = [_layout(hints.get(each), f"`{each}` of `{name}`", span) for each in inputs]
    result = hints.get("return")
    results = get_args(result) if get_origin(result) is tuple else (result,)
    names = ["out"] if len(results) == 1 else [f"out{number}" for number in range(len(results))]
    outputs = [_layout(each, f"the result of `{name}`", span) for each in results]
    left = ", ".join(f"{each}[{layout}]" for each, layout in zip(inputs, layouts, strict=True))
    right = ", ".join(f"{each}[{layout}]" for each, layout in zip(names, outputs, strict=True))
    return f"{left} -> {right}"


def _layout(hint: object, what: str, span: Span | None) -> str:
    """`..., (h w), c` of `Annotated[Value, "... (h w) c"]`."""
    texts = (
        [each for each in get_args(hint)[1:] if isinstance(each, str)]
        if get_origin(hint) is Annotated
        else []
    )
    if len(texts) != 1:
        raise InvalidHeader(
            f"{what} has no layout",
            at=span,
            label="here",
            helps=[
                'give the mixer a header: `@mixer("x[..., h, w] -> o[..., h, w]")`',
                'or annotate every input and the result: `x: Annotated[Value, "... h w"]`',
            ],
        )
    depth, items = 0, [""]
    for character in texts[0].strip():
        depth += (character == "(") - (character == ")")
        if character.isspace() and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return ", ".join(item for item in items if item)
