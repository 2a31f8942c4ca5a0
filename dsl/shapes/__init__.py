"""Sizes: integer polynomials, the formulas of sizes, and their binding from shapes."""
