"""The bytes that storing a value costs, as a formula in the sizes of its axes."""

from __future__ import annotations

from ..dsl.build import size
from ..dsl.ops import Kind
from ..dsl.program import Const, Form
from ..dsl.size_forms import spell

BYTES: dict[Kind, int] = {"bool": 1, "int": 8, "real": 4, "complex": 8}
"""Bytes of one element; reals at float32."""


def traffic(form: Form) -> str:
    """Bytes written once and read once, e.g. `8*h*w`."""
    number, symbols = 2 * BYTES[form.kind], list[str]()
    for axis in form.axes:
        extent = size(axis)
        if isinstance(extent, Const) and isinstance(extent.value, int):
            number *= extent.value
        else:
            symbols.append(axis.name if extent.axes == () and axis.serial == 0 else f"({spell(extent)})")
    return "*".join([str(number), *symbols])
