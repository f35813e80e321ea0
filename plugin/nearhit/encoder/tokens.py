"""Text to token ids, or why a text has no trustworthy vector."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tokenizers import Tokenizer, models

from nearhit.encoder.base import Unencodable
from nearhit.encoder.language import is_foreign
from nearhit.errors import EncoderError

# Unicode categories that a BERT tokenizer may drop or that part words: spaces, marks, controls.
_WEIGHTLESS: Final = frozenset({"Zs", "Zl", "Zp", "Mn", "Mc", "Me", "Cc", "Cf", "Cn", "Co", "Cs"})
# What every BERT tokenizer takes for a space. Not \s: it drops the control characters in that.
_BLANKS: Final = re.compile(r"[ \t\r\n]{2,}")


@dataclass(frozen=True, slots=True)
class TextReader:
    """Reads texts for one encoder.

    Attributes:
        tokenizer: from `open_tokenizer`.
        max_tokens: longest text in tokens, [CLS] and [SEP] included.
        max_characters: no text with more visible characters fits `max_tokens`.
        multilingual: whether the encoder knows more languages than English.
        frame: what every text is framed with: the ids of [CLS] and [SEP].
        unknown: the id that stands for any word outside the vocabulary, if there is one.
    """

    tokenizer: Tokenizer
    max_tokens: int
    max_characters: int
    multilingual: bool
    frame: frozenset[int]
    unknown: int | None

    @classmethod
    def open(cls, path: Path, *, max_tokens: int, multilingual: bool) -> Self:
        """Make a reader of a tokenizer.json.

        Raises:
            EncoderError: the file cannot be read, or is of another kind.
        """
        tokenizer = open_tokenizer(path)
        word_piece = tokenizer.model
        return cls(
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            max_characters=max_tokens * word_piece.max_input_chars_per_word,
            multilingual=multilingual,
            frame=frozenset(tokenizer.encode("").ids),
            unknown=tokenizer.token_to_id(word_piece.unk_token),
        )

    def read(self, text: str) -> list[int] | Unencodable:
        """Return the token ids of a text, at most `max_tokens`, or why it has no vector."""
        if len(text) > self.max_characters:
            # Three million spaces take 1.8 s as they are, 9 ms as one.
            text = _BLANKS.sub(" ", text)
            if _exceeds(text, self.max_characters):
                return Unencodable("too_long")
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry: no token
            return Unencodable("unknown_tokens")
        # encode() would hold the interpreter for the whole text; encode_batch() lets go. One
        # text a call: for several it starts a thread on every core.
        ids: list[int] = self.tokenizer.encode_batch([text])[0].ids
        if len(ids) > self.max_tokens:
            return Unencodable("too_long")
        if self.unknown in ids:
            return Unencodable("unknown_tokens")
        if self.frame.issuperset(ids):
            return Unencodable("empty")
        if not self.multilingual and is_foreign(text):
            return Unencodable("other_language")
        return ids


def open_tokenizer(path: Path) -> Tokenizer:
    """Load a WordPiece tokenizer that neither pads nor truncates.

    The file of all-MiniLM-L6-v2 does both, to 128: a question of 9 tokens would cost 30 ms
    instead of 4, and two long texts with the same beginning would look equal.

    Raises:
        EncoderError: the file cannot be read, or is of another kind.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise EncoderError(
            f"{path} must be a tokenizer of the tokenizers library, got {type(error).__name__}; "
            f"fetch the base again"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if not isinstance(tokenizer.model, models.WordPiece):
        raise EncoderError(
            f"{path} must be a WordPiece tokenizer, got {type(tokenizer.model).__name__}; "
            f"choose a BERT base such as all-MiniLM-L6-v2"
        )
    return tokenizer


def _exceeds(text: str, limit: int) -> bool:
    """Whether more than `limit` characters of a text reach the words of a WordPiece tokenizer.

    A token covers at most `max_input_chars_per_word` characters (a longer word is one [UNK],
    which is refused as well), so such a text cannot be encoded. What the tokenizer may drop
    does not count: a question followed by a million spaces is not long.
    """
    kept = 0
    for character in text:
        kept += unicodedata.category(character) not in _WEIGHTLESS
        if kept > limit:
            return True
    return False
