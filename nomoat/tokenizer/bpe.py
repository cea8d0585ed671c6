"""BPE in which content can't become a control token: our own tokenizer, and those of others.

One vocabulary, three encoders.  The saved `tokenizer.json` is the ordinary one, which turns `<think>` in a
text into the special id; Hugging Face and llama.cpp read that, here it only decodes.  Contents are encoded
without any control token: added, in the vocabulary or made by a merge.  What a foreign template writes is
encoded with its control tokens spelled as nobody can guess, where the template wrote them itself: so its
library's rules at their edges hold, and no content reaches one.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from nomoat.config import ConfigError, DataError, JsonObject, WeightsError
from nomoat.files import read_json, visible, write_whole
from nomoat.tokenizer import foreign, vocabulary
from nomoat.tokenizer.layout import NOMOAT, Layout, template
from nomoat.tokenizer.written import Written

SMALLEST_VOCAB = len(NOMOAT.specials) + 256
WORD_BYTES = 1000  # training cuts longer ones: its time grows with the square of a word


class Tokenizer:
    """Encodes content only: no text gives one of the special ids.  Equal fingerprints encode alike."""

    def __init__(
        self,
        table: JsonObject,
        layout: Layout = NOMOAT,
        config: JsonObject | None = None,
        adds_bos: bool | None = None,
    ) -> None:
        """`table` is a parsed tokenizer.json, `layout` ours or that of a foreign one (`foreign.layout_of`),
        `config` its tokenizer_config.json, which `save` writes back; `adds_bos`, where the files don't say
        it, whether the first token stands before a text that no template wrote.

        WeightsError if the table is none that can be read, or its special tokens aren't the layout's.
        """
        self.layout = layout
        if layout is NOMOAT:
            _check(table)
            table = _thinking_shown(table)
        else:
            vocabulary.check(table)
        self._table, self._config = table, config
        self._control = frozenset(layout.specials.values())
        self.vocab_size: int = 1 + max(vocabulary.ids_of(table).values())
        if adds_bos is None:
            adds_bos = layout is NOMOAT or vocabulary.adds_bos(table, config or {})
        self.adds_bos = adds_bos
        self.drops_first_blank: bool = vocabulary.drops_first_blank(table)

    @cached_property
    def _whole(self) -> tokenizers.Tokenizer:
        return _built(vocabulary.whole(self._table))

    @cached_property
    def _content(self) -> tokenizers.Tokenizer:
        return _built(vocabulary.without(self._table, self.layout.specials))

    @cached_property
    def _marked(self) -> tuple[tokenizers.Tokenizer, Mapping[int, str]]:
        table, spelled = vocabulary.respelled(self._table, self.layout.specials, secrets.token_hex(16))
        return _built(table), spelled

    @cached_property
    def _bytes(self) -> Mapping[int, bytes]:
        return vocabulary.token_bytes(self._table)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, none special; DataError for a lone surrogate, which no UTF-8 can hold."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`[encode(t) for t in texts]` in one parallel call."""
        return [e.ids for e in _encoded(self._content.encode_batch_fast, texts)]

    def begun(self, ids: list[int]) -> list[int]:
        """The ids of a text as a model reads it that goes on from there: behind <|bos|> where texts begin
        with one, or where there is nothing else.
        """
        return [self.layout.bos_id, *ids] if self.adds_bos or not ids else ids

    def encode_written(self, written: Sequence[Written]) -> list[tuple[list[int], list[int]]]:
        """What a template wrote -> its ids, and where in the text each begins."""
        encoder, spelled = self._marked
        respelled = [conversation.respelled(spelled) for conversation in written]
        encodings = _encoded(encoder.encode_batch, [conversation.text for conversation in respelled])
        return [
            (encoding.ids, [conversation.place(start) for start, _ in encoding.offsets])
            for encoding, conversation in zip(encodings, respelled)
        ]

    def decode(self, ids: Sequence[int], specials: bool = False) -> str:
        """The text of `ids`, special ids left out or, with `specials`, spelled; half a UTF-8 character reads
        U+FFFD.
        """
        shown = [id for id in ids if specials or id not in self._control]
        return self._whole.decode(shown, skip_special_tokens=False)

    def token_bytes(self, id: int) -> bytes:
        """The bytes that one id stands for; a special id, or one that no token has, stands for none."""
        return b"" if id in self._control else self._bytes.get(id, b"")

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
        """Write tokenizer.json and tokenizer_config.json, as `transformers.AutoTokenizer` reads them; of a
        foreign one also its chat_template.jinja.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "tokenizer.json", self.canonical)
        if self.layout is NOMOAT:
            config = {**_config(self.layout), "chat_template": template()}
        else:
            config = dict(_config(self.layout) if self._config is None else self._config)
            config.pop("chat_template", None)
        write_whole(directory / "tokenizer_config.json", json.dumps(config, indent=2))
        if self.layout.template is not None:
            write_whole(directory / foreign.TEMPLATE, self.layout.template)

    @classmethod
    def load(cls, directory: str | Path, fingerprint: str | None = None) -> "Tokenizer":
        """The tokenizer that `save` left, or a foreign one; DataError if there is none, WeightsError if it
        can't be read.

        With a `fingerprint`, also WeightsError if it is another tokenizer.
        """
        expected, cure = (
            "a directory with a tokenizer; of a run, run its stage first; of others, fetch it, too",
            "restore it, train it or fetch it again",
        )
        if missing := foreign.unconverted(Path(directory)):
            raise DataError(missing)
        table = read_json(Path(directory) / "tokenizer.json", DataError, expected, cure)
        if foreign.is_foreign(table, NOMOAT.specials, foreign.template_in(Path(directory))):
            vocabulary.check(table)
            tokenizer = cls(*foreign.read(Path(directory), table))
        else:
            tokenizer = cls(table)
        if fingerprint is not None and fingerprint != tokenizer.fingerprint:
            raise WeightsError(
                f"{directory} is not the tokenizer that this run trained "
                f"(found {tokenizer.fingerprint[:12]}, expected {fingerprint[:12]}); restore it"
            )
        return tokenizer


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of at most `vocab_size` ids (fewer where the texts run out of pairs), the same for the same
    texts.  Words of more than WORD_BYTES are learned from in pieces.
    """
    if vocab_size < SMALLEST_VOCAB:
        raise ConfigError(
            f"vocab_size = {vocab_size}; expected {SMALLEST_VOCAB} or more: special tokens, 256 bytes"
        )
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = _words()
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
    made.pre_tokenizer = pre_tokenizers.Sequence(_split())
    return Tokenizer(json.loads(made.to_str()))


