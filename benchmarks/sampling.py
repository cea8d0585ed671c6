"""Sampling side by side: `nomoat.engine.engine.sample` against transformers' `generate`, the same weights.

    python -m benchmarks.sampling --dtype bfloat16 --batch 64 256 --threads 2
    python -m benchmarks.sampling --model smollm2 --dtype bfloat16 --batch 32 128

Temperature 1 without truncation, 32 prompt tokens, 64 new tokens a row, every row with a prompt of its own
(no prompt is shared, which would favour ours).  Runs alternate A B A B in one process; the table gives
medians.  transformers runs with the fastest of its expert implementations unless `--experts` names one.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
import transformers

from benchmarks.common import SPEC, products_of, quiet, sizes, to_transformers
from nomoat.engine.generate import sample
from nomoat.model.transformer import Transformer
from nomoat.serve.loading import load
from nomoat.weights import directory as weights

N_PROMPT, N_NEW = 32, 64
EXPERTS = ("eager", "batched_mm", "grouped_mm")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]
Side = Callable[[torch.Tensor, int], int]  # prompts, new tokens a row -> tokens made


def models(name: str) -> tuple[Transformer, transformers.PreTrainedModel]:
    """One model in both libraries; their float32 logits are compared before anything is timed."""
    ours, theirs = smollm2() if name == "smollm2" else random_models()
    theirs.generation_config.eos_token_id = None
    compare_logits(ours, theirs)
    return ours, theirs.eval()


def smollm2() -> tuple[Transformer, transformers.PreTrainedModel]:
    loaded = load("smollm2")
    with tempfile.TemporaryDirectory() as directory:
        weights.save(loaded.model, directory, tokenizer=loaded.tokenizer)
        how = {"dtype": torch.float32, "attn_implementation": "sdpa"}
        return loaded.model, transformers.AutoModelForCausalLM.from_pretrained(directory, **how)


def random_models() -> tuple[Transformer, transformers.PreTrainedModel]:
    ours = Transformer(SPEC).initialise(0)
    generator = torch.Generator().manual_seed(0)
    matrices = [parameter.data for parameter in ours.parameters() if parameter.ndim > 1]
    for matrix in matrices:
        matrix.normal_(std=matrix.shape[-1] ** -0.5, generator=generator)
    return ours, to_transformers(ours, torch.float32, "sdpa", EXPERTS[0])


@torch.inference_mode()
def compare_logits(ours: Transformer, theirs: transformers.PreTrainedModel) -> None:
    ids_BT = prompts_of(2, ours)
    torch.testing.assert_close(theirs(ids_BT).logits, ours(ids_BT), atol=1e-3, rtol=1e-3)


def prompts_of(batch: int, model: Transformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(8, model.spec.vocab_size, (batch, N_PROMPT), generator=generator)


def generate_theirs(model: transformers.PreTrainedModel, ids_BT: torch.Tensor, n_new: int) -> int:
    """How many tokens transformers made."""
    mask = torch.ones_like(ids_BT)
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}
    out_BT = model.generate(ids_BT, attention_mask=mask, max_new_tokens=n_new, **how)
    return out_BT.numel() - ids_BT.numel()


def generate_ours(model: Transformer, ids_BT: torch.Tensor, n_new: int) -> int:
    """How many tokens ours made."""
    how = {"max_new_tokens": n_new, "seed": 0, "stop_ids": [], "precision": products_of(model)}
    groups = sample(model, ids_BT.tolist(), **how)
    return sum(len(one.ids_T) for group in groups for one in group)


def rate(clock: Clock, side: Side, ids_BT: torch.Tensor, n_new: int = N_NEW) -> float:
    """Tokens per second of one run."""
    start = clock()
    n_tokens = side(ids_BT, n_new)
    seconds = clock() - start
    assert n_tokens == len(ids_BT) * n_new
    return n_tokens / seconds


def fastest(model: transformers.PreTrainedModel, ids_BT: torch.Tensor, clock: Clock) -> str:
    """The expert implementation with which a few tokens take the shortest."""
    speeds = {}
    for name in EXPERTS:
        model.set_experts_implementation(name)
        side = partial(generate_theirs, model)
        rate(clock, side, ids_BT, 2)
        speeds[name] = rate(clock, side, ids_BT, 6)
    return max(speeds, key=speeds.get)


def measure(dtype: str, batch: int, args: argparse.Namespace) -> str:
    """One line of the table."""
    clock = CLOCKS[args.clock]
    ours, theirs = (model.to(getattr(torch, dtype)) for model in models(args.model))
    ids_BT = prompts_of(batch, ours)
    experts = args.experts or ("none" if args.model == "smollm2" else fastest(theirs, ids_BT, clock))
    if experts != "none":
        theirs.set_experts_implementation(experts)
    sides = (
        partial(generate_ours, ours),
        partial(generate_theirs, theirs),
    )
    rates = turns(clock, sides, ids_BT, args.rounds)
    ratio = statistics.median(a / b for a, b in rates)
    our_span, their_span = map(span, zip(*rates))
    return f"| {dtype} | {batch} | {our_span} | {their_span} | {experts} | {ratio:.2f} |"


def turns(
    clock: Clock, sides: tuple[Side, Side], ids_BT: torch.Tensor, rounds: int
) -> list[tuple[float, ...]]:
    """Both rates of every round, behind a short one that doesn't count."""
    for side in sides:
        rate(clock, side, ids_BT, 8)
    return [tuple(rate(clock, side, ids_BT) for side in sides) for _ in range(rounds)]


def span(rates: tuple[float, ...]) -> str:
    return f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="7m", choices=["7m", "smollm2"])
    parser.add_argument(
        "--dtype", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "float32"]
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32, 128])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experts", choices=EXPERTS)
    parser.add_argument(
        "--clock", default="wall", choices=list(CLOCKS), help="cpu: one thread on a busy machine"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    quiet()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    shape = "SmolLM2-135M" if args.model == "smollm2" else sizes(SPEC)
    print(f"{shape}; {args.threads} threads; {versions}; {N_PROMPT} + {N_NEW} tokens a row;")
    print(f"median tokens/s ({args.clock} time) of {args.rounds} rounds (lowest to highest)\n")
    print("| dtype | batch | ours | transformers generate | its experts | ratio |\n|---|---|---|---|---|---|")
    for dtype in args.dtype:
        for batch in args.batch:
            print(measure(dtype, batch, args), flush=True)


if __name__ == "__main__":
    main()
