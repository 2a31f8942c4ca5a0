"""In which order products of several values are summed: P (K q) or (P K) q.

A sum of products in which a factor is such a sum itself is one network: items with axes, some of which are
summed over. Every way to take the items together two by two has the same value and is present in the same
places: `c * sum[k](x) = sum[k](c * x)`, `sum[a](sum[b](x)) = sum[a, b](x)` and `when(p, sum[k](x)) =
sum[k](when(p, x))`, c and p without k, hold for absent entries too (language.md section 4). What is read by
others as well is left as it is.

Which way costs least depends on sizes, and these belong to the call: linear attention costs t * d * e where
t * t * d is what attention costs. So a choice has a cost for each of its orders, a form of sizes; a call asks
which is the least at its sizes, and the answer is part of what kernels are written for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from typing import Literal

from ...dsl.constructors.build import apply, like_axis, size
from ...dsl.program import (
    BATCH,
    At,
    Axis,
    Const,
    Form,
    Leaf,
    Map,
    Piece,
    Program,
    Reduce,
    When,
    children,
    walk,
)
from ..fusion.work import Term, formula_of, word_of
from ..rewrites.affine import from_polynomial, polynomial
from ..rewrites.rewrite import rename, substitute
from ..rewrites.simplify import rewrite_program

MOST_ITEMS, MOST_ORDERS = 5, 4
"""Larger networks keep their order; no more orders than these are choices."""

STORED, LAUNCHED = 64, 1_000_000
"""FLOPs that an entry of a stored value costs to write and read, and that another kernel costs. Measured: another
kernel takes 10 to 20 us on two cores, in which a short product does a million; `python -m benchmarks.orders` holds
the choice beside both orders."""

How = Literal["times", "over", "where"]


@dataclass(frozen=True, slots=True)
class Item:
    """What a product is multiplied with, divided by, or masked with."""

    how: How
    form: Form

    @property
    def axes(self) -> frozenset[Axis]:
        return frozenset(self.form.axes)


@dataclass(frozen=True, slots=True)
class Network:
    """The product of the items, summed over `over`; those without any of these stand `outside`. Items that one
    has all axes of lie together in `nodes`."""

    nodes: tuple[tuple[Item, ...], ...]
    outside: tuple[Item, ...]
    over: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """A form of the value, the FLOPs that it takes, what it costs with memory and launches, and its words."""

    form: Form
    flops: tuple[Term, ...]
    cost: Form
    words: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A sum of products, as it is written and in other orders, each the least at some sizes."""

    written: Order
    others: tuple[Order, ...]

    @property
    def costs(self) -> tuple[Form, ...]:
        """Of all orders, the written one first."""
        return (self.written.cost, *(each.cost for each in self.others))


def choices(program: Program) -> tuple[Choice, ...]:
    """The sums of a program (its batch explicit) that have another order, the outer ones first."""
    users: dict[Form, int] = dict.fromkeys(program.roots, 2)
    for form in program.forms:
        for child in children(form):
            users[child] = users.get(child, 0) + 1
    names = {form: name for name, form in program.names}
    found: list[Choice] = []
    inside: set[Form] = set()
    for form in reversed(program.forms):
        if not is_sum(form) or form in inside or weighed(form):
            continue
        reader = Reader(users)
        network = reader.network(form)
        choice = None if network is None else _choice(form, network, names)
        if choice is not None:
            found.append(choice)
            inside |= reader.inside
    return tuple(found)


def ordered(program: Program, chosen: Sequence[int]) -> tuple[Program, tuple[str, ...]]:
    """The program with its choices made: 0 leaves a sum as it is written, i takes the order i - 1 of the others.
    With what was done, in words."""
    words: list[str] = []
    for choice, number in zip(choices(program), chosen, strict=True):
        if not number:
            continue
        order = choice.others[number - 1]
        mapping: Mapping[Form, Form] = {choice.written.form: order.form}
        program = rewrite_program(program, lambda form, mapping=mapping: substitute(form, mapping))
        words.append(
            f"order of products: {choice.written.words} as {order.words}, {formula_of(order.flops)} FLOPs in place of "
            f"{formula_of(choice.written.flops)}"
        )
    return program, tuple(words)


def is_sum(form: Form) -> bool:
    """Whether a form is a plain sum of reals."""
    match form:
        case Reduce(op="sum", pieces=(Piece(value=value),)):
            return form.kind == "real" and BATCH not in value.axes
        case _:
            return False


