"""Small talk and self-description for the SFT stage, in English and German, from templates written by hand.

The words stand in `conversation.toml`.  Each answer is there in both languages, so that "and in German?" and
a system prompt that names a language have an exact reply.  One wording in eight is kept for `heldout`.
"""

import hashlib
import itertools
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from nomoat.files import shipped
from nomoat.tokenizer.layout import Conversation, Message

LANGS = ("en", "de")
LONGEST = 200  # characters of a sensible reply
GREETED = 0.12  # share of the questions that stand behind a greeting,
OPENED = 0.08  # behind a word to begin with,
SLIPPED = 0.05  # and of those with a slip of the fingers
POLITE = ("greeting", "how are you", "thanks", "goodbye", "praise", "okay")  # topics that don't
_OTHER = {"en": "de", "de": "en"}
_CHOICE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Topic:
    asked: dict[str, tuple[str, ...]]  # templates by language
    answers: list[dict[str, str]]  # by language, each with one meaning
    weight: int  # how often it is talked about
    accepts: tuple[str, ...] = ()  # what a sensible answer says, in any of these words
    alike: tuple[str, ...] = ()  # topics whose answers are as good


def conversations(seed: int) -> Iterator[Conversation]:
    """Endless small talk for training, the same for the same seed everywhere; each ends with the assistant's
    turn.
    """
    return _stream("train", seed)


def heldout(seed: int) -> Iterator[Conversation]:
    """The same kind of talk in wordings that `conversations` never uses, in capitals, small letters or
    otherwise.
    """
    return _stream("heldout", seed)


@cache
def topics() -> dict[str, Topic]:
    """Every topic by name: those of the file, and one "can you …" for each of its tasks."""
    words = shipped(__file__)
    by_name = {}
    for topic in words["topic"]:
        asked = {lang: tuple(topic[lang]) for lang in LANGS}
        accepts = tuple(topic.get("accepts", ()))
        alike = tuple(topic.get("alike", ()))
        by_name[topic["name"]] = Topic(asked, topic["answers"], topic["weight"], accepts, alike)
    for task in words["task"]:
        asked = {
            lang: tuple(template.replace("TASK", task[lang]) for template in words["can"][lang])
            for lang in LANGS
        }
        by_name[f"can you {task['en']}"] = Topic(asked, [task["answer"]], 1)
    return by_name


@cache
def wordings(templates: tuple[str, ...], split: str) -> tuple[str, ...]:
    """What the templates spell in `split`; wordings that differ in capitals or the last mark alone stay
    together.
    """
    spelled = {}
    for text in (text for template in templates for text in _spelled(template)):
        spelled.setdefault(fold(text), []).append(text)
    keys = sorted(spelled, key=_sha256)
    n_heldout = len(keys) // 8 or min(len(keys) - 1, 1)
    chosen = keys[:n_heldout] if split == "heldout" else keys[n_heldout:]
    return tuple(text for key in chosen for text in spelled[key])


def _spelled(template: str) -> list[str]:
    """Every choice of a template."""
    options = [[part] for part in _CHOICE.split(template)]  # literal, choices, literal, choices, …
    for n in range(1, len(options), 2):
        options[n] = options[n][0].split("|")
    return ["".join(words) for words in itertools.product(*options)]


@cache
def _by_template(templates: tuple[str, ...], split: str) -> tuple[list[list[str]], list[float]]:
    """The wordings of each template in `split`, and how often it is drawn: by the root of their number."""
    here = set(wordings(templates, split))
    found = [[text for text in _spelled(template) if text in here] for template in templates]
    found = [texts for texts in found if texts]
    return found, [math.sqrt(len(texts)) for texts in found]


def _drawn(rng: random.Random, templates: tuple[str, ...], split: str) -> str:
    """One wording; a template of many choices does not drown the others."""
    texts, weights = _by_template(templates, split)
    return rng.choice(rng.choices(texts, weights)[0])


@cache
def _others(split: str) -> frozenset[str]:
    """What is spelled on the other side of the split, folded."""
    other = {"train": "heldout", "heldout": "train"}[split]
    asked = [topic.asked[lang] for topic in topics().values() for lang in LANGS]
    return frozenset(fold(text) for templates in asked for text in wordings(templates, other))


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def fold(text: str) -> str:
    """`text` as the split sees it: small letters, no last mark."""
    return text.lower().rstrip(".!?")


def accepted(name: str, lang: str, reply: str) -> bool:
    """Whether a reply to a question of a topic is sensible: an answer of that topic, or of one alike, in
    that language; or a sentence or two that say a word which the topic accepts, and no other topic's answer.
    """
    said = fold(" ".join(reply.split()))
    topic = topics()[name]
    if any(said in _answers(other, lang) for other in (name, *topic.alike)):
        return True
    if any(said in _answers(other, either) for other in topics() for either in LANGS):
        return False
    ended = reply.rstrip()[-1:] in (".", "!", "?")
    return ended and len(reply) <= LONGEST and any(word in said for word in topic.accepts)


