"""MIGraphX as this package sees it: the library, its C API, its objects, custom operators."""
