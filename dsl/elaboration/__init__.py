"""From a syntax tree or a trace to a program; mixers and how they are composed."""
