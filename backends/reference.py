"""The reference backend: the interpreter in float64, which has no kernels."""

from __future__ import annotations

from ..compiler.meaning.interpret import interpret as interpret
from ..compiler.meaning.storage import load as load
