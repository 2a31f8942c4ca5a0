"""Benchmarks as commands: peer and ours in one run, interleaved, medians and ratios."""
