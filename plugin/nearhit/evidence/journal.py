"""The decisions of the cache with what was said of them: one SQLite file, shared by all workers.

DATA_DIR/evidence.sqlite3

    decisions   a question, the stored one that was nearest to serving it, both answers, labels
    quarantine  questions that an entry must not serve, nor any nearer to them than to its own
    ledger      requests, tokens, cost and savings by day, key, team, model and outcome

The file holds questions and answers as the store does, encrypted where `store.prompts` says so; it
can be read by its owner alone.
All methods block, up to `_BUSY_S` where another worker writes: call them in a thread. They raise
`StoreError` where the file is locked or the disk full, `DamagedJournalError` where it is no sound
file.
"""

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from nearhit.errors import ConfigError, StoreError
from nearhit.evidence.ledger import MAX_ROWS_A_DAY, Account, Row, Sums, others
from nearhit.store.base import Vector

if TYPE_CHECKING:
    from nearhit.sealing import Seal

FILE: Final = "evidence.sqlite3"
SCHEMA: Final = 1
MAX_TEXT: Final = 8_000  # characters of an answer that are kept: enough to judge it by
_BUSY_S: Final = 2.0
_MAX_QUARANTINED: Final = 10_000
_KEEP_DAYS: Final = 400  # of the ledger
_ASKED: Final = " asked:"  # before a sealed question: no question begins with a blank
_DIGEST_CHARS: Final = 32
_SEALED_TEXTS: Final = ("question", "stored_question", "stored_answer", "fresh_answer")
# What is the same for the same question, though each time it is encrypted anew.
_SAME_QUESTION: Final = (
    f"iif(question LIKE '{_ASKED}%', substr(question, 1, {len(_ASKED) + _DIGEST_CHARS}), question)"
)


class DamagedJournalError(StoreError):
    """The file is damaged, or no database: it will not mend by itself."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of one tenant's hits in other words, or would-be hits.

    Attributes:
        hits: how many there were.
        wrong: of them and of complaints, those that are said to be wrong.
        verified: those that the judge read.
        verified_wrong: those of them that are wrong.
    """

    hits: int
    wrong: int
    verified: int
    verified_wrong: int

    @property
    def share(self) -> float:
        """Share of wrong ones: of all, which is the least there can be, or of those verified."""
        known = min(1.0, self.wrong / max(1, self.hits))
        return max(known, self.verified_wrong / max(1, self.verified))


Kind = Literal["served", "shadow", "near", "complaint"]
Label = Literal["right", "wrong"]
By = Literal["judge", "person", "client"]

_TABLES: Final = """
CREATE TABLE decisions (
  id TEXT PRIMARY KEY, at INTEGER, kind TEXT, tenant TEXT, decider TEXT, entry TEXT,
  question TEXT, stored_question TEXT, similarity REAL, confidence REAL, veto TEXT,
  stored_answer TEXT, fresh_answer TEXT, vector BLOB, sampled INTEGER,
  judge TEXT, person TEXT, client TEXT
) STRICT;
CREATE INDEX decisions_at ON decisions (at);
CREATE TABLE quarantine (
  decision TEXT PRIMARY KEY, at INTEGER, entry TEXT, decider TEXT, vector BLOB
) STRICT;
"""
# Also in files of before it was there.
_LEDGER: Final = """CREATE TABLE IF NOT EXISTS ledger (
  day INTEGER, key TEXT, team TEXT, model TEXT, outcome TEXT, requests INTEGER,
  prompt_tokens INTEGER, completion_tokens INTEGER, spent_usd REAL, saved_usd REAL, seconds REAL,
  PRIMARY KEY (day, key, team, model, outcome)
) STRICT, WITHOUT ROWID"""
# Holds all that `judged` reads, which is little beside the texts.
_IS_WRONG: Final = "(judge = 'wrong' OR person = 'wrong' OR client = 'wrong')"
_WRONG: Final = f"CREATE INDEX IF NOT EXISTS decisions_wrong ON decisions (at) WHERE {_IS_WRONG}"
_JUDGED: Final = """CREATE INDEX IF NOT EXISTS decisions_judged
  ON decisions (at, tenant, kind, judge, person, client)"""
_COUNT_JUDGED: Final = """WITH own AS (SELECT key AS tenant, value AS since FROM json_each(?))
  SELECT one.tenant, sum(kind <> 'complaint'), sum({said} = 'wrong'),
    sum(kind <> 'complaint' AND judge <> ''),
    sum(kind <> 'complaint' AND judge <> '' AND coalesce(nullif(person, ''), judge) = 'wrong')
  FROM decisions one INDEXED BY decisions_judged LEFT JOIN own ON own.tenant = one.tenant
  WHERE at > ? AND at > coalesce(own.since, 0) AND kind IN ('served', 'shadow', 'complaint')
  GROUP BY one.tenant"""
