"""Strategies of the families that kernels are written for: each draws networks around one kind of layer."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from attention_family import attention_examples
from attention_unions import union_examples
from draft_attention import attention
from draft_layers import (
    affine,
    contracted,
    correlated,
    crossed,
    gated,
    moved,
    normed,
    pointwise,
    reduced,
    transposed,
    windowed,
)
from drafts import Draft, Layer, Term
from strategies import Draw, Example

SHAPES = (
    ("h", "c"),
    ("c",),
    ("b", "c"),
    ("b", "h", "c"),
    ("h", "w"),
    ("b", "c", "h", "w"),
    ("t", "h", "w", "c"),
)


@st.composite
def networks(draw: Draw, layers: tuple[Layer, ...], most: int = 2, before: int = 1) -> Example:
    """One to `most` of these layers, pointwise layers between them, perhaps a residual and a second output."""
    draft = Draft(draw)
    value = draft.input(draft.begin(draft.pick(SHAPES)))
    first = value
    value = pointwise(draft, value, before)
    outputs: list[Term] = []
    for _ in range(draft.pick(range(1, most + 1))):
        value = draft.pick(layers)(draft, value)
        if draft.chance(10):
            outputs.append(value)
        value = pointwise(draft, value, 1)
    if value.axes == first.axes and draft.chance(50):
        value = draft.let(f"{first.name} + {value.name}", value.axes)
    return draft.example(*dict.fromkeys((value, *outputs)))


@st.composite
def heads(draw: Draw) -> Example:
    """Attention with what networks put around it."""
    draft = Draft(draw)
    return draft.example(pointwise(draft, attention(draft), 1))


MIXED = (windowed, normed, contracted, gated, affine, moved, reduced, crossed, transposed)

FAMILIES: Mapping[str, st.SearchStrategy[Example]] = {
    "pointwise": networks((affine, moved), before=3),
    "reductions": networks((reduced, normed, gated)),
    "windows": networks((windowed, windowed, windowed, transposed)),
    "contractions": networks((contracted, contracted, crossed, correlated)),
    "attention": attention_examples(),
    "unions": union_examples(),
    "heads": heads(),
    "mixed": networks(MIXED, most=4),
}
