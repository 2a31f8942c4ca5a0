"""Products with a mask: what it leaves out is no term, whatever stands there.

A matrix unit multiplies all there is. What the mask leaves out has a factor 0, so the product is right unless
the other factor is infinite or not a number, and then it is not a number itself. So nothing is looked at on the
way. A stream is looked at after its last chunk, where what it carries shows a NaN of any of them, and is then
gone through once more, entry by entry: what it means depends on no step. Other products are looked at where they
stand, and computed once more by one place of the contraction after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...compiler.kernels.kernel import Carry, Dot, Let, Load, Statement, Stream, every, operands
from .dots import Dots
from .emit import Value, literal, spread
from .layout import Dims, Product
from .names import entry_by_entry
from .ops import FOLDS

KEEPING = ("add", "sub", "mul", "div", "neg")
"""Operations that are not a number where an argument is not."""


class Exact(Dots):
    """Prints products with masks."""

    __slots__ = ()

    def dot(self, dot: Dot) -> None:
        super().dot(dot)
        product = self.layout.products.get(dot.name)
        if dot.mask is True or product is None or dot.name in self.deferred:
            return  # what is no matrix product was folded by the mask
        made = self.values[dot.name]
        with self.branch(made.code):
            right = self._by_entries(dot, product)
            self.out.add(f"{made.code} = {self.express.fill(right, 'real', made.dims)}")

    @contextmanager
    def branch(self, *codes: str) -> Iterator[None]:
        """What is done where an entry of some values is not a number."""
        outside = dict(self.masked)
        with self.out.block(f"if {' | '.join(f'has_nan({code})' for code in codes)}:"):
            yield
        self.masked = outside

    def _by_entries(self, dot: Dot, product: Product) -> Value:
        """The product with `init * scale` added, one place of the contraction after another."""
        dims = self.layout.values[dot.name]
        left, right = (self._named(self._zeroed(side, dot.over), side) for side in (dot.left, dot.right))
        mask = self._named(self.express.to(self.operand(dot.mask), "bool"), f"{dot.name}_mask")
        total = self.identifiers.new(f"{dot.name}_exact")
        self.out.add(f"{total} = {self.express.fill(literal(0.0), 'real', dims)}")
        depth = self.out.depth
        here: list[Value] = []
        for group in product.depth:
            place = self.identifiers.new("place")
            self.out.add(f"for {place} in range(0, {group.size}):")
            self.out.depth += 1
            here.append(Value(f"(tl.arange(0, {group.size}) == {place})", "bool", (group,)))
        one, other, kept = (self._entry(each, here, product.depth) for each in (left, right, mask))
        terms = Value(f"({spread(one, dims)} * {spread(other, dims)})", "real", dims)
        self.out.add(f"{total} += tl.where({spread(kept, dims)}, {terms.code}, 0.0)")
        self.out.depth = depth
        return self._added(Value(total, "real", dims), dot)

    def _named(self, value: Value, wish: str) -> Value:
        """The value under a name, computed once."""
        if value.code.isidentifier() or value.literal:
            return value
        name = self.identifiers.new(wish)
        self.out.add(f"{name} = {value.code}")
        return Value(name, value.kind, value.dims)

    def _entry(self, value: Value, here: list[Value], depth: Dims) -> Value:
        """The value at one place of the contraction: what is elsewhere is left out of a fold of it."""
        masks = [each for each in here if set(each.dims) & set(value.dims)]
        if not masks:
            return value
        op, rest = ("any", "False") if value.kind == "bool" else ("sum", "0.0")
        code = f"tl.where({spread(self.both(masks), value.dims)}, {value.code}, {rest})"
        dims = value.dims
        for group in reversed(value.dims):
            if group in depth:
                code = FOLDS[op].reals.format(code, dims.index(group))
                dims = tuple(each for each in dims if each is not group)
        name = self.identifiers.new(f"{value.code}_entry")
        self.out.add(f"{name} = {code}")
        return Value(name, value.kind, dims)

    # --- streams

    def stream(self, stream: Stream) -> None:
        """A stream; once more, entry by entry, where a masked product of it met what is not finite."""
        shown = self._witnesses(stream)
        self.deferred |= shown.keys()
        self.out.note(f"stream over {', '.join(axis.name for axis in stream.axes)}")
        self.loops(stream)
        if not shown:
            return
        used = {*self.layout.values, *self.layout.axes}
        before, twin = entry_by_entry(self._loaded(stream), stream, used)
        self.layout.define((*before, twin))
        with self.branch(*(self.values[carry].code for carry in dict.fromkeys(shown.values()))):
            self.body(before)
            for carry, other in zip(stream.carries, twin.carries, strict=True):
                self.values[other.name] = self.values[carry.name]
            self.loops(twin)

    def body(self, statements: tuple[Statement, ...]) -> None:
        """Print statements in their order."""
        raise NotImplementedError

    def _loaded(self, stream: Stream) -> tuple[Statement, ...]:
        """The loads of whole blocks that a stream reads and what is computed of them: done again, lest they
        stay in registers all through the first round."""
        body = self.kernel.body
        at = next((i for i, each in enumerate(body) if each is stream), 0)
        needed = {name for each in every((stream,)) for name in operands(each)}
        found: list[Statement] = []
        for statement in reversed(body[:at]):
            match statement:
                case Load(name=name) | Let(name=name) if name in needed and len(self.layout.values[name]) > 1:
                    found.append(statement)
                    needed |= set(operands(statement))
                case _:
                    pass
        return tuple(reversed(found))

    def loops(self, stream: Stream) -> None:
        """Print a stream."""
        raise NotImplementedError

    def _witnesses(self, stream: Stream) -> dict[str, str]:
        """The masked products of a stream whose NaN a carry keeps to the end, and the carry of each."""
        found: dict[str, str] = {}
        masked = (each for each in stream.body if isinstance(each, Dot) and each.mask is not True)
        for dot in masked:
            carry = next((each for each in stream.carries if _shows(each, dot.name, stream)), None)
            if carry is not None and dot.name in self.layout.products and not _counts_chunks(stream):
                found[dot.name] = carry.name
        return found


def _counts_chunks(stream: Stream) -> bool:
    """Whether a stream asks where its chunks begin and end."""
    edges = {f"{axis.name}.{edge}" for axis in stream.axes for edge in ("first", "last")}
    bounds = {bound for each in every(stream.body) if isinstance(each, Stream) for axis in each.axes
              for bound in (axis.low, axis.stop)}  # fmt: skip
    plain = (each for each in every(stream.body) if not isinstance(each, Stream))
    return bool(edges & {*bounds, *(operand for each in plain for operand in operands(each))})


def _shows(carry: Carry, name: str, stream: Stream) -> bool:
    """Whether a carry is not a number after a chunk in which a value was not one, and stays so."""
    return all(carry.next in _spoiled(stream.body, start) for start in (name, carry.name))


def _spoiled(body: tuple[Statement, ...], start: str) -> set[str]:
    """What is not a number where `start` is not."""
    found = {start}
    for statement in body:
        match statement:
            case Let(op=op, args=args) if op in KEEPING and found & set(args):
                found.add(statement.name)
            case Dot(init=str() as init) if init in found:
                found.add(statement.name)
            case _:
                pass
    return found
