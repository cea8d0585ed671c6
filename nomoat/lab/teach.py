"""What it takes to teach a model a task: from a look at it, the stages that it needs, their length, the price.

The recipe is recipes/teach.toml; what is found here goes into the places that it names.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.config import ConfigError, DataError, JsonObject
from nomoat.lab.look import Look, percent
from nomoat.report.table import Table
from nomoat.run.ledger import duration, money, read_prices, short
from nomoat.stages import footprint, given
from nomoat.stages.recipe import Recipe
from nomoat.tasks import base, find

NEWS = 0.25  # share of mixed problems from which reinforcement can begin
FORM = 0.5  # share of answers that never end from which the form is learnt first
KNOWN = 0.97  # right answers at every level: nothing to teach
ROOM = 1.25  # tokens of an answer beside those of the longest worked one
KEPT_BACK = 0.15  # share of the time that is not planned for
LIVE, DRAWN = 0.6, 1.5  # groups of a step with news, and all that are drawn for it, per group wanted
FEWEST_STEPS, MOST_STEPS = 20, 600
OVERHEAD = 1.0  # seconds of a step beside all that: merging, the optimiser, the log
STARTING = 30.0  # seconds: taking the model in, saving what stages leave


@dataclass(frozen=True)
class Step:
    """A stage: what it is for, how long it is, and about how many seconds it takes."""

    stage: str
    what: str
    seconds: float
    memory_bytes: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The recipe that teaches, and what it takes."""

    table: JsonObject
    steps: tuple[Step, ...]
    reasons: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    def with_memory(self, recipe: Recipe) -> "Plan":
        """The same, each stage with the bytes that the process will hold."""
        held = {config.name: footprint.planned(recipe, config) for config in recipe.stages}
        steps = tuple(
            Step(s.stage, s.what, s.seconds, held.get(s.stage, held["main"])) for s in self.steps
        )
        return Plan(self.table, steps, self.reasons)

    def price(self) -> JsonObject:
        """Time, memory, energy and money, estimated."""
        prices = read_prices()
        device, units = prices.device("cpu"), self.table["threads"]
        joules = device.watts * units * self.seconds
        return {
            "seconds": self.seconds,
            "memory_bytes": max(step.memory_bytes for step in self.steps),
            "joules": joules,
            "money": prices.money(device, joules, units * self.seconds),
            "currency": prices.currency,
        }

    def price_table(self) -> Table:
        price = self.price()
        rows = [(s.stage, duration(s.seconds), short(s.memory_bytes, "B"), s.what) for s in self.steps]
        rows.append(("total", duration(price["seconds"]), short(price["memory_bytes"], "B"), ""))
        note = (
            f"Estimated from the look, on this machine as it was then; {short(price['joules'], 'J')}, "
            f"{money(price['money'])} {price['currency']}. {' '.join(self.reasons)}"
        )
        return Table("Plan", ("stage", "time", "memory", "what"), rows, note, ("what",), total=True)


