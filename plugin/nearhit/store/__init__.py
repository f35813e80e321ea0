"""The store: entries by id and by nearness, bounded, expiring, shared by all workers.

    base      what an entry is, what every store promises, the checks on the way in and out
    embedded  the default: a client of one store process per machine   (`EmbeddedStore`)
    launch    finds or starts that process; link is one connection to it; wire its frames
    daemon    the process itself; engine and shard wrap Qdrant Edge; folder is its files
    server    a Qdrant server or cluster, with a circuit breaker        (`ServerStore`)
    collection   one collection there; all that knows `qdrant-client`
    sealed    either of them, with questions and answers encrypted at rest (`SealedStore`)
    opening   picks one of the two stores by the settings

Only `base` is imported here: the engine is never loaded into the proxy, and the client only
where `store.url` is set.
"""

from nearhit.store.base import Entry, Neighbour, Store

__all__ = ["Entry", "Neighbour", "Store"]
