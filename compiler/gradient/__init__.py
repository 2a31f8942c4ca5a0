"""Gradients as programs, and what the forward call keeps for them."""