def first_table(table: JsonObject, model: str, task: str) -> JsonObject:
    """The recipe with its model and task, before anything is known of them."""
    table = copy.deepcopy(table)
    table["models"]["main"]["from"] = model
    context = given.told(model).spec.context
    levels = list(find.find(task).levels)
    for stage in table["stages"]:
        if stage["name"] != "beside":
            stage["tasks"] = {task: levels}
    table["stages"] = [s for s in table["stages"] if s["name"] != "own"]
    for stage in table["stages"]:
        for key in ("context", "max_new_tokens"):
            if key in stage:
                stage[key] = min(stage[key], context // (1 if key == "context" else 2))
    if find.find(task).work is base.no_work:
        _stage(table, "cold")["chains"] = 0.0
    return table


def named(table: JsonObject) -> JsonObject:
    """The table, every stage with a name."""
    for stage in table["stages"]:
        stage.setdefault("name", stage["kind"])
    return table


def plan(table: JsonObject, model: str, task: str, look: Look, minutes: float) -> Plan:
    """The recipe for a model of which this was seen, as long as the time allows.

    DataError where there is nothing to teach, ConfigError where the time is too short.
    """
    if all(seen.right >= KNOWN for seen in look.levels):
        raise DataError(
            f"{model} answers {percent(look.of_all('right'))} of {task} rightly already; expected something "
            "to learn; add harder levels to it"
        )
    whole = copy.deepcopy(table)
    table = first_table(table, model, task)
    kind, reason = cold_start(look, task)
    longest = min(round_up(ROOM * look.longest + 4), look.context // 2)
    if kind is None:
        table["stages"] = [s for s in table["stages"] if s["name"] != "cold"]
    else:
        cold = _stage(table, "cold")
        cold["context"] = min(max(cold["context"], round_up(look.example + 1)), look.context)
    if kind == "own":
        own = _stage(whole, "own") | {"tasks": dict(_stage(table, "rl")["tasks"])}
        table["stages"].insert(0, own)
        _stage(table, "cold").update(shares={"samples": 1.0}, samples=["own"])
    for stage in table["stages"]:
        if "max_new_tokens" in stage and stage["name"] != "beside":
            stage["max_new_tokens"] = longest
    evaluation = _stage(table, "eval")
    evaluation["problems"] = math.ceil(evaluation["problems"] / len(look.levels))
    before = [*_fixed(table, look, longest)]
    left = 60 * minutes * (1 - KEPT_BACK) - look.seconds - sum(step.seconds for step in before)
    rl = _stage(table, "rl")
    each = step_seconds(rl, look, look.answer if kind else mean_answer(look, longest))
    if left < FEWEST_STEPS * each:
        enough = minutes + (FEWEST_STEPS * each - left) / 60 / (1 - KEPT_BACK)
        raise ConfigError(
            f"--minutes {minutes:g} leaves reinforcement {max(left, 0) / each:.0f} steps of "
            f"{each:.0f} s on this machine; expected at least {FEWEST_STEPS}; allow --minutes {enough:.0f}"
        )
    rl["steps"] = min(int(left / each), MOST_STEPS)
    what = f"reinforcement: {rl['steps']} steps, {rl['prompts']} questions with {rl['group']} answers each"
    names = [stage["name"] for stage in table["stages"]]
    steps = [*before, Step("rl", what, rl["steps"] * each)]
    steps.sort(key=lambda step: names.index(step.stage) if step.stage in names else -1)
    return Plan(table, tuple(steps), (reason,))


def cold_start(look: Look, task: str) -> tuple[str | None, str]:
    """("worked", "own", "shown" or None, why): what a model is shown before it learns by itself."""
    mixed, cut = look.of_all("mixed"), look.of_all("cut")
    if mixed >= NEWS and cut < FORM:
        return None, f"No cold start: {percent(mixed)} of the problems have right answers and wrong ones."
    if mixed < NEWS:
        why = f"Only {percent(mixed)} of the problems have right answers and wrong ones"
    else:
        why = f"{percent(cut)} of the answers never end"
    if find.find(task).work is not base.no_work:
        return "worked", f"{why}: a cold start on the task's `work`."
    if look.of_all("shown") > 0 or look.of_all("right") > 0:
        return "own", f"{why}, and there is no `work`: a cold start on its own right answers."
    return "shown", f"{why}, no answer is right and there is no `work`: a cold start on right answers alone."


def mean_answer(look: Look, longest: int) -> float:
    """Tokens of an answer without a cold start: those that never end are cut."""
    cut = look.of_all("cut")
    return cut * longest + (1 - cut) * look.answer


def round_up(n: float, to: int = 8) -> int:
    return math.ceil(n / to) * to


def step_seconds(rl: JsonObject, look: Look, answer: float) -> float:
    """Of a step of reinforcement."""
    wanted, group = rl["prompts"], rl["group"]
    drawn = DRAWN * wanted * (group * answer / look.drawn_a_second + look.prompt / look.read_a_second)
    return drawn + LIVE * wanted * (look.prompt + group * answer) / look.learnt_a_second + OVERHEAD


def _fixed(table: JsonObject, look: Look, longest: int) -> Sequence[Step]:
    """The stages whose length doesn't follow from the time."""
    yield Step("main", "the model, taken in as it is", STARTING)
    for stage in table["stages"]:
        if stage["kind"] == "reject":
            n, samples = stage["problems"], stage["samples"]
            prompts = n * (1 + 1.5 * stage["shots"]) * look.prompt / look.read_a_second
            what = f"its own right answers: {samples} to each of {n} questions, behind solved turns"
            yield Step(stage["name"], what, n * samples * look.answer / look.drawn_a_second + prompts)
        elif stage["kind"] == "sft":
            tokens = stage["steps"] * stage["rows"] * stage["context"]
            what = f"cold start: {stage['steps']} steps of {tokens // stage['steps']:,} tokens"
            yield Step(stage["name"], what, tokens / look.learnt_a_second)
        elif stage["kind"] == "eval":
            yield Step(stage["name"], *_evaluation(table, stage, look, longest))


def _evaluation(table: JsonObject, stage: JsonObject, look: Look, longest: int) -> tuple[str, float]:
    models = stage.get("models") or ["main", *(s["name"] for s in table["stages"] if s["kind"] in ("sft", "rl"))]
    n = stage["problems"] * sum(map(len, stage["tasks"].values()))
    written = n * (1 + stage["samples"]) * (longest + (len(models) - 1) * look.answer)
    read = 2 * n * len(models) * look.prompt
    talk = 3 * stage.get("talk", 0)
    written += len(models) * talk * stage["max_new_tokens"]
    text = len(models) * 2 * stage["heldout_bytes"] / 3
    seconds = written / look.drawn_a_second + (read + text + talk * 60) / look.read_a_second
    beside = ", prose and small talk" if talk else ""
    return f"evaluation: {n} problems{beside}, {' and '.join(models)}", seconds


def _stage(table: JsonObject, name: str) -> JsonObject:
    return next(stage for stage in table["stages"] if stage["name"] == name)
