"""The command iree-migraphx, one module a subcommand."""
