"""Stage 5: reinforcement learning on decidable tasks, rewarded by programs alone; see rl/step.py."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from nomoat.data import documents
from nomoat.data.packing import Packed
from nomoat.files import shipped
from nomoat.model import counts
from nomoat.model.lora import Merged, adapted, without
from nomoat.model.transformer import Transformer
from nomoat.rl import kept, step
from nomoat.rl.curriculum import Curriculum
from nomoat.rl.outside import Outside
from nomoat.rl.reference import Reference
from nomoat.stages import estimate, footprint, inputs
from nomoat.stages.begin import Learns, build, frozen
from nomoat.stages.models import load_tokenizer, save_model, stored
from nomoat.stages.recipe import Fields, Recipe, StageConfig
from nomoat.train.loop import nothing, train
from nomoat.train.optim import Optimizer
from nomoat.train.session import Session
from nomoat.train.whole import Follower


class Config(step.Settings, StageConfig):
    """As rl.step.Settings; `preset` = "r1" sets DeepSeek-R1's published values, and what is given beside it
    wins."""

    leaves_weights: ClassVar[bool] = True
    preset: Literal["r1"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, table: Any) -> Any:
        return (
            {**shipped(__file__).get(table.get("preset"), {}), **table} if isinstance(table, dict) else table
        )

    @model_validator(mode="after")
    def _one_reference(self):
        if self.lora and self.refresh:
            raise ValueError(
                f"refresh = {self.refresh} beside lora: the reference is the model with its adapter switched "
                "off; expected one of them; leave refresh out"
            )
        return self


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    tokenizer = load_tokenizer(session.run)
    model = model_of(session, config, recipe)
    optimizer = Optimizer(model, config.optim, session.mesh)
    policy, renew = policy_of(model, optimizer)
    outside = None
    if config.sampler:
        place, stop = session.directory / "sampler", session.stop
        outside = Outside(config.sampler, place, session.mesh, lambda: stop.requested)
    learner = step.Learner(
        session=session,
        settings=config,
        key=partial(recipe.key, config.name),
        model=model,
        policy=policy,
        renew=renew,
        outside=outside,
        optimizer=optimizer,
        tokenizer=tokenizer,
        curriculum=Curriculum(config.tasks, config.memory, config.behind),
        reference=reference_of(session, config, model),
        replies=replies(session, config, recipe, model),
    )
    train(session, model, optimizer, config.schedule, config.steps, learner.step, learner.curriculum.success)
    outputs = save_model(session, model, optimizer, tokenizer, config.source)
    n = len(config.tasks)
    return {**outputs, "bought": f"reward from {n} program{'s' if n > 1 else ''}"}


def replies(session: Session, config: Config, recipe: Recipe, model: Transformer) -> Packed | None:
    """What a given model replied to general questions, in rows."""
    if not config.replay:
        return None
    every = list(documents.replayed(inputs.samples(session, stage) for stage in config.replay))
    return kept.packed(every, kept.longest(model.spec, kept.REPLY_TOKENS), recipe.key(config.name, "replay"))


def policy_of(model: Transformer, optimizer: Optimizer) -> tuple[Transformer, Callable[[], None]]:
    """What is sampled, whole on every rank, and what brings it up to date."""
    learns = any(adapted(model))
    if optimizer.mesh.dense is None:
        merged = Merged(model, optimizer.master) if learns else None
        return (merged.policy, merged.renew) if merged else (masters_of(model, optimizer), nothing)
    follower = Follower(model, optimizer)
    if not learns:
        return follower.model, follower.renew
    merged = Merged(follower.model, dict(follower.model.named_parameters()))

    def renew() -> None:
        follower.renew()
        merged.renew()

    return merged.policy, renew


def masters_of(model: Transformer, optimizer: Optimizer) -> Transformer:
    """The float32 model that the optimiser keeps: views of its master weights, never out of date."""
    policy = Transformer(model.spec, model.kernels)
    for name, parameter in policy.named_parameters():
        parameter.data = optimizer.master[name]
    for name, buffer in model.named_buffers():
        module, _, own_name = name.rpartition(".")
        policy.get_submodule(module).register_buffer(own_name, buffer)
    return policy.eval()


def model_of(session: Session, config: Config, recipe: Recipe) -> Transformer:
    """The model that learns."""
    how = Learns(config.lora, recipe.key(config.name, "lora"))
    return build(session, stored(session, config.source), config.precision, how)[0]


def reference_of(session: Session, config: Config, model: Transformer) -> Reference:
    """What the model is held to: with an adapter the same, switched off, unless it lies in parts.  A large
    one that is only looked at now and then, for the KL, is loaded for that."""

    def load() -> Transformer:
        if config.lora and session.mesh.dense is None:
            return without(model)
        return frozen(session, stored(session, config.source), config.precision)

    return Reference(
        load,
        config.refresh,
        session.directory / "reference",
        writes=session.leads,
        kept=bool(config.lora) or footprint.keeps_reference(config, model.spec),
    )


def plan(config: Config, recipe: Recipe) -> Fields:
    spec = recipe.shape(config)
    n_params = counts.params_total(spec) + counts.params_mtp(spec)
    n_prompts = config.steps * config.prompts
    prompt, answer = estimate.lengths(config.tasks, config.think, config.max_new_tokens)
    prompt += config.behind * estimate.EARLIER * prompt
    drawn = n_prompts
    live = n_prompts * (1 - estimate.DEAD)
    if config.refill:
        drawn = n_prompts * (1 + estimate.DEAD)
        live = n_prompts * (1 - estimate.DEAD**2)
    tokens = drawn * config.group * answer
    forward = counts.flops_forward(spec, prompt + answer / 2)
    prefill = drawn * prompt * counts.flops_forward(spec, prompt / 2, head=False)
    each = 2 if config.lora else 3
    learned = each * live * (prompt + config.group * answer) * forward
    learned += each * config.steps * config.talk * estimate.TALK_TOKENS * forward
    if config.replay:  # the reference reads them, too
        learned += (each + 1) * config.steps * config.replay_rows * kept.REPLY_TOKENS * forward
    passes = 4 / 3 if config.kl else 1
    return {
        "parameters": counts.params_total(spec),
        "active": counts.params_active(spec),
        "tokens": round(tokens),
        "flops": tokens * forward + prefill + learned,
        "memory_bytes": footprint.learning(spec, recipe, config, None) if recipe.given else n_params * 4 * 4,
        "sampled": tokens * forward + prefill / 2,
        "learned": learned * passes,
        "host": estimate.saving(),
        "rollouts": round(drawn * config.group),
    }
