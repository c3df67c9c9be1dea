"""Random programs of all that the lowering has in its tables, computed by IREE and judged against MIGraphX."""
