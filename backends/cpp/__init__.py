"""Kernel -> C++17 -> shared library -> callable."""