_BOOK: Final = """UPDATE ledger SET requests = requests + ?,
  prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ?,
  spent_usd = spent_usd + ?, saved_usd = saved_usd + ?, seconds = seconds + ?
  WHERE day = ? AND key = ? AND team = ? AND model = ? AND outcome = ?"""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision about a stored answer in other words.

    Attributes:
        id: names it, 32 hex digits that cannot be guessed.
        at: Unix seconds.
        kind: ``served``; ``shadow``: would have been; ``near``: a miss that came near;
            ``complaint``: a client says that it would be served, and wrong. Not one of a sample.
        tenant: keyed digest of who asked.
        decider: the encoder and verifier that similarity and confidence are of.
        entry: id of the stored entry.
        question: what was asked.
        stored_question: the entry's.
        similarity: cosine between the two.
        confidence: probability that the stored answer serves the question.
        veto: the guard that forbade it, or "".
        stored_answer: the entry's, cut at `MAX_TEXT`.
        fresh_answer: the model's own to the question, or "".
        vector: of the question, float16 bytes.
        sampled: whether it was drawn for verification, whatever came of that.
        judge: what the judge says of it, or "".
        person: what somebody says of it whom the operator trusts, or "".
        client: what its client says of it, or "": this can quarantine, and counts for no share.
    """

    at: int
    kind: Kind
    tenant: str
    decider: str
    entry: str
    question: str
    stored_question: str
    similarity: float
    confidence: float
    veto: str
    stored_answer: str
    fresh_answer: str
    vector: bytes
    sampled: bool = False
    judge: str = ""
    person: str = ""
    client: str = ""
    id: str = ""

    @property
    def label(self) -> str:
        """What counts: a person's word before a judge's; "" where there is neither."""
        return self.person or self.judge


@dataclass(frozen=True, slots=True)
class Verified:
    """A decision of the live sample, and what is said of it.

    Attributes:
        at: Unix seconds.
        confidence: probability that was stated.
        is_wrong: the label.
    """

    at: int
    confidence: float
    is_wrong: bool


@dataclass(frozen=True, slots=True, eq=False)
class Quarantined:
    """A question that an entry must not serve."""

    entry: str
    vector: Vector


_COLUMNS: Final = tuple(field.name for field in fields(Decision))
_INSERT: Final = (
    f"INSERT INTO decisions ({','.join(_COLUMNS)}) "  # noqa: S608 - our own names
    f"VALUES ({','.join('?' * len(_COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "
    "stored_answer = excluded.stored_answer, fresh_answer = excluded.fresh_answer, "
    "sampled = excluded.sampled"
)
_HAS_LABEL: Final = "judge || person <> ''"
_SELECT: Final = f"SELECT {','.join(_COLUMNS)} FROM decisions "  # noqa: S608 - our own names
_SAY: Final = {
    "judge": "UPDATE decisions SET judge = ? WHERE id = ?",
    "person": "UPDATE decisions SET person = ? WHERE id = ?",
    "client": "UPDATE decisions SET client = ? WHERE id = ?",
}


class Journal:
    """The file. Safe to use from several threads and processes."""

    def __init__(
        self, data_dir: Path, max_decisions: int = 10_000, seal: "Seal | None" = None
    ) -> None:
        """Open it, make it if need be.

        Args:
            data_dir: the folder of the installation.
            max_decisions: of those with a label and of those without, the oldest beyond that are
                dropped; 0: none is kept.
            seal: of the installation; None: texts are written as they are, and decisions whose
                texts are encrypted are passed over.

        Raises:
            StoreError: it cannot be opened, or another version of nearhit wrote it.
            DamagedJournalError: it is damaged.
        """
        self.path = data_dir / FILE
        self._max = max_decisions
        self._seal = seal
        self._lock = threading.Lock()
        with _as_store_error(self.path):
            opened = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            self._inode = os.fstat(opened).st_ino
            os.close(opened)
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _as_store_error(self.path):
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    @property
    def is_there(self) -> bool:
        """Whether this is still the file of that name: it may have been moved away."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def check(self) -> None:
        """Read all of it once: a third of a second for 10,000 decisions.

        Raises:
            DamagedJournalError: it is damaged.
        """
        with self._reading() as db:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise DamagedJournalError(f"{self.path} must be a sound SQLite file, it is damaged")

    def _prepare(self) -> None:
        with self._writing() as db:
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={SCHEMA}")
            elif found != SCHEMA:
                raise StoreError(
                    f"{self.path} must be of schema {SCHEMA}, got {found}; move the file away, or "
                    f"run the version of nearhit that wrote it"
                )
            db.execute(_LEDGER)
            db.execute(_WRONG)
            db.execute(_JUDGED)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _as_store_error(self.path):
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk may have ended it already
                    db.execute("ROLLBACK")
                raise

    def add(self, decision: Decision) -> None:
        """Write a decision down; one that is there gets new answers and keeps its labels."""
        if not self._max:
            return
        with self._writing() as db:
            db.execute(_INSERT, tuple(asdict(self._sealed(decision)).values()))
            # In steps of a hundredth, so that not every row costs a count.
            if int(decision.id[:2] or "0", 16) < 3:
                for which in (_HAS_LABEL, f"NOT ({_HAS_LABEL})"):
                    db.execute(
                        "DELETE FROM decisions WHERE rowid IN (SELECT rowid FROM decisions "  # noqa: S608 - ours
                        f"WHERE {which} ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                        (self._max,),
                    )

    def get(self, decision_id: str) -> Decision | None:
        """Return one decision."""
        return next(iter(self._select("WHERE id = ?", decision_id)), None)

    def recent(self, limit: int, *, since: int = 0, decider: str | None = None) -> list[Decision]:
        """Return the newest decisions, newest first; of one decider where it is named."""
        which, values = "WHERE at >= ?", [since]
        if decider is not None:
            return self._select(
                f"{which} AND decider = ? ORDER BY at DESC, rowid DESC LIMIT ?",
                *values,
                decider,
                limit,
            )
        return self._select(f"{which} ORDER BY at DESC, rowid DESC LIMIT ?", *values, limit)

    def recent_of(self, kinds: Sequence[Kind], limit: int) -> list[Decision]:
        """Return the newest decisions of these kinds, newest first."""
        marks = ",".join("?" * len(kinds))
        which = f"WHERE kind IN ({marks}) ORDER BY at DESC, rowid DESC LIMIT ?"
        return self._select(which, *kinds, limit)

    def label(
        self, decision_id: str, label: Label, by: By, *, is_believed: bool = True
    ) -> Decision | None:
        """Note what is said of a decision; ``wrong`` quarantines, ``right`` lifts it.

        A person's word stands before a client's, and that before a judge's, whoever spoke last.
        None: there is no such decision.

        Args:
            decision_id: of the decision.
            label: what is said.
            by: whom.
            is_believed: whether it changes the quarantine.
        """
        if label not in ("right", "wrong") or by not in _SAY:
            raise ConfigError(f"label must be right or wrong, got {label!r} by {by!r}; correct it")
        with self._writing() as db:
            db.execute(_SAY[by], (label, decision_id))
            found = next(iter(self._rows(db, "WHERE id = ?", decision_id)), None)
            if is_believed:
                # Also where the decision is gone: a quarantine may outlive it.
                db.execute("DELETE FROM quarantine WHERE decision = ?", (decision_id,))
                said = label if found is None else found.person or found.client or found.judge
                if found is not None and said == "wrong":
                    db.execute(
                        "INSERT INTO quarantine VALUES (?,?,?,?,?)",
                        (found.id, int(time.time()), found.entry, found.decider, found.vector),
                    )
                    db.execute(
                        "DELETE FROM quarantine WHERE rowid IN (SELECT rowid FROM quarantine "
                        "ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                        (_MAX_QUARANTINED,),
                    )
        return found

    def verified(self, decider: str, limit: int, *, by_judge: bool = False) -> list[Verified]:
        """Return the newest of the live sample that have a label, each pair of questions once.

        Args:
            decider: encoder and verifier.
            limit: how many at most.
            by_judge: leave a person's word out: the judge's errors are to be allowed for.
        """
        said = "judge" if by_judge else "coalesce(nullif(person, ''), judge)"
        with self._reading() as db:
            rows = db.execute(
                f"SELECT max(at), confidence, {said} = 'wrong' "  # noqa: S608 - our own names
                "FROM decisions WHERE sampled AND decider = ? AND kind IN ('served', 'shadow') "
                f"AND veto = '' AND {said} <> '' GROUP BY entry, {_SAME_QUESTION} "
                "ORDER BY 1 DESC LIMIT ?",
                (decider, limit),
            ).fetchall()
        return [Verified(at, confidence, bool(is_wrong)) for at, confidence, is_wrong in rows]

    def judged(
        self, since: float, own: Mapping[str, float], fewest: int, *, is_client_believed: bool
    ) -> dict[str, Judged]:
        """Return what was said of the hits of each tenant that had a wrong one.

        Args:
            since: Unix seconds; only decisions after it.
            own: the same for tenants who have a time of their own.
            fewest: where fewer are wrong in all and `own` names nobody, nothing is counted: an
                index tells that without reading the hits of an hour.
            is_client_believed: whether a client's word counts.
        """
        client = "nullif(client, '')" if is_client_believed else "NULL"
        query = _COUNT_JUDGED.format(said=f"coalesce(nullif(person, ''), {client}, judge)")
        with self._reading() as db:
            wrong = f"SELECT count(*) FROM decisions WHERE at > ? AND {_IS_WRONG}"  # noqa: S608 - ours
            if not own and db.execute(wrong, (since,)).fetchone()[0] < fewest:
                return {}
            # Unlabelled ones go first where the file is full: before the oldest, hits are missing.
            kept, oldest = db.execute(
                "SELECT count(*), min(at) FROM decisions INDEXED BY decisions_judged "  # noqa: S608 - ours
                f"WHERE NOT ({_HAS_LABEL})"
            ).fetchone()
            since = max(since, oldest if kept and kept >= self._max else 0)
            rows = db.execute(query, (json.dumps(dict(own)), since)).fetchall()
        return {tenant: Judged(*counts) for tenant, *counts in rows if counts[1]}

    def quarantined(self, decider: str) -> list[Quarantined]:
        """Return what must not be served, by vectors of one decider."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT entry, vector FROM quarantine WHERE decider = ?", (decider,)
            ).fetchall()
        return [
            Quarantined(entry, np.frombuffer(vector, np.float16).astype(np.float32))
            for entry, vector in rows
            if vector
        ]

    def restore(self, quarantine: Iterable[tuple[Any, ...]]) -> None:
        """Take over rows of the quarantine of another journal."""
        with self._writing() as db:
            db.executemany("INSERT OR IGNORE INTO quarantine VALUES (?,?,?,?,?)", quarantine)

    def book(self, pending: Mapping[Account, Sums], now: float) -> None:
        """Add to the day's ledger; beyond `MAX_ROWS_A_DAY` to a row for all others."""
        day = int(now // 86_400)
        with self._writing() as db:
            rows = db.execute("SELECT count(*) FROM ledger WHERE day = ?", (day,)).fetchone()[0]
            for account, sums in pending.items():
                values = astuple(sums)
                if db.execute(_BOOK, (*values, day, *account)).rowcount:
                    continue
                if rows >= MAX_ROWS_A_DAY:
                    account = others(account)
                    if db.execute(_BOOK, (*values, day, *account)).rowcount:
                        continue
                db.execute(
                    "INSERT INTO ledger VALUES (?,?,?,?,?,?,?,?,?,?,?)", (day, *account, *values)
                )
                rows += 1
            db.execute("DELETE FROM ledger WHERE day < ?", (day - _KEEP_DAYS,))

    def ledger(self, *, since: int = 0) -> list[Row]:
        """Return the ledger of the days from `since`, Unix seconds, on."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT * FROM ledger WHERE day >= ? ORDER BY day, model, outcome",
                (since // 86_400,),
            ).fetchall()
        return [
            Row(day, key, team, model, outcome, Sums(*sums))
            for day, key, team, model, outcome, *sums in rows
        ]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def _select(self, which: str, *values: Any) -> list[Decision]:
        with self._reading() as db:
            return self._rows(db, which, *values)

    def _rows(self, db: sqlite3.Connection, which: str, *values: Any) -> list[Decision]:
        rows = db.execute(_SELECT + which, values).fetchall()
        found = (
            self._opened(Decision(**(named | {"sampled": bool(named["sampled"])})))
            for named in (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
        )
        return [decision for decision in found if decision is not None]

    def _sealed(self, decision: Decision) -> Decision:
        """The decision as it is written down."""
        seal = self._seal
        if seal is None or seal.prompts == "full":
            return decision
        sealed: dict[str, Any] = {
            name: seal.lock(getattr(decision, name), decision.tenant, _place(decision, name))
            for name in _SEALED_TEXTS
        }
        sealed["question"] = f"{_ASKED}{seal.digest(decision.question)}{sealed['question']}"
        return replace(decision, **sealed)

    def _opened(self, decision: Decision) -> Decision | None:
        """The decision that was written down; None where another secret sealed it."""
        if not decision.question.startswith(_ASKED):
            return decision
        if self._seal is None:
            return None
        sealed = {name: getattr(decision, name) for name in _SEALED_TEXTS}
        sealed["question"] = sealed["question"][len(_ASKED) + _DIGEST_CHARS :]
        try:
            texts: dict[str, Any] = {
                name: self._seal.unlock(text, decision.tenant, _place(decision, name))
                for name, text in sealed.items()
            }
        except ValueError:
            return None
        return replace(decision, **texts)


def _place(decision: Decision, name: str) -> str:
    return f"decision {name} {decision.id}"


def new_id() -> str:
    """Return an id that cannot be guessed."""
    return uuid.uuid4().hex


@contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into errors of nearhit; never with a text."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise DamagedJournalError(f"{path} must be a SQLite file, it is damaged") from error
        raise StoreError(
            f"{path} must be a SQLite file that can be written, got "
            f"{name or type(error).__name__}; check the folder's rights, or move the file away"
        ) from error
