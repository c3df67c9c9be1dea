"""Stands for the process that captures, and dies."""

import os
import sys

print("src/some.cpp:7: Assertion `something' failed.", file=sys.stderr, flush=True)
os.abort()
