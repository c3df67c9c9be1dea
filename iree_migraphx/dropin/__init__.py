"""The names of ROCm's `migraphx` module, with IREE in program.compile.

They stand on that module where it is installed (rocm.py), and on libmigraphx_c alone where it is not (own.py).
"""