def weighed(form: Form) -> bool:
    """Whether a sum has factors that are functions of reductions, as the weights of a softmax are: it streams as it
    is, and in another order they would have to be stored."""
    assert isinstance(form, Reduce)
    waiting = [form.pieces[0].value]
    while waiting:
        each = waiting.pop()
        match each:
            case Map(op="mul" | "div", args=args):
                waiting += args
            case When(value=x):
                waiting.append(x)
            case Map() if any(isinstance(below, Reduce) for below in walk((each,))):
                return True
            case _:
                pass
    return False


# --- the network of a sum


class Reader:
    """Takes a sum apart. `inside` are the sums that went into its network."""

    def __init__(self, users: Mapping[Form, int]) -> None:
        self.users = users
        self.inside: set[Form] = set()
        self.items: list[Item] = []
        self.over: list[Axis] = []

    def network(self, form: Form) -> Network | None:
        """The network of a sum; None where there is one order only, or too much to look at."""
        assert isinstance(form, Reduce)
        (piece,) = form.pieces
        self.over += piece.axes
        self._read(piece.value, frozenset(piece.value.axes))
        over = set(self.over)
        outside = tuple(each for each in self.items if not each.axes & over)
        moving = [each for each in self.items if each.axes & over]
        if len(moving) > 4 * MOST_ITEMS or not over <= {axis for each in moving for axis in each.axes}:
            return None
        if any(each.how == "times" and each.form.kind != "real" for each in self.items):
            return None
        nodes = _together(moving)
        single = [axis for axis in over if sum(axis in _axes(node) for node in nodes) == 1]
        plain = len(nodes) == 2 and not single
        return (
            None if plain or not 2 <= len(nodes) <= MOST_ITEMS else Network(nodes, outside, tuple(self.over))
        )

    def _read(self, form: Form, held: frozenset[Axis]) -> None:
        """`held` are the axes that something around the form has."""
        match form:
            case Map(op="mul", args=(a, b)):
                self._read(a, held)
                self._read(b, held)
            case Map(op="div", args=(a, b)):
                self._read(a, held)
                self.items.append(Item("over", b))
            case When(predicate=p, value=x):
                self._read(x, held)
                self.items.append(Item("where", p))
            case Reduce(pieces=pieces) if is_sum(form) and self.users.get(form, 0) < 2 and not weighed(form):
                self.inside.add(form)
                (piece,) = pieces
                own = {axis: like_axis(axis) for axis in piece.axes if axis in held or axis in self.over}
                value = rename(piece.value, own) if own else piece.value
                self.over += [own.get(axis, axis) for axis in piece.axes]
                self._read(value, held | frozenset(value.axes))
            case _:
                self.items.append(Item("times", form))


def _together(items: Sequence[Item]) -> tuple[tuple[Item, ...], ...]:
    """The items in nodes: one whose axes another one has goes with the smallest such."""
    nodes: list[list[Item]] = []
    for item in sorted(items, key=lambda each: -len(each.axes)):
        wider = [node for node in nodes if item.axes <= node[0].axes]
        if wider:
            min(wider, key=lambda node: len(node[0].axes)).append(item)
        else:
            nodes.append([item])
    places = {id(item): i for i, item in enumerate(items)}
    nodes.sort(key=lambda node: min(places[id(item)] for item in node))
    return tuple(tuple(sorted(node, key=lambda item: places[id(item)])) for node in nodes)


def _axes(items: Sequence[Item]) -> frozenset[Axis]:
    return frozenset(axis for each in items for axis in each.axes)


# --- its orders

Tree = int | tuple["Tree", "Tree"]


