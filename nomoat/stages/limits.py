"""What the numbers of a stage mean beside those of others: its rows, answers and updates."""

from collections.abc import Iterator

from nomoat.config import ConfigError
from nomoat.model.spec import Spec
from nomoat.parallel import schedules
from nomoat.parallel.axes import MeshConfig
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.train.schedule import ramp_rows

SAMPLES = ("rl", "distill")  # from what it trains


def check(recipe: Recipe, config: StageConfig) -> None:
    """ConfigError for numbers that can't do what they say."""
    if hasattr(config, "shares"):
        _check_rows(recipe, config)
    if hasattr(config, "rewards"):
        _check_updates(config)
    if getattr(config, "max_new_tokens", None) and getattr(config, "policy_steps", True):
        _check_answers(recipe, config)


def check_mesh(recipe: Recipe, config: StageConfig) -> None:
    """ConfigError for a stage that can't run on the recipe's mesh."""
    if hasattr(config, "micro_rows"):
        check_stages(config, recipe.shape(config), axes_of(recipe.mesh or MeshConfig(), config))


def axes_of(axes: MeshConfig, config: StageConfig) -> MeshConfig:
    """How the ranks share the work of a stage: what samples from what it trains takes whole models, and so no
    stages of a pipeline."""
    return axes.without_stages() if config.kind in SAMPLES else axes


def check_stages(config: StageConfig, spec: Spec, axes: MeshConfig) -> None:
    """ConfigError where a stage's microbatches, or the blocks of its model, don't fit the mesh's pipeline."""
    if axes.pipeline == 1:
        return
    if axes.shard * axes.expert > 1 and axes.schedule != "1f1b":
        raise ConfigError(
            f'[mesh] {axes.says()}, schedule = "{axes.schedule}": a schedule that takes the backward pass of '
            "weights apart is not built for stages that are sharded, whose gradients are summed in it; "
            'expected shard = 1 and expert = 1 beside it; set schedule = "1f1b", or use replicate'
        )
    at_once, world = config.micro_rows or 1, axes.world // axes.pipeline
    every = {ramp_rows(step, *config.ramp) for step in range(config.ramp_steps + 1)}
    for n_rows in sorted(every) if at_once > 1 else ():
        _check_micro_rows(config, at_once, n_rows, world)
    fewest = -(-min(every) // world)
    schedules.check(spec, axes.schedule, axes.pipeline, fewest // at_once)


def _check_micro_rows(config: StageConfig, at_once: int, n_rows: int, world: int) -> None:
    """The microbatches of a pipeline are of one shape."""
    if n_rows % (at_once * world):
        place = f"{config.name}.micro_rows"
        most = max(n for n in range(1, at_once + 1) if n_rows % (n * world) == 0 or n == 1)
        expected = f"one that divides the rows of every rank, here {n_rows / world:g}"
        raise _wrong(place, at_once, expected, f"set {place} = {most}")


def check_longer(stage: str, context: int, before: int) -> None:
    """ConfigError for an extension that doesn't extend."""
    if context <= before:
        raise _wrong(f"{stage}.context", context, f"more than the {before} so far", "raise it")


def _check_rows(recipe: Recipe, config: StageConfig) -> None:
    name = config.name
    reads = config.steps > getattr(config, "policy_steps", 0)
    if reads and not any(config.shares.values()):
        raise _wrong(f"{name}.shares", config.shares, "some kind of document above 0", "such as prose = 1.0")
    _check_text(config)
    if (config.first_rows or 0) > config.rows:
        expected = f"at most the rows = {config.rows} that a step ends with"
        raise _wrong(f"{name}.first_rows", config.first_rows, expected, "lower it")
    if config.kind == "extend":
        if config.source is not None:
            check_longer(name, config.context, context_of(recipe, recipe.stage(config.source)))
    elif (known := _known(recipe, config)) and config.context > known:
        expected = f"at most the model's context, which is {known:,}"
        raise _wrong(f"{name}.context", config.context, expected, "lower it, or extend the model's")


def _check_text(config: StageConfig) -> None:
    """A text that is named is read: by rows of prose alone."""
    key = "hub" if config.hub else "text"
    text = getattr(config, key)
    if text and not config.shares.get("prose"):
        place = f"{config.name}.{key}"
        expected = f"a share of the rows, found shares = {config.shares}"
        raise _wrong(place, text, expected, "give `prose` one, or leave it out")


def _check_updates(config: StageConfig) -> None:
    weights = config.rewards.model_dump()
    if not any(weights.values()):
        expected = f"one of {', '.join(weights)} above 0"
        raise _wrong(f"{config.name}.rewards", weights, expected, "otherwise nothing is learnt")
    if config.minibatches > config.prompts:
        expected = f"at most one for each of prompts = {config.prompts}"
        raise _wrong(f"{config.name}.minibatches", config.minibatches, expected, "lower it")


def _check_answers(recipe: Recipe, config: StageConfig) -> None:
    for name, context in contexts(recipe, config):
        if config.max_new_tokens >= context:
            expected = f"less than the context of {name}, which is {context:,}"
            raise _wrong(f"{config.name}.max_new_tokens", config.max_new_tokens, expected, "lower it")


def _wrong(place: str, value: object, expected: str, cure: str) -> ConfigError:
    return ConfigError(f"`{place}` = {value}: expected {expected}; {cure}")


def contexts(recipe: Recipe, config: StageConfig) -> Iterator[tuple[str, int]]:
    """The contexts of the models that answer in a stage, by the name of the model."""
    names = [config.name]
    if config.kind == "eval":
        earlier = recipe.stages[: recipe.stages.index(config)]
        names = config.models or [stage.name for stage in earlier if stage.leaves_weights]
    for name in names:
        try:
            yield name, context_of(recipe, recipe.stage(name))
        except ConfigError:  # a stage that another run has done, of which the recipe knows no shape
            continue


def _known(recipe: Recipe, config: StageConfig) -> int | None:
    """The context of a stage's model, where the recipe knows its shape."""
    return next((context for _, context in contexts(recipe, config)), None)


def context_of(recipe: Recipe, config: StageConfig) -> int:
    """The context of the model that a stage works on: that of the last extension before it."""
    if config.kind == "extend":
        return config.context
    if config.kind == "distill" and config.source is not None and config.start is None:
        return context_of(recipe, recipe.stage(config.source))
    if getattr(config, "model", None) is not None or config.source is None:
        return recipe.shape(config).context
    return context_of(recipe, recipe.stage(config.source))
