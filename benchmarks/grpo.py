"""One GRPO step side by side: ours against TRL's GRPOTrainer.

    python -m benchmarks.grpo --threads 2
    python -m benchmarks.grpo --dtype float32 --peer "float32 weights/eager/eager" --json

A step is 8 prompts with 8 completions of 64 tokens each, their reward from a program, and one update of all
weights.  Both sides have the same weights (through the export), tokenizer, prompts and reward, sample at
temperature 1 and write exactly 64 tokens.  Ours is `rl_step.step`; theirs is the real trainer on the CPU with
its own `generate`, its defaults but for gradient checkpointing (off, which is faster), and the fastest of the
precisions, expert products and attentions that transformers offers.  The sides take turns inside one process:
ours runs in the trainer's callback at the end of each of its steps.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks import rl_step
from benchmarks.common import (
    PLAIN,
    SPEC,
    Row,
    compare,
    environment,
    quiet,
    report,
    sizes,
    start_weights,
    to_transformers,
)
from benchmarks.rl_step import TASK, Parts, parity
from nomoat.model.spec import Spec
from nomoat.parallel.process import keep_freed_memory
from nomoat.tasks import answers, base
from nomoat.tokenizer import bpe, layout
from nomoat.train.optim import OptimConfig, Optimizer

N_PROMPTS, GROUP, N_NEW = 8, 8, 64
LEARNING_RATE = 1e-5
EXPERTS, ATTENTION = ("grouped_mm", "eager", "batched_mm"), ("sdpa", "eager")


def spec_for(tokenizer: bpe.Tokenizer) -> Spec:
    return SPEC.changed(vocab_size=tokenizer.vocab_size)


def our_steps(
    tokenizer: bpe.Tokenizer, problems: list[base.Problem], dtype: torch.dtype, taken: list[Parts]
) -> Callable[[], None]:
    """Each call is a step on the next problems; what it took goes to `taken`."""
    model = start_weights(spec_for(tokenizer), PLAIN)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    optimizer = Optimizer(model, OptimConfig(matrices="adamw", adam_lr=LEARNING_RATE))

    def step() -> None:
        number = len(taken)
        first = number * N_PROMPTS % len(problems)
        chosen = problems[first : first + N_PROMPTS]
        sizes = {"group": GROUP, "n_new": N_NEW, "seed": number}
        taken.append(rl_step.step(model, model, optimizer, tokenizer, chosen, **sizes))

    return step


def train_theirs(
    tokenizer: bpe.Tokenizer,
    problems: list[base.Problem],
    setting: str,
    steps: int,
    between: Callable[[], object],
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
            between()

    prompts = [
        {"prompt": [{"role": "user", "content": p.prompt}], "index": i} for i, p in enumerate(problems)
    ]
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(directory)
        their_tokenizer = AutoTokenizer.from_pretrained(directory)
        check_prompts(tokenizer, their_tokenizer, problems[0].prompt)
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=judge_of(problems),
            args=trl.GRPOConfig(
                f"{directory}/out", bf16=precision == "autocast", max_steps=steps, **trainer_settings()
            ),
            train_dataset=datasets.Dataset.from_list(prompts),
            processing_class=their_tokenizer,
            callbacks=[Turns()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return seconds


def trainer_settings() -> dict[str, Any]:
    return {
        "use_cpu": True,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": N_PROMPTS * GROUP,
        "num_generations": GROUP,
        "max_completion_length": N_NEW,
        "generation_kwargs": {"min_new_tokens": N_NEW},
        "temperature": 1.0,
        "learning_rate": LEARNING_RATE,
        "shuffle_dataset": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }


def judge_of(problems: list[base.Problem]) -> Callable[..., list[float]]:
    """The same reward in the form that the trainer calls."""

    def reward(text: str, problem: base.Problem) -> float:
        answer = answers.strict_answer(text) or ""
        return float(TASK.check(problem, answer)) + parity(text)

    def judge(completions, index, **_) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        return [reward(text, problems[i]) for i, text in zip(index, texts)]

    return judge


def check_prompts(ours: bpe.Tokenizer, theirs: Any, prompt: str) -> None:
    """Both sides read the same ids."""
    same = layout.render(ours, [layout.Message("user", prompt)], generate=True).ids
    talk = [{"role": "user", "content": prompt}]
    assert same == theirs.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)


def fastest(tokenizer: bpe.Tokenizer, problems: list[base.Problem], dtype: str) -> str:
    """The setting of theirs whose second step is the shortest."""
    precisions = ("bf16 weights", "autocast") if dtype == "bfloat16" else ("float32 weights",)
    seconds = {}
    for parts in itertools.product(precisions, EXPERTS, ATTENTION):
        setting = "/".join(parts)
        seconds[setting] = train_theirs(tokenizer, problems, setting, 2, lambda: None)[-1]
    return min(seconds, key=seconds.get)


def measure(
    tokenizer: bpe.Tokenizer, problems: list[base.Problem], dtype: str, args: argparse.Namespace
) -> tuple[Row, str]:
    """The comparison in one precision, and what our parts took.  The first step of both is left out."""
    setting = args.peer or fastest(tokenizer, problems, dtype)
    taken: list[Parts] = []
    step = our_steps(tokenizer, problems, getattr(torch, dtype), taken)
    theirs = train_theirs(tokenizer, problems, setting, args.rounds + 1, step)
    counted = taken[1:]
    ours = [parts.total for parts in counted]
    what = f"{dtype}, one GRPO step"
    row = compare(what, "s", ours, theirs[1:], setting, lower_is_better=True)
    return row, f"{dtype}: ours by part, medians: {', '.join(medians(counted))}."


def medians(taken: list[Parts]) -> Iterator[str]:
    for part in ("sampling", "judging", "update"):
        seconds = statistics.median(getattr(parts, part) for parts in taken)
        yield f"{part} {seconds:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"], choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="one setting instead of a search: precision/experts/attention")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    quiet()
    problems = rl_step.problems_of(N_PROMPTS * (args.rounds + 2))
    tokenizer = rl_step.tokenizer_of(problems, SPEC.vocab_size)
    rows, notes = zip(*(measure(tokenizer, problems, dtype, args) for dtype in args.dtype))
    title = f"One GRPO step: {sizes(SPEC)}; {N_PROMPTS} prompts x {GROUP} completions x {N_NEW} tokens"
    report(title, list(rows), environment(args.threads, "transformers", "trl"), list(notes), args.json)


if __name__ == "__main__":
    main()
