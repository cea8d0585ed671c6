"""Three pieces of the work of `recipes/cpu.toml`, for the measurements: one call is one step on every rank.

`train` is a step of pretraining (8 rows of 256 tokens, bf16 where the processor multiplies it, else float32),
`sample` the rollouts of a step of RL from prompts of one length (float32), `rl` that step whole.
"""

import itertools
from collections.abc import Callable

import torch

from benchmarks import rl_step
from benchmarks.common import start_weights
from nomoat.config import read_recipe
from nomoat.data.packing import Batch
from nomoat.engine.generate import sample
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import Mesh
from nomoat.parallel.process import fast_bf16
from nomoat.stages.recipe import resolve
from nomoat.train.loop import reduce_gradients
from nomoat.train.objective import ObjectiveConfig, accumulate
from nomoat.train.optim import OptimConfig, Optimizer

ROWS, CONTEXT, DOCUMENT = 8, 256, 64
N_PROMPTS, GROUP, PROMPT_TOKENS, N_NEW = 22, 16, 32, 64
N_PROBLEMS = 200


def recipe_model(dtype: torch.dtype = torch.float32) -> Transformer:
    """The main model of recipes/cpu.toml."""
    recipe = resolve(read_recipe("recipes/cpu.toml"))
    model = start_weights(recipe.model("main"), recipe.kernels)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def train_step(ranks: Mesh) -> Callable[[], None]:
    return optimised_step(ranks)[0]


def optimised_step(ranks: Mesh) -> tuple[Callable[[], None], Optimizer]:
    """A step of pretraining, and the optimiser that it moves."""
    model = recipe_model(torch.bfloat16 if fast_bf16(ranks.device) else torch.float32)
    optimizer = Optimizer(model, OptimConfig(muon_lr=1e-3))
    generator = torch.Generator().manual_seed(ranks.rank)
    rows = ROWS // ranks.world
    doc_BT = (torch.arange(CONTEXT, dtype=torch.int32) // DOCUMENT).expand(rows, CONTEXT)

    def step() -> None:
        ids = torch.randint(8, model.spec.vocab_size, (rows, CONTEXT + 1), generator=generator)
        batch = Batch(ids[:, :-1], ids[:, 1:].contiguous(), doc_BT)
        computed = accumulate(model, [batch], ObjectiveConfig(), ranks)
        optimizer.step(1.0, reduce_gradients(ranks, optimizer))
        computed.after()

    return step, optimizer


def sample_step(ranks: Mesh) -> Callable[[], None]:
    model, generator = recipe_model(), torch.Generator().manual_seed(ranks.rank)
    size = N_PROMPTS // ranks.world, PROMPT_TOKENS
    prompts = torch.randint(8, model.spec.vocab_size, size, generator=generator).tolist()
    seeds = itertools.count()
    shape = {"n_per_prompt": GROUP, "max_new_tokens": N_NEW, "stop_ids": ()}
    return lambda: sample(model, prompts, seed=next(seeds), **shape)


def whole_rl_step(ranks: Mesh) -> Callable[[], None]:
    problems = rl_step.problems_of(N_PROBLEMS)
    model = recipe_model()
    tokenizer = rl_step.tokenizer_of(problems, model.spec.vocab_size)
    optimizer = Optimizer(model, OptimConfig(matrices="adamw", adam_lr=1e-5))
    mine, numbers = N_PROMPTS // ranks.world, itertools.count(ranks.rank, ranks.world)

    def step() -> None:
        number = next(numbers)
        first = number * mine % (len(problems) - mine)
        sizes = {"group": GROUP, "n_new": N_NEW, "seed": number, "ranks": ranks}
        rl_step.step(model, model, optimizer, tokenizer, problems[first : first + mine], **sizes)

    return step


PIECES = {"train": train_step, "sample": sample_step, "rl": whole_rl_step}
