"""MLIR to an accepted kernel: targets, iree-compile, code objects, cache, workers."""
