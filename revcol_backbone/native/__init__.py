"""Blocks and fusions of a deployed network in C++, compiled on the machine that runs them."""
