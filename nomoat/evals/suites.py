"""A model before other people's benchmarks: choices by log-likelihood, texts by greedy continuation."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nomoat import stats
from nomoat.config import DataError, JsonObject
from nomoat.engine import generate
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.request import Request, Sampling
from nomoat.evals.benchmarks import Benchmark, Item
from nomoat.model.loss import chunk_rows
from nomoat.model.transformer import Transformer
from nomoat.rl.rows import PROMPT, group_mask, hidden_at
from nomoat.tasks.base import Undecided
from nomoat.tokenizer.bpe import Tokenizer

PASS_TOKENS = 4096  # of one forward pass, about
ROWS = 16  # texts that are written side by side


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of an item.

    For choices `right` is about the likeliest, `lenient` about the likeliest a character (lm-eval's acc and
    acc_norm); for texts `right` demands the form that was shown.
    """

    id: str
    right: bool
    lenient: bool
    cut: bool  # whether the context's beginning had to go
    said: str | tuple[float, ...]  # the text, or the log-likelihood of each choice in nats


@dataclass
class Examinee:
    """The model that is asked, and how: behind solved examples or without them."""

    model: Transformer
    tokenizer: Tokenizer
    few_shot: bool = True
    undecided: int = field(default=0, init=False)  # answers that the sandbox failed to judge: wrong

    def answers(self, benchmark: Benchmark, items: Sequence[Item]) -> Iterator[Answer]:
        """One for each item, in order, as they come."""
        if not benchmark.ends:
            yield from map(self._choose, items)
            return
        for start in range(0, len(items), ROWS):
            yield from self._write(benchmark, items[start : start + ROWS])

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.begun(self.tokenizer.encode(text))

    def _context(self, item: Item) -> str:
        return item.shots if self.few_shot else item.query

    def _choose(self, item: Item) -> Answer:
        context = self._context(item)
        n_context = len(self.ids(context))
        pairs = []
        for choice in item.choices:
            ids = self.ids(context + choice)
            pairs.append((ids[:n_context], ids[n_context:]))
        longest = n_context + max(len(continuation) for _, continuation in pairs)
        cut = longest > self.model.spec.context + 1  # the last token is predicted and not read
        logps = likelihoods(self.model, pairs)
        each = []
        for logp, choice in zip(logps, item.choices):
            n_characters = len(choice.removeprefix(" "))
            each.append(logp / n_characters)
        right = _best(logps) == item.gold
        lenient = _best(each) == item.gold
        return Answer(item.id, right, lenient, cut, tuple(logps))

    def _write(self, benchmark: Benchmark, items: Sequence[Item]) -> Iterator[Answer]:
        room = self.model.spec.context - benchmark.max_new_tokens
        if room < 1:
            raise DataError(
                f"the model's context is {self.model.spec.context} tokens; expected more than the "
                f"{benchmark.max_new_tokens} of an answer; leave this benchmark out (--suite)"
            )
        engine = Engine(self.model, Limits(rows=len(items)), tokenizer=self.tokenizer)
        prompts = [self.ids(self._context(item)) for item in items]
        requests = []
        for i, prompt in enumerate(prompts):
            asked = {"max_new_tokens": benchmark.max_new_tokens, "stop": benchmark.ends, "key": i}
            stops = frozenset(self.tokenizer.layout.stop_ids)
            requests.append(
                Request(prompt[-room:], stop_ids=stops, sampling=Sampling(temperature=0.0), **asked)
            )
        samples = generate.collected(engine, requests, None)
        for i, item in enumerate(items):
            text = until(self.tokenizer.decode(samples[i, 0].written), benchmark.ends)
            right, lenient = self._judged(item, text)
            yield Answer(item.id, right, lenient, len(prompts[i]) > room, text)

    def _judged(self, item: Item, text: str) -> tuple[bool, bool]:
        try:
            return item.judge(text)
        except Undecided:
            self.undecided += 1
            return False, False


def until(text: str, ends: Sequence[str]) -> str:
    """The text before the first of the ends."""
    places = [text.find(end) for end in ends]
    return text[: min((place for place in places if place >= 0), default=len(text))]


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


