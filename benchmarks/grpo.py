"""One GRPO step side by side: ours against TRL's GRPOTrainer.

    python -m benchmarks.grpo --threads 2
    python -m benchmarks.grpo --dtype float32 --peer "float32 weights/eager/eager" --json

A step is 8 prompts with 8 completions of 64 tokens each, their reward from a program, and one update of all
weights. Both sides have the same weights (through the export), tokenizer, prompts and reward, sample at
temperature 1 and write exactly 64 tokens.  Ours is `rollout.sample`, `reward.judge`, `compared`,
`grpo.gradient` and the optimiser; theirs is the real trainer on the CPU with its own `generate`, its defaults
but for gradient checkpointing (off, which is faster), and the fastest of the precisions, expert products and
attentions that transformers offers.  A random model is never right, so the reward is a parity of the text
besides: every group has a signal, none is left out. The sides take turns inside one process: ours runs in the
trainer's callback at the end of each of its steps.
"""

import argparse
import itertools
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.common import SPEC, Row, compare, environment, quiet, report, start_weights, to_transformers
from nomoat.cli.main import _keep_freed_memory
from nomoat.model.spec import ModelSpec
from nomoat.rl import grpo, reward, rollout, variants
from nomoat.rl.step import compared
from nomoat.tasks import answers, base, find
from nomoat.tokenizer import bpe, layout
from nomoat.train.optim import OptimConfig, Optimizer

N_PROMPTS, GROUP, N_NEW = 8, 8, 64
LEARNING_RATE = 1e-5
TASK, LEVEL = find.find("countdown"), 2
EXPERTS, ATTENTION = ("grouped_mm", "eager", "batched_mm"), ("sdpa", "eager")


def parity(text: str) -> float:
    return float(len(text) % 2)


