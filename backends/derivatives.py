"""The derived programs of a program: what autograd asks for when it first needs them."""

from __future__ import annotations

from ..compiler.gradient.derive import gradient as gradient
from ..compiler.gradient.residuals import Sums as Sums
from ..compiler.gradient.residuals import from_kept as from_kept
from ..compiler.gradient.residuals import keep as keep
from ..compiler.gradient.tangent import added as added
from ..compiler.gradient.tangent import apart as apart
from ..compiler.gradient.tangent import tangent as tangent
