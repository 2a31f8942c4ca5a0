"""From a Program to Kernels: the meaning, rewrites, derivatives, fusion, schedules. Knows no target."""