@cache
def _answers(name: str, lang: str) -> frozenset[str]:
    return frozenset(fold(answer[lang]) for answer in topics()[name].answers)


def _stream(split: str, seed: int) -> Iterator[Conversation]:
    for n in itertools.count():
        yield _conversation(random.Random(f"conversation/{split}/{seed}/{n}"), split)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of small talk, and the language that it is in."""

    topic: str
    lang: str
    text: str


def asked(rng: random.Random, split: str) -> Asked:
    """A question of some topic."""
    by_name = topics()
    name = rng.choices(list(by_name), [topic.weight for topic in by_name.values()])[0]
    lang = rng.choice(LANGS)
    return Asked(name, lang, _question(rng, name, lang, split))


def exchange(rng: random.Random, split: str) -> list[Message]:
    """A question and its answer, in one language."""
    question = asked(rng, split)
    answer = rng.choice(topics()[question.topic].answers)
    return [Message("user", question.text), Message("assistant", answer[question.lang])]


def _question(rng: random.Random, name: str, lang: str, split: str) -> str:
    """One wording of a topic, now and then behind an opening, or with a slip."""
    plain = _drawn(rng, topics()[name].asked[lang], split)
    opening = _opening(rng, name, lang, split)
    question = _casual(rng, f"{opening} {plain}".strip())
    if rng.random() < SLIPPED:
        question = _slip(rng, question)
    if fold(question) in _others(split):
        return _casual(rng, plain)
    return question


def _opening(rng: random.Random, name: str, lang: str, split: str) -> str:
    """A greeting, a word to begin with, or mostly nothing."""
    if name not in POLITE and rng.random() < GREETED:
        greeting = _drawn(rng, topics()["greeting"].asked[lang], split)
        return greeting.rstrip(".!") + rng.choice("!,.")
    openings = shipped(__file__)["opening"][lang]
    return rng.choice(openings) if rng.random() < OPENED else ""


def _slip(rng: random.Random, text: str) -> str:
    """The text with two letters exchanged, or with one left out."""
    at = rng.randrange(max(len(text) - 1, 1))
    pair = text[at : at + 2]
    if not pair.isalpha():
        return text
    return text[:at] + rng.choice((pair[::-1], pair[:1])) + text[at + 2 :]


def _conversation(rng: random.Random, split: str) -> Conversation:
    words = shipped(__file__)

    def say(templates: list[str] | tuple[str, ...]) -> str:
        return _drawn(rng, tuple(templates), split)

    asked_in = replied_in = rng.choice(LANGS)
    kind = rng.choices(("plain", "order", "persona"), (68, 20, 12))[0]
    turns = []
    if kind == "order":
        replied_in = rng.choice(LANGS)
        turns.append(Message("system", say(words["order"][replied_in])))
    elif kind == "persona":
        turns.append(Message("system", say(words["persona"][asked_in])))
    for name in _agenda(rng):
        question = _question(rng, name, asked_in, split)
        answer = rng.choice(topics()[name].answers)
        lang = replied_in
        if kind == "plain" and rng.random() < 0.06:
            question, lang = f"{question} {words['inline'][asked_in]}", _OTHER[asked_in]
        turns += [Message("user", question), Message("assistant", answer[lang])]
        if rng.random() < 0.06:
            again, repeated = "repeat", answer[lang]
        elif kind != "order" and lang == asked_in and rng.random() < 0.08:
            again, repeated = "translate", answer[_OTHER[asked_in]]
        else:
            continue
        question = _casual(rng, say(words[again][asked_in]))
        turns += [Message("user", question), Message("assistant", repeated)]
    return turns


def _agenda(rng: random.Random) -> list[str]:
    """One to three topics by name, none twice; a longer talk often has a greeting first or thanks last."""
    by_name = topics()
    weights = [topic.weight for topic in by_name.values()]
    n = rng.choices((1, 2, 3), (5, 3, 2))[0]
    names, ending = [], []
    if n > 1 and rng.random() < 0.3:
        names = ["greeting"]
    if n > 1 and rng.random() < 0.3:
        ending = [rng.choice(("thanks", "goodbye"))]
    while len(names) + len(ending) < n:
        name = rng.choices(list(by_name), weights)[0]
        if name not in names + ending:
            names.append(name)
    return names + ending


def _casual(rng: random.Random, text: str) -> str:
    """The text as people type it: sometimes without capitals, sometimes without the last mark."""
    if rng.random() < 0.2:
        text = text.lower()
    return text.rstrip(".!? ") or text if rng.random() < 0.2 else text
