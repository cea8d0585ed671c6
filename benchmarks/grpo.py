"""One GRPO step side by side: ours against TRL's GRPOTrainer.

    python -m benchmarks.grpo --threads 2
    python -m benchmarks.grpo --model smollm2 --dtype float32 --peer float32/eager/sdpa --rounds 3
    python -m benchmarks.grpo --dtype float32 --peer float32/eager/eager --json

A step is 8 prompts with 8 completions of 64 tokens each (of SmolLM2, 4), their reward from a program, and
one update of all weights.  Both sides have the same weights (through the export), tokenizer, prompts and
reward, sample at temperature 1 and write exactly 64 tokens.  Ours is `rl_step.step`; theirs is the real
trainer on the CPU with its own `generate`, its defaults but for gradient checkpointing (off, which is
faster), and the fastest of the precisions, expert products and attentions that transformers offers.  The
sides take turns inside one process: ours runs in the trainer's callback at the end of each of its steps.
Where a processor multiplies bf16 in software, ours takes float32, as `nomoat run` does.

Beside the ratio: both halves of both sides, and the floor, what the products of our step's matrices take
alone (floor.py).  `--clock cpu` counts processor time, which other work on the machine hardly changes.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks import rl_step
from benchmarks.common import PLAIN, SPEC, Row, compare, environment, quiet, report, sizes, start_weights
from benchmarks.floor import Clock, Floor, Sizes, floor_of
from benchmarks.rl_step import TASK, Parts, parity
from nomoat.model.lora import without
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import fast_bf16, settle_memory
from nomoat.serve.loading import load
from nomoat.tasks import answers, base
from nomoat.tokenizer import bpe, layout
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.weights import directory as weights

N_PROMPTS, N_NEW = 8, 64
LEARNING_RATE = 1e-5
EXPERTS, ATTENTION = ("grouped_mm", "eager", "batched_mm"), ("sdpa", "eager")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Case:
    """A model and what it is asked; `experts`: the peer's ways to multiply them."""

    build: Callable[[], Transformer]
    tokenizer: bpe.Tokenizer
    problems: list[base.Problem]
    group: int
    experts: tuple[str, ...]
    clock: Clock

    def ours(self, dtype: torch.dtype) -> Transformer:
        """Its weights in a precision, in float32 where bf16 is slow."""
        slow = dtype == torch.bfloat16 and not fast_bf16(torch.device("cpu"))
        model = self.build()
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.float32 if slow else dtype, copy=True)
        return model.train().requires_grad_(True)


def case_of(args: argparse.Namespace) -> Case:
    problems = rl_step.problems_of(N_PROMPTS * (args.rounds + 2))
    clock = CLOCKS[args.clock]
    if args.model == "smollm2":
        loaded = load("smollm2")
        build = partial(without, loaded.model, PLAIN)
        return Case(build, loaded.tokenizer, problems, 4, ("eager",), clock)
    tokenizer = rl_step.tokenizer_of(problems, SPEC.vocab_size)
    spec = SPEC.changed(vocab_size=tokenizer.vocab_size)
    build = partial(start_weights, spec, PLAIN)
    return Case(build, tokenizer, problems, 8, EXPERTS, clock)


@dataclass
class Ours:
    """Each call is a step on the next problems; what it took goes to `taken`."""

    case: Case
    model: Transformer
    taken: list[Parts] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = Optimizer(self.model, OptimConfig(matrices="adamw", adam_lr=LEARNING_RATE))

    def __call__(self) -> None:
        number, case = len(self.taken), self.case
        first = number * N_PROMPTS % len(case.problems)
        chosen = case.problems[first : first + N_PROMPTS]
        how = {"group": case.group, "n_new": N_NEW, "seed": number, "clock": case.clock}
        parts = rl_step.step(self.model, self.model, self.optimizer, case.tokenizer, chosen, **how)
        self.taken.append(parts)


@dataclass
class Theirs:
    """Seconds of each of its steps, and of each step's sampling and judging."""

    steps: list[float] = field(default_factory=list)
    sampling: list[float] = field(default_factory=list)


