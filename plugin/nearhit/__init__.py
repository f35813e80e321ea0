"""nearhit: semantic response caching for the LiteLLM proxy."""

__version__ = "0.1.0"
