"""What can be computed from the weights alone: asked once a module."""

from __future__ import annotations

from ..compiler.algorithms.deploy import deployment as deployment
from ..compiler.algorithms.hoist import Hoist as Hoist
from ..compiler.algorithms.hoist import hoist as hoist