def train_theirs(case: Case, setting: str, steps: int, between: Callable[[], object]) -> Theirs:
    """`between` runs behind each step, on nobody's clock."""
    import datasets
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback

    precision, experts, attention = setting.split("/")
    dtype = torch.bfloat16 if precision == "bf16 weights" else torch.float32
    taken, clock = Theirs(), case.clock

    class Turns(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            self.start = clock()

        def on_step_end(self, args, state, control, **_):
            taken.steps.append(clock() - self.start)
            between()

    class Timed(trl.GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            start = clock()
            out = super()._generate_and_score_completions(inputs)
            taken.sampling.append(clock() - start)
            return out

    with tempfile.TemporaryDirectory() as directory:
        weights.save(case.build(), directory, tokenizer=case.tokenizer)
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=attention)
        if len(case.experts) > 1:
            model.set_experts_implementation(experts)
        their_tokenizer = AutoTokenizer.from_pretrained(directory)
        check_prompts(case.tokenizer, their_tokenizer, case.problems[0].prompt)
        trainer = Timed(
            model=model,
            reward_funcs=judge_of(case.problems),
            args=trl.GRPOConfig(
                f"{directory}/out",
                bf16=precision == "autocast",
                max_steps=steps,
                **trainer_settings(case.group),
            ),
            train_dataset=datasets.Dataset.from_list(asked(case.problems)),
            processing_class=their_tokenizer,
            callbacks=[Turns()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return taken


def asked(problems: Sequence[base.Problem]) -> list[dict[str, Any]]:
    return [{"prompt": [{"role": "user", "content": p.prompt}], "index": i} for i, p in enumerate(problems)]


def trainer_settings(group: int) -> dict[str, Any]:
    return {
        "use_cpu": True,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": N_PROMPTS * group,
        "num_generations": group,
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


def fastest(case: Case, dtype: str) -> str:
    """The setting of theirs whose second step is the shortest."""
    precisions = ("bf16 weights", "autocast") if dtype == "bfloat16" else ("float32 weights",)
    seconds = {}
    for parts in itertools.product(precisions, case.experts, ATTENTION):
        setting = "/".join(parts)
        seconds[setting] = train_theirs(case, setting, 2, lambda: None).steps[-1]
    return min(seconds, key=seconds.get)


def measure(case: Case, dtype: str, args: argparse.Namespace) -> tuple[Row, str]:
    """The comparison in one precision, and its parts and floor.  The first step of both is left out."""
    setting = args.peer or fastest(case, dtype)
    model = case.ours(getattr(torch, dtype))
    step = Ours(case, model)
    theirs = train_theirs(case, setting, args.rounds + 1, step)
    counted = step.taken[1:]
    what = f"{dtype}, one GRPO step, {args.clock}"
    row = row_of(what, counted, theirs, setting)
    size = sizes_of(case, counted[-1].columns)
    floor = floor_of(model, size, case.clock)
    halves = parts_note(counted, theirs)
    beside = floor_note(counted, floor, row)
    return row, f"{dtype}: {halves}; {beside}"


def row_of(what: str, ours: Sequence[Parts], theirs: Theirs, setting: str) -> Row:
    totals = [parts.total for parts in ours]
    return compare(what, "s", totals, theirs.steps[1:], setting, lower_is_better=True)


def sizes_of(case: Case, columns: int) -> Sizes:
    n_rows = N_PROMPTS * case.group
    prompts = columns - n_rows * (N_NEW - 1)
    return Sizes(columns, n_rows * N_NEW, n_rows, N_NEW, prompts)


def parts_note(ours: Sequence[Parts], theirs: Theirs) -> str:
    """Medians of both sides' halves."""
    named = [f"{part} {middle(ours, part):.2f} s" for part in ("sampling", "judging", "update")]
    sampling = statistics.median(theirs.sampling[1:])
    updates = [whole - part for whole, part in zip(theirs.steps[1:], theirs.sampling[1:])]
    update = statistics.median(updates)
    return f"ours {', '.join(named)}; theirs sampling and judging {sampling:.2f} s, update {update:.2f} s"


def floor_note(ours: Sequence[Parts], floor: Floor, row: Row) -> str:
    sampling = 100 * floor.sampling / middle(ours, "sampling")
    update = 100 * floor.update / middle(ours, "update")
    rate = floor.update_flops / floor.update / 1e9
    ratio = row.peer / (floor.sampling + floor.update)
    return (
        f"products alone: sampling {floor.sampling:.2f} s ({sampling:.0f} % of ours), "
        f"update {floor.update:.2f} s at {rate:.0f} GFLOP/s ({update:.0f} % of ours); "
        f"a step at the floor: {ratio:.2f} times as fast as theirs"
    )


def middle(taken: Sequence[Parts], part: str) -> float:
    return statistics.median(getattr(parts, part) for parts in taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="7m", choices=["7m", "smollm2"])
    parser.add_argument("--dtype", nargs="+", default=["bfloat16"], choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    parser.add_argument("--peer", help="one setting instead of a search: precision/experts/attention")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    settle_memory()
    quiet()
    case = case_of(args)
    rows, notes = zip(*(measure(case, dtype, args) for dtype in args.dtype))
    shape = sizes(case.build().spec)
    title = f"One GRPO step: {shape}; {N_PROMPTS} prompts x {case.group} completions x {N_NEW} tokens"
    report(title, list(rows), environment(args.threads, "transformers", "trl"), list(notes), args.json)


if __name__ == "__main__":
    main()
