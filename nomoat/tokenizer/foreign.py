"""Layouts of others: from the files beside a foreign tokenizer.json, or from what a GGUF says."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nomoat.config import DataError, JsonObject, WeightsError
from nomoat.files import read_json
from nomoat.tokenizer import jinja, vocabulary
from nomoat.tokenizer.layout import Layout, is_our_template
from nomoat.tokenizer.turns import Template

TEMPLATE = "chat_template.jinja"
NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
_THINK = ("<think>", "</think>")
_TOOL = re.compile(r"<[/|｜]*tool[\w▁]*[|｜]?>|\[/?(TOOL|AVAILABLE_TOOLS)\w*\]")
_MARK = re.compile(rf"{_TOOL.pattern}|</?think>|<\|.*\|>|<｜.*｜>", re.DOTALL)
_SIGN = re.compile(r"[^\w\s]")  # words that a template writes are words
_END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>")


def is_foreign(table: JsonObject, ours: Mapping[str, int], template: str | None) -> bool:
    """Whether a tokenizer.json lacks one of our own special tokens, or comes with a template of its own."""
    if template is not None and not is_our_template(template):
        return True
    added = table.get("added_tokens")
    if not isinstance(added, list):
        return False
    return not ours.keys() <= {t.get("content") for t in added if isinstance(t, dict)}


def unconverted(directory: Path) -> str | None:
    """What to do where a tokenizer is there in another format only."""
    if (directory / "tokenizer.json").is_file():
        return None
    for name in ("tokenizer.model", "vocab.json", "tiktoken.model"):
        if (directory / name).is_file():
            return (
                f"{directory} has {name} and no tokenizer.json; expected that; write it with transformers: "
                "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            )
    return None


def read(directory: Path, table: JsonObject) -> tuple[JsonObject, Layout, JsonObject]:
    """The table, its layout and its tokenizer_config.json, for `Tokenizer`; what the latter says of added
    tokens completes the table, as it does in transformers.

    DataError where no token ends a reply; WeightsError for files that contradict each other.
    """
    config = _optional(directory / "tokenizer_config.json")
    older = _optional(directory / "special_tokens_map.json")
    words = {name: text for name in NAMES if (text := _text(config.get(name, older.get(name))))}
    table = _completed(table, config, words)
    stops = _optional(directory / "generation_config.json").get("eos_token_id")
    if stops is None:
        stops = _optional(directory / "config.json").get("eos_token_id")
    stop_ids = [id for id in (stops if isinstance(stops, list) else [stops]) if type(id) is int]
    return table, layout_of(table, _template(directory, config), words, stop_ids), config


def layout_of(
    table: JsonObject, template: str | None, words: Mapping[str, str], stop_ids: Sequence[int] = ()
) -> Layout:
    """The layout of a tokenizer.json-like table with a Jinja template.

    `words` are the texts of bos_token, eos_token, pad_token and unk_token, as far as there are; `stop_ids`
    end a reply, too, beside eos_token and what the template puts behind an assistant's turn.  Control tokens
    are the special ones, those that the template writes, and what is spelled like one: <|…|>, and the marks
    of thinking and tools.  DataError where no token ends a reply.
    """
    ids = vocabulary.ids_of(table)
    named = {name: ids[text] for name, text in words.items() if text in ids}
    control = _control(table, template)
    control |= {words[name]: id for name, id in named.items() if name != "unk_token"}
    ends = [id for name, id in named.items() if name == "eos_token"]
    ends += [id for id in stop_ids if id in ids.values()]
    ends += _turn_end(template, control, words, ends)
    if not ends:
        raise DataError(
            "no token of this tokenizer ends a reply; expected one; set eos_token in tokenizer_config.json"
        )
    bos = next((control[text] for text in _END_OF_TEXT if text in control), ends[0])
    think = tuple(control.get(mark) for mark in _THINK)
    think_id, end_think_id = think if None not in think else (None, None)
    inside = {id for text, id in control.items() if text in _THINK or _TOOL.fullmatch(text)}
    return Layout(
        specials=control,
        pad_id=named.get("pad_token", ends[0]),
        bos_id=named.get("bos_token", bos),
        eos_id=ends[0],
        role_ids={},
        think_id=think_id,
        end_think_id=end_think_id,
        turn_ends=frozenset(control.values()) - inside | {*ends},
        stop_ids=tuple(dict.fromkeys(ends)),
        template=template,
        words=words,
    )


def _control(table: JsonObject, template: str | None) -> dict[str, int]:
    """What each control token is spelled, and its id; not the unknown token, which content may give."""
    written = "\0".join(jinja.words(template).printed) if template else ""
    control = {}
    for token in table["added_tokens"]:
        text = token["content"]
        mark = _MARK.fullmatch(text) or (text in written and _SIGN.search(text))
        ordinary = not text.strip() or text == table["model"].get("unk_token")
        if not ordinary and (token["special"] or mark):
            control[text] = token["id"]
    return control


def _turn_end(
    template: str | None, control: Mapping[str, int], words: Mapping[str, str], ends: Sequence[int]
) -> list[int]:
    """The control token that a template puts behind an assistant's turn, if it does and none of the `ends`
    stands there.
    """
    if template is None:
        return []
    writer = Template(template, control, words, (), None)
    question, answer, more = "What is it?", "It is so.", "Why?"
    said = question, answer, more, answer
    turns = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(said)]
    try:
        written = writer.write(turns, generate=False, think=None)
    except DataError:  # it wants other turns; whoever renders is told
        return []
    first, last = written.text.find(answer), written.text.rfind(answer)
    between = range(first, written.text.find(more, first))
    if any(id in ends and start in between for start, _, id in written.marks):
        return []
    return [id for start, _, id in written.marks if start > last][:1]


def _completed(table: JsonObject, config: JsonObject, words: Mapping[str, str]) -> JsonObject:
    """The table with the added tokens that only the configuration knows, or only names."""
    added = {token["content"]: token for token in table["added_tokens"]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    extra = config.get("added_tokens_decoder")
    for id, token in (extra if isinstance(extra, dict) else {}).items():
        text = _text(token)
        if isinstance(token, dict) and text is not None and id.isdecimal():
            added.setdefault(text, {**flags, **token, "id": int(id)})
    vocab = table["model"]["vocab"]
    for text in words.values():
        if text in vocab:
            added.setdefault(text, {**flags, "id": vocab[text], "content": text})
    if len(added) == len(table["added_tokens"]):
        return table
    completed = {**table, "added_tokens": [*added.values()]}
    vocabulary.check(completed)
    return completed


def template_in(directory: Path) -> str | None:
    """The chat template beside a tokenizer.json, if there is one."""
    return _template(directory, _optional(directory / "tokenizer_config.json"))


def _template(directory: Path, config: JsonObject) -> str | None:
    """chat_template.jinja, or what older files have instead: a text, or several with names."""
    try:
        return (directory / TEMPLATE).read_text("utf-8")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise WeightsError(f"{directory / TEMPLATE} is no text ({error}); restore it") from None
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _optional(path: Path) -> JsonObject:
    if not path.is_file():
        return {}
    return read_json(path, WeightsError, "a JSON object", "restore it or download it again")


def _text(token: object) -> str | None:
    """A token's text, which is written bare or with its flags."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
