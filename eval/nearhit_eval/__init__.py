"""Measures what nearhit decides. Not written yet."""
