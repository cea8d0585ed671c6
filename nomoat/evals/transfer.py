"""How far does it carry?  What one model makes of the rings and of open text, as transfer.json keeps it."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from nomoat.config import JsonObject
from nomoat.engine import generate
from nomoat.evals.bits import bits_per_byte
from nomoat.evals.problems import Answered, Candidate
from nomoat.evals.rings import EVERYONE, REFUSAL, Suite
from nomoat.rl.rollout import Rollout
from nomoat.stats import mean
from nomoat.tasks import answers, base
from nomoat.tokenizer.layout import Layout
from nomoat.train.session import Session, Work, count

Result = JsonObject  # JSON
Held = Mapping[str, Sequence[str]]  # language -> texts that no stage read


@dataclass(frozen=True)
class Examination:
    """A model before a suite; what is neither the stage `before` nor `after` is a control, asked less."""

    session: Session
    suite: Suite
    name: str
    candidate: Candidate

    @property
    def control(self) -> bool:
        return self.name not in (self.suite.config.before, self.suite.config.after)

    def result(self, held: Held) -> Result:
        """JSON: the answers in the order of the suite (null where nothing was asked), and the open text."""
        return {"answers": self.answers(), "deep": self.deep(), **self.open_text(held)}

    def answers(self) -> list[Result | None]:
        """What is kept of the answers to each problem, ring by ring."""
        config = self.suite.config
        items = self.suite.items
        records = [None] * len(items)
        rings = dict.fromkeys(item.ring for item in items)
        for ring in rings:
            if self.control and ring not in EVERYONE:
                continue
            self.session.check_stop()
            places = [i for i, item in enumerate(items) if item.ring == ring]
            asked = [items[i].exercise for i in places]
            seed = int.from_bytes(f"{config.seed}/{ring}".encode()[:7], "big")
            with Work(self.session, f"{ring} of {self.name}") as work:
                answered = self.candidate.both(work, asked, config.samples, seed)
            for i, a in zip(places, answered):
                records[i] = record(a, self.candidate.tokenizer.layout)
        return records

    def deep(self) -> list[tuple[int, int]]:
        """(decided, right) of many samples of the first problems of each trained level."""
        config = self.suite.config
        trained = [item.exercise for item in self.suite.items if item.ring == "R0"]
        asked = []
        for _, cell in groupby(trained, lambda exercise: exercise.place):
            asked += islice(cell, config.deep_problems)
        if self.control or not asked:
            return []
        counts = []
        with Work(self.session, f"pass@{config.deep_samples} of {self.name}") as work:
            for group in self.candidate.answers(work, asked, samples=config.deep_samples, seed=config.seed):
                right = [answer.score.strict for answer in group if not answer.score.undecided]
                counts.append((len(right), sum(right)))
        return counts

    def open_text(self, held: Held) -> Result:
        """Bits per byte of each language, and how varied free continuations are."""
        config, model, tokenizer = self.suite.config, self.candidate.model, self.candidate.tokenizer
        layout = tokenizer.layout
        with Work(self.session, f"open text of {self.name}") as work:
            bits = {}
            for lang, texts in held.items():
                bits[lang] = bits_per_byte(model, tokenizer, texts)
                n_tokens = sum(map(len, tokenizer.encode_batch(texts)))
                count(work, model, n_tokens, model.spec.context / 2)
            in_turn = [text[:400] for texts in zip(*held.values()) for text in texts]
            beginnings = tokenizer.encode_batch(in_turn)[: config.texts]
            prompts = [[layout.bos_id, *ids[:16]] for ids in beginnings]
            samples = generate.sample(
                model,
                prompts,
                max_new_tokens=64,
                seed=config.seed,
                stop_ids=layout.stop_ids,
            )
            written = [sample.ids_T.tolist() for (sample,) in samples]
            count(work, model, sum(map(len, (*prompts, *written))), 40)
        return {"bits": bits, "distinct": distinct(written), "repeats": repeats(written)}


def record(answered: Answered, layout: Layout) -> Result:
    """What is kept of a model's answers to one problem.  What the machine failed to judge counts nowhere."""
    greedy, sampled = answered.greedy.score, answered.sampled
    decided = [answer.score for answer in sampled if not answer.score.undecided]
    ended = [answer.rollout.stop == "end" for answer in sampled]
    refuses = [bool(re.search(REFUSAL, answer.rollout.text)) for answer in sampled]
    given = [end and answer.score.answer is not None for end, answer in zip(ended, sampled)]
    return {
        "greedy": None if greedy.undecided else int(greedy.strict),
        "rate": mean([score.strict for score in decided]),
        "lenient": mean([score.lenient for score in decided]),
        "majority": majority(answered),
        "ended": mean(ended),
        "length": mean([answer.rollout.length for answer in sampled]),
        "language": mean([score.language for score in decided]),
        "gave": mean([gave and not refused for gave, refused in zip(given, refuses)]),
        "refuses": mean(refuses),
        "confidence": confidence(answered.greedy.rollout, layout),
    }


def majority(answered: Answered) -> int | None:
    """Whether the most frequent answer is right; None where the machine can't judge."""
    exercise, decided = answered.exercise, [a for a in answered.sampled if not a.score.undecided]
    given = [a.score.answer or answers.lenient_answer(a.rollout.text) for a in decided]
    votes = Counter(filter(None, given)).most_common(1)
    try:
        return int(bool(votes) and exercise.task.check(exercise.problem, votes[0][0]))
    except base.Undecided:
        return None


def confidence(rollout: Rollout, layout: Layout) -> float | None:
    """exp of the mean log-probability of the answer's own tokens, the thinking left out."""
    drawn = list(zip(rollout.ids_T.tolist(), rollout.logp_T.tolist()))
    thought = max((i for i, (token, _) in enumerate(drawn) if token == layout.end_think_id), default=-1)
    logp = mean(value for token, value in drawn[thought + 1 :] if token not in layout.stop_ids)
    return None if logp is None else math.exp(logp)


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
