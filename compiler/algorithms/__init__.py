"""The same result by another way: sums in another order, parts of a program computed elsewhere or at another time."""
