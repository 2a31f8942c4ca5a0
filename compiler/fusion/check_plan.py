"""The checker of a plan: every output has a group, and every value that a group reads is made before."""

from __future__ import annotations

from collections.abc import Iterator

from ...dsl.errors import CompilerFault
from ...dsl.program import Form, children, walk
from .plan import Plan


def check_plan(plan: Plan) -> None:
    """Raise CompilerFault where a plan is not well-formed."""
    stored = set(plan.stored)
    names = [each.name for group in plan.groups for each in group.results]
    if len(set(names)) != len(names):
        raise CompilerFault("fuse", f"two stored values of one name: {names}", str(plan.program))
    for root in plan.program.roots:
        if root not in stored:
            raise CompilerFault("fuse", "an output has no group", str(plan.program))
    made: set[Form] = set()
    for group in plan.groups:
        own = {each.form for each in group.results}
        for each in group.results:
            late = [form for form in _reads(each.form, stored) if form not in made and form not in own]
            if late:
                raise CompilerFault("fuse", f"`{each.name}` reads what is made after it", str(plan.program))
            if set(each.axes) != set(each.form.axes):
                raise CompilerFault("fuse", f"the axes of `{each.name}` are not those of its form")
        made |= own


def _reads(root: Form, stored: set[Form]) -> Iterator[Form]:
    def operands(form: Form) -> tuple[Form, ...]:
        return () if form in stored and form != root else children(form)

    return (form for form in walk((root,), operands) if form in stored and form != root)
