"""`python -m plait`."""

from .cli import main

main(prog_name="plait")
