"""From a syntax tree to a `Program`: statements in their order, all mistakes together.

    elaborate(ast, {"radius": 8}, {"other": other_ast}, sizes={"d": 64})

Forms are made by the checked constructors that Python's spelling uses too, declarations and calls of
other mixers by the same `Trace`, so that both spellings give one program and one message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..constructors.arguments import Arguments, Request, StaticParameter
from ..errors import raise_all
from ..mistakes import InvalidArgument, InvalidHeader, TooDeep
from ..program import BATCH, Program, Scalar
from ..python.trace import Trace
from ..source import Span
from ..text.scope import Scope
from ..text.signature import signature
from ..text.syntax import MixerAst, Name
from .elaborate_body import Body
from .elaborate_calls import MOST_FORMS, Callee, Calls
from .elaborate_forms import number_of
from .elaborate_values import ManySteps, Special, Values


def elaborate(
    ast: MixerAst,
    statics: Mapping[str, Scalar | str],
    siblings: Mapping[str, MixerAst],
    *,
    sizes: Mapping[str, int] | None = None,
    mode: str = "eval",
    without: Sequence[str] = (),
) -> Program:
    """The program of a mixer: `statics` replace defaults, `sizes` are numbers for axes, `without` are
    optional inputs left out (they are absent everywhere).

    Raises every mistake of the text together; UnknownArgument, InvalidArgument or InvalidSize for
    what the caller gives.
    """
    callee = callee_of(ast)
    given: dict[str, object] = {**statics, **(sizes or {})}
    return make(callee, callee.arguments.request(given, mode, without, None), siblings)


def callee_of(ast: MixerAst) -> Callee:
    """A mixer with what its header says; raises every mistake of the header."""
    header = signature(ast.header)
    axes = tuple(axis for axis in header.axes if axis != BATCH)
    optional = tuple(declaration.leaf.name for declaration in header.inputs if declaration.optional)
    return Callee(ast, header, Arguments(ast.name, _parameters(ast), axes, optional))


def make(
    callee: Callee,
    request: Request,
    siblings: Mapping[str, MixerAst],
    too_large: dict[object, TooDeep] | None = None,
) -> Program:
    """The program for a `Request`; raises every mistake of the text together. `too_large` is what
    was found so far to make too many operations, and grows."""
    return _Maker(siblings, {} if too_large is None else too_large).program(callee, request)


def _parameters(ast: MixerAst) -> tuple[StaticParameter, ...]:
    """The static arguments; a default says the kind. Raises InvalidArgument for one that is no number,
    truth value or text."""
    trace = Trace(ast.name)
    values = Values(Scope(), trace, _no_calls)
    found: list[StaticParameter] = []
    for each in ast.statics:
        name = each.name.text
        if any(name == other.name for other in found):
            trace.mistakes.append(InvalidHeader(f"`{name}` is given twice", at=each.span, label="again here"))
        elif each.value is None:
            found.append(StaticParameter(name))
        elif isinstance(each.value, Name) and each.value.quoted:
            found.append(StaticParameter(name, "str", each.value.text))
        else:
            form = values.value(each.value)
            if form is not None:
                found.append(
                    _parameter(name, number_of(form, f"the default of `{name}`", each.span), each.span)
                )
    raise_all(trace.mistakes)
    return tuple(found)


def _parameter(name: str, default: Scalar, span: Span) -> StaticParameter:
    if isinstance(default, complex):
        raise InvalidArgument(f"the static argument `{name}` is complex", at=span, label="here")
    kind = "bool" if isinstance(default, bool) else "int" if isinstance(default, int) else "float"
    return StaticParameter(name, kind, default)


def _no_calls(values: Values, node: Special) -> ManySteps:
    raise InvalidArgument("a default is a number, a truth value or a text", at=node.span, label="here")
    yield node


# --- the mixers of one text


@dataclass(slots=True)
class _Maker:
    """Makes the program of one mixer and of those that it calls, each once for the same request."""

    siblings: Mapping[str, MixerAst]
    too_large: dict[object, TooDeep]
    """The mixers that make too many operations by themselves: no other one has to find it again."""
    programs: dict[tuple[object, ...], Program] = field(default_factory=dict[tuple[object, ...], Program])
    callees: dict[str, Callee] = field(default_factory=dict[str, Callee])
    made: list[int] = field(default_factory=lambda: [0])

    def callee(self, name: str) -> Callee:
        if name not in self.callees:
            self.callees[name] = callee_of(self.siblings[name])
        return self.callees[name]

    def program(self, callee: Callee, request: Request, calling: tuple[str, ...] = ()) -> Program:
        key = (callee.ast.name, request.key)
        if key not in self.programs:
            inner = (*calling, callee.ast.name)
            calls = Calls(
                self.siblings,
                self.callee,
                lambda other, asked: self.program(other, asked, inner),
                inner,
                self.made,
            )
            spoken = (callee.ast.name, replace(request, spelled=False).key)
            if spoken in self.too_large:
                raise self.too_large[spoken]
            before = self.made[0]
            try:
                self.programs[key] = Body(callee, request, calls).program()
            except TooDeep as error:
                if self.made[0] - before > MOST_FORMS:
                    self.too_large[spoken] = error
                raise
        return self.programs[key]
