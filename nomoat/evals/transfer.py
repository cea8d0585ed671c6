"""How far does it carry?  What one model makes of the rings and of open text, as it is kept in transfer.json."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nomoat.engine import engine
from nomoat.evals.bits import bits_per_byte
from nomoat.evals.problems import Answered, Asking, answer, both
from nomoat.evals.rings import EVERYONE, REFUSAL, Suite
from nomoat.model.transformer import Transformer
from nomoat.rl.rollout import Rollout
from nomoat.tasks import answers, base
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session, Work, count

Held = Mapping[str, Sequence[str]]  # language -> texts that no stage read


@dataclass(frozen=True)
class Examination:
    """One model of a run before a suite; what is not its stage `before` or `after` is a control and asked less."""

    session: Session
    suite: Suite
    asking: Asking
    tokenizer: Tokenizer
    model: Transformer
    name: str

    @property
    def control(self) -> bool:
        return self.name not in (self.suite.config.before, self.suite.config.after)

    def result(self, held: Held) -> dict[str, Any]:
        """JSON: the answers in the order of the suite (null where nothing was asked), and the open text."""
        return {"answers": self.answers(), "deep": self.deep(), **self.open_text(held)}

    def answers(self) -> list[dict[str, Any] | None]:
        """What is kept of the answers to each problem, ring by ring."""
        config, items = self.suite.config, self.suite.items
        records: list[dict[str, Any] | None] = [None] * len(items)
        for ring in dict.fromkeys(item.ring for item in items if not self.control or item.ring in EVERYONE):
            self.session.check_stop()
            places = [i for i, item in enumerate(items) if item.ring == ring]
            seed = int.from_bytes(f"{config.seed}/{ring}".encode()[:7], "big")
            with Work(self.session, f"{ring} of {self.name}") as work:
                asked = [items[i] for i in places]
                answered = both(
                    work, self.model, self.tokenizer, asked, self.asking, samples=config.samples, seed=seed
                )
                for i, a in zip(places, answered):
                    records[i] = record(a)
        return records

    def deep(self) -> list[tuple[int, int]]:
        """(decided, right) of many samples of the first problems of each trained level."""
        config = self.suite.config
        trained = [item for item in self.suite.items if item.ring == "R0" and not self.control]
        cells = groupby(trained, lambda item: (item.family, item.level))
        asked = [item for _, cell in cells for item in list(cell)[: config.deep_problems]]
        if not asked:
            return []
        with Work(self.session, f"pass@{config.deep_samples} of {self.name}") as work:
            groups = answer(
                work,
                self.model,
                self.tokenizer,
                asked,
                self.asking,
                samples=config.deep_samples,
                seed=config.seed,
            )
            scores = [[a.score for a in group if not a.score.undecided] for group in groups]
        return [(len(decided), sum(score.strict for score in decided)) for decided in scores]

    def open_text(self, held: Held) -> dict[str, Any]:
        """Bits per byte of each language, and how varied free continuations are."""
        config, model, tokenizer = self.suite.config, self.model, self.tokenizer
        with Work(self.session, f"open text of {self.name}") as work:
            bits = {lang: bits_per_byte(model, tokenizer, texts) for lang, texts in held.items()}
            n_tokens = sum(len(ids) for texts in held.values() for ids in tokenizer.encode_batch(texts))
            count(work, model.spec, n_tokens, model.spec.context / 2)
            in_turn = [text[:400] for texts in zip(*held.values()) for text in texts]
            beginnings = tokenizer.encode_batch(in_turn)[: config.texts]
            prompts = [[layout.BOS, *ids[:16]] for ids in beginnings]
            samples = engine.sample(
                model, prompts, max_new_tokens=64, seed=config.seed, stop_ids=(layout.EOS,), pad_id=layout.PAD
            )
            written = [sample.ids_T.tolist() for (sample,) in samples]
            count(work, model.spec, sum(map(len, prompts)) + sum(map(len, written)), 40)
        return {"bits": bits, "distinct": distinct(written), "repeats": repeats(written)}


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is there."""
    present = [v for v in values if v is not None]
    return sum(present) / len(present) if present else None


def record(answered: Answered) -> dict[str, Any]:
    """What is kept of one model's answers to one problem.  What the machine failed to judge counts nowhere."""
    greedy, sampled = answered.greedy, answered.sampled
    decided = [a.score for a in sampled if not a.score.undecided]
    form = getattr(answered.question.task, "form", "line")
    refuses = [bool(re.search(REFUSAL, a.text)) for a in sampled]
    given = [a.rollout.stop == "end" and answers.strict_answer(a.text, form) is not None for a in sampled]
    return {
        "greedy": None if greedy.score.undecided else int(greedy.score.strict),
        "rate": mean([score.strict for score in decided]),
        "lenient": mean([score.lenient for score in decided]),
        "majority": majority(answered, form),
        "ended": mean([a.rollout.stop == "end" for a in sampled]),
        "length": mean([a.rollout.length for a in sampled]),
        "language": mean([score.language for score in decided]),
        "gave": mean([gave and not refused for gave, refused in zip(given, refuses)]),
        "refuses": mean(refuses),
        "confidence": confidence(greedy.rollout),
    }


def majority(answered: Answered, form: str) -> int | None:
    """Whether the most frequent answer is right; None where the machine can't judge."""
    texts = [a.text for a in answered.sampled if not a.score.undecided]
    votes = Counter(
        filter(None, (answers.strict_answer(t, form) or answers.lenient_answer(t) for t in texts))
    )
    if not votes:
        return 0
    question, winner = answered.question, votes.most_common(1)[0][0]
    try:
        return int(question.task.check(question.problem, winner))
    except base.Undecided:
        return None


def confidence(rollout: Rollout) -> float | None:
    """exp of the mean log-probability of the answer's own tokens, the thinking left out."""
    ids = rollout.ids_T[rollout.sampled_T].tolist()
    start = len(ids) - ids[::-1].index(layout.END_THINK) if layout.END_THINK in ids else 0
    drawn = zip(ids[start:], rollout.logp_T[rollout.sampled_T].tolist()[start:])
    logp = [value for i, value in drawn if i != layout.EOS]
    return math.exp(sum(logp) / len(logp)) if logp else None


def distinct(texts: Sequence[Sequence[int]]) -> float:
    """distinct-3: the share of different trigrams over all texts."""
    trigrams = [gram for text in texts for gram in _grams(text, 3)]
    return len(set(trigrams)) / max(len(trigrams), 1)


def repeats(texts: Sequence[Sequence[int]]) -> float:
    """The share of a text's 4-grams that it had before."""
    grams = [_grams(text, 4) for text in texts]
    return sum(len(g) - len(set(g)) for g in grams) / max(sum(map(len, grams)), 1)


def _grams(text: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
