"""The store that the settings ask for: the embedded one, or a Qdrant server's collection."""

import hashlib
import hmac

from nearhit.config import Settings
from nearhit.sealing import Seal
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.eviction import Bounds
from nearhit.store.sealed import SealedStore
from nearhit.store.server import ServerStore


def open_store(
    settings: Settings, dimension: int, secret: bytes, *, bounded: bool = False
) -> SealedStore:
    """Return the store, which connects at its start and seals what `store.prompts` says.

    Args:
        settings: all of them.
        dimension: length of every vector.
        secret: the installation's.
        bounded: whether the bounds of `settings` shall hold in the embedded store from now on; a
            command beside the proxy leaves those that do.

    Raises:
        ConfigError: the data folder's path is too long for this system.
    """
    store = settings.store
    backend: EmbeddedStore | ServerStore
    if store.url is None:
        bounds = Bounds(store.max_entries, store.max_bytes) if bounded else None
        backend = open_embedded(settings, dimension, bounds)
    else:
        backend = ServerStore(store, dimension, owner=owner_of(secret))
    return SealedStore(backend, Seal(store.prompts, secret), dimension)


def open_embedded(
    settings: Settings, dimension: int, bounds: Bounds | None = None
) -> EmbeddedStore:
    """Return the embedded store of the data folder, whatever `store.url` says."""
    return EmbeddedStore(
        settings.data_dir,
        dimension=dimension,
        bounds=bounds,
        max_pending=settings.store.max_pending,
    )


def owner_of(secret: bytes) -> str:
    """Return the digest that a collection carries of the secret its entries are signed with."""
    return hmac.new(secret, b"nearhit collection", hashlib.sha256).hexdigest()[:32]