def _split() -> list[pre_tokenizers.PreTokenizer]:
    return [  # llama.cpp knows this pair as "smollm"
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]


def _words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([*_split(), pre_tokenizers.FixedLength(length=WORD_BYTES)])


def fewest(text: str) -> int:
    """The fewest tokens that any tokenizer of `train` makes of a text: no token spans two of its words."""
    return len(_words().pre_tokenize_str(text))


def _built(table: JsonObject) -> tokenizers.Tokenizer:
    with _Complaints():
        return tokenizers.Tokenizer.from_str(json.dumps(table))


class _Complaints:
    """The library complains with a bare Exception, which nothing else raises: WeightsErrors here."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: object, _: object) -> None:
        if kind is Exception:
            raise WeightsError(
                f"tokenizer.json can't be used: {visible(error)[:300]}; expected one that the library "
                "tokenizers reads; restore it or download it again"
            ) from None


def _encoded(encode: Any, texts: Sequence[str]) -> list[tokenizers.Encoding]:
    try:
        return encode(list(texts), add_special_tokens=False)
    except TypeError:
        for n, text in enumerate(texts):
            _utf8(text, n)
        raise


def _config(layout: Layout) -> JsonObject:
    """The tokenizer_config.json of a layout."""
    spelled = {id: text for text, id in layout.specials.items()}
    named = {"bos_token": layout.bos_id, "eos_token": layout.eos_id, "pad_token": layout.pad_id}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **(layout.words or {name: spelled[id] for name, id in named.items()}),
        "clean_up_tokenization_spaces": False,
    }


def _check(table: Any) -> None:
    """WeightsError unless the specials are ours and no merge can make one."""
    try:
        added = [(t["id"], t["content"]) for t in table["added_tokens"]]
        vocab, merges = table["model"]["vocab"], vocabulary.pairs(table)
        products = {vocab["".join(m)] for m in merges}
        reachable = products | {vocab[c] for c in vocabulary.BYTE_OF}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"tokenizer.json is not a byte-level BPE ({error!r}); expected one of nomoat's"
        ) from None
    expected = [(id, text) for text, id in NOMOAT.specials.items()]
    if added != expected:
        raise WeightsError(f"special tokens {added}; expected {expected}: not ours")
    if reachable & set(NOMOAT.specials.values()) or table["model"].get("unk_token") is not None:
        raise WeightsError(
            "content could become a special token in this tokenizer.json; train it with nomoat"
        )
    for key in ("normalizer", "truncation", "padding"):
        if table.get(key) is not None:
            raise WeightsError(f"tokenizer.json has a {key}; expected none, so that text survives; remove it")


def _thinking_shown(table: JsonObject) -> JsonObject:
    """The table with think marks that are no special tokens: who leaves those out still reads thinking."""
    marks = (NOMOAT.think_id, NOMOAT.end_think_id)
    added = [{**token, "special": token["id"] not in marks} for token in table["added_tokens"]]
    return {**table, "added_tokens": added}


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
