"""From text, problems and talk to tokens: the documents that shards are made of."""

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from nomoat.data import sources
from nomoat.data.conversation import conversations
from nomoat.tasks import base, find
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer

Tokens = tuple[list[int], list[bool] | None]
Levels = Mapping[str, Sequence[int]]
Talk = list[layout.Message]
CHUNK = 2000  # documents per call of the encoder


def prose(documents: Iterable[sources.Document], tokenizer: Tokenizer) -> Iterator[Tokens]:
    """<|bos|> text <|eos|>, every token trained."""
    for chunk in _batched(documents, 64):
        for ids in tokenizer.encode_batch([d.text for d in chunk]):
            yield [tokenizer.layout.bos_id, *ids, tokenizer.layout.eos_id], None


def text(path: str | None, n_bytes: int | None, hub: str | None = None) -> Iterator[sources.Document]:
    """Training text: a data set, files of the user's, or what ships with the package; see `first` for `n_bytes`."""
    if hub is not None:
        return first(sources.from_hub(hub), n_bytes)
    return first(sources.shipped("train") if path is None else sources.from_path(path), n_bytes)


def first(documents: Iterable[sources.Document], n_bytes: int | None) -> Iterator[sources.Document]:
    """The documents, of each language no more once it has given `n_bytes`; all of them for None."""
    size: dict[str | None, int] = {}
    for document in documents:
        if n_bytes is None or size.get(document.lang, 0) < n_bytes:
            size[document.lang] = size.get(document.lang, 0) + len(document.text.encode())
            yield document


def problems(levels: Levels, n: int, seed: int, split: str = "train") -> Iterator[tuple[str, int, base.Problem]]:
    """`n` problems, (family, level, problem), families and their levels in turn."""
    stream_of = lambda family, level: base.problems(find.find(family), level, split=split, seed=seed)
    turns = [
        itertools.cycle([(family, level, stream_of(family, level)) for level in chosen])
        for family, chosen in levels.items() if chosen
    ]  # fmt: skip
    for index in range(n):
        family, level, stream = next(turns[index % len(turns)])
        yield family, level, next(stream)


def worked(
    levels: Levels, n: int, chains: Mapping[str, float] | float, tokenizer: Tokenizer, seed: int
) -> Iterator[Tokens]:
    """Worked problems in the chat layout; a share `chains` of them shows the chain, the rest only the answer."""
    rng = random.Random(f"worked/{seed}")

    def talks() -> Iterator[Talk]:
        for family, _, problem in problems(levels, n, seed):
            share = chains if isinstance(chains, float) else chains.get(family, 1.0)
            chain = find.find(family).work(problem) if rng.random() < share else None
            yield [layout.Message("user", problem.prompt), layout.Message("assistant", problem.witness, chain)]

    return _laid_out(talks(), tokenizer)


def sampled(paths: Iterable[Path], tokenizer: Tokenizer) -> Iterator[Tokens]:
    """What stages of rejection sampling kept, in the chat layout."""
    records = (json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines())
    to_talk = lambda r: [layout.Message("user", r["prompt"]), layout.Message("assistant", r["answer"], r["thinking"])]
    return _laid_out(map(to_talk, records), tokenizer)


def talk(n: int, tokenizer: Tokenizer, seed: int) -> Iterator[Tokens]:
    """`n` conversations in the chat layout."""
    return _laid_out(([layout.Message(*turn) for turn in turns] for turns in itertools.islice(conversations(seed), n)), tokenizer)


def _laid_out(talks: Iterable[Talk], tokenizer: Tokenizer) -> Iterator[Tokens]:
    for chunk in _batched(talks, CHUNK):
        for rendered in layout.render_batch(tokenizer, chunk, generate=False):
            yield rendered.ids, rendered.trained


def _batched(things: Iterable, n: int) -> Iterator[list]:
    things = iter(things)
    while chunk := list(itertools.islice(things, n)):
        yield chunk
