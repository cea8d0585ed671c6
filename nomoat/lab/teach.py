"""What it takes to teach a model a task: from a look at it the stages it needs, their length, the price.

The recipe is recipes/teach.toml; what is found here goes into the places that it names.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nomoat.config import ConfigError, DataError, JsonObject
from nomoat.evals import talk
from nomoat.lab.look import Look, percent
from nomoat.report.table import Table
from nomoat.rl import kept
from nomoat.run.ledger import duration, money, read_prices, short
from nomoat.stages import estimate, footprint, given
from nomoat.stages.recipe import Recipe
from nomoat.tasks import base, find

NEWS = 0.25  # share of mixed problems from which reinforcement can begin
OWN = 0.08  # share of right answers, alone or shown, from which a model can learn by its own
FORM = 0.5  # share of answers that never end from which the form is learnt first
KNOWN = 0.97  # right answers at every level: nothing to teach
ROOM = 1.25  # tokens of an answer beside those of the longest worked one
KEPT_BACK = 0.1  # share of the time that is not planned for
COLD, MOST_SHOWN = 0.4, 200  # share of the time for training that a cold start on examples takes; its steps
LIVE, DRAWN = 0.6, 1.5  # groups of a step with news, and all that are drawn for it, per group wanted
FEW_SHOWN = 40  # steps on its own right answers, of which there are few
SLOWER = 1.5  # an evaluation than planned, at most: nothing behind it can be shortened
FEWEST_STEPS, MOST_STEPS = 20, 600
SHORT = 512  # tokens of a text up to which plain attention is the faster one (model/kernels.py)
OVERHEAD = 1e-8  # seconds of a step for each parameter, beside all that: merging, copying
TALK, SAID = 40, 36  # tokens of a question of small talk and of its reply
PROSE = 3  # bytes of a token of prose
HANDLED = 6e-8  # seconds for each parameter to read the weights of a stage, and to save what it leaves


@dataclass(frozen=True)
class Step:
    """A stage: what it is for, how long it is, and about how many seconds it takes."""

    stage: str
    what: str
    seconds: float
    memory_bytes: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The recipe that teaches, and what it takes; `step_seconds`: a step of reinforcement."""

    table: JsonObject
    steps: tuple[Step, ...]
    reason: str
    minutes: float
    step_seconds: float

    @classmethod
    def of(cls, recipe: Recipe, look: Look, minutes: float, reason: str) -> "Plan":
        """The plan of a resolved recipe, each stage with the bytes that the process will hold."""
        table = recipe.table
        taught = {**table, "stages": [s for s in table["stages"] if s["kind"] != "import"]}
        held = {config.name: footprint.planned(recipe, config) for config in recipe.stages}
        steps = (replace(s, memory_bytes=held.get(s.stage, held["eval"])) for s in steps_of(taught, look))
        return cls(table, tuple(steps), reason, minutes, step_seconds(taught, look))

    @property
    def seconds(self) -> float:
        """Of all of it: no more than the time is, since reinforcement gets what of it is left."""
        return min(sum(step.seconds for step in self.steps), 60 * self.minutes)

    @property
    def times(self) -> dict[str, float]:
        """Seconds: what of the time is left for training, by the look and what evaluation may take, and that;
        what of the first is kept back; a step of reinforcement."""
        whole = 60 * self.minutes
        looked, measured = (
            sum(step.seconds for step in self.steps if step.stage == name) for name in ("look", "eval")
        )
        measured *= SLOWER
        return {
            "train_seconds": whole - looked - measured,
            "measure_seconds": measured,
            "kept_seconds": KEPT_BACK * whole,
            "step_seconds": self.step_seconds,
        }

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
        whole = Step("total", "", price["seconds"], price["memory_bytes"])
        rows = []
        for step in (*self.steps, whole):
            held = short(step.memory_bytes, "B")
            rows.append((step.stage, duration(step.seconds), held, step.what))
        energy, paid = short(price["joules"], "J"), money(price["money"])
        note = (
            "Estimated from the look, on this machine as it was then; "
            f"{energy}, {paid} {price['currency']}. {self.reason}"
        )
        return Table("Plan", ("stage", "time", "memory", "what"), rows, note, ("what",), total=True)