def _trees(members: tuple[int, ...]) -> Iterator[Tree]:
    """Every way to take the nodes together two by two."""
    if len(members) == 1:
        yield members[0]
        return
    first, rest = members[0], members[1:]
    for count in range(len(rest)):
        for chosen in combinations(rest, count):
            right = tuple(each for each in rest if each not in chosen)
            for one in _trees((first, *chosen)):
                for other in _trees(right):
                    yield one, other


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a network on the way: a product of items, or one item that is a sum already."""

    members: frozenset[int]
    items: tuple[Item, ...]
    flops: tuple[Term, ...] = ()
    stored: tuple[Term, ...] = ()
    apart: bool = False
    """Whether two parts came together without an axis to sum over: that saves nothing."""


def _choice(form: Form, network: Network, names: Mapping[Form, str]) -> Choice | None:
    """The orders of a network that are the least at some sizes."""
    flops = tuple(_written(form))
    written = Order(form, flops, _cost(flops), _words(form, names, True))
    found: list[Order] = []
    for tree in _trees(tuple(range(len(network.nodes)))):
        part = _taken(tree, network)
        if part.apart:
            continue
        cost = _cost((*part.flops, *part.stored), LAUNCHED * len(part.stored))
        made = product((*part.items, *network.outside))
        if not _less(cost, written.cost) or set(made.axes) != set(form.axes):
            continue
        found.append(Order(made, part.flops, cost, _words(made, names)))
    kept: list[Order] = []
    for each in sorted(found, key=lambda order: sum(polynomial(order.cost, True).values())):
        if all(_less(each.cost, other.cost) for other in kept):
            kept.append(each)
    return Choice(written, tuple(kept[:MOST_ORDERS])) if kept else None


def _less(one: Form, other: Form) -> bool:
    """Whether one cost is below the other at some sizes, as far as coefficients tell."""
    first, second = polynomial(one, True), polynomial(other, True)
    return any(first.get(each, 0) < times for each, times in second.items())


def _taken(tree: Tree, network: Network) -> Part:
    if isinstance(tree, int):
        return _closed(Part(frozenset((tree,)), network.nodes[tree]), network)
    one, other = (_taken(each, network) for each in tree)
    part = Part(
        one.members | other.members, (*one.items, *other.items), (*one.flops, *other.flops),
        (*one.stored, *other.stored), one.apart or other.apart,
    )  # fmt: skip
    closed = _closed(part, network)
    return replace(part, apart=True) if closed is part else closed


def _closed(part: Part, network: Network) -> Part:
    """The part summed over the axes that nothing outside of it has."""
    others = (node for i, node in enumerate(network.nodes) if i not in part.members)
    kept = frozenset(axis for node in others for axis in _axes(node))
    axes = _axes(part.items)
    over = tuple(axis for axis in network.over if axis in axes and axis not in kept)
    if not over:
        return part
    made = Reduce("sum", (Piece(product(part.items), over),))
    flops = (*part.flops, Term(2, tuple(axes)))
    whole = len(part.members) == len(network.nodes)
    stored = part.stored if whole else (*part.stored, Term(STORED, made.axes))
    return Part(part.members, (Item("times", made),), flops, stored, part.apart)


def product(items: Sequence[Item]) -> Form:
    """The items multiplied, then divided, then masked."""
    times = [each.form for each in items if each.how == "times"] or [Const(1.0)]
    made = reduce(lambda a, b: Map("mul", (a, b)), times)
    for each in items:
        made = Map("div", (made, each.form)) if each.how == "over" else made
    for each in items:
        made = When(each.form, made) if each.how == "where" else made
    return made


# --- costs and words


def _written(form: Form) -> Iterator[Term]:
    """The FLOPs of a sum and of the sums inside it, as they are written: of each the multiply-adds."""
    for each in walk((form,), _parts):
        if is_sum(each):
            assert isinstance(each, Reduce)
            yield Term(2, each.pieces[0].value.axes)


def _parts(form: Form) -> tuple[Form, ...]:
    match form:
        case Map(op="mul" | "div", args=args):
            return args
        case When(value=x):
            return (x,)
        case Reduce() if is_sum(form):
            return (form.pieces[0].value,)
        case _:
            return ()


def _cost(terms: Sequence[Term], more: int = 0) -> Form:
    """What terms come to, a form of sizes."""
    total: Form = Const(more)
    for term in terms:
        count = reduce(lambda a, b: apply("mul", a, b), map(size, term.axes), Const(term.count))
        total = apply("add", total, count)
    return from_polynomial(polynomial(total, True))


def _words(form: Form, names: Mapping[Form, str], root: bool = False) -> str:
    match form:
        case Reduce(pieces=pieces) if is_sum(form) and (root or form not in names):
            (piece,) = pieces
            return f"sum[{', '.join(map(word_of, piece.axes))}]({_words(piece.value, names)})"
        case Map(op="mul" | "div" as op, args=(a, b)):
            return f"{_words(a, names)} {'*' if op == 'mul' else '/'} {_words(b, names)}"
        case When(value=x):
            return f"when(.., {_words(x, names)})"
        case Const(value=value):
            return f"{value:g}" if isinstance(value, float) else str(value)
        case Leaf(name=name):
            return name
        case At(value=x) if form not in names:
            return _words(x, names)
        case _:
            return names.get(form, "..")
