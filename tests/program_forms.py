"""Random programs for the printer: every form of the core, as constructors and as passes make them.

`programs()` draws a program. Nothing here needs to have a value anywhere: what counts is that text
says it. (Programs that run are drawn by `strategies.py`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as st

from plait.dsl.constructors import build, build_special
from plait.dsl.errors import CompilerFault, PlaitError
from plait.dsl.ops import OPS
from plait.dsl.program import (
    BATCH,
    At,
    Axis,
    Const,
    Coordinate,
    Declaration,
    Form,
    Item,
    Leaf,
    Map,
    Output,
    Program,
    Require,
    Scan,
    Size,
    Update,
    fresh_axis,
    walk,
)

T = TypeVar("T")

CONSTANTS = (
    0, 1, -3, 7, True, False, 0.0, -0.0, 0.5, -2.5, 1e30, 1e-7, float("inf"), float("-inf"), float("nan"),
    2j, 1.5 + 2j, complex(-0.0, 1.0), complex(1.0, float("nan")), complex(0.0, -1.0),
)  # fmt: skip

NAMES = (
    "x",
    "sum",
    "index",
    "h",
    "v1",
    "near",
    "size",
    "a.b",
    "two words",
    'quo"te',
    "mixer",
    "Ω",
    "p",
    "pi",
)
"""Names of tensors and statements, words of the language among them."""

SIGNATURE = (BATCH, Axis("h"), Axis("w"), Axis("x"), Axis("max"), Axis("odd name"), Axis("..0"))


def of_sizes(form: Form) -> bool:
    """Whether the form is arithmetic on sizes and numbers alone."""
    return all(isinstance(below, Map | Size | Const) for below in walk((form,)))


class Making:
    """The values and axes that a program under construction has."""

    def __init__(self, draw: Callable[[st.SearchStrategy[object]], object]) -> None:
        self.draw_any = draw
        self.axes: list[Axis] = list(SIGNATURE[: self.pick((2, 3, len(SIGNATURE)))])
        self.fixed = {axis: 3 for axis in self.axes if axis != BATCH and self.chance(15)}
        self.tensors: dict[str, list[Declaration]] = {"input": [], "parameter": [], "buffer": [], "draw": []}
        self.values: list[Form] = []
        self.bound = 0

    def pick(self, choices: Sequence[T]) -> T:
        return self.draw_any(st.sampled_from(choices))  # type: ignore[return-value, arg-type]

    def chance(self, percent: int) -> bool:
        return bool(self.draw_any(st.integers(0, 99)) >= 100 - percent)  # type: ignore[operator]

    def some(self, choices: Sequence[T], most: int = 2) -> tuple[T, ...]:
        found = [self.pick(choices) for _ in range(self.pick(range(most + 1)))] if choices else []
        return tuple(dict.fromkeys(found))

    def number(self) -> Const:
        value = self.pick(CONSTANTS)
        written = self.pick((None, "radius * 2", "radius", "-radius", "size(h)", "3", "nonsense("))
        return Const(value, written=written)

    def value(self) -> Form:
        if not self.values or self.chance(15):
            return self.atom()
        return self.pick(self.values[-6:]) if self.chance(60) else self.pick(self.values)

    def atom(self) -> Form:
        axis = self.pick(self.axes)
        return self.pick((self.number(), Coordinate(axis), Size(axis), build.size(axis), self.number()))

    def index(self) -> Form:
        own = Coordinate(self.pick(self.axes))
        return self.pick(
            (own, build.apply("add", own, Coordinate(self.pick(self.axes))), self.value(), Const(1))
        )

    # --- declarations

    def tensor(self) -> None:
        role = self.pick(("input", "input", "parameter", "buffer", "draw"))
        name = self.pick(NAMES)
        every = [each.leaf.name for table in self.tensors.values() for each in table]
        if name in every or (role == "input" and name == "radius"):
            return
        over = self.some(self.axes, 3)
        kind = self.pick(("real", "real", "real", "int", "bool", "complex")) if role != "draw" else "real"
        indexed = kind == "int" and self.chance(30)
        leaf = Leaf(role, name, over, kind, self.pick(self.axes) if indexed else None)
        self.tensors[role].append(
            Declaration(
                leaf, self.items(over), optional=role == "input" and self.chance(20),
                trainable=role == "parameter" and self.chance(70), init=self.init(role),
                also=(f"also.{name}",) if role == "parameter" and self.chance(20) else (),
            )
        )  # fmt: skip
        self.values.append(leaf)

    def init(self, role: str) -> str | None:
        return None if role == "input" else self.pick((None, "0", "normal(0.0, 0.02)", 'made "by" hand(3)'))

    def items(self, over: Sequence[Axis]) -> tuple[Item, ...]:
        items: list[Item] = []
        for axis in over:
            if items and BATCH not in (*items[-1], axis) and self.chance(25):
                items[-1] = (*items[-1], axis)
            else:
                items.append((axis,))
        if self.chance(15):
            items.insert(self.pick(range(len(items) + 1)), ())
        return tuple(items)

    def axis(self) -> None:
        name = self.pick(("u", "v", "h", "x", "sum", "n 2", "oh"))
        forms = (*self.values, Const(3), Size(self.pick(self.axes)))
        whole = [form for form in forms if form.kind == "int" and of_sizes(form)]
        a, b = self.pick(whole), self.pick(whole)
        ways: tuple[Callable[[], Axis], ...] = (
            lambda: build.near_axis(name, a),
            lambda: build.span_axis(name, a, b),
            lambda: build.make_axis(name, Const(0), a, "axis"),
            lambda: build.like_axis(self.pick(self.axes), name),
            lambda: fresh_axis(name, a, b, self.pick(("axis", "near", "span"))),
        )
        axis = self.pick(ways)()
        if not (isinstance(axis.size, Const) and isinstance(axis.size.value, int) and axis.size.value < 1):
            self.axes.append(axis)

    # --- forms

    def form(self) -> None:
        made = self.pick(FORMS)(self)
        if made is not None:
            self.values.append(made)

    def map(self) -> Form:
        op = self.pick(tuple(OPS.values()))
        args = tuple(self.value() for _ in range(op.arity))
        return Map(op.name, args) if self.chance(30) else build.apply(op.name, *args)

    def presence(self) -> Form:
        p, a, b = self.value(), self.value(), self.value()
        ways = (
            lambda: build.when(p, a), lambda: build.otherwise(a, b), lambda: build.select(p, a, b),
            lambda: build.present(a),
        )  # fmt: skip
        return self.pick(ways)()

    def read(self) -> Form:
        value = self.value()
        chosen = self.some(value.axes, 3)
        indices = tuple((axis, self.index()) for axis in chosen)
        build.at(value, dict(indices))
        return At(value, indices) if self.chance(30) else build.at(value, dict(indices))

    def place(self) -> Form:
        value = self.value()
        indices = {axis: self.index() for axis in self.some(self.axes)}
        keep = None if self.chance(50) else self.some(value.axes)
        return build.place(value, indices, keep)

    def reduction(self) -> Form:
        op = self.pick(
            ("sum", "max", "lse", "count", "any", "all", "argmax", "min", "prod", "mean", "softmax")
        )
        pieces = [(value, self.some(value.axes)) for value in (self.value(), self.value())][
            : self.pick((1, 1, 2))
        ]
        where = self.value() if self.chance(30) else None
        if op == "mean":
            return build.mean(pieces, where)
        if op == "softmax":
            return self.pick(build.softmax(pieces, where))
        wide = sum(len(axes) for _, axes in pieces)
        return build.reduce(op, pieces, where, self.pick(range(wide)) if op == "argmax" and wide else 0)

    def scan(self) -> Form:
        axis = self.pick(self.axes)
        carries, leaves = self.pick((1, 1, 2)), list[tuple[Leaf, Form]]()
        for _ in range(carries):
            init = self.value()
            leaf = build_special.previous(axis, init, f"p_{self.bound}")
            self.bound += 1
            if self.chance(20):
                wider = dict.fromkeys((*leaf.over, self.pick(self.axes)))
                leaf = Leaf("bound", leaf.name, tuple(wider), leaf.declared)
            leaves.append((leaf, init))
        before, self.values = self.values, [*self.values, *(leaf for leaf, _ in leaves)]
        for _ in range(self.pick((1, 2, 4))):
            self.attempt()
        made = [build_special.carry(leaf, init, self.pick((leaf, self.value()))) for leaf, init in leaves]
        until = self.value() if self.chance(30) else None
        self.values = before
        whole = build_special.scan(axis, made, reverse=self.chance(30), until=until)
        return replace(whole, component=self.pick(range(carries)), last=self.chance(40))

    def again(self) -> Form | None:
        """Another carry, the last value, or another first value of a scan that there is."""
        scans = [form for form in self.values if isinstance(form, Scan)]
        if not scans:
            return None
        scan = self.pick(scans)
        if self.chance(30):
            first = scan.carries[0]
            init = build.apply("add", first.init, Const(1))
            return replace(scan, carries=(replace(first, init=init), *scan.carries[1:]))
        return replace(scan, component=self.pick(range(len(scan.carries))), last=not scan.last)

    def marked(self) -> Form:
        x, y = self.value(), self.value()
        return self.pick((lambda: build_special.as_if(x, y), lambda: build_special.stop(x)))()

    def on_gradient(self) -> Form:
        value = self.value()
        variable = build_special.cotangent(value, f"g_{self.bound}")
        self.bound += 1
        if self.chance(20):
            variable = Leaf("bound", variable.name, (), "real")
        before, self.values = self.values, [*self.values, variable]
        self.attempt()
        rule = self.value()
        self.values = before
        return build_special.on_gradient(value, variable, rule)

    def derivative(self) -> Form:
        y, t = self.value(), self.value()
        x = self.pick([form for form in self.values if form.kind != "bool"] or [t])
        if self.chance(50):
            return build_special.jvp(y, [x], [t])
        return build_special.vjp(y, x, t)

    def library(self) -> Form:
        value = self.value()
        own = [axis for axis in value.axes if axis != BATCH]
        axis = self.pick(own or [Axis("h")])
        like = build.like_axis(axis, "f")
        half = build.apply("add", build.apply("floordiv", build.size(axis), Const(2)), Const(1))
        short = build.make_axis("f", Const(0), half, "axis")
        column = build.like_axis(axis, "m")
        matrix = build.apply("mul", value, Coordinate(column))
        ways = (
            lambda: build_special.fourier(self.pick(("fft", "ifft")), value, [axis], [like]),
            lambda: build_special.fourier("rfft", value, [axis], [short]),
            lambda: build_special.ranked("sort_indices", value, axis, like),
            lambda: build_special.ranked("topk_indices", value, axis, short),
            lambda: build_special.solve(matrix, value, axis, column, self.pick(("general", "spd", "lower"))),
        )
        return self.pick(ways)()

    def index_sugar(self) -> Form:
        i, n = self.value(), self.value()
        ways = (
            lambda: build.clamp(i, n, self.value()), lambda: build.reflect(i, n),
            lambda: build_special.zeros(self.some(self.axes, 3)), self.cat,
        )  # fmt: skip
        return self.pick(ways)()

    def cat(self) -> Form:
        along = build.make_axis("n", self.pick((Const(0), Const(-2))), Const(9), "axis")
        parts = [(value, axis) for value in self.values[-4:] for axis in value.axes[:1] if axis != BATCH]
        return build.cat(along, parts[:3])

    def attempt(self, make: Callable[[Making], None] | None = None) -> None:
        """Make one more form or axis, if what was picked fits together."""
        with suppress(PlaitError, CompilerFault, RecursionError):
            (make or Making.form)(self)


FORMS: tuple[Callable[[Making], Form | None], ...] = (
    Making.map, Making.map, Making.map, Making.presence, Making.read, Making.read, Making.reduction,
    Making.reduction, Making.place, Making.scan, Making.again, Making.marked, Making.on_gradient,
    Making.derivative, Making.library, Making.index_sugar,
)  # fmt: skip


@st.composite
def programs(draw: Callable[[st.SearchStrategy[object]], object], forms: int = 80) -> Program:
    """A program of some forms, with outputs over whatever axes they have."""
    making = Making(draw)
    for _ in range(3):
        making.tensor()
    for _ in range(making.pick((forms, forms // 4, 3))):
        if making.chance(8):
            making.tensor()
        elif making.chance(8):
            making.attempt(Making.axis)
        else:
            making.attempt()
    whole = [form for form in making.values if not build_special.unbound([form])]
    taken = {each.leaf.name for each in making.tensors["input"]} | {"radius"}
    outputs: list[Output] = []
    rich = sorted(whole, key=lambda form: len(tuple(walk((form,)))))[-8:]
    for name in dict.fromkeys((making.pick(NAMES), *making.some(NAMES, 2))):
        if name not in taken:
            value = making.pick(rich) if rich else Const(1.0)
            outputs.append(Output(name, value, making.items(value.axes)))
    return assembled(making, outputs, whole)


def assembled(making: Making, outputs: Sequence[Output], whole: Sequence[Form]) -> Program:
    reals = [form for form in whole if form.kind == "real"]
    updates = [
        Update(each.leaf, value)
        for each in making.tensors["buffer"]
        for value in reals[:1]
        if each.leaf.kind == "real" and set(value.axes) == set(each.leaf.over)
    ]
    requires = [
        Require(form)
        for form in whole
        if form.kind == "bool" and of_sizes(form) and not isinstance(form, Const)
    ]
    named = [(making.pick(NAMES), form) for form in whole if making.chance(25)]
    return Program(
        making.pick(("f", "softmax", "two words", "mixer")), tuple(making.tensors["input"]), tuple(outputs),
        statics=(("radius", making.pick((8, 2.5))), ("count", "a text"))[: making.pick((0, 1, 2))],
        fixed=tuple(making.fixed.items()), names=tuple(named), parameters=tuple(making.tensors["parameter"]),
        buffers=tuple(making.tensors["buffer"]), draws=tuple(making.tensors["draw"]), updates=tuple(updates),
        requires=tuple(requires[:2]), mode=making.pick(("eval", "train")),
    )  # fmt: skip
