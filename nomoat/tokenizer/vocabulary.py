"""A vocabulary as a tokenizer.json has it: what its tokens stand for, and the same without control tokens.

Two kinds can be read, which can spell every text: byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM), whose tokens
are written in 256 printable stand-ins for bytes, and byte-fallback BPE (Llama 2, Gemma), whose tokens are
text with ▁ for a blank, and <0x0A> for a byte that no token has.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nomoat.config import JsonObject, WeightsError

# GPT-2's printable stand-in for each byte: itself where it is printable Latin-1, else from U+0100 on.
_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [b for b in range(256) if b not in _SHOWN]
BYTE_OF = {chr(b): b for b in _SHOWN} | {chr(256 + n): b for n, b in enumerate(_HIDDEN)}
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_EXPECTED = "expected a byte-level or byte-fallback BPE; choose another model"


def check(table: Any) -> None:
    """WeightsError unless it is a BPE of one of the two kinds, complete in itself."""
    try:
        vocab, added, merges = _parts_of(table)
        readable = _is_byte_level(table) or table["model"].get("byte_fallback")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"tokenizer.json is no BPE ({type(error).__name__} {error}); {_EXPECTED}"
        ) from None
    affixes = [table["model"].get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix")]
    kind = table["model"].get("type", "BPE")
    if kind != "BPE" or not readable or any(affixes):
        raise WeightsError(f"tokenizer.json is a {kind} of another kind; {_EXPECTED}")
    ids = [*vocab.values(), *(id for _, id in added)]
    if any(type(id) is not int for id in ids) or not 0 <= min(ids, default=-1) <= max(ids) < 2**31:
        raise WeightsError(f"tokenizer.json has ids that are no whole numbers; {_EXPECTED}")
    _check_together(vocab, added, merges)


def _parts_of(table: JsonObject) -> tuple[dict[str, int], list[tuple[str, int]], list[tuple[str, str]]]:
    """Vocabulary, added tokens and merges; one of several errors where they are of other types."""
    added, merges = _added(table), pairs(table)
    texts = [text for text, _ in added]
    "".join([*texts, *map("".join, merges)])  # all of it is text
    return {**table["model"]["vocab"]}, added, merges


def _added(table: JsonObject) -> list[tuple[str, int]]:
    tokens = table["added_tokens"]
    if any(type(token["special"]) is not bool for token in tokens):
        raise TypeError("an added token is neither special nor not")
    return [(token["content"], token["id"]) for token in tokens]


def _check_together(
    vocab: Mapping[str, int], added: list[tuple[str, int]], merges: list[tuple[str, str]]
) -> None:
    """WeightsError where merges, vocabulary and added tokens contradict each other."""
    for left, right in merges:
        whole = left + right
        fits = left in vocab and right in vocab and whole in vocab
        if not fits:
            raise WeightsError(f"tokenizer.json merges {left!r} and {right!r}, {_CONTRADICTS}")
    texts = {id: text for text, id in vocab.items()}
    if len(texts) < len(vocab):
        raise WeightsError(f"tokenizer.json has two tokens with one id, {_CONTRADICTS}")
    for text, id in added:
        known = vocab.get(text, id)
        if known != id or texts.setdefault(id, text) != text:
            raise WeightsError(f"tokenizer.json adds {text!r} as {id}, {_CONTRADICTS}")


_CONTRADICTS = "which contradicts its vocabulary; expected them to agree; restore it or download it again"


def pairs(table: JsonObject) -> list[tuple[str, str]]:
    """Its merges, which older files write as one text with a blank."""
    merges = [m.split(" ") if isinstance(m, str) else m for m in table["model"]["merges"]]
    return [(left, right) for left, right in merges]


def parts(table: JsonObject, step: str) -> Iterator[JsonObject]:
    """The rules of one step, those of a sequence one by one."""
    rest = [table.get(step)]
    while rest:
        rule = rest.pop(0)
        if rule is not None:
            yield rule
            rest += [inner for name in (f"{step}s", "pretokenizers") for inner in rule.get(name, [])]


def _is_byte_level(table: JsonObject) -> bool:
    steps = ("normalizer", "pre_tokenizer", "decoder")
    return "ByteLevel" in [rule.get("type") for step in steps for rule in parts(table, step)]


def ids_of(table: JsonObject) -> dict[str, int]:
    """Every token, the added ones too, and its id."""
    return {**table["model"]["vocab"], **{t["content"]: t["id"] for t in table["added_tokens"]}}


def whole(table: JsonObject) -> JsonObject:
    """For decoding: every added token with the id that the file gives it."""
    return {**table, "model": {**table["model"], "vocab": ids_of(table)}}


def without(table: JsonObject, control: Mapping[str, int]) -> JsonObject:
    """For contents: no text gives a control token, not whole and not by merging."""
    kept = [t for t in table["added_tokens"] if t["content"] not in control and not t["special"]]
    vocab = {text: id for text, id in table["model"]["vocab"].items() if text not in control}
    merges = [[*pair] for pair in pairs(table) if control.keys().isdisjoint((*pair, "".join(pair)))]
    unknown = table["model"].get("unk_token")
    model = {
        **table["model"],
        "dropout": None,
        "unk_token": None if unknown in [*control] else unknown,
        "vocab": vocab | {t["content"]: t["id"] for t in kept},
        "merges": merges,
    }
    steps = {"post_processor": None, "truncation": None, "padding": None}
    return {**table, **steps, "added_tokens": kept, "model": model}


def respelled(
    table: JsonObject, control: Mapping[str, int], secret: str
) -> tuple[JsonObject, dict[int, str]]:
    """For what a template writes: its control tokens spelled as nobody can guess; and these spellings."""
    spelled = {id: f"\ue000{secret}{id}\ue001" for id in control.values()}
    flags = {"special": True, "normalized": False, "single_word": False}
    added = {token["content"]: token for token in table["added_tokens"]}
    marks = [
        {"lstrip": False, "rstrip": False, **added.get(text, {}), **flags, "id": id, "content": spelled[id]}
        for text, id in control.items()
    ]
    bare = without(table, control)
    vocab = bare["model"]["vocab"] | {text: id for id, text in spelled.items()}
    model = {**bare["model"], "vocab": vocab}
    return {**bare, "added_tokens": [*marks, *bare["added_tokens"]], "model": model}, spelled


def token_bytes(table: JsonObject) -> dict[int, bytes]:
    """What each id stands for; in a byte-level one an added token stands for its own text."""
    if not _is_byte_level(table):
        return {id: _byte_fallback(text) for text, id in ids_of(table).items()}
    of_vocab = {id: _byte_level(text) for text, id in table["model"]["vocab"].items()}
    return of_vocab | {t["id"]: t["content"].encode() for t in table["added_tokens"]}


def _byte_level(text: str) -> bytes:
    try:
        return bytes([BYTE_OF[c] for c in text])
    except KeyError:
        return text.encode()


def _byte_fallback(text: str) -> bytes:
    if byte := _BYTE.fullmatch(text):
        return bytes([int(byte[1], 16)])
    return text.replace("▁", " ").encode()


def drops_first_blank(table: JsonObject) -> bool:
    """Whether decoding takes away the blank that encoding puts before a text."""
    for rule in parts(table, "decoder"):
        scheme = rule.get("prepend_scheme", "always" if rule.get("add_prefix_space", True) else "never")
        strips = rule.get("type") == "Strip" and rule.get("content") == " " and rule.get("start")
        if strips or (rule.get("type") == "Metaspace" and scheme != "never"):
            return True
    return False


def adds_bos(table: JsonObject, config: JsonObject) -> bool:
    """Whether a foreign tokenizer puts its first token before a text: it says so, or its post-processor
    does.
    """
    if "add_bos_token" in config:
        return bool(config["add_bos_token"])
    post = table.get("post_processor")
    steps = post.get("processors") if isinstance(post, dict) else None
    for step in steps if isinstance(steps, list) else [post]:
        single = step.get("single") if isinstance(step, dict) else None
        first = single[0] if isinstance(single, list) and single else None
        if isinstance(first, dict) and "SpecialToken" in first:
            return True
    return False
