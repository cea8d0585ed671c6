"""The tokenizer inside a GGUF file <-> the table of a tokenizer.json.  No torch here.

The file says how text is cut before merging by one name, `tokenizer.ggml.pre`; what each name stands for is
llama.cpp's, and so nothing is normalised even where the model's own tokenizer does it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nomoat.config import JsonObject, WeightsError
from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import NOMOAT
from nomoat.tokenizer.vocabulary import ids_of, pairs, parts
from nomoat.weights.gguf import scores
from nomoat.weights.gguf.header import Header

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type
SCORED = "llama"  # tokenizer.ggml.model of Llama 2's kind
_BYTE = re.compile("<0x[0-9A-F]{2}>")
MARKS = ("<think>", "</think>")  # control tokens in our files, and yet text for other readers
_WORDS = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
_ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _words_and_digits(digits: str) -> str:
    """Llama 3's and Qwen 2's rule, which differ in how many digits stay together."""
    return (
        rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"
    )


_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    (
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BLANKS}"
    ),
)
GPT2, SMOLLM, LLAMA3, QWEN2, DEEPSEEK3 = "gpt-2", "smollm", "llama-bpe", "qwen2", "deepseek-v3"
CUTS: dict[str, tuple[str, ...]] = {  # regular expressions, one after the other; None of them: GPT-2's own
    GPT2: (),
    SMOLLM: (r"\p{N}",),
    LLAMA3: (_words_and_digits("{1,3}"),),
    QWEN2: (_words_and_digits(""),),
    DEEPSEEK3: _DEEPSEEK,
}
CUTS_OF = {  # tokenizer.ggml.pre -> how it cuts
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


def tokenizer_of(header: Header) -> Tokenizer:
    """The tokenizer in a file, with our own layout where its control tokens are ours.

    WeightsError for a kind whose ids wouldn't be llama.cpp's, or for tables that don't fit; DataError where
    no token ends a reply.
    """
    path, meta = header.path, header.meta
    table = table_of(path, meta)
    template = meta.get("tokenizer.chat_template")
    template = template if isinstance(template, str) else None
    if not foreign.is_foreign(table, NOMOAT.specials, template):
        return Tokenizer(table)
    tokens = meta["tokenizer.ggml.tokens"]
    named = {word: _token(meta, name, tokens) for name, word in _WORDS.items()}
    words = {word: token for word, token in named.items() if token is not None}
    ends = [tokens.index(token) for name in ("eot", "eom") if (token := _token(meta, name, tokens))]
    return Tokenizer(table, foreign.layout_of(table, template, words, ends), adds_bos=adds_bos(meta))


def _token(meta: Mapping[str, Any], name: str, tokens: Sequence[str]) -> str | None:
    """The text of the token that the file calls `name`, if it does."""
    id = meta.get(f"tokenizer.ggml.{name}_token_id")
    return tokens[id] if isinstance(id, int) and 0 <= id < len(tokens) else None


def adds_bos(meta: Mapping[str, Any]) -> bool:
    """Whether llama.cpp puts the first token before a text that a template didn't write."""
    usual = meta.get("tokenizer.ggml.pre") in WHOLE_WORDS or meta.get("tokenizer.ggml.model") == SCORED
    return bool(meta.get("tokenizer.ggml.add_bos_token", usual))


def table_of(path: Path, meta: Mapping[str, Any]) -> JsonObject:
    """As a tokenizer.json; WeightsError for another kind, or for lists that don't fit together."""
    model, pre = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre", "default")
    if model != SCORED and (model != "gpt2" or pre not in CUTS_OF):
        raise WeightsError(
            f"{path} has a tokenizer of model {model!r} and pre {pre!r}; expected llama, or gpt2 with one of "
            f"{', '.join(CUTS_OF)}, whose ids are exact here; use the Hugging Face directory of this model"
        )
    tokens = _listed(path, meta, "tokens", list)
    types = _listed(path, meta, "token_type", tuple)
    if len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise WeightsError(
            f"{path} has {len(tokens)} tokens, {len(set(tokens))} different, and {len(types)} types; "
            "expected as many; fetch or export it again"
        )
    common = _common(tokens, types)
    if model == SCORED:
        return common | _scored(path, meta, common, types)
    merges = [merge.split(" ", 1) for merge in _listed(path, meta, "merges", list)]
    last = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    bpe = {"unk_token": None, "fuse_unk": False, "byte_fallback": False, "merges": merges}
    return common | {
        "pre_tokenizer": _pre_tokenizer(pre),
        "decoder": last,
        "model": {**common["model"], **bpe, "ignore_merges": pre in WHOLE_WORDS},
    }


