"""MIGraphX's own optimised and fused program, and taking its fusions apart."""
