"""One subgraph as MLIR."""
