"""Which values are stored: the plan, what may be one group, and what several groups share."""
