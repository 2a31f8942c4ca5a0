"""The calls of a text: functions of the language, and the other mixers of the file, composed as
`dsl.elaboration.compose` does for Python."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from ..constructors.arguments import Arguments, Request
from ..errors import PlaitError, counted
from ..mistakes import InvalidArgument, ShadowedName, TooDeep, UnknownArgument, UnknownName
from ..program import BATCH, Axis, Form, Program
from ..source import Span
from ..text.scope import nearest
from ..text.signature import Signature
from ..text.syntax import Argument, Call, Expression, MixerAst, Name, Static
from ..words import CALLS
from .compose import Binding, bind, compose
from .elaborate_forms import number_of
from .elaborate_functions import function
from .elaborate_values import ManySteps, Result, Values

MOST_CALLS = 50
"""Mixers that call each other, one within the other."""

MOST_FORMS = 50_000
"""Operations that one program may get from the mixers that it calls."""


@dataclass(frozen=True, slots=True)
class Callee:
    """Another mixer of the text, and how to make its program."""

    ast: MixerAst
    signature: Signature
    arguments: Arguments


@dataclass(slots=True)
class Calls:
    """Evaluates calls. `callee` finds another mixer by name, `make` makes its program."""

    siblings: Mapping[str, MixerAst]
    callee: Callable[[str], Callee]
    make: Callable[[Callee, Request], Program]
    calling: tuple[str, ...] = ()
    made: list[int] = field(default_factory=lambda: [0])
    """How many operations the calls have made so far, in all mixers together."""

    def __call__(self, values: Values, node: Call) -> ManySteps:
        name = node.name.text
        if name not in CALLS:
            if name not in self.siblings:
                raise self._unknown(node.name)
            return (yield from self._mixer(values, node))
        if name in self.siblings:
            raise ShadowedName(
                f"`{name}` is a function of the language, and a mixer of this text", at=node.name.span, label="which?",
                helps=["give the mixer another name"],
            )  # fmt: skip
        if node.statics or node.axes:
            raise UnknownArgument(
                f"`{name}` takes values only",
                at=node.span,
                label="here",
                helps=["`;` belongs to calls of mixers"],
            )
        return ((yield from function(values, node)),)

    def _unknown(self, name: Name) -> UnknownName:
        before, _, after = name.text.rpartition(".")
        known = (*CALLS, *self.siblings)
        return UnknownName(
            f"there is no function and no mixer `{name.text}`", at=name.span, label="nothing has this name",
            helps=nearest(after if before else name.text, known),
        )  # fmt: skip

    # --- other mixers

    def _mixer(self, values: Values, node: Call) -> ManySteps:
        callee = self._entered(node)
        inputs, broken = yield from self._inputs(values, node, callee)
        given, prefix = yield from self._statics(values, node, callee)
        images = self._images(values, node)
        if broken or given is None or images is None:
            return (None,) * len(callee.signature.outputs)
        trace = values.trace
        header = callee.signature
        named = {**self._namesakes(values, header, inputs), **images}
        binding = bind(callee.ast.name, header, inputs, named, node.span)
        sizes = {f.name: trace.fixed[a] for f, a in binding.axes.items() if a in trace.fixed}
        without = [name for name in callee.arguments.optional if name not in inputs]
        request = callee.arguments.request({**sizes, **given}, trace.mode, without, node.span, spelled=False)
        program = self.make(callee, request)
        self._count(program, node.span)
        return compose(program, header, _present(binding, program), prefix, trace, True, node.span)

    def _entered(self, node: Call) -> Callee:
        name = node.name.text
        if name in self.calling:
            through = " calls ".join(
                f"`{each}`" for each in (*self.calling[self.calling.index(name) :], name)
            )
            raise InvalidArgument(
                f"a mixer cannot call itself: {through}",
                at=node.span,
                label="here",
                helps=["`scan` repeats a step"],
            )
        if len(self.calling) >= MOST_CALLS:
            raise TooDeep(
                f"more than {MOST_CALLS} mixers call each other in a row", at=node.span, label="here"
            )
        return self.callee(name)

    def _count(self, program: Program, span: Span) -> None:
        self.made[0] += len(program.forms)
        if self.made[0] > MOST_FORMS:
            raise TooDeep(
                f"the mixers called here make more than {MOST_FORMS:,} operations together",
                at=span,
                label="here",
            )

    def _inputs(
        self, values: Values, node: Call, callee: Callee
    ) -> Generator[Expression, Result, tuple[dict[str, Form], bool]]:
        """The inputs by name, and whether one of them is a mistake."""
        names = [declaration.leaf.name for declaration in callee.signature.inputs]
        given: dict[str, Form] = {}
        seen: set[str] = set()
        for number, argument in enumerate(node.args):
            name = self._input_name(argument, number, names, callee)
            if name in seen:
                raise UnknownArgument(
                    f"`{callee.ast.name}` is given `{name}` twice", at=argument.span, label="again"
                )
            seen.add(name)
            form = yield argument.value
            if form is not None:
                given[name] = form
        missing = [name for name in names if name not in seen and name not in callee.arguments.optional]
        if missing:
            raise UnknownArgument(
                f"`{callee.ast.name}` needs the input `{missing[0]}`", at=node.span, label="not given",
                notes=[f"inputs: {', '.join(names)}"],
            )  # fmt: skip
        return given, len(given) < len(seen)

    def _input_name(self, argument: Argument, number: int, names: Sequence[str], callee: Callee) -> str:
        inputs = f"inputs: {', '.join(names) or 'none'}"
        if argument.key is None:
            if number < len(names):
                return names[number]
            raise UnknownArgument(
                f"`{callee.ast.name}` takes {counted(len(names), 'input')}, and this is one more", at=argument.span,
                label="here", notes=[inputs],
            )  # fmt: skip
        if isinstance(argument.key, Name) and argument.key.text in names:
            return argument.key.text
        raise UnknownArgument(
            f"`{callee.ast.name}` has no input `{argument.key.span.text}`", at=argument.key.span, label="here",
            notes=[inputs],
        )  # fmt: skip

    def _statics(
        self, values: Values, node: Call, callee: Callee
    ) -> Generator[Expression, Result, tuple[dict[str, object] | None, str]]:
        """The static arguments by name, None after a mistake; and the prefix of keys."""
        own = {static.name for static in callee.arguments.statics}
        found: dict[str, object] = {}
        prefix = ""
        broken = False
        for static in node.statics:
            text = _text(values, static)
            form = (yield static.value) if text is None and static.value is not None else None
            if text is None and form is None:
                broken = True
                continue
            value = text if form is None else number_of(form, f"`{static.name.text}`", static.span)
            if static.name.text == "name" and "name" not in own:
                prefix = _prefix(value, static.span)
            elif static.name.text in found or static.name.text not in own:
                raise self._unfit(static, callee, static.name.text in found)
            else:
                found[static.name.text] = value
        return None if broken else found, prefix

    def _unfit(self, static: Static, callee: Callee, twice: bool) -> PlaitError:
        if twice:
            return UnknownArgument(f"`{static.name.text}` is given twice", at=static.span, label="again")
        return callee.arguments.unknown(static.name.text, static.name.span)

    def _images(self, values: Values, node: Call) -> dict[Axis, tuple[Axis, ...]] | None:
        """What stands after `axes`: formal axes and the caller's; several for `...`."""
        found: dict[Axis, tuple[Axis, ...]] = {}
        for formal, actual in node.axes:
            axes = values.axes((actual,))
            if axes is None:
                return None
            key = BATCH if formal.text == BATCH.name else Axis(formal.text)
            if key in found and key != BATCH:
                raise UnknownArgument(f"axis `{formal.text}` is bound twice", at=formal.span, label="again")
            found[key] = (*found.get(key, ()), *axes)
        return found

    def _namesakes(
        self, values: Values, header: Signature, inputs: Mapping[str, Form]
    ) -> dict[Axis, tuple[Axis, ...]]:
        """An axis that this text made binds the formal one of its name, if an argument has it."""
        own = {axis for form in inputs.values() for axis in form.axes}
        found: dict[Axis, tuple[Axis, ...]] = {}
        for formal in header.axes:
            axis = values.scope.axes.get(formal.name)
            if axis is not None and axis.serial and axis in own:
                found[formal] = (axis,)
        return found


def _present(binding: Binding, program: Program) -> Binding:
    names = {declaration.leaf.name for declaration in program.inputs}
    inputs = {name: form for name, form in binding.inputs.items() if name in names}
    return Binding(inputs, binding.axes, binding.batch, binding.said)


def _text(values: Values, static: Static) -> str | None:
    """A static argument that is a text: in quotes, or another one handed on."""
    match static.value:
        case Name(text=text, quoted=True):
            return text
        case Name(text=text) if isinstance(known := values.scope.statics.get(text), str):
            return known
        case None:
            raise UnknownArgument(f"`{static.name.text}` has no value", at=static.span, label="here")
        case _:
            return None


def _prefix(value: object, span: Span) -> str:
    if not isinstance(value, str):
        raise InvalidArgument("`name` is a text: what the keys begin with", at=span, label="here")
    return value
