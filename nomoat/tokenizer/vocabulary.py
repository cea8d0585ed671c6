"""A vocabulary as a tokenizer.json has it: what its tokens stand for, and the same without control tokens.

Two kinds can be read, both of which can spell every text: byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM), whose
tokens are written in 256 printable stand-ins for bytes, and byte-fallback BPE (Llama 2, Gemma), whose tokens are
text with ▁ for a blank, and <0x0A> for a byte that no token has.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nomoat.config import WeightsError

Table = dict[str, Any]

# GPT-2's printable stand-in for each byte: itself where it is printable Latin-1, else from U+0100 on.
_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [b for b in range(256) if b not in _SHOWN]
BYTE_OF = {chr(b): b for b in _SHOWN} | {chr(256 + n): b for n, b in enumerate(_HIDDEN)}
_BYTE = re.compile("<0x([0-9A-F]{2})>")


def check(table: Any) -> None:
    """WeightsError unless it is a BPE of one of the two kinds, complete in itself."""
    try:
        added = {t["content"]: t["id"] for t in table["added_tokens"]}
        vocab, merges = table["model"]["vocab"], pairs(table)
        ids = {**vocab, **added}
        rules = [table[key] for key in ("normalizer", "pre_tokenizer", "decoder")]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        found = repr(error) if isinstance(table, dict) else type(table).__name__
        raise WeightsError(f"tokenizer.json is no BPE ({found}); {_EXPECTED}") from None
    if table["model"].get("type", "BPE") != "BPE" or not any(kind(table).values()):
        raise WeightsError(f"tokenizer.json is a {table['model'].get('type')} of another kind; {_EXPECTED}")
    if not all(isinstance(rule, dict | None) for rule in rules) or not _whole(ids.values()):
        raise WeightsError(f"tokenizer.json has ids or rules of a wrong type; {_EXPECTED}")
    broken = next((m for m in merges if not {*m, "".join(m)} <= vocab.keys()), None)
    doubled = next((t for t, id in added.items() if vocab.get(t, id) != id), None)
    if broken or doubled or len({*ids.values()}) < len(ids):
        wrong = f"merge {broken}" if broken else f"token {doubled or 'twice the same id'!r}"
        raise WeightsError(
            f"the parts of tokenizer.json contradict each other ({wrong}); restore it or download it again"
        )


_EXPECTED = "expected a byte-level or byte-fallback BPE; convert it or choose another model"


def _whole(ids: Any) -> bool:
    return all(type(id) is int and 0 <= id < 2**31 for id in ids)


def pairs(table: Table) -> list[tuple[str, str]]:
    """Its merges, which older files write as one text with a blank."""
    merges = [m.split(" ") if isinstance(m, str) else m for m in table["model"]["merges"]]
    return [(left, right) for left, right in merges]


def parts(table: Table, key: str) -> Iterator[Mapping[str, Any]]:
    """The rules of one step, those of a sequence one by one."""
    rest = [table.get(key)]
    while rest:
        rule = rest.pop(0)
        if rule is not None:
            yield rule
            rest += [inner for name in (f"{key}s", "pretokenizers") for inner in rule.get(name, [])]


def kind(table: Table) -> dict[str, bool]:
    """Which of the two kinds it is."""
    steps = [rule.get("type") for key in ("decoder", "pre_tokenizer", "normalizer") for rule in parts(table, key)]
    return {
        "byte-level": "ByteLevel" in steps,
        "byte-fallback": bool(table["model"].get("byte_fallback")),
    }


def ids_of(table: Table) -> dict[str, int]:
    """Every token, the added ones too, and its id."""
    return {**table["model"]["vocab"], **{t["content"]: t["id"] for t in table["added_tokens"]}}


def without(table: Table, control: Mapping[str, int]) -> Table:
    """The same tokenizer, but that no text gives a control token: not whole, and not by merging."""
    kept = [t for t in table["added_tokens"] if t["content"] not in control and not t["special"]]
    vocab = {text: id for text, id in table["model"]["vocab"].items() if text not in control}
    model = {
        **table["model"],
        "vocab": vocab | {t["content"]: t["id"] for t in kept},
        "merges": [[*m] for m in pairs(table) if control.keys().isdisjoint((*m, "".join(m)))],
    }
    if model.get("unk_token") in control:
        model["unk_token"] = None
    steps = {"post_processor": None, "truncation": None, "padding": None}
    return {**table, **steps, "added_tokens": kept, "model": model}


def respelled(table: Table, control: Mapping[str, int], secret: str) -> tuple[Table, dict[int, str]]:
    """`without` its control tokens, and with them once more, spelled as nobody can guess.  Also the spellings.
    """
    bare = without(table, control)
    spelled = {id: f"\ue000{secret}{id}\ue001" for id in control.values()}
    marks = [
        {**t, "content": spelled[t["id"]], "special": True, "normalized": False, "single_word": False}
        for t in table["added_tokens"]
        if t["content"] in control
    ]
    vocab = bare["model"]["vocab"] | {text: id for id, text in spelled.items()}
    model = {**bare["model"], "vocab": vocab}
    return {**bare, "added_tokens": [*marks, *bare["added_tokens"]], "model": model}, spelled


def token_bytes(table: Table) -> dict[int, bytes]:
    """What each id stands for; an added token for its own text."""
    byte_level = kind(table)["byte-level"]
    spell = _byte_level if byte_level else _byte_fallback
    table_bytes = {id: spell(text) for text, id in table["model"]["vocab"].items()}
    return table_bytes | {t["id"]: t["content"].encode() for t in table["added_tokens"]}


def _byte_level(text: str) -> bytes:
    if all(c in BYTE_OF for c in text):
        return bytes(BYTE_OF[c] for c in text)
    return text.encode()


def _byte_fallback(text: str) -> bytes:
    if byte := _BYTE.fullmatch(text):
        return bytes([int(byte[1], 16)])
    return text.replace("▁", " ").encode()


def drops_first_blank(table: Table) -> bool:
    """Whether decoding takes away the blank that encoding puts before a text."""
    for rule in parts(table, "decoder"):
        scheme = rule.get("prepend_scheme", "always" if rule.get("add_prefix_space", True) else "never")
        strips = rule.get("type") == "Strip" and rule.get("content") == " " and rule.get("start", 0) > 0
        if strips or (rule.get("type") == "Metaspace" and scheme != "never"):
            return True
    return False
