from kernels.conftest import hal_text  # noqa: F401
