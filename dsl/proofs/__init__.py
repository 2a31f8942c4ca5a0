"""What holds for all sizes: presence, bounds, and what a program must keep."""
