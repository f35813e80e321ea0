"""The store that the settings ask for: the embedded one, or a Qdrant server's collection."""

import hashlib
import hmac

from nearhit.config import Settings
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.server import ServerStore


def open_store(settings: Settings, dimension: int, secret: bytes) -> EmbeddedStore | ServerStore:
    """Return the store, which connects at its start.

    Raises:
        ConfigError: the data folder's path is too long for this system.
    """
    if settings.store.url is None:
        return open_embedded(settings, dimension)
    return ServerStore(settings.store, dimension, owner=owner_of(secret))


def open_embedded(settings: Settings, dimension: int) -> EmbeddedStore:
    """Return the embedded store of the data folder, whatever `store.url` says."""
    return EmbeddedStore(
        settings.data_dir,
        dimension=dimension,
        max_entries=settings.store.max_entries,
        max_pending=settings.store.max_pending,
    )


def owner_of(secret: bytes) -> str:
    """Return the digest that a collection carries of the secret its entries are signed with."""
    return hmac.new(secret, b"nearhit collection", hashlib.sha256).hexdigest()[:32]
