"""iree_migraphx: IREE writes the kernels of MIGraphX's fused subgraphs."""
