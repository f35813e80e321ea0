"""Measures what nearhit decides, over the cache that serves."""
