"""Small talk and self-description for the SFT stage, in English and German, from templates written by hand.

The words stand in `conversation.toml`.  Each answer is there in both languages, so that "and in German?" and a system
prompt that names a language have an exact reply.  One wording in eight is kept for `heldout`.
"""

import hashlib
import itertools
import random
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from nomoat.files import shipped

Turn = tuple[str, str]  # role, content: the first two fields of `chat.Message`
LANGS = ("en", "de")
_OTHER = {"en": "de", "de": "en"}
_CHOICE = re.compile(r"\{([^{}]*)\}")


class Topic(NamedTuple):
    asked: dict[str, tuple[str, ...]]  # templates by language
    answers: list[dict[str, str]]  # by language, each with one meaning
    weight: int  # how often it is talked about


def conversations(seed: int) -> Iterator[list[Turn]]:
    """Endless small talk for training, the same for the same seed everywhere; each ends with the assistant's turn."""
    return (_conversation(random.Random(f"conversation/train/{seed}/{n}"), "train") for n in itertools.count())


def heldout(seed: int) -> Iterator[list[Turn]]:
    """The same kind of talk in wordings that `conversations` never uses, in capitals, small letters or otherwise."""
    return (_conversation(random.Random(f"conversation/heldout/{seed}/{n}"), "heldout") for n in itertools.count())


@cache
def topics() -> dict[str, Topic]:
    """Every topic by name: those of the file, and one "can you …" for each of its tasks."""
    words = shipped(__file__)
    out = {t["name"]: Topic({x: tuple(t[x]) for x in LANGS}, t["answers"], t["weight"]) for t in words["topic"]}
    for task in words["task"]:
        asked = {lang: tuple(t.replace("TASK", task[lang]) for t in words["can"][lang]) for lang in LANGS}
        out[f"can you {task['en']}"] = Topic(asked, [task["answer"]], 1)
    return out


@cache
def wordings(templates: tuple[str, ...], split: str) -> tuple[str, ...]:
    """What the templates spell in `split`; wordings that differ in capitals or the last mark alone stay together."""
    spelled: dict[str, list[str]] = {}
    for template in templates:
        parts = _CHOICE.split(template)  # literal, choices, literal, choices, …
        options = [p.split("|") if n % 2 else [p] for n, p in enumerate(parts)]
        for text in map("".join, itertools.product(*options)):
            spelled.setdefault(fold(text), []).append(text)
    keys = sorted(spelled, key=lambda k: hashlib.sha256(k.encode()).digest())
    n_heldout = max(1, len(keys) // 8) if len(keys) > 1 else 0
    return tuple(w for k in (keys[:n_heldout] if split == "heldout" else keys[n_heldout:]) for w in spelled[k])


def fold(text: str) -> str:
    """`text` as the split sees it: small letters, no last mark."""
    return text.lower().rstrip(".!?")


def _conversation(rng: random.Random, split: str) -> list[Turn]:
    asks = answers = rng.choice(LANGS)
    turns: list[Turn] = []
    words = shipped(__file__)
    say = lambda templates: rng.choice(wordings(tuple(templates), split))
    kind = rng.choices(("plain", "order", "persona"), (68, 20, 12))[0]
    if kind == "order":
        answers = rng.choice(LANGS)
        turns.append(("system", say(words["order"][answers])))
    elif kind == "persona":
        turns.append(("system", say(words["persona"][asks])))
    for topic in _agenda(rng):
        question, answer = _casual(rng, say(topic.asked[asks])), rng.choice(topic.answers)
        reply_in = answers
        if kind == "plain" and rng.random() < 0.06:
            question, reply_in = f"{question} {words['inline'][asks]}", _OTHER[asks]
        turns += [("user", question), ("assistant", answer[reply_in])]
        if rng.random() < 0.06:
            turns += [("user", _casual(rng, say(words["repeat"][asks]))), ("assistant", answer[reply_in])]
        elif kind != "order" and reply_in == asks and rng.random() < 0.08:
            turns += [("user", _casual(rng, say(words["translate"][asks]))), ("assistant", answer[_OTHER[asks]])]
    return turns


def _agenda(rng: random.Random) -> list[Topic]:
    """One to three topics, none twice; a longer talk often starts with a greeting or ends with thanks."""
    n = rng.choices((1, 2, 3), (5, 3, 2))[0]
    names = ["greeting"] if n > 1 and rng.random() < 0.3 else []
    ending = [rng.choice(("thanks", "goodbye"))] if n > 1 and rng.random() < 0.3 else []
    while len(names) + len(ending) < n:
        name = rng.choices(list(topics()), [t.weight for t in topics().values()])[0]
        if name not in (*names, *ending):
            names.append(name)
    return [topics()[name] for name in names + ending]


def _casual(rng: random.Random, text: str) -> str:
    """The text as people type it: sometimes without capitals, sometimes without the last mark."""
    if rng.random() < 0.2:
        text = text.lower()
    return text.rstrip(".!?") if rng.random() < 0.2 else text
