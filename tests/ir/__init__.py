"""Serialized programs as data."""
