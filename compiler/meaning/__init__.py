"""What a program means: the float64 interpreter, the only judge, and the graph that runs the same operations."""
