"""A recipe: models, and stages in order.  The only place that knows which stages there are."""

import hashlib
import importlib
import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from nomoat.config import Amount, ConfigError, JsonObject, Seed, Strict, look_up, parse
from nomoat.model.spec import PRESETS, Kernels, Spec
from nomoat.parallel.axes import MeshConfig
from nomoat.run.directory import is_name
from nomoat.stages.given import spec_of
from nomoat.tasks import base, contract, find

Fields = JsonObject  # what a stage plans, or leaves, by name
Levels = Annotated[list[Seed], Field(min_length=1)]
Tasks = dict[str, Levels]  # family -> levels
SomeTasks = Annotated[Tasks, Field(min_length=1)]
KINDS = {
    "import": "s0_import",
    "tokenizer": "s1_tokenizer",
    "pretrain": "s2_pretrain",
    "extend": "s3_extend",
    "sft": "s4_sft",
    "rl": "s5_rl",
    "reject": "s5_reject",
    "distill": "s6_distill",
    "eval": "s7_eval",
    "export": "s8_export",
}


class StageConfig(Strict):
    """What every stage has: its kind, its name, and the earlier stage whose weights it starts from."""

    leaves_weights: ClassVar[bool] = False  # from which the next stage starts
    kind: str
    name: str = ""
    source: str | None = Field(default=None, alias="from")


