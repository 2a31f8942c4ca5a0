"""The checker of a plan: every output has a group, and every value that a group reads is made before."""

from __future__ import annotations

from collections.abc import Iterator

from ..dsl.errors import CompilerFault
from ..dsl.program import Form, children, walk
from .plan import Plan


def check_plan(plan: Plan) -> None:
    """Raise CompilerFault where a plan is not well-formed."""
    stored = {group.result.form for group in plan.groups}
    names = [group.result.name for group in plan.groups]
    if len(set(names)) != len(names):
        raise CompilerFault("fuse", f"two stored values of one name: {names}", str(plan.program))
    for root in plan.program.roots:
        if root not in stored:
            raise CompilerFault("fuse", "an output has no group", str(plan.program))
    made: set[Form] = set()
    for group in plan.groups:
        late = [form for form in _reads(group.result.form, stored) if form not in made]
        if late:
            raise CompilerFault(
                "fuse", f"`{group.result.name}` reads what is made after it", str(plan.program)
            )
        if set(group.result.axes) != set(group.result.form.axes):
            raise CompilerFault("fuse", f"the axes of `{group.result.name}` are not those of its form")
        made.add(group.result.form)


def _reads(root: Form, stored: set[Form]) -> Iterator[Form]:
    def operands(form: Form) -> tuple[Form, ...]:
        return () if form in stored and form != root else children(form)

    return (form for form in walk((root,), operands) if form in stored and form != root)
