"""What the plans of stages have in common: lengths, bytes and seconds, estimated."""

import json
from functools import cache

import torch

from nomoat.data import documents, sources
from nomoat.files import shipped
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.tasks import base, find
from nomoat.train.optim import OptimConfig, Optimizer

DEAD = 0.27  # groups of rollouts without news, measured on recipes/cpu.toml as all rates of budget.toml
PROSE_BYTES_PER_TOKEN = 2.8
PROBE_SECONDS = 0.019  # of plan/probe.py's host work, on the machine of estimate.toml
EARLIER = 2.0  # exchanges before a question that stands behind some, each about as long as it
TALK_TOKENS = 80  # of a conversation that keeps a model talking
GENERAL = 40.0, 50.0  # tokens of a general question in its template, and of a reply of at most 64
N_WORKED = 128  # problems that lengths are estimated from


@cache
def newton_schulz(spec: Spec, optim: OptimConfig) -> int:
    """FLOPs of one step's Newton-Schulz iterations."""
    with torch.device("meta"):
        return Optimizer(Transformer(spec), optim).flops()


@cache
def _batches(split: str, per_language: int | None) -> tuple[int, ...]:
    """Bytes of each batch of shipped text that is encoded at a time, each of the two languages cut."""
    texts = (d.text.encode() for d in documents.first(sources.shipped_files(split), per_language))
    return tuple(sum(map(len, batch)) for batch in documents.batched(texts, documents.BATCH))


def text_bytes(split: str, per_language: int | None) -> int:
    """Bytes of shipped text, each of the two languages cut; text of the user's own is taken to be as much."""
    return sum(_batches(split, per_language))


def largest_batch(per_language: int | None) -> int:
    """Bytes of training text that are encoded at a time, at most."""
    return max(_batches("train", per_language), default=0)


def held(what: str, n_bytes: int) -> float:
    """Bytes of memory for a text of which a "tokenizer" or "ngrams" are made, or that is "encoded"."""
    return n_bytes * shipped(__file__)["memory"][what]


def encoding(n_documents: int, n_bytes: int) -> float:
    """Seconds to tokenize worked problems or conversations, and text."""
    rates = shipped(__file__)["host"]
    text = rates["opening_seconds"] + n_bytes / rates["bytes_per_second"] if n_bytes else 0.0
    return n_documents / rates["documents_per_second"] + text


def saving() -> float:
    """Seconds to save a stage's weights, and to load those that it began with."""
    return shipped(__file__)["host"]["saving_seconds"]


def taking_in(n_params: int) -> float:
    """Seconds to read, convert, save and compare weights that are given."""
    return n_params / shipped(__file__)["host"]["parameters_per_second"]


def counting(n_orders: int, n_bytes: int) -> float:
    """Seconds to count n-grams of a text, and to measure them."""
    return n_orders * n_bytes / shipped(__file__)["host"]["ngram_bytes_per_second"]


def exporting(n_models: int) -> float:
    """Seconds to write models of a few megabytes."""
    return n_models * shipped(__file__)["host"]["export_seconds"]


def lengths(tasks: documents.Levels, think: bool | None, longest: int) -> tuple[float, float]:
    """Mean tokens of a prompt and of an answer, which is taken to be as long as the worked one;
    of general questions for no tasks."""
    if not tasks:
        return GENERAL[0], min(GENERAL[1], longest)
    prompt, answer = _worked_lengths(json.dumps(tasks), think is not False)
    return prompt, min(answer, longest)


def _drawn(levels: documents.Levels) -> list[tuple[str, int, base.Problem]]:
    """Problems to train on, or those that are held out, where a file has no others."""
    listed = [getattr(find.find(family), "listed", None) for family in levels]
    split = "eval" if any(of and not of["train"] for of in listed) else "train"
    return list(documents.problems(levels, N_WORKED, 0, split))


@cache
def _worked_lengths(tasks: str, chain: bool) -> tuple[float, float]:
    rates = shipped(__file__)["answers"]
    prompt_bytes = 0
    answer_bytes = 0
    drawn = _drawn(json.loads(tasks))
    for family, _, problem in drawn:
        work, answer = base.worked(find.find(family), problem)
        if chain:
            answer += work
        prompt_bytes += len(problem.prompt.encode())
        answer_bytes += len(answer.encode())
    prompt = prompt_bytes / len(drawn) / rates["prompt_bytes_per_token"]
    answer = answer_bytes / len(drawn) / rates["answer_bytes_per_token"]
    return prompt + rates["marks"], answer + rates["marks"]
