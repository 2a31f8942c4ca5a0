"""A program on the Triton backend, for the interpreting process: it arrives as text, as files do."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import plait
from plait.backends.compiled import Compiled


def run(text: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The results of the last mixer of `text`."""
    return Compiled(plait.parse(text).program(), backend="triton", on_unfused="quiet").run(tensors)