def tokenizer_of(problems: list[base.Problem]) -> bpe.Tokenizer:
    """A small one: what the prompts look like in tokens matters, not how well text is compressed."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(6000)]
    return bpe.train([*(p.prompt for p in problems), " ".join(words)], SPEC.vocab_size)


def spec_for(tokenizer: bpe.Tokenizer) -> ModelSpec:
    return SPEC.model_copy(update={"vocab_size": tokenizer.vocab_size})


def our_step(
    tokenizer: bpe.Tokenizer, problems: list[base.Problem], dtype: torch.dtype, parts: dict[str, list[float]]
) -> Callable[[], None]:
    model = start_weights(spec_for(tokenizer))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    optimizer = Optimizer(model, OptimConfig(matrices="adamw", adam_lr=LEARNING_RATE))
    steps = itertools.count()

    def step() -> None:
        number = next(steps)
        first = number * N_PROMPTS % len(problems)
        drawn = [rollout.Exercise(TASK.__name__, LEVEL, TASK, p) for p in problems[first : first + N_PROMPTS]]
        start = time.perf_counter()
        groups = rollout.sample(
            model, tokenizer, drawn, group=GROUP, max_new_tokens=N_NEW, seed=number, stop_ids=()
        )  # fmt: skip
        assert all(r.length == N_NEW for group in groups for r in group)
        sampled = time.perf_counter()
        judged = [
            tuple(replace(j, reward=j.score.strict + parity(j.rollout.text)) for j in group) for group in reward.judge(groups)
        ]
        objective = grpo.Objective(n_rollouts=N_PROMPTS * GROUP, longest=N_NEW)
        grpo.gradient(model, compared(judged, variants.VARIANTS["dr-grpo"]), objective)
        optimizer.step(1.0, float(optimizer.grad_norm()))
        parts["sampling"].append(sampled - start)
        parts["update"].append(time.perf_counter() - sampled)

    return step


def train_theirs(
    tokenizer: bpe.Tokenizer, problems: list[base.Problem], setting: str, steps: int, between: Callable[[], object] | None
) -> list[float]:
    """Seconds of each of its steps; `between` runs behind each, on nobody's clock."""
    import datasets
    import trl
    from transformers import AutoTokenizer, PrinterCallback, TrainerCallback

    precision, experts, attention = setting.split("/")
    weights = torch.bfloat16 if precision == "bf16 weights" else torch.float32
    model = to_transformers(start_weights(spec_for(tokenizer)), weights, attention, experts)
    seconds: list[float] = []

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            self.start = time.perf_counter()

        def on_step_end(self, args, state, control, **_):
            seconds.append(time.perf_counter() - self.start)
            if between is not None:
                between()

    def judge(completions, index, **_):
        texts = [completion[0]["content"] for completion in completions]
        return [
            float(TASK.check(problems[i], answers.strict_answer(text) or "")) + parity(text) for i, text in zip(index, texts)
        ]

    prompts = [{"prompt": [{"role": "user", "content": p.prompt}], "index": i} for i, p in enumerate(problems)]
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(directory)
        their_tokenizer = AutoTokenizer.from_pretrained(directory)
        same = layout.render(tokenizer, [layout.Message("user", problems[0].prompt)], generate=True).ids
        assert same == their_tokenizer.apply_chat_template(
            prompts[0]["prompt"], add_generation_prompt=True, return_dict=False
        )  # fmt: skip
        config = trl.GRPOConfig(
            output_dir=f"{directory}/out", use_cpu=True, bf16=precision == "autocast", gradient_checkpointing=False,
            per_device_train_batch_size=N_PROMPTS * GROUP, num_generations=GROUP, max_completion_length=N_NEW,
            generation_kwargs={"min_new_tokens": N_NEW}, temperature=1.0, learning_rate=LEARNING_RATE, max_steps=steps,
            shuffle_dataset=False, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = trl.GRPOTrainer(
            model=model, reward_funcs=judge, args=config, train_dataset=datasets.Dataset.from_list(prompts),
            processing_class=their_tokenizer, callbacks=[Turns()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return seconds


def measure(tokenizer: bpe.Tokenizer, problems: list[base.Problem], name: str, args: argparse.Namespace) -> tuple[Row, str]:
    precisions = ("bf16 weights", "autocast") if name == "bfloat16" else ("float32 weights",)
    settings = [args.peer] if args.peer else list(map("/".join, itertools.product(precisions, EXPERTS, ATTENTION)))
    if len(settings) > 1:
        found = {setting: train_theirs(tokenizer, problems, setting, 2, None)[-1] for setting in settings}
        settings = [min(found, key=found.get)]
    parts: dict[str, list[float]] = {"sampling": [], "update": []}
    step, ours = our_step(tokenizer, problems, getattr(torch, name), parts), []

    def between() -> None:
        start = time.perf_counter()
        step()
        ours.append(time.perf_counter() - start)

    theirs = train_theirs(tokenizer, problems, settings[0], args.rounds + 1, between)
    row = compare(f"{name}, one GRPO step", "s", ours[1:], theirs[1:], settings[0], lower_is_better=True)
    split = ", ".join(f"{what} {sorted(taken[1:])[len(taken[1:]) // 2]:.2f} s" for what, taken in parts.items())
    return row, f"{name}: ours by part, medians: {split}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"], choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help='one setting instead of a search: precision/experts/attention, "autocast/eager/sdpa"')
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    _keep_freed_memory()
    quiet()
    stream = base.problems(TASK, LEVEL, split="train", seed=0)
    problems = [next(stream) for _ in range(N_PROMPTS * (args.rounds + 2))]
    tokenizer = tokenizer_of(problems)
    rows, notes = zip(*(measure(tokenizer, problems, name, args) for name in args.dtype))
    sizes = f"{SPEC.params_total() / 1e6:.2f}M parameters, {SPEC.params_active() / 1e6:.2f}M active"
    title = f"One GRPO step: {sizes}; {N_PROMPTS} prompts x {GROUP} completions x {N_NEW} tokens"
    report(title, list(rows), environment(args.threads, "transformers", "trl"), list(notes), args.json)


if __name__ == "__main__":
    main()
