"""The words of the text spelling, for those who write it: what a name must be to stand unquoted.

`grammar.lark` is where a word gets its meaning; a test holds that both lists are the same.
"""

from __future__ import annotations

import json
import re

from .ops import OPS, REDUCTIONS

FOLDS = (*REDUCTIONS, "mean", "softmax")
"""The reductions of the text: `sum[d](x)`. `mean` and `softmax` are sugar."""

FOURIER = ("fft", "ifft", "rfft", "irfft")
SOLVE = ("solve", "solve_spd", "solve_lower", "solve_upper")
RANKED = ("sort_indices", "topk_indices")
MADE = (*FOURIER, *SOLVE, *RANKED, "cat")
"""What works on whole axes and makes new ones: `fft[t -> f](x)`."""

RESERVED = frozenset(
    "mixer near axis span like require param buffer draw previous cotangent update output mode "
    "init from frozen also otherwise until last reverse axes scan place".split()
) | frozenset((*FOLDS, *MADE))
"""Words that the grammar knows by themselves."""

CONSTANTS = ("true", "false", "inf", "nan", "pi")

SUGAR = (
    "when", "select", "present", "clamp", "reflect", "cdiv", "size", "index", "zeros", "trust", "cases",
    "as_if", "stop", "on_gradient", "jvp", "vjp", "last", "steps", "complex", "unfolded",
)  # fmt: skip
"""The calls of the text that are no scalar operation."""

CALLS = frozenset((*(name for name, op in OPS.items() if not op.symbol), *SUGAR))

KINDS = ("real", "bool", "int", "complex")

_NAME = re.compile(r"[^\W\d]\w*(\.\w+)*")
_BATCH = re.compile(r"\.\.(\.|\d+)")


def is_name(text: str) -> bool:
    """Whether the text has the characters of a name: letters, digits, `_`, and inner dots."""
    return _NAME.fullmatch(text) is not None


def is_plain(text: str) -> bool:
    """Whether an expression may hold the name without quotes."""
    return is_name(text) and text not in RESERVED and text not in CONSTANTS


def quoted(text: str) -> str:
    """The text in quotes, in the spelling of JSON."""
    return json.dumps(text, ensure_ascii=False)


def tensor_name(text: str) -> str:
    """How an expression names a value."""
    return text if is_plain(text) else quoted(text)


def axis_name(text: str) -> str:
    """How a list of axes names one; `...` and the axes that stand for it need no quotes."""
    return text if is_plain(text) or _BATCH.fullmatch(text) else quoted(text)
