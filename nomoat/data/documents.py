"""From text, problems and talk to tokens: the documents that shards are made of."""

import hashlib
import itertools
import json
import random
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from nomoat.config import DataError
from nomoat.data import readers, sources
from nomoat.data.conversation import conversations
from nomoat.data.dialogue import dialogues
from nomoat.tasks import base, find
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import Conversation, Message, Rendered, render_batch, render_latest, turns

Levels = Mapping[str, Sequence[int]]
T = TypeVar("T")
BATCH = 64  # texts that are encoded at a time
PASSED_BYTES = 2**20  # of text in a row that a file may have too much of, before it is left


def nothing() -> None:
    """What happens between two documents that nothing happens between."""


def prose(documents: Iterable[sources.Document], tokenizer: Tokenizer) -> Iterator[Rendered]:
    """<|bos|> text <|eos|>, every token trained; conversations in the chat layout, the assistant's turns
    trained.
    """
    marks = tokenizer.layout
    for chunk in batched(documents, BATCH):
        talks = iter(_conversations([d for d in chunk if d.turns], tokenizer))
        texts = iter(tokenizer.encode_batch([d.text for d in chunk if not d.turns]))
        for document in chunk:
            if document.turns:
                yield next(talks)
            else:
                ids = next(texts)
                yield Rendered([marks.bos_id, *ids, marks.eos_id], [True] * (len(ids) + 2))


def _conversations(chosen: Sequence[sources.Document], tokenizer: Tokenizer) -> list[Rendered]:
    """Documents of turns, rendered; DataError with its question for one that can't be."""
    talks = [spelled(tokenizer, document.turns) for document in chosen]
    tools = [document.tools for document in chosen]
    try:
        return render_batch(tokenizer, talks, generate=False, tools=tools)
    except DataError as error:
        if len(chosen) > 1:
            alone = (_conversations([document], tokenizer) for document in chosen)
            return [*itertools.chain.from_iterable(alone)]
        asked = (turn.content for turn in talks[0] if turn.role == "user")
        question = next(asked, "")[:60]
        raise DataError(f"{chosen[0].source}, the conversation of {question!r}: {error}") from None


def text(
    path: str | None, n_bytes: int | None, hub: sources.DataSet | None = None
) -> Iterator[sources.Document]:
    """Training text: a data set, files of the user's, or what ships with the package; see `first` for
    `n_bytes`.
    """
    if hub is not None:
        return first([sources.from_hub(hub)], n_bytes)
    return first(sources.shipped_files("train") if path is None else sources.files(path), n_bytes)


def first(files: Iterable[Iterable[sources.Document]], n_bytes: int | None) -> Iterator[sources.Document]:
    """The documents of some files, of each language no more once it has given `n_bytes`; all of them for
    None.

    It ends once both languages have given so much, or one that none is named of.  A file that goes on without
    the other language is left after PASSED_BYTES, so that about as much is read as was asked.
    """
    given = Counter()
    left = {}
    for documents in files:
        passed = 0
        for document in documents:
            size = len(document.text.encode())
            if n_bytes is None or given[document.lang] < n_bytes:
                given[document.lang] += size
                passed = 0
                yield document
                if n_bytes is not None and _enough(given, n_bytes):
                    return
            else:
                passed += size
            if passed > PASSED_BYTES:
                left[document.source] = document.lang
                break
    for source, lang in left.items():
        warnings.warn(
            f"{source} was left behind {PASSED_BYTES >> 20} MB of text in a row in a language ({lang}) that "
            "had its text_bytes; of another nothing further on is read: mix its rows, or give each a file",
            stacklevel=2,
        )


def _enough(given: Mapping[str | None, int], n_bytes: int) -> bool:
    languages = [None] if set(given) == {None} else readers.LANGUAGES
    return all(given.get(lang, 0) >= n_bytes for lang in languages)


class Reading:
    """Documents as they are read, how many bytes of each language, and the sha256 of all so far.

    `between` is called at each, `done` behind the last.
    """

    def __init__(
        self,
        documents: Iterable[sources.Document],
        between: Callable[[], None] = nothing,
        done: Callable[[], None] = nothing,
    ) -> None:
        self.documents, self.between, self.done = documents, between, done
        self.n_bytes = Counter()
        self._sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[sources.Document]:
        for document in self.documents:
            self.between()
            content = document.text.encode("utf-8", "surrogatepass")
            self._sha256.update(f"{document.lang} {len(content)}\n".encode() + content)
            self.n_bytes[document.lang or "other"] += len(content)
            yield document
        self.done()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def sha256(documents: Iterable[sources.Document]) -> str:
    """The digest of documents, all of which are read."""
    reading = Reading(documents)
    deque(reading, 0)
    return reading.sha256