@torch.inference_mode()
def likelihoods(model: Transformer, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """ln p(continuation | context) of pairs (context, continuation) of ids, of which the first ids go where
    the model's context has no room.

    Continuations of one context are read behind one copy of it, and can't see each other.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (context, continuation) in enumerate(pairs):
        most = model.spec.context + 1 - len(continuation)
        groups.setdefault(tuple(context[max(len(context) - most, 0) :]), []).append(i)
    out = [0.0] * len(pairs)
    for context, members in groups.items():
        part: list[int] = []
        for i in members:  # as many side by side as one pass takes
            part.append(i)
            width = len(context) + sum(len(pairs[j][1]) for j in part)
            if width >= PASS_TOKENS or i == members[-1]:
                logps = _behind(model, context, [pairs[j][1] for j in part])
                for j, logp in zip(part, logps):
                    out[j] = logp
                part = []
    return out


def _behind(
    model: Transformer, context: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[float]:
    """ln p of each continuation of one context, in one row."""
    n = len(context)
    ids, pos = [*context], [*range(n)]
    segment = [PROMPT] * n
    source, targets = [], []
    for number, continuation in enumerate(continuations, PROMPT + 1):
        start = len(ids)
        ids += continuation[:-1]
        source += [n - 1, *range(start, len(ids))]
        pos += range(n, n + len(ids) - start)
        segment += [number] * (len(ids) - start)
        targets += continuation
    device = model.device
    columns = [[ids], [pos], [segment]]
    ids_BT, pos_BT, segment_BT = torch.tensor(columns, device=device)
    columns_M = torch.tensor(source, device=device)
    mask = group_mask(segment_BT)
    h_MD = hidden_at(model, ids_BT, pos_BT, mask, columns_M)
    nats_M = _nats(model, h_MD, torch.tensor(targets, device=device))
    lengths = list(map(len, continuations))
    return [-float(nats.sum()) for nats in nats_M.split(lengths)]


def _nats(model: Transformer, h_MD: Tensor, targets_M: Tensor) -> Tensor:
    """-ln p of each target, float64; few logits exist at a time."""
    chunk = chunk_rows(model.spec.vocab_size, on_card=h_MD.is_cuda)
    nats = []
    for h, targets in zip(h_MD.split(chunk), targets_M.split(chunk)):
        nats.append(F.cross_entropy(model.head(h).float(), targets, reduction="none"))
    return torch.cat(nats).double()


@dataclass(frozen=True, slots=True)
class Score:
    """What a model scores in a benchmark."""

    benchmark: str
    strict: stats.Accuracy  # its `lenient` is beside
    lenient: stats.Accuracy
    shots: int
    cut: int  # items whose context lost its beginning

    @property
    def n(self) -> int:
        return self.strict.n


def score(name: str, shots: int, answers: Sequence[Answer]) -> Score:
    n = len(answers)
    right, lenient = sum(a.right for a in answers), sum(a.lenient for a in answers)
    both = [stats.Accuracy(k / n, *stats.wilson(k, n), lenient / n, n) for k in (right, lenient)]
    return Score(name, *both, shots, sum(a.cut for a in answers))


class Kept:
    """The answers so far in a file, a line each, so that what was asked is not asked again.

    Its first line says of which model and settings they are; with others it is refused.
    """

    def __init__(self, path: Path | None, what: JsonObject):
        self.path, self.done = path, {}
        if path is None:
            return
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        whole = lines[:-1]  # behind the last line end is what a kill has left
        if whole and json.loads(whole[0]) != what:
            raise DataError(
                f"{path} has answers of {json.loads(whole[0])}; found {what}; expected the same; name "
                "another file"
            )
        for line in whole[1:]:
            record = json.loads(line)
            name = record.pop("benchmark")
            self.done[name, record["id"]] = Answer(**record)
        begun = b"".join(line + b"\n" for line in whole) or json.dumps(what).encode() + b"\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(begun)

    def keep(self, name: str, answer: Answer) -> None:
        """Also on disk, before the next one is asked."""
        self.done[name, answer.id] = answer
        if self.path is not None:
            record = {"benchmark": name, **{key: getattr(answer, key) for key in Answer.__slots__}}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def examine(
    examinee: Examinee,
    name: str,
    benchmark: Benchmark,
    items: Sequence[Item],
    kept: Kept,
    tell: Callable[[int], None] = lambda n: None,
) -> Score:
    """The score over all items, of which those that are kept are not asked again; `tell` hears how many are
    answered."""
    asked = [item for item in items if (name, item.id) not in kept.done]
    for n, answer in enumerate(examinee.answers(benchmark, asked), len(items) - len(asked) + 1):
        kept.keep(name, answer)
        tell(n)
    shots = benchmark.shots if examinee.few_shot else 0
    return score(name, shots, [kept.done[name, item.id] for item in items])


def fingerprint(model: Transformer) -> str:
    """sha256 of a sample of every weight: enough to tell models apart."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        some = parameter.detach().flatten()[:: max(parameter.numel() // 64, 1)].float().cpu()
        digest.update(name.encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]
