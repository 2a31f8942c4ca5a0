"""The reference backend: the interpreter in float64, which has no kernels."""

from __future__ import annotations

from ..compiler.interpret import interpret as interpret
from ..compiler.storage import load as load
