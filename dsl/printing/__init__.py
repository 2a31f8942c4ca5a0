"""A program as text."""
