"""One step of reinforcement learning on the device: seconds of sampling, judging, update."""

import statistics
from collections.abc import Iterator

from benchmarks import rl_step
from benchmarks.gpu.measure import DTYPES, Place, Result, large_spec, model_on
from nomoat.train.optim import OptimConfig, Optimizer

N_PROMPTS, GROUP, N_NEW = 32, 16, 96
PARTS = ("sampling", "judging", "update")


def learning(place: Place) -> Iterator[Result]:
    """The rollouts are sampled in fp32 as in the stage; the gradient is in either precision."""
    n_prompts, group, n_new, n_steps = (2, 4, 8, 1) if place.dry else (N_PROMPTS, GROUP, N_NEW, 3)
    problems = rl_step.problems_of(n_prompts)
    tokenizer = rl_step.tokenizer_of(problems, 512)
    spec = large_spec(place.dry).changed(vocab_size=tokenizer.vocab_size, n_mtp=0)
    for words, dtype in DTYPES.items():
        policy = model_on(place.device, spec).eval()
        model = model_on(place.device, spec, dtype)
        optimizer = Optimizer(model, OptimConfig(matrices="adamw", adam_lr=1e-12))
        steps = [
            rl_step.step(
                policy,
                model,
                optimizer,
                tokenizer,
                problems,
                group=group,
                n_new=n_new,
                seed=seed,
                wait=place.wait,
            )
            for seed in range(1 + n_steps)
        ]
        name = f"{words} gradient, {n_prompts} x {group} answers of {n_new}"
        for part in (*PARTS, "total"):
            seconds = statistics.median(getattr(taken, part) for taken in steps[1:])
            share = seconds / statistics.median(taken.total for taken in steps[1:])
            yield Result("rl", f"{name}: {part}", seconds, "s", f"{100 * share:.0f} % of the step")
        drift = max(taken.drift for taken in steps)
        yield Result(
            "rl", f"{name}: drift", drift, "nats", "log p of a token in the update against that when drawn"
        )
