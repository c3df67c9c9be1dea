"""Models with the structure of well-known ones and random weights; see catalogue.py."""
