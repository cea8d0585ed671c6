"""Sampling side by side: `nomoat.infer.engine.sample` against transformers' `generate`, the same weights on both sides.

    python -m benchmarks.sampling --dtype bfloat16 --batch 64 256 --threads 2

Temperature 1 without truncation, 32 prompt tokens, 64 new tokens a row, every row with a prompt of its own (no prompt
is shared, which would favour ours).  Runs alternate A B A B in one process; the table gives medians.  transformers runs
with the fastest of its expert implementations unless `--experts` names one.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import transformers

from nomoat.engine.engine import sample
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer

SPEC = Spec(
    vocab_size=4096, n_layers=6, d_model=256, n_heads=8, d_nope=32, d_rope=16, d_value=32, d_kv_latent=64,
    d_q_latent=128, d_ffn=768, n_routed=16, n_shared=1, n_active=2, d_expert=48, context=256,
)  # fmt: skip
N_PROMPT, N_NEW = 32, 64
EXPERTS = ("eager", "batched_mm", "grouped_mm")


def models(dtype: torch.dtype) -> tuple[Transformer, transformers.PreTrainedModel]:
    """One random model in both libraries; their float32 logits are compared before anything is timed."""
    ours = Transformer(SPEC).initialise(0)
    generator = torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    with tempfile.TemporaryDirectory() as directory:
        directory.save(ours, directory)
        theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    theirs.generation_config.eos_token_id = None
    ids_BT = torch.randint(8, SPEC.vocab_size, (2, N_PROMPT), generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(ids_BT).logits, ours(ids_BT), atol=1e-3, rtol=1e-3)
    return ours.to(dtype), theirs.to(dtype).eval()


def generate(model: transformers.PreTrainedModel, ids_BT: torch.Tensor, n_new: int) -> int:
    """How many tokens transformers made."""
    out_BT = model.generate(
        ids_BT, attention_mask=torch.ones_like(ids_BT), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        max_new_tokens=n_new, pad_token_id=0,
    )  # fmt: skip
    return out_BT.numel() - ids_BT.numel()


def ours_generate(model: Transformer, ids_BT: torch.Tensor, n_new: int) -> int:
    """How many tokens ours made."""
    groups = sample(model, ids_BT.tolist(), max_new_tokens=n_new, seed=0, stop_ids=[], pad_id=0)
    return sum(len(one.ids_T) for group in groups for one in group)


def rate(clock, run: Callable[..., int], model: torch.nn.Module, ids_BT: torch.Tensor, n_new: int = N_NEW) -> float:
    """Tokens per second of one run."""
    start = clock()
    n_tokens = run(model, ids_BT, n_new)
    seconds = clock() - start
    assert n_tokens == len(ids_BT) * n_new
    return n_tokens / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float32"], choices=["bfloat16", "float32"])
    parser.add_argument("--batch", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experts", choices=EXPERTS)
    parser.add_argument(
        "--clock", default="wall", choices=["wall", "cpu"], help="cpu: for one thread on a busy machine"
    )
    args = parser.parse_args()
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sizes = f"{SPEC.params_total() / 1e6:.1f}M parameters, {SPEC.params_active() / 1e6:.1f}M active"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{sizes}; {args.threads} threads; {versions}; {N_PROMPT} + {N_NEW} tokens a row;")
    print(f"median tokens/s ({args.clock} time) of {args.rounds} rounds (lowest to highest)\n")
    print("| dtype | batch | ours | transformers generate | its experts | ratio |\n|---|---|---|---|---|---|")
    for dtype in args.dtype:
        ours, theirs = models(getattr(torch, dtype))
        for batch in args.batch:
            ids_BT = torch.randint(8, SPEC.vocab_size, (batch, N_PROMPT), generator=torch.Generator().manual_seed(1))
            rate(clock, ours_generate, ours, ids_BT, 8)
            speeds = {}
            for experts in [args.experts] if args.experts else EXPERTS:
                theirs.set_experts_implementation(experts)
                rate(clock, generate, theirs, ids_BT, 2)
                speeds[experts] = rate(clock, generate, theirs, ids_BT, 6)
            experts = max(speeds, key=speeds.get)
            theirs.set_experts_implementation(experts)
            a, b = [], []
            for _ in range(args.rounds):
                a.append(rate(clock, ours_generate, ours, ids_BT))
                b.append(rate(clock, generate, theirs, ids_BT))
            ours_rate, their_rate = statistics.median(a), statistics.median(b)
            spread = [f"{statistics.median(x):.0f} ({min(x):.0f}-{max(x):.0f})" for x in (a, b)]
            print(
                f"| {dtype} | {batch} | {spread[0]} | {spread[1]} | {experts} | {ours_rate / their_rate:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
