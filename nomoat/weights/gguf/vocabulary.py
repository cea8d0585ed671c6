"""The tokenizer inside a GGUF file <-> the table of a tokenizer.json.  No torch here.

The file says how text is cut before merging by one name, `tokenizer.ggml.pre`; what each name stands for is
llama.cpp's, and so nothing is normalised even where the model's own tokenizer does it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.config import WeightsError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type
MARKS = ("<think>", "</think>")  # user-defined in our files: llama.cpp drops control tokens from answers
_WORDS = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
_ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _words_and_digits(digits: str) -> str:
    """Llama 3's and Qwen 2's rule, which differ in how many digits stay together."""
    return rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"


_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}",
)
GPT2, SMOLLM, LLAMA3, QWEN2, DEEPSEEK3 = "gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-v3"
CUTS: dict[str, tuple[str, ...]] = {  # regular expressions, one after the other; None of them: GPT-2's own
    GPT2: (),
    SMOLLM: (r"\p{N}",),
    LLAMA3: (_words_and_digits("{1,3}"),),
    QWEN2: (_words_and_digits(""),),
    DEEPSEEK3: _DEEPSEEK,
}
KINDS = {  # tokenizer.ggml.pre -> how it cuts
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "roberta-bpe"), GPT2),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), SMOLLM
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2", "dbrx", "smaug-bpe"),
        LLAMA3,
    ),
    **dict.fromkeys(("qwen2", "stablelm2", "hunyuan", "megrez", "deepseek-r1-qwen"), QWEN2),
    **dict.fromkeys(("deepseek-v3",), DEEPSEEK3),
}
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2")


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer."""

    table: dict[str, Any]  # as a tokenizer.json
    words: Mapping[str, str]  # bos_token, eos_token, pad_token, unk_token, as far as there are
    stop_ids: Sequence[int]  # what ends a turn beside eos_token
    template: str | None
    add_bos: bool


def vocabulary_of(path: Path, meta: Mapping[str, Any]) -> Vocabulary:
    """WeightsError for a kind of tokenizer whose ids can't be llama.cpp's, or tables that don't fit."""
    model, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre", "default")
    if model != "gpt2" or pre not in KINDS:
        raise WeightsError(
            f"{path} has a tokenizer of model {model!r} and pre {pre!r}; expected gpt2 with one of "
            f"{', '.join(KINDS)}, whose ids are exact here; use the Hugging Face directory of this model"
        )
    tokens, merges = _texts(path, meta, "tokens"), _texts(path, meta, "merges")
    types = meta.get("tokenizer.ggml.token_type", (NORMAL,) * len(tokens))
    if len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise WeightsError(
            f"{path} has {len(tokens)} tokens, {len(set(tokens))} different, and {len(types)} types; expected "
            "as many; fetch or export it again"
        )
    table = _table(tokens, merges, types, pre)
    words = {}
    for name, word in _WORDS.items():
        id = meta.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(id, int) and 0 <= id < len(tokens):
            words[word] = tokens[id]
    ends = (meta.get(f"tokenizer.ggml.{name}_token_id") for name in ("eot", "eom"))
    template = meta.get("tokenizer.chat_template")
    return Vocabulary(
        table,
        words,
        [id for id in ends if isinstance(id, int) and 0 <= id < len(tokens)],
        template if isinstance(template, str) else None,
        bool(meta.get("tokenizer.ggml.add_bos_token", pre in WHOLE_WORDS)),
    )


def _texts(path: Path, meta: Mapping[str, Any], name: str) -> list[str]:
    texts = meta.get(f"tokenizer.ggml.{name}")
    if not isinstance(texts, list) or not texts:
        raise WeightsError(f"{path} has no tokenizer.ggml.{name}; expected a list of texts; fetch it again")
    return texts


def _table(tokens: list[str], merges: list[str], types: Sequence[int], pre: str) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE; what is no ordinary token is an added one."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": id, "content": token, **flags, "special": kind in (CONTROL, UNKNOWN)}
        for id, (token, kind) in enumerate(zip(tokens, types))
        if kind in (CONTROL, UNKNOWN, USER_DEFINED)
    ]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(pre),
        "post_processor": None,
        "decoder": {**bytes_, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre in WHOLE_WORDS,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in merges],
        },
    }


def _pre_tokenizer(pre: str) -> dict[str, Any]:
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    cuts = CUTS[KINDS[pre]]
    splits: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False} for cut in cuts
    ]
    if KINDS[pre] == SMOLLM:
        splits = [{"type": "Digits", "individual_digits": True}]
    last = {**bytes_, "use_regex": KINDS[pre] in (GPT2, SMOLLM)}
    return {"type": "Sequence", "pretokenizers": [*splits, last]}
