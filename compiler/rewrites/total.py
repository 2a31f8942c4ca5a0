"""Values that are present at every index of their axes: by their structure, or by proof.

What is total needs no mask, no bool beside it in memory, and a count of it is a product of sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial, reduce

from ...dsl.constructors.build import apply, size
from ...dsl.ops import TOTAL_REDUCTIONS
from ...dsl.program import (
    BATCH,
    AsIf,
    Axis,
    Const,
    Coordinate,
    Form,
    Leaf,
    Map,
    OnGradient,
    Otherwise,
    Program,
    Reduce,
    Size,
    walk,
)
from ...dsl.proofs.presence import Presence, answers_for_one_piece, conjunction, terms
from ...dsl.proofs.prove import QUICK, Prover
from ...dsl.proofs.requirements import prover_of
from ...dsl.shapes.size_forms import is_batch, program_axes
from .conditions import Conditions, optional_leaves
from .simplify import Rewriter, rewrite_program

MOST_WORK = 6000
"""Steps that the proofs of a plan may take together; what is not asked then counts as open."""

MOST_OPERATIONS = 12
"""What the formula of a size may have for proofs to look into it: the parts of a reduction have longer ones, which took
minutes to look into and prove nothing."""


@dataclass(slots=True)
class Totality:
    """Answers for one program whose batch is explicit; batch axes may be empty."""

    program: Program
    known: dict[Form, bool] = field(default_factory=dict[Form, bool])
    left: int = MOST_WORK
    _prover: Prover | None = field(default=None, repr=False)
    _presence: Presence | None = field(default=None, repr=False)

    def of(self, form: Form) -> bool:
        """Whether a value is present at every index of its axes."""
        if form not in self.known:
            self.known[form] = always_present(form) or self._proved(form)
        return self.known[form]

    def _proved(self, form: Form) -> bool:
        if self.left <= 0:
            return False
        prover, presence = self._tools()
        predicate = presence.of(form)
        return predicate == Const(True) or self._proves(prover, predicate)

    def _proves(self, prover: Prover, predicate: Form) -> bool:
        work = min(QUICK, self.left)
        found = prover.proves(predicate, work)
        self.left -= work - prover.bounds.work
        return found

    def _tools(self) -> tuple[Prover, Presence]:
        if self._prover is None or self._presence is None:
            prover = prover_of(self.program, filter(_is_intricate, program_axes(self.program)))
            for axis in filter(is_batch, program_axes(self.program)):
                prover.bounds.may_be_empty.add(axis)
                prover.bounds.extents[axis] = prover.bounds.symbol()

            def settle(_form: Form, predicate: Form) -> Form:
                return conjunction(part for part in terms("and", predicate) if not self._proves(prover, part))

            optional = frozenset(d.leaf for d in self.program.declarations if d.optional)
            self._prover, self._presence = prover, Presence(optional, settle)
        return self._prover, self._presence


def _is_intricate(axis: Axis) -> bool:
    if axis.size is None:
        return False
    return sum(isinstance(form, Map) for form in walk((axis.size,))) > MOST_OPERATIONS


def count_by_sizes(program: Program) -> Program:
    """count[k](x) -> size(k) in every map, where x is present everywhere: nothing is left to count."""
    total = Totality(program)

    def size_of(form: Form) -> Form:
        if not isinstance(form, Reduce) or form.op != "count" or any(BATCH in p.axes for p in form.pieces):
            return form
        if not all(total.of(piece.value) for piece in form.pieces):
            return form
        products = (reduce(partial(apply, "mul"), map(size, p.axes), Const(1)) for p in form.pieces)
        return reduce(partial(apply, "add"), products)

    def rule(form: Form, _conditions: Conditions) -> Form | None:
        """f(count[k](x), y) -> f(size(k), y); the engine refuses it where y lacks an axis of x."""
        return Map(form.op, tuple(map(size_of, form.args))) if isinstance(form, Map) else None

    conditions = Conditions(optional_leaves(program))
    return rewrite_program(program, Rewriter({Map: (rule,)}, conditions))


def always_present(form: Form) -> bool:
    """Structurally total: nothing in it can be absent. Axes other than the batch are never empty."""
    total: dict[Form, bool] = {}
    for each in walk((form,)):
        match each:
            case Otherwise(fallback=fallback):
                total[each] = total[fallback] or total[each.value]
            case Leaf() | Const() | Size() | Coordinate():
                total[each] = True
            case Map(args=args):
                total[each] = all(total[arg] for arg in args)
            case AsIf(value=x) | OnGradient(value=x):
                total[each] = total[x]
            case Reduce(op=op, pieces=pieces):
                there = (total[p.value] and not any(is_batch(axis) for axis in p.axes) for p in pieces)
                total[each] = op in TOTAL_REDUCTIONS or (any(there) and not answers_for_one_piece(each))
            case _:
                total[each] = False
    return total[form]
