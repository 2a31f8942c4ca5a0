"""Which values are stored, and which are recomputed where they are read: the plan of a program.

Inlining is always legal here (presence is computed with the value), so fusing is a question of cost:
every stored value costs its bytes twice, every inlined one its operations at each place that reads it.
The rules, in the order in which they are asked for a value that another one reads:

    outputs and updates are stored;
    what no kernel computes (scan, library, complex, data-dependent place) is a reference operation;
    a softmax sum of the streaming family takes its softmax and its scores into its own kernel, and so
    does a sum with contractions in every entry;
    a reduction is stored, unless it is computed once inside its reader (`tile_group.py` says when);
    pointwise values are inlined, unless that would repeat too much of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch.fx import GraphModule, Node

from ...dsl.program import (
    AsIf,
    At,
    Axis,
    Form,
    Map,
    OnGradient,
    Otherwise,
    Program,
    Reduce,
    When,
    children,
    walk,
)
from ..meaning.to_fx import META, Typed
from ..rewrites.total import Totality
from .attention_family import Attention, asked, match_attention, must_store
from .contraction import like_a_weight, parameter_axes
from .graphs import condense, topological_order
from .plan import Edge, Group, Plan, Stored, no_kernel, trivial
from .sum_family import StreamedSum, match_sum, runs_along_the_result, sums_store
from .tile_group import TileGroup, pointwise_in

MOST_WORK = 400
"""Operations that one element of a stored value may repeat of pointwise values before they are stored."""

Pointwise = Map | When | Otherwise | At | AsIf | OnGradient


@dataclass(slots=True)
class Fusion:
    """`reasons` says of each stored value why it is stored; `matches` the streams that were found.
    `resident`: the machine keeps axes of fixed size whole in a tile. `parts` are the reductions of parts."""

    program: Program
    graph: GraphModule
    resident: bool
    outputs: bool
    parts: frozenset[Form] = frozenset()
    reasons: dict[Form, str] = field(default_factory=dict[Form, str])
    matches: dict[Form, Attention | StreamedSum] = field(default_factory=dict[Form, Attention | StreamedSum])
    softmaxes: dict[Form, Attention | str] = field(default_factory=dict[Form, Attention | str])
    sums: dict[Form, StreamedSum | str] = field(default_factory=dict[Form, StreamedSum | str])
    refused: dict[Form, str] = field(default_factory=dict[Form, str])
    families: dict[Form, tuple[str, str]] = field(default_factory=dict[Form, tuple[str, str]])
    work: dict[Form, int] = field(default_factory=dict[Form, int])
    users: dict[Form, list[Form]] = field(default_factory=dict[Form, list[Form]])
    parameters: frozenset[Axis] = frozenset()
    total: Totality = field(init=False)

    def __post_init__(self) -> None:
        self.total = Totality(self.program)

    def plan(self) -> Plan:
        """Decide, and put the groups in order."""
        self._count()
        pending = list(dict.fromkeys(self.program.roots))
        for root in pending:
            self.reasons[root] = "it is an output"
        done: set[Form] = set()
        while pending:
            root = pending.pop()
            if root in done:
                continue
            done.add(root)
            for form, reason in self._group(root):
                if form not in self.reasons:
                    self.reasons[form] = reason
                if form not in done:
                    pending.append(form)
        return self._ordered([form for form in self.program.forms if form in self.reasons])

    # --- costs

    def _count(self) -> None:
        """How often each form is an operand, and how much work it is when nothing is shared."""
        for form in self.program.forms:
            below = children(form)
            self.work[form] = 1 + sum(self.work[child] for child in below)
            if isinstance(form, Reduce) or not isinstance(form, Pointwise):
                self.work[form] = 1
            for child in below:
                self.users.setdefault(child, []).append(form)
        if self.resident:
            self.parameters = parameter_axes(self.program)

    def _work(self, form: Form) -> int:
        """The operations of a form; a match makes products and reads that the program does not have."""
        if form not in self.work:
            self.work[form] = 1 + sum(self._work(child) for child in children(form))
        return self.work[form]

    # --- one group

    def _group(self, root: Form) -> list[tuple[Form, str]]:
        """The values that the group of `root` reads and that must therefore be stored."""
        problem = no_kernel(root)
        if problem:
            self.families[root] = ("reference", problem)
            return [
                (child, "a reference operation reads it") for child in children(root) if not trivial(child)
            ]
        match = self._stream(root)
        if match is not None:
            self.matches[root] = match
            if isinstance(match, StreamedSum):
                self.families[root] = ("sum", "")
                return self._sum_reads(root, match)
            union = f"over a union of {len(match.domains)} domains" if len(match.domains) > 1 else ""
            self.families[root] = ("stream", union)
            return self._stream_reads(root, match)
        self.families[root] = ("tiles", self.refused.get(root, ""))
        if not self.resident:
            return list(self._below(root, set()))
        return list(self._tiles(root).reads().items())

    def _tiles(self, root: Form) -> TileGroup:
        fixed = dict(self.program.fixed)
        return TileGroup(root, self.parameters, self.outputs, self._stored, trivial, self._shared, fixed)

    def _stored(self, form: Form) -> str:
        """Why a value is stored whoever reads it, or ""."""
        if form in self.reasons:
            return self.reasons[form]
        problem = no_kernel(form)
        if problem:
            return f"no kernel computes it: {problem}"
        if not isinstance(self._matched(form), str):
            return "it has a streaming kernel of its own"
        if form in self.parts:
            return "its parts run side by side"
        work = self._work(form)
        if work > MOST_WORK and isinstance(form, Map | Otherwise | When):
            return f"recomputing it takes {work} operations an element"
        return ""

    def _shared(self, form: Form, root: Form) -> bool:
        """Whether a group other than that of `root` reads a value."""
        stack, seen = [form], {form}
        while stack:
            for user in self.users.get(stack.pop(), []):
                if user == root or user in seen or self._makes_own(user, form):
                    continue
                if user in self.reasons or no_kernel(user):
                    return True
                seen.add(user)
                stack.append(user)
        return False

    def _makes_own(self, user: Form, form: Form) -> bool:
        """Whether a reader streams, and computes what it needs of a value over queries and keys itself."""
        match = self._matched(user)
        if isinstance(match, str) or form in self.reasons:
            return False
        return form not in (must_store(match) if isinstance(match, Attention) else sums_store(match))

    def _stream(self, root: Form) -> Attention | StreamedSum | None:
        """A streaming reduction that is the root, or that the root is pointwise in."""
        found: list[Attention | StreamedSum] = []
        for form, match in self._streams(root):
            if isinstance(match, str):
                self.refused[root] = match
            elif set(form.axes) == set(root.axes):
                found.append(match)
            else:
                self.refused[root] = "the sum has other axes than the result"
        return found[0] if len(found) == 1 else None

    def _streams(self, root: Form) -> Iterator[tuple[Form, Attention | StreamedSum | str]]:
        """The outermost sums that stream among those that a value is pointwise in; or why they do not."""
        stack, seen = [root], set[Form]()
        while stack:
            form = stack.pop()
            if form in seen:
                continue
            seen.add(form)
            match = self._matched(form)
            if match:
                yield form, match
            if isinstance(match, str) and isinstance(form, Map | When | Otherwise | AsIf | OnGradient):
                stack += children(form)

    def _matched(self, form: Form) -> Attention | StreamedSum | str:
        """The match of a reduction, or of sums added up, in either family, or why there is none; "" for
        what is neither."""
        if not isinstance(form, Reduce) and not (isinstance(form, Map) and form.op == "add"):
            return ""
        if form not in self.softmaxes:
            self.softmaxes[form] = match_attention(form)
        match = self.softmaxes[form]
        if isinstance(match, Attention):
            return match
        other = self._sum(form)
        return other if isinstance(other, StreamedSum) else match or other

    def _sum(self, form: Form) -> StreamedSum | str:
        """The match of a reduction as a streaming sum, asked once. What is as large as a weight (its gradient, which
        a gradient of a bias may be made of) is better stored than contracted twice."""
        if form not in self.sums:
            match = match_sum(form)
            dots = match.inner if isinstance(match, StreamedSum) and not match.folds else ()
            if dots and all(like_a_weight(each.form, self.program) for each in dots):
                match = "its contractions are as large as weights"
            elif isinstance(match, StreamedSum) and runs_along_the_result(match):
                match = "its contraction has one value for all entries"
            self.sums[form] = match
        return self.sums[form]

    def _sum_reads(self, root: Form, match: StreamedSum) -> list[tuple[Form, str]]:
        reads = [(form, "what passes by in a stream is read in place") for form in sums_store(match)]
        read = {form for form, _ in match.statistics}
        inside = {match.root, *(form for form, _ in reads), *(each.form for each in match.inner), *read}
        inside |= set(match.folds)
        needed = [*match.weights, *match.predicates, *(each.query for each in match.inner)]
        needed += [piece.value for fold in match.folds for piece in fold.pieces]
        reads += self._walk(needed, set(root.axes), inside, False)
        return reads + list(self._below(root, inside))

    def _stream_reads(self, root: Form, match: Attention) -> list[tuple[Form, str]]:
        reads = [(form, "what passes by in a stream is read in place") for form in must_store(match)]
        inside = {match.root, *(form for form, _ in reads)}
        inside |= {domain.dot for domain in match.domains if domain.dot is not None}
        inside |= {fold for domain in match.domains for fold in domain.folds}
        reads += self._walk(asked(match), set(root.axes), inside, False)
        return reads + list(self._below(root, inside))

    def _below(self, root: Form, inside: set[Form]) -> Iterator[tuple[Form, str]]:
        if root in inside:
            return iter(())
        return self._walk(children(root), set(root.axes), inside, not isinstance(root, At | Reduce))

    def _walk(
        self, starts: Sequence[Form], axes: set[Axis], inside: set[Form], top: bool
    ) -> Iterator[tuple[Form, str]]:
        """What must be stored among these forms and below; `top` while we are pointwise over the
        result's own axes."""
        stack = [(form, top) for form in starts]
        seen: set[tuple[Form, bool]] = set()
        while stack:
            form, here = stack.pop()
            if (form, here) in seen or form in inside or trivial(form):
                continue
            seen.add((form, here))
            reason = self._reason(form, here, axes) or self._whole(form, here, axes, inside)
            if reason:
                yield form, reason
                continue
            inner = here and not isinstance(form, At | Reduce)
            stack += [(child, inner) for child in children(form)]

    def _whole(self, form: Form, here: bool, axes: set[Axis], inside: set[Form]) -> str:
        """Why a value is stored in place of the reductions that it is made of (a normalised query): each would
        be, nothing else reads them, and one has all of its axes."""
        if not isinstance(form, Map) or form.kind != "real":
            return ""
        below = set(walk((form,), lambda each: () if each != form and self._stored(each) else children(each)))
        parts = [each for each in pointwise_in(form) if isinstance(each, Reduce)]
        if len(parts) < 2 or below & inside or all(set(each.axes) != set(form.axes) for each in parts):
            return ""
        if any(not below.issuperset(self.users[each]) for each in parts):
            return ""
        reasons = [self._reason(each, here, axes) for each in parts]
        return f"it is made of {len(parts)} reductions, and {reasons[0]}" if all(reasons) else ""

    def _reason(self, form: Form, here: bool, axes: set[Axis]) -> str:
        """Why a value must be stored, or "" if it is computed where it is read."""
        stored = self._stored(form)
        if stored or not isinstance(form, Reduce):
            return stored
        uses = len(self.users.get(form, ()))
        if uses > 1:
            return f"a {form.op} that is read {uses} times is computed once"
        if not here:
            return f"a {form.op} inside another loop would be computed again at every step"
        if set(form.axes) != axes:
            lost = ", ".join(sorted(a.name for a in axes - set(form.axes)))
            return f"a {form.op} would be computed again for every {lost}"
        return ""

    # --- the plan

    def _ordered(self, stored: list[Form]) -> Plan:
        names = self._names(stored)
        outputs = {
            output.value: tuple(a for item in output.items for a in item) for output in self.program.outputs
        }
        buffers = {update.value: update.buffer.over for update in self.program.updates}
        results = {
            form: Stored(
                names[form],
                form,
                outputs.get(form) or buffers.get(form) or form.axes,
                form not in outputs and form not in buffers and not self.total.of(form),
            )
            for form in stored
        }
        groups = {names[form]: self._made(results[form]) for form in stored}
        edges = list(self._edges(names))
        between = [(a, b) for form in stored for a, b in self._needs(form, names)]
        order = topological_order(groups, condense(groups, between, {name: name for name in groups}))
        if order is None:
            raise AssertionError("the groups of a program form a cycle")
        return Plan(self.program, tuple(groups[name] for name in order), tuple(edges))

    def _made(self, result: Stored) -> Group:
        family, reason = self.families[result.form]
        match family:
            case "stream" | "sum" | "tiles" | "reference":
                return Group(result, family, reason)
            case _:
                raise AssertionError(family)

    def _needs(self, form: Form, names: dict[Form, str]) -> Iterator[tuple[str, str]]:
        """The groups that the group of `form` waits for."""

        def operands(each: Form) -> tuple[Form, ...]:
            return () if each is not form and each in names else children(each)

        for each in walk((form,), operands):
            if each != form and each in names:
                yield names[each], names[form]

    def _names(self, stored: list[Form]) -> dict[Form, str]:
        """The author's names where there are any, made distinct from those of the leaves."""
        wishes = {form: name for name, form in self.program.names}
        wishes |= {output.value: output.name for output in self.program.outputs}
        taken = {declaration.leaf.name for declaration in self.program.declarations}
        names: dict[Form, str] = {}
        for i, form in enumerate(stored):
            name = wishes.get(form, f"v{i + 1}")
            while name in taken:
                name += "_"
            taken.add(name)
            names[form] = name
        return names

    def _edges(self, names: dict[Form, str]) -> Iterator[Edge]:
        """Every edge of the fx graph between two computed values."""
        wishes: dict[Form, str] = {form: name for name, form in self.program.names}
        wishes |= names
        for node in self.graph.graph.nodes:
            consumer = form_of(node)
            if consumer is None or trivial(consumer):
                continue
            for operand in node.all_input_nodes:
                producer = form_of(operand)
                if producer is None or trivial(producer):
                    continue
                source = wishes[producer] if producer in wishes else str(operand.name)
                target = wishes[consumer] if consumer in wishes else str(node.name)
                if producer in names:
                    yield Edge(source, target, False, self.reasons[producer], producer)
                else:
                    yield Edge(source, target, True, "computed where it is read", producer)


def form_of(node: Node) -> Form | None:
    """The form that a node of the graph computes, if it computes one."""
    typed = node.meta.get(META)
    return typed.form if isinstance(typed, Typed) else None
