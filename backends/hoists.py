"""What can be computed from the weights alone: asked once a module."""

from __future__ import annotations

from ..compiler.hoist import Hoist as Hoist
from ..compiler.hoist import hoist as hoist