def _scored(path: Path, meta: Mapping[str, Any], common: JsonObject, types: Sequence[int]) -> JsonObject:
    """What differs for scores instead of merges."""
    tokens = meta["tokenizer.ggml.tokens"]
    values = _listed(path, meta, "scores", tuple)
    if len(values) != len(tokens):
        raise WeightsError(
            f"{path} has {len(tokens)} tokens and {len(values)} scores; expected as many; fetch it again"
        )
    merges = scores.merges(tokens, values, [kind == NORMAL for kind in types])
    unknown = _token(meta, "unknown", tokens) or next(iter(tokens))
    bpe = {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True, "merges": merges}
    blank_before = meta.get("tokenizer.ggml.add_space_prefix", True)
    return scores.steps(bool(blank_before)) | {"model": {**common["model"], **bpe, "ignore_merges": False}}


def _listed(path: Path, meta: Mapping[str, Any], name: str, kind: type) -> Any:
    """A list of texts or a tuple of numbers."""
    found = meta.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, kind) or not found:
        raise WeightsError(f"{path} has no tokenizer.ggml.{name}; expected a list; fetch or export it again")
    return found


def _common(tokens: list[str], types: Sequence[int]) -> JsonObject:
    """What every tokenizer.json has; a token that is no ordinary one is an added one."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": id, "content": token, **flags, "special": kind != USER_DEFINED and token not in MARKS}
        for id, (token, kind) in enumerate(zip(tokens, types))
        if kind in (CONTROL, UNKNOWN, USER_DEFINED)
    ]
    affixes = {"continuing_subword_prefix": None, "end_of_word_suffix": None}
    vocab = {token: id for id, (token, kind) in enumerate(zip(tokens, types)) if kind != UNUSED}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "post_processor": None,
        "model": {"type": "BPE", "dropout": None, **affixes, "vocab": vocab},
    }


def _pre_tokenizer(pre: str) -> JsonObject:
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    cuts = CUTS[CUTS_OF[pre]]
    splits: list[JsonObject] = [
        {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": False} for cut in cuts
    ]
    if CUTS_OF[pre] == SMOLLM:
        splits = [{"type": "Digits", "individual_digits": True}]
    last = {**bytes_, "use_regex": CUTS_OF[pre] in (GPT2, SMOLLM)}
    return {"type": "Sequence", "pretokenizers": [*splits, last]}


# --- out ---


def keys_of(tokenizer: Tokenizer, vocab_size: int) -> JsonObject:
    """What a file says of a tokenizer, with unused tokens up to `vocab_size`.

    WeightsError for a tokenizer that llama.cpp would cut otherwise, or one with more ids than the model.
    """
    table: JsonObject = json.loads(tokenizer.canonical)
    layout = tokenizer.layout
    if tokenizer.vocab_size > vocab_size:
        raise WeightsError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the model {vocab_size}; expected no more; export "
            "the tokenizer that the model was trained with"
        )
    tokens = [f"[PAD{id}]" for id in range(vocab_size)]
    types = [UNUSED] * vocab_size
    for token, id in table["model"]["vocab"].items():
        tokens[id], types[id] = token, NORMAL
    for token in table["added_tokens"]:
        id, control = token["id"], token["special"] or token["content"] in layout.specials
        tokens[id], types[id] = token["content"], CONTROL if control else USER_DEFINED
    keys = {
        **_joining(table, tokens, types),
        "tokens": tokens,
        "token_type": types,
        "bos_token_id": layout.bos_id,
        "eos_token_id": layout.eos_id,
        "padding_token_id": layout.pad_id,
    }
    keys["add_bos_token"] = layout is NOMOAT or keys.get("pre") == LLAMA3 or keys["model"] == SCORED
    more = [id for id in layout.stop_ids if id != layout.eos_id]
    if more:
        keys["eot_token_id"] = more[0]
    chat = {"tokenizer.chat_template": layout.chat_template} if layout.chat_template else {}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items() if value != []} | chat


def _joining(table: JsonObject, tokens: list[str], types: list[int]) -> JsonObject:
    """How bytes or characters become tokens: by merges or, in files of Llama 2's kind, by scores."""
    if not table["model"].get("byte_fallback"):
        merges = [" ".join(pair) for pair in pairs(table)]
        return {"model": "gpt2", "pre": pre_of(table), "merges": merges}
    types[:] = [BYTE if _BYTE.fullmatch(token) else kind for token, kind in zip(tokens, types)]
    values = scores.of_merges(tokens, pairs(table))
    back = scores.merges(tokens, values, [kind == NORMAL for kind in types])
    follow = pairs(table) == [tuple(pair) for pair in back]
    blank_before = table["normalizer"] == scores.steps(True)["normalizer"]
    written = scores.steps(blank_before)["normalizer"] == table["normalizer"]
    if not (follow and written) or table.get("pre_tokenizer"):
        raise WeightsError(
            "the tokenizer falls back to bytes and its merges don't follow from scores, or it writes blanks "
            "in another way; expected one of Llama 2's kind; export it to hf"
        )
    unknown = tokens.index(table["model"]["unk_token"])
    more = {"add_space_prefix": blank_before, "unknown_token_id": unknown}
    return {"model": SCORED, "scores": values, **more}


