"""A serialized program as Python data: read, write, edit, fold constants."""
