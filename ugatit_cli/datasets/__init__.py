"""Data sets by name: fetched, kept and found."""
