"""Kernels back into the program."""
