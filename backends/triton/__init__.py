"""Kernel -> Triton source -> callable, or an ahead-of-time report. Only this folder knows Triton."""
