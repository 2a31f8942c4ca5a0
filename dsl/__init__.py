"""The language: source positions, errors, forms, the two spellings, the checker. Imports no torch."""