class _Settings(Strict):
    """`budget` = "10 min", "1 kWh" or "5 EUR" cuts the recipe to fit (budget.py); the run stops when it is
    spent.  `fitted` says in words how it was cut, `cut` how wide its models and how long its stages are now.
    `mesh` parts the work among ranks; absent, as the plan says (plan/choice.py).
    """

    name: str
    seed: Seed = 0
    device: str = "cpu"
    threads: int = Field(2, ge=1, le=1024)
    save_seconds: float = Field(30.0, ge=0, le=1e9)
    kernels: Kernels = Kernels()
    mesh: MeshConfig | None = None
    budget: str | None = None
    fitted: str | None = None
    cut: tuple[Amount, Amount] | None = None

    @field_validator("name")
    @classmethod
    def _a_folder(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError("expected a name of letters, digits, '-', '_' and '.', for its folder")
        return name

    @field_validator("device")
    @classmethod
    def _known(cls, name: str) -> str:
        if not re.fullmatch("cpu|cuda(:[0-9]+)?", name):
            raise ValueError('expected "cpu", "cuda" or "cuda:<n>"')
        return name


class _Written(_Settings):
    """A recipe as it stands in a file."""

    models: Fields
    panels: dict[str, Tasks] = {}
    stages: list[Fields]


class Recipe(_Settings):
    """A checked recipe; `table` is the resolved form that a run directory keeps.

    `budget` is what it was cut to, `fitted` how, `limit` what may be spent now; `given` where the weights
    come from that a model begins with (given.py).
    """

    models: dict[str, Spec]
    given: dict[str, str] = {}
    stages: tuple[StageConfig, ...]
    limit: str | None = None

    @property
    def table(self) -> Fields:
        head = self.model_dump(include=set(_Settings.model_fields), exclude_none=True)
        models = {name: spec.model_dump() for name, spec in self.models.items()}
        for name, source in self.given.items():
            models[name] = {"from": source, **models[name]}
        return {**head, "models": models, "stages": [s.model_dump(by_alias=True) for s in self.stages]}

    def stage(self, name: str) -> StageConfig:
        stages = {stage.name: stage for stage in self.stages}
        return look_up(name, stages, f"no stage `{name}` in recipe {self.name}")

    def model(self, name: str) -> Spec:
        return look_up(name, self.models, f"no model `{name}` in recipe {self.name}")

    def shape(self, config: StageConfig) -> Spec:
        """The model that a stage works on: its own, or that of the stage whose weights it starts from."""
        while (model := getattr(config, "model", None)) is None:
            if config.source is None:
                raise ConfigError(
                    f"`{config.name}` starts from weights, but no stage before it leaves any; set its `from`"
                )
            config = self.stage(config.source)
        return self.model(model)

    def plan(self, config: StageConfig) -> Fields:
        """What a stage tells before it runs; see budget.py."""
        return module_of(config.kind).plan(config, self)

    def key(self, *parts: object) -> int:
        """A seed of 63 bits from the recipe's seed and any names: randomness is keyed, never counted."""
        text = "/".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def module_of(kind: str) -> ModuleType:
    return importlib.import_module(f"nomoat.stages.{KINDS[kind]}")


def resolve(table: Mapping[str, Any]) -> Recipe:
    """The recipe in a table, every key checked, every default written out; plan/budget.py cuts it to its
    budget."""
    head = parse(_Written, table, "")
    given = {name: entry["from"] for name, entry in head.models.items() if "from" in entry}
    stages = []
    leaves_weights = None
    adapters = _Adapters(head.models)
    for number, entry in enumerate(_with_imports(head.stages, given)):
        kind = entry.get("kind")
        look_up(kind, KINDS, f"stages[{number}].kind = {kind!r}")
        name = entry.get("name") or kind
        panel = entry.get("tasks")
        shared = {}
        if isinstance(panel, str):  # families and levels that several stages share
            shared["tasks"] = look_up(panel, head.panels, f"`{name}.tasks` = {panel!r}")
        config_of = module_of(kind).Config
        entry = {"name": name, "from": leaves_weights, **entry, **shared}
        config = parse(config_of, adapters.written_out(config_of, entry), name)
        _check_earlier(config, {stage.name: stage for stage in stages})
        _check_tasks(config)
        stages.append(config)
        if config.leaves_weights and not (config.kind == "import" and leaves_weights):
            leaves_weights = name
    if not stages:
        raise ConfigError("`stages` = []: expected one or more; add some, or a model with a `from`")
    models = _shapes(adapters.models, stages)
    for config in stages:
        if getattr(config, "model", None) is not None:
            look_up(config.model, models, f"`{config.name}.model` = {config.model!r}")
    settings = head.model_dump(include=set(_Settings.model_fields))
    return Recipe(**settings, models=models, stages=tuple(stages), limit=head.budget, given=given)


class _Adapters:
    """`lora` of the models: what stages that train one of them have, unless they say otherwise.

    `models` are the tables without it.
    """

    def __init__(self, models: Mapping[str, Fields]):
        self.models = {name: dict(table) for name, table in models.items()}
        for table in self.models.values():
            table.pop("lora", None)
        self.loras = {name: table["lora"] for name, table in models.items() if "lora" in table}
        self.model_of: dict[str, str | None] = {}  # stage -> the model that it works on

    def written_out(self, config: type[StageConfig], entry: Fields) -> Fields:
        """The entry of a stage with its model's `lora`."""
        default = config.model_fields.get("model")
        model = entry.get("model") or (default and default.default) or self.model_of.get(entry["from"])
        self.model_of[entry["name"]] = model
        if "lora" not in config.model_fields:
            return entry
        entry = {"lora": self.loras.get(model), **entry}
        new = entry["kind"] == "pretrain" or (entry["kind"] == "distill" and not entry.get("start"))
        if entry["lora"] and new and "from" not in self.models.get(model, {}):
            raise ConfigError(
                f"`{entry['name']}.lora` learns beside weights that stay, and models.{model} begins with "
                "none; expected a model with a `from`; leave lora out"
            )
        return entry


def _shapes(models: Mapping[str, Fields], stages: list[StageConfig]) -> dict[str, Spec]:
    """The models of a recipe; those that aren't given have as many ids as the tokenizer that there is."""
    given = {name: spec_of(name, entry) for name, entry in models.items() if "from" in entry}
    sizes = [stage.vocab_size for stage in stages if stage.kind == "tokenizer"]
    sizes += [spec.vocab_size for spec in given.values()]
    vocab_size = sizes[0] if sizes else None
    return {name: given.get(name) or _spec(name, entry, vocab_size) for name, entry in models.items()}


def _with_imports(stages: list[Fields], given: Mapping[str, str]) -> list[Fields]:
    """The stages of a recipe, before them one for each model that it is given, unless it is there."""
    there = {stage.get("model", "main") for stage in stages if stage.get("kind") == "import"}
    if unknown := there - set(given):
        raise ConfigError(
            f"a stage of kind import takes in `{min(map(str, unknown))}`, and no model of that name has a "
            "`from`; such stages are made of the models: leave it out"
        )
    if given and any(stage.get("kind") == "tokenizer" for stage in stages):
        raise ConfigError(
            f"the recipe trains a tokenizer, and models.{next(iter(given))} brings its own; expected one of "
            "them; leave the tokenizer stage out"
        )
    return [{"kind": "import", "name": name, "model": name} for name in given if name not in there] + stages


def _check_earlier(config: StageConfig, earlier: Mapping[str, StageConfig]) -> None:
    """A stage has a name of its own, and those that it names come before it."""
    if not is_name(config.name):
        expected = "expected letters, digits, '-', '_' and '.', and no file of a run"
        raise ConfigError(f"a stage is called {config.name!r:.60}; {expected}; give it another `name`")
    if config.name in earlier:
        raise ConfigError(f"two stages are called `{config.name}`; give one of them another `name`")
    named = [("from", config.source), ("start", getattr(config, "start", None))]
    samples = getattr(config, "samples", None)
    if isinstance(samples, list):  # others have a number of that name
        named += [("samples", stage) for stage in samples]
    replay = getattr(config, "replay", [])
    named += [("replay", stage) for stage in replay]
    for key, stage in named:
        if stage is not None:
            look_up(stage, earlier, f"`{config.name}.{key}` = {stage!r} is no earlier stage")
    if wrong := [stage for stage in replay if not getattr(earlier[stage], "general", False)]:
        raise ConfigError(
            f"`{config.name}.replay` names {wrong[0]}; expected a stage of kind reject with general = true; "
            "name that one, or put this one into `samples`"
        )


def _check_tasks(config: StageConfig) -> None:
    """What a stage asks is there: the levels, problems of its side of the split, worked examples."""
    split = "eval" if config.kind == "eval" else "train"
    for key in ("tasks", "policy_tasks"):
        for family, levels in getattr(config, key, {}).items():
            task = find.find(family)
            place = f"`{config.name}.{key}.{family}`"
            _check_levels(place, levels, task.levels)
            if hasattr(task, "listed") and not task.listed[split]:
                raise ConfigError(f"{place} has no problem {base.SIDES[split]}: {base.left(task)}")
            _check_judge(place, family, levels)
            if key == "tasks" and _shows_work(config, family):
                _check_work(place, family, levels, config.name)


def _check_levels(place: str, levels: list[int], known: Iterable[int]) -> None:
    if wrong := [level for level in levels if level not in known]:
        raise ConfigError(f"{place} has level {wrong[0]}; expected some of {list(known)}")
    if twice := [level for level in levels if levels.count(level) > 1]:
        raise ConfigError(f"{place} has level {twice[0]} twice; expected it once; drop the other")


def _check_judge(place: str, family: str, levels: Iterable[int]) -> None:
    """A task file takes its own answers; what comes as rows was tried as it was read (contract.vetted)."""
    for level in levels if family.endswith(".py") and ":" not in family else ():
        if fault := contract.refusal(find.find(family), level):
            raise ConfigError(
                f"{place}, level {level}: check {fault}; expected it to accept the task's own answer; "
                f"mend it, and try `nomoat task check {family}`"
            )


def _check_work(place: str, family: str, levels: Iterable[int], stage: str) -> None:
    """What is shown as worked examples is there, and in a task file it leads to the answer."""
    task = find.find(family)
    if task.work is base.no_work:
        raise ConfigError(
            f"{place} shows worked examples, and {family} has no `work`; expected one; write it, or "
            f"leave the task out of `{stage}`"
        )
    for level in levels if family.endswith(".py") and ":" not in family else ():
        if fault := contract.misled(task, level):
            remedy = f"mend it, and try `nomoat task check {family}`"
            raise ConfigError(f"{place}, level {level}: {fault}; {remedy}")


def _shows_work(config: StageConfig, family: str) -> bool:
    """Whether a stage reads worked examples of a family."""
    chains = getattr(config, "chains", 0.0)
    share = chains.get(family, 1.0) if isinstance(chains, dict) else chains
    shares = getattr(config, "shares", {})
    return bool(share and (shares.get("tasks") or shares.get("dialogues")))


def _spec(name: str, entry: Mapping[str, Any], vocab_size: int | None) -> Spec:
    """A model of the recipe; its vocabulary is the tokenizer stage's, where there is one."""
    table = dict(entry)
    preset = table.pop("preset", None)
    if preset is not None:
        base = look_up(preset, PRESETS, f"models.{name}.preset = {preset!r}")
        table = base.model_dump() | table
    if vocab_size and table.setdefault("vocab_size", vocab_size) != vocab_size:
        raise ConfigError(
            f"models.{name}.vocab_size = {table['vocab_size']}, but the recipe's tokenizer has {vocab_size}; "
            "leave it out"
        )
    return parse(Spec, table, f"models.{name}")
