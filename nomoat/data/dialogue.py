"""Conversations of several turns: talk and problems of any family, in any order, in English and German.

What was said before is as a chat shows it: an answer without its chain.  Only talk and the last reply are
trained on, since nobody wrote an earlier answer without its chain.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

from nomoat.data.conversation import exchange
from nomoat.tasks import base, find
from nomoat.tokenizer.layout import Conversation, Message, turns

MOST_EARLIER = 4  # exchanges before the last question
TALK = 0.3  # share of the exchanges that are talk, where both are possible
SEEDS = 2**40


def dialogues(
    levels: Mapping[str, Sequence[int]], chains: Mapping[str, float] | float, seed: int
) -> Iterator[Conversation]:
    """Endless conversations for training, each with something said before; the last reply shows its chain in
    a share `chains` of the problems, of all families or of each."""
    n = 0
    while True:
        n += 1
        rng = random.Random(f"dialogue/{seed}/{n}")
        before = earlier(levels, rng, "train")
        family, problem = _problem(levels, rng, "train")
        asked = turns(problem.prompt, problem.facts)
        if rng.random() < TALK or not _alone(asked):
            yield [*before, *exchange(rng, "train")]
            continue
        share = chains if isinstance(chains, float) else chains.get(family, 1.0)
        chain = find.find(family).work(problem) if rng.random() < share else None
        yield [*before, *asked, Message("assistant", problem.witness, chain)]


def earlier(
    levels: Mapping[str, Sequence[int]], rng: random.Random, split: str, n: int | None = None
) -> tuple[Message, ...]:
    """`n` exchanges (by default 1 to MOST_EARLIER, fewer more often): talk, or a problem and its answer.

    Problems whose question is a whole conversation, and talk that opens one, are left out.
    """
    if n is None:
        n = rng.choices(range(1, MOST_EARLIER + 1), (4, 3, 2, 1))[0]
    said = []
    for _ in range(n):
        if rng.random() >= TALK:
            family, problem = _problem(levels, rng, split)
            asked = turns(problem.prompt, problem.facts)
            if _alone(asked):
                said += [*asked, Message("assistant", shown(rng, problem.witness), "")]
                continue
        said += exchange(rng, "train" if split == "train" else "heldout")
    return tuple(said)


def shown(rng: random.Random, witness: str) -> str:
    """An answer as a conversation keeps it: as it was written, or without the blank before it."""
    return witness if rng.random() < 0.5 else witness.strip()


def _problem(levels: Mapping[str, Sequence[int]], rng: random.Random, split: str) -> tuple[str, base.Problem]:
    family = rng.choice(list(levels))
    task = find.find(family)
    level = rng.choice(levels[family])
    return family, next(base.problems(task, level, split=split, seed=rng.randrange(SEEDS)))


def _alone(asked: Conversation) -> bool:
    """Whether a question is one turn of the user's, which can stand behind others."""
    return len(asked) == 1
