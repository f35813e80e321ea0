"""Questions and answers at rest, as `store.prompts` says: full, encrypted or hashed.

    full        as they are, signed
    encrypted   question and answer by AES-256-GCM; read with the installation's secret alone
    hashed      of the question a keyed digest and no vector; the answer is encrypted

Each tenant has a key of its own, derived from the secret; a nonce is random; what is encrypted is
bound to its place, so that nobody moves it to another entry, scope or tenant. What cannot be read,
for it was changed or is of another secret, stays as it is: its signature then fits no more, and
whoever checks that counts it and misses. Not hidden are vectors, models, times and sizes.
"""

import binascii
import hmac
import os
from dataclasses import replace
from functools import lru_cache
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nearhit.request import entry_id, text_digest
from nearhit.signing import sign
from nearhit.store.base import Entry

Prompts = Literal["full", "encrypted", "hashed"]

# No question begins with a blank, see `request.normalise`: none can look like these.
SEALED: Final = " sealed:1:"
HASHED: Final = " hmac:"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # NIST SP 800-38D, 8.2; random, so for at most 2**32 texts of one key
_KEYS: Final = 1024  # that are kept: deriving one takes as long as reading ten answers


class UnreadableError(ValueError):
    """A text was sealed with another secret, for another place, or was changed."""


class Seal:
    """Seals what is to be stored and opens what was; whatever the mode, it opens all."""

    def __init__(self, prompts: Prompts, secret: bytes) -> None:
        """Derive no key yet.

        Args:
            prompts: `store.prompts`.
            secret: the installation's, see `signing.read_secret`.
        """
        self.prompts = prompts
        self._secret = secret
        self._cipher = lru_cache(maxsize=_KEYS)(self._derive)

    def seal(self, entry: Entry) -> Entry:
        """Return the entry as it is to lie in the store."""
        if entry.text.startswith(HASHED):
            return self._sealed(entry, entry.text)
        if self.prompts == "full":
            return entry
        return self._sealed(entry, SEALED + self.lock(entry.text, entry.tenant, _at(entry, "text")))

    def _sealed(self, entry: Entry, text: str) -> Entry:
        completion = self.lock(entry.completion, entry.tenant, _at(entry, "completion"))
        return replace(entry, text=text, completion=completion)

    def open(self, entry: Entry) -> Entry:
        """Return what was sealed; an entry that cannot be read comes back as it is."""
        if not entry.text.startswith((SEALED, HASHED)):
            return entry
        try:
            completion = self.unlock(entry.completion, entry.tenant, _at(entry, "completion"))
            return replace(entry, text=self.question(entry), completion=completion)
        except UnreadableError:
            return entry

    def question(self, entry: Entry) -> str:
        """Return the question of an entry as it lies in the store, or what stands for it.

        Raises:
            UnreadableError: it cannot be read.
        """
        if not entry.text.startswith(SEALED):
            return entry.text
        sealed = entry.text.removeprefix(SEALED)
        return self.unlock(sealed, entry.tenant, _at(entry, "text"))

    def conform(self, entry: Entry) -> Entry:
        """Return an entry of this installation as it would be, were it stored now.

        Where no question is to be stored, one that was becomes its digest, signed anew.
        """
        if self.prompts != "hashed" or entry.text.startswith(HASHED):
            return entry
        new = replace(
            entry,
            id=entry_id(entry.scope, entry.text, self._secret),
            text=hashed(entry.text, self._secret),
            vector=None,
            fingerprint="",
        )
        return replace(new, signature=sign(new, self._secret))

    def digest(self, text: str) -> str:
        """Return the keyed digest of a question's text, 32 hex digits."""
        return text_digest(text, self._secret)

    def lock(self, text: str, tenant: str, place: str) -> str:
        """Encrypt a text.

        Args:
            text: any.
            tenant: digest of whose it is; its key is used.
            place: names where it will lie; opened elsewhere it is unreadable.
        """
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(tenant).encrypt(nonce, text.encode(), place.encode())
        return binascii.b2a_base64(nonce + sealed, newline=False).decode("ascii")

    def unlock(self, sealed: str, tenant: str, place: str) -> str:
        """Return what `lock` encrypted for the same tenant and place.

        Raises:
            UnreadableError: it did not.
        """
        try:
            raw = binascii.a2b_base64(sealed)
            nonce, data = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return self._cipher(tenant).decrypt(nonce, data, place.encode()).decode()
        except (InvalidTag, ValueError):
            raise UnreadableError("sealed with another secret or for another place") from None

    def _derive(self, tenant: str) -> AESGCM:
        info = b"nearhit stored prompts 1 " + tenant.encode()
        return AESGCM(HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(self._secret))


def hashed(text: str, secret: bytes) -> str:
    """Return what stands for a question that is not stored."""
    return HASHED + text_digest(text, secret)


def is_of(stored: str, text: str, secret: bytes) -> bool:
    """Tell whether an entry's text, perhaps hashed, is this question's."""
    if stored.startswith(HASHED):
        return hmac.compare_digest(stored, hashed(text, secret))
    return stored == text


def digest_of(stored: str, secret: bytes) -> str:
    """Return `text_digest` of an entry's text, which may be hashed."""
    if stored.startswith(HASHED):
        return stored.removeprefix(HASHED)
    return text_digest(stored, secret)


def _at(entry: Entry, field: str) -> str:
    return f"entry {field} {entry.id} {entry.scope}"
