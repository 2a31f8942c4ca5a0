"""What explain() knows: counts, costs, bounds, and how they are told."""