def first_table(table: JsonObject, model: str, task: str) -> JsonObject:
    """The recipe with its model and task, before anything is known of them."""
    table = copy.deepcopy(table)
    table["models"]["main"]["from"] = model
    context = given.told(model).spec.context
    levels = list(find.find(task).levels)
    for stage in table["stages"]:
        if not stage.get("general"):
            stage["tasks"] = {task: levels}
    table["stages"] = [s for s in table["stages"] if s["name"] != "own"]
    if not _stage(table, "replay")["problems"]:
        _without_replay(table)
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


def plan(table: JsonObject, model: str, task: str, look: Look, minutes: float) -> tuple[JsonObject, str]:
    """The recipe for a model of which this was seen, as long as the time allows, and why its cold start.

    DataError where there is nothing to teach, ConfigError where the time is too short.
    """
    if all(seen.right >= KNOWN for seen in look.levels):
        raise DataError(
            f"{model} answers {percent(look.of_all('right'))} of {task} rightly already; expected something "
            "to learn; add harder levels to it"
        )
    whole, table = copy.deepcopy(table), first_table(table, model, task)
    kind, reason = cold_start(look, task)
    _with_cold_start(table, whole, kind, look)
    if look.example > SHORT:
        table["kernels"] = {**table["kernels"], "attention": "fused"}
    for stage in table["stages"]:
        if "max_new_tokens" in stage and not stage.get("general"):
            stage["max_new_tokens"] = min(round_up(ROOM * look.longest + 4), look.context // 2)
    evaluation = _stage(table, "eval")
    evaluation["problems"] = math.ceil(evaluation["problems"] / len(look.levels))
    _lengthen(table, kind, look, 60 * minutes * (1 - KEPT_BACK))
    return table, reason


def _lengthen(table: JsonObject, kind: str | None, look: Look, seconds: float) -> None:
    """The steps of cold start and reinforcement that so many seconds allow, the other stages taken off: of
    each the most, of reinforcement as if the cold start had learnt enough at once."""
    taken = {step.stage: step.seconds for step in steps_of(table, look)}
    taken["eval"] *= SLOWER  # as `Plan.times` keeps it back
    left = seconds + taken["rl"]
    left -= sum(taken.values())
    if kind in ("worked", "shown"):
        cold = _stage(table, "cold")
        left += taken["cold"]
        each = taken["cold"] / cold["steps"]
        wanted = max(int(COLD * left / each), 1)
        cold["steps"] = min(wanted, MOST_SHOWN)
        require_steps(table, look, left - each * cold["steps"])
    require_steps(table, look, left)
    _stage(table, "rl")["steps"] = min(int(left / step_seconds(table, look)), MOST_STEPS)


def require_steps(table: JsonObject, look: Look, seconds: float) -> None:
    """ConfigError where so many seconds are too few for reinforcement."""
    each = step_seconds(table, look)
    if seconds < FEWEST_STEPS * each:
        more = (FEWEST_STEPS * each - seconds) / 60 / (1 - KEPT_BACK)
        raise ConfigError(
            f"the time leaves reinforcement {max(seconds, 0) / each:.0f} steps of {each:.1f} s on this "
            f"machine; expected at least {FEWEST_STEPS}; allow {math.ceil(more)} --minutes more"
        )


def _with_cold_start(table: JsonObject, whole: JsonObject, kind: str | None, look: Look) -> None:
    """What a model is shown first put into the recipe, or taken out."""
    cold = _stage(table, "cold")
    if kind is None:
        table["stages"].remove(cold)
        return
    longest = max(cold["context"], round_up(look.example + 1))
    cold["context"] = min(longest, look.context)
    if kind == "own":
        own = _stage(whole, "own")
        own["tasks"] = dict(cold["tasks"])
        table["stages"].insert(0, own)
        cold.update(shares={"samples": 1.0}, samples=["own"], steps=FEW_SHOWN)


def _without_replay(table: JsonObject) -> None:
    table["stages"] = [s for s in table["stages"] if s["name"] != "replay"]
    _stage(table, "cold")["replay"] = _stage(table, "rl")["replay"] = []


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
    if max(look.of_all("shown"), look.of_all("right")) >= OWN:
        return "own", f"{why}, and there is no `work`: a cold start on its own right answers."
    return "shown", f"{why}, hardly any is right when shown, no `work`: a cold start on right answers alone."


def mean_answer(look: Look, longest: int) -> float:
    """Tokens of an answer without a cold start: those that never end are cut."""
    cut = look.of_all("cut")
    return cut * longest + (1 - cut) * look.answer


def round_up(n: float, to: int = 8) -> int:
    return math.ceil(n / to) * to


def step_seconds(table: JsonObject, look: Look) -> float:
    """Of a step of reinforcement."""
    rl = _stage(table, "rl")
    answer = mean_answer(look, rl["max_new_tokens"])
    if any(stage["kind"] == "sft" for stage in table["stages"]):
        answer = look.answer
    written = rl["group"] * answer
    drawn = written / look.drawn_a_second
    drawn += look.prompt / look.read_a_second
    learnt = (look.prompt + written) / look.learnt_a_second
    each = DRAWN * drawn + LIVE * learnt
    seconds = rl["prompts"] * each + OVERHEAD * look.parameters
    if rl["replay"]:
        seconds += kept.REPLY_TOKENS * rl["replay_rows"] / look.learnt_a_second
    return seconds


def steps_of(table: JsonObject, look: Look) -> Iterator[Step]:
    """The look and the stages of a recipe, with the seconds that each is to take."""
    yield Step("look", "what it can do already: done", look.seconds)
    handled = (1 + len(table["stages"])) * HANDLED * look.parameters
    yield Step("main", "the model, taken in as it is", handled)
    for stage in table["stages"]:
        yield Step(stage["name"], *OF_KIND[stage["kind"]](table, stage, look))


def _rejection(table: JsonObject, stage: JsonObject, look: Look) -> tuple[str, float]:
    n, samples = stage["problems"], stage["samples"]
    if stage.get("general"):
        return _replies(n, look)
    read = n * (1 + 1.5 * stage["shots"]) * look.prompt / look.read_a_second
    seconds = n * samples * look.answer / look.drawn_a_second + read
    return f"its own right answers: {samples} to each of {n} questions, behind solved turns", seconds


def _replies(n: int, look: Look) -> tuple[str, float]:
    question, reply = estimate.GENERAL
    each = question / look.read_a_second + reply / look.drawn_a_second
    return f"what it says to {n} general questions, to be kept as it is", n * each


def _tuning(table: JsonObject, stage: JsonObject, look: Look) -> tuple[str, float]:
    n_tokens = stage["rows"] * stage["context"]
    if stage.get("replay"):
        n_tokens += stage.get("replay_rows", 1) * stage["context"]
    seconds = stage["steps"] * n_tokens / look.learnt_a_second
    most = "at most " if stage.get("until") else ""
    return f"cold start: {most}{stage['steps']} steps of {n_tokens:,} tokens", seconds


def _reinforcement(table: JsonObject, stage: JsonObject, look: Look) -> tuple[str, float]:
    n, prompts, group = stage["steps"], stage["prompts"], stage["group"]
    shorter = any(other.get("until") for other in table["stages"])
    most = "at most " if shorter else ""
    what = f"reinforcement: {most}{n} steps, {prompts} questions with {group} answers each"
    return what, n * step_seconds(table, look)


def _evaluation(table: JsonObject, stage: JsonObject, look: Look) -> tuple[str, float]:
    models = measured(table, stage)
    n_levels = sum(map(len, stage["tasks"].values()))
    n = stage["problems"] * n_levels
    n_common = talk.n_common() if stage["common"] else 0
    longest = stage["max_new_tokens"]
    answers = longest  # the first model's never end
    answers += look.answer * (len(models) - 1)
    written = n * (1 + stage["samples"]) * answers
    written += len(models) * n_common * SAID
    read = 2 * n * look.prompt
    read += n_common * TALK
    read += 2 * stage["heldout_bytes"] / PROSE
    seconds = written / look.drawn_a_second
    seconds += len(models) * read / look.read_a_second
    named = " and ".join(models)
    beside = ", small talk, facts and prose" if n_common else ""
    return f"evaluation: {n} problems{beside}, {named}", seconds


def measured(table: JsonObject, stage: JsonObject) -> list[str]:
    """The models that a stage of kind eval measures."""
    trained = [other["name"] for other in table["stages"] if other["kind"] in ("sft", "rl")]
    return stage.get("models") or ["main", *trained]


OF_KIND = {"reject": _rejection, "sft": _tuning, "rl": _reinforcement, "eval": _evaluation}


def _stage(table: JsonObject, name: str) -> JsonObject:
    return next(stage for stage in table["stages"] if stage["name"] == name)
