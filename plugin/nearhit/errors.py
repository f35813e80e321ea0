"""Every error that nearhit raises on purpose.

    NearhitError
    ├── ConfigError      a setting is wrong; raised at start-up only (also a ValueError)
    ├── EncoderError     no vector can be had
    │   └── EncoderBusy  its queue is full
    └── StoreError       the store did not answer, or answered nonsense
        └── StoreBusy    its queue is full

The request path never lets one escape: the hook catches, counts and calls the model.
Messages name the setting, the rule, the value and the remedy; never a prompt or a key.
"""


class NearhitError(Exception):
    """Base of all errors that nearhit raises on purpose."""


class ConfigError(NearhitError, ValueError):
    """A setting is missing, unknown or out of range."""


class EncoderError(NearhitError):
    """The encoder could not be built or loaded, or gave no usable vector."""


class EncoderBusy(EncoderError):  # noqa: N818 - a state, like the built-in BlockingIOError
    """The encoder's queue is full; the request is better served by the model."""


class StoreError(NearhitError):
    """The store is unreachable, refused a call, or returned what it must not."""


class StoreBusy(StoreError):  # noqa: N818 - a state, like the built-in BlockingIOError
    """The store's queue is full; the request is better served by the model."""
