"""The main job on real input, as a program: `make demo`, which is `python -m examples.demo`."""
