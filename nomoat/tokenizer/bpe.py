"""Byte-level BPE in which content can't become a control token.

One vocabulary, two encoders.  The saved `tokenizer.json` is the ordinary one, which turns `<think>` in a text
into the special id; Hugging Face and llama.cpp read that.  Ours holds no added tokens at all, so the only ids
it can emit are the 256 bytes and the products of merges, and `Tokenizer` refuses a vocabulary in which one of
those is a special id.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from nomoat.config import ConfigError, DataError, WeightsError
from nomoat.files import read_json, write_whole
from nomoat.tokenizer.layout import NOMOAT, Layout, template

SMALLEST_VOCAB = len(NOMOAT.specials) + 256
# GPT-2's printable stand-in for each byte: itself where it is printable Latin-1, else from U+0100 on.
_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [b for b in range(256) if b not in _SHOWN]
_BYTE_OF = {chr(b): b for b in _SHOWN} | {chr(256 + n): b for n, b in enumerate(_HIDDEN)}


class Tokenizer:
    """Encodes content only: no text gives one of the special ids.  Equal fingerprints encode alike."""

    layout: Layout = NOMOAT

    def __init__(self, table: dict[str, Any]) -> None:
        """`table` is a parsed tokenizer.json; WeightsError if its special tokens aren't ours."""
        _check(table)
        self._table = table
        self._whole = tokenizers.Tokenizer.from_str(json.dumps(table))
        self._content = tokenizers.Tokenizer.from_str(json.dumps({**table, "added_tokens": []}))
        self.vocab_size: int = self._whole.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, none of them special; DataError for a lone surrogate, which no UTF-8 can hold.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`[encode(t) for t in texts]` in one parallel call."""
        try:
            return [e.ids for e in self._content.encode_batch_fast(list(texts), add_special_tokens=False)]
        except TypeError:
            for n, text in enumerate(texts):
                _utf8(text, n)
            raise

    def decode(self, ids: Sequence[int], specials: bool = False) -> str:
        """The text of `ids`, special ids left out or, with `specials`, spelled; half a UTF-8 character reads
        U+FFFD.
        """
        return self._whole.decode(list(ids), skip_special_tokens=not specials)

    def token_bytes(self, id: int) -> bytes:
        """The bytes that one id stands for; a special id stands for none."""
        return (
            b""
            if id in self.layout.specials.values()
            else bytes(_BYTE_OF[c] for c in self._whole.id_to_token(id))
        )

    def bytes_per_token(self, texts: Iterable[str]) -> float:
        """UTF-8 bytes of `texts` per token; higher is better compressed."""
        texts = list(texts)
        n_tokens = sum(map(len, self.encode_batch(texts)))
        if not n_tokens:
            raise DataError("no text to measure bytes per token on; expected at least one character")
        return sum(len(t.encode()) for t in texts) / n_tokens

    @cached_property
    def canonical(self) -> str:
        """The one spelling of tokenizer.json, independent of key order and library version; the content of
        the file.
        """
        return json.dumps(self._table, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the tokenizer.json that `save` writes."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as `transformers.AutoTokenizer` reads them."""
        spelled = {id: text for text, id in self.layout.specials.items()}
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": spelled[self.layout.bos_id],
            "eos_token": spelled[self.layout.eos_id],
            "pad_token": spelled[self.layout.pad_id],
            "clean_up_tokenization_spaces": False,
            "chat_template": template(),
        }
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "tokenizer.json", self.canonical)
        write_whole(directory / "tokenizer_config.json", json.dumps(config, indent=2))

    @classmethod
    def load(cls, directory: str | Path, fingerprint: str | None = None) -> "Tokenizer":
        """The tokenizer that `save` left; DataError if there is none, WeightsError if it isn't one of ours.

        With a `fingerprint`, also WeightsError if it is another tokenizer.
        """
        expected, cure = (
            "a directory with a trained tokenizer; run the stage first",
            "restore it or train it again",
        )
        tokenizer = cls(read_json(Path(directory) / "tokenizer.json", DataError, expected, cure))
        if fingerprint not in (None, tokenizer.fingerprint):
            raise WeightsError(
                f"{directory} is not the tokenizer that this run trained "
                f"(found {tokenizer.fingerprint[:12]}, expected {fingerprint[:12]}); restore it"
            )
        return tokenizer


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of at most `vocab_size` ids (fewer where the texts run out of pairs), the same for the same
    texts.
    """
    if vocab_size < SMALLEST_VOCAB:
        raise ConfigError(
            f"vocab_size = {vocab_size}; expected {SMALLEST_VOCAB} or more: special tokens, 256 bytes"
        )
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(  # llama.cpp knows this pair as "smollm"
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in NOMOAT.specials],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    n_bytes = 0

    def counted() -> Iterator[str]:
        nonlocal n_bytes
        for n, text in enumerate(texts):
            n_bytes += len(_utf8(text, n))
            yield text

    made.train_from_iterator(counted(), trainer)
    if not n_bytes:
        raise DataError("no text to train a tokenizer on; expected at least one non-empty document")
    return Tokenizer(json.loads(made.to_str()))


def _check(table: Any) -> None:
    """WeightsError unless the specials are ours and no merge can make one."""
    try:
        added = [(t["id"], t["content"], t["special"]) for t in table["added_tokens"]]
        vocab, merges = table["model"]["vocab"], table["model"]["merges"]
        products = {vocab["".join(m) if isinstance(m, list) else m.replace(" ", "")] for m in merges}
        reachable = products | {vocab[c] for c in _BYTE_OF}
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"tokenizer.json is not a byte-level BPE ({error!r}); expected one of nomoat's"
        ) from None
    expected = [(id, text) for text, id in NOMOAT.specials.items()]
    if added != [(*special, True) for special in expected]:
        raise WeightsError(f"special tokens {[t[:2] for t in added]}; expected {expected}: not ours")
    if reachable & set(NOMOAT.specials.values()) or table["model"].get("unk_token") is not None:
        raise WeightsError(
            "content could become a special token in this tokenizer.json; train it with nomoat"
        )
    for key in ("normalizer", "truncation", "padding"):
        if table.get(key) is not None:
            raise WeightsError(f"tokenizer.json has a {key}; expected none, so that text survives; remove it")


def _utf8(text: str, n: int) -> bytes:
    """The bytes of text number `n`, or the error for one that isn't Unicode text."""
    if not isinstance(text, str):
        raise TypeError(f"text {n} is {type(text).__name__}; expected str")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = f"lone surrogate {ascii(text[error.start])} at character {error.start} of text {n}"
        raise DataError(
            f"{found}; expected Unicode text; decode the source as UTF-8 with errors='replace'"
        ) from None