def pre_of(table: JsonObject) -> str:
    """The name under which llama.cpp cuts text as this tokenizer.json; WeightsError where there is none."""
    rules = _rules(table)
    whole = bool(table["model"].get("ignore_merges"))
    for pre in (GPT2, SMOLLM, LLAMA3, "dbrx", QWEN2, DEEPSEEK3):
        if rules == _rules({"pre_tokenizer": _pre_tokenizer(pre)}) and whole == (pre in WHOLE_WORDS):
            return pre
    raise WeightsError(
        f"the tokenizer cuts text by {[rule[:60] for rule in rules]}, for which llama.cpp has no name; "
        "expected the rules of GPT-2, SmolLM, Llama 3, Qwen 2 or DeepSeek-V3; export it to hf"
    )


def _rules(table: JsonObject) -> list[str]:
    """What a pre_tokenizer does, one text a step, the same for the same in other words."""
    rules = []
    for rule in parts(table, "pre_tokenizer"):
        match rule:
            case {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated"}:
                rules.append(_spelled(cut))
            case {"type": "Digits", "individual_digits": True}:
                rules.append(r"\p{N}")
            case {"type": "ByteLevel", "add_prefix_space": False}:
                rules.append("bytes, cut as GPT-2" if rule.get("use_regex", True) else "bytes")
            case {"type": kind} if kind != "Sequence":
                rules.append(str(kind))
    return rules


def _spelled(cut: str) -> str:
    """A regular expression as we spell it: endings without a flag, no needless escapes."""
    return cut.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", _ENDINGS).replace(r"\p{N}{1}|", r"\p{N}|")


def compare(tokenizer: Tokenizer, back: JsonObject) -> None:
    """WeightsError where the table of a file isn't that of the tokenizer."""
    table: JsonObject = json.loads(tokenizer.canonical)
    read = ids_of(back)
    wrong = [token for token, id in ids_of(table).items() if read.get(token) != id]
    if wrong or pairs(table) != pairs(back):
        raise WeightsError(f"the tokenizer reads back otherwise ({wrong[:3]}); expected the same; report it")
