"""Which instructions make one subgraph."""