def problems(
    levels: Levels, n: int, seed: int, split: str = "train"
) -> Iterator[tuple[str, int, base.Problem]]:
    """`n` problems, (family, level, problem), families and their levels in turn.

    Fewer than that where a file holds fewer problems out: nothing is measured twice.
    """
    families = []
    for family, chosen in levels.items():
        task = find.find(family)
        streams = [base.problems(task, level, split=split, seed=seed) for level in chosen]
        if split == "eval" and hasattr(task, "listed"):
            n_held = max(len(task.listed[split]), 1)
            streams = [itertools.islice(stream, n_held) for stream in streams]
        if streams:
            families.append(itertools.cycle([(family, *pair) for pair in zip(chosen, streams)]))
    for index in range(n):
        family, level, stream = next(families[index % len(families)])
        for problem in itertools.islice(stream, 1):
            yield family, level, problem


def worked(
    levels: Levels, n: int, chains: Mapping[str, float] | float, tokenizer: Tokenizer, seed: int
) -> Iterator[Rendered]:
    """Worked problems in the chat layout; a share `chains` shows the chain, the rest only the answer."""
    rng = random.Random(f"worked/{seed}")

    def talks() -> Iterator[Conversation]:
        for family, _, problem in problems(levels, n, seed):
            share = chains if isinstance(chains, float) else chains.get(family, 1.0)
            chain = find.find(family).work(problem) if rng.random() < share else None
            asked = turns(problem.prompt, problem.facts)
            yield [*asked, Message("assistant", problem.witness, chain)]

    return _rendered(talks(), tokenizer)


def solved(family: str, level: int, n: int, tokenizer: Tokenizer, seed: int) -> list[Message]:
    """`n` problems to train on, each behind it its worked answer: turns that show what is asked for."""
    said = []
    for _, _, problem in problems({family: [level]}, n, seed):
        asked = turns(problem.prompt, problem.facts)
        chain = find.find(family).work(problem) or None
        answer = Message("assistant", problem.witness, chain)
        said += spelled(tokenizer, [*asked, answer])
    return said


def sampled(paths: Iterable[Path], tokenizer: Tokenizer) -> Iterator[Rendered]:
    """What stages of rejection sampling kept, in the chat layout."""
    records = (json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines())
    talks = (
        [*turns(record["prompt"], record), Message("assistant", record["answer"], record["thinking"])]
        for record in records
    )
    return _rendered(talks, tokenizer)


def replayed(paths: Iterable[Path]) -> Iterator[Rendered]:
    """What a model replied to general questions, as it was drawn (rl/general.py)."""
    for line in itertools.chain.from_iterable(path.read_text("utf-8").splitlines() for path in paths):
        record = json.loads(line)
        ids, n_prompt = record["ids"], record["n_prompt"]
        yield Rendered(ids, [False] * n_prompt + [True] * (len(ids) - n_prompt))


def talk(n: int, tokenizer: Tokenizer, seed: int) -> Iterator[Rendered]:
    """`n` conversations in the chat layout."""
    return _rendered(itertools.islice(conversations(seed), n), tokenizer)


def spoken(
    levels: Levels, n: int, chains: Mapping[str, float] | float, tokenizer: Tokenizer, seed: int, longest: int
) -> Iterator[Rendered]:
    """`n` conversations of problems and talk (data/dialogue.py): latest turns, at most `longest` tokens."""
    talks = (spelled(tokenizer, talk) for talk in itertools.islice(dialogues(levels, chains, seed), n))
    for chunk in batched(talks, 2000):
        yield from render_latest(tokenizer, chunk, longest, generate=False)


def _rendered(talks: Iterable[Conversation], tokenizer: Tokenizer) -> Iterator[Rendered]:
    for chunk in batched((spelled(tokenizer, talk) for talk in talks), 2000):
        yield from render_batch(tokenizer, chunk, generate=False)


def spelled(tokenizer: Tokenizer, talk: Conversation) -> Conversation:
    """A conversation whose chain is spelled out before the last answer, where the tokenizer has no marks for
    thinking: <think>chain</think>answer, in its ordinary tokens.
    """
    if tokenizer.layout.think_id is not None:
        return talk
    plain = [replace(message, thinking=None) for message in talk]
    if talk and talk[-1].thinking:
        plain[-1] = replace(plain[-1], content=f"<think>{talk[-1].thinking}</think>{talk[-1].content}")
    return plain


def batched(things: Iterable[T], n: int) -> Iterator[list[T]]:
    things = iter(things)
    while chunk := list(itertools.islice(things, n)):
        yield chunk
