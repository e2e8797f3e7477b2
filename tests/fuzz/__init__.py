"""Damaged and hostile input, seeded: made, tried, counted. ``python -m tests.fuzz``."""
