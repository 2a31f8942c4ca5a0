"""The derived programs of a program: what autograd asks for when it first needs them."""

from __future__ import annotations

from ..compiler.derive import gradient as gradient
from ..compiler.residuals import from_kept as from_kept
from ..compiler.residuals import keep as keep
from ..compiler.tangent import added as added
from ..compiler.tangent import apart as apart
from ..compiler.tangent import tangent as tangent
