"""Copy the embedded store into a collection of a Qdrant server, so that no cache begins cold.

Ids, times, hit counts and signatures stay as they are. What is in the collection already is left
alone, so a run that was killed goes on where it stopped, a second run brings what was stored
meanwhile, and an answer that a proxy has stored there since wins. The embedded store is only read.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from nearhit import config
from nearhit.config import Settings
from nearhit.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from nearhit.sealing import Prompts
    from nearhit.store.embedded import EmbeddedStore
    from nearhit.store.server import ServerStore

# Answers may be a megabyte each, and a page is in memory twice.
PAGE: Final = 32


@dataclass(slots=True)
class Tally:
    """What became of the entries.

    Attributes:
        copied: were stored in the collection, and found there.
        present: were there already, copied before or stored by a proxy.
        forged: carry no signature of this installation; left out.
        flushed: are older than what was flushed in the collection by age; left out.
    """

    copied: int = 0
    present: int = 0
    forged: int = 0
    flushed: int = 0

    @property
    def seen(self) -> int:
        """How many entries were dealt with."""
        return self.copied + self.present + self.forged + self.flushed


async def migrate(
    source: "EmbeddedStore",
    target: "ServerStore",
    secret: bytes,
    progress: Callable[[Tally, int], None],
    now: Callable[[], float] = time.time,
    prompts: "Prompts" = "full",
) -> Tally:
    """Copy all live entries.

    Args:
        source: where they are.
        target: a store that has started, its collection in the epoch of `source`.
        secret: the installation's, see `signing.read_secret`.
        progress: called after each page with the tally and how many entries there are in all.
        now: Unix seconds.
        prompts: how questions and answers are to lie in the target, however they lie in the source.

    Raises:
        StoreError: a store fails, or the collection is in another epoch; what was copied stays.
    """
    # Here, for the command is known to every run of `nearhit`, and this imports numpy.
    from nearhit.sealing import Seal
    from nearhit.signing import is_authentic

    epoch, other = await source.epoch(), await target.epoch()
    if epoch != other:
        raise StoreError(
            f"the collection must be in the epoch of the embedded store, {epoch}, it is in "
            f"{other}: one of them was flushed; name a new one with --collection"
        )
    seal = Seal(prompts, secret)
    tally = Tally()
    after: UUID | None = None
    total = 0
    while True:
        page = await source.live(after, PAGE, int(now()))
        total = max(total, page.left, tally.seen)
        progress(tally, total)
        if not page.entries:
            return tally
        opened = map(seal.open, page.entries)
        ours = [seal.conform(entry) for entry in opened if is_authentic(entry, secret)]
        since = (await target.era()).since
        kept = [entry for entry in ours if entry.created_at >= since]
        held = await target.held([entry.id for entry in kept])
        new = [entry for entry in kept if entry.id not in held]
        await target.insert([seal.seal(entry) for entry in new])
        if len(await target.held([entry.id for entry in new])) != len(new):
            raise StoreError("the server must hold what it acknowledged, it does not; run it again")
        tally.forged += len(page.entries) - len(ours)
        tally.flushed += len(ours) - len(kept)
        tally.present += len(held)
        tally.copied += len(new)
        after = page.entries[-1].id


def add_commands(commands: Any) -> None:
    """Add the command to the parser's subparsers."""
    parser = commands.add_parser("migrate", help="copy the embedded store into a Qdrant server")
    parser.add_argument(
        "config", type=Path, nargs="?", help="the YAML file; without it defaults and environment"
    )
    parser.add_argument("--to", required=True, metavar="URL", help="as store.url, the server")
    parser.add_argument("--collection", help="as store.collection, instead of the config's")
    parser.set_defaults(run=_migrate)


def _migrate(options: argparse.Namespace) -> int:
    from nearhit.signing import read_secret
    from nearhit.store.folder import STORE

    given = {"NEARHIT_STORE__URL": options.to}
    if options.collection is not None:
        given["NEARHIT_STORE__COLLECTION"] = options.collection
    parsed = {} if options.config is None else config.read_config(options.config)
    settings = config.load(config.read_section(parsed), {**os.environ, **given})
    if not (settings.data_dir / STORE).is_dir():
        raise ConfigError(
            f"data_dir must hold an embedded store, {settings.data_dir} has none; set data_dir (or "
            "NEARHIT_DATA_DIR) to the proxy's"
        )
    configured = settings.secret.get_secret_value() if settings.secret else None
    return asyncio.run(_copy(settings, read_secret(configured, settings.data_dir)))


async def _copy(settings: Settings, secret: bytes) -> int:
    from tqdm import tqdm

    from nearhit.encoder.base import DIMENSION
    from nearhit.store.opening import open_embedded, owner_of
    from nearhit.store.server import ServerStore

    source = open_embedded(settings, DIMENSION)
    target: ServerStore | None = None
    try:
        target = ServerStore(
            settings.store, DIMENSION, owner=owner_of(secret), epoch=await source.epoch()
        )
        await target.start()
        with tqdm(unit="entry", desc="migrate", file=sys.stderr) as bar:

            def show(tally: Tally, total: int) -> None:
                bar.total = total
                bar.update(tally.seen - bar.n)

            tally = await migrate(source, target, secret, show, prompts=settings.store.prompts)
        held = await target.count()
    finally:
        await source.close()
        if target is not None:
            await target.close()
    print(
        f"{tally.copied} entries copied, {tally.present} were there, "
        f"{settings.store.collection} holds {held}; now set store.url"
    )
    if tally.flushed:
        print(f"nearhit: {tally.flushed} entries are flushed there and were left out")
    if tally.forged:
        print(
            f"nearhit: {tally.forged} entries carry no signature of this installation and were "
            f"left out",
            file=sys.stderr,
        )
    return 0
