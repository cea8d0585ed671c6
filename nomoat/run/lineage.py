"""A run that goes on under a changed recipe: what may change, which stages go on, which begin again.

The log says it (`continue`), and so does the record, which then holds the recipe of today.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomoat.config import ConfigError, JsonObject
from nomoat.run.record import difference

OF_A_RUN = ("device", "threads", "save_seconds", "kernels", "mesh")
OF_A_STAGE = ("steps", "policy_steps", "optim", "schedule", "precision", "sampler")
BEGUN_AGAIN = ("reject", "eval", "export")  # kinds without a training that could go on


@dataclass(frozen=True, slots=True)
class Course:
    """What differs, in words; the begun stages that go on from their checkpoints, and those that begin again.
    """

    changes: tuple[str, ...]
    goes_on: tuple[str, ...] = ()
    again: tuple[str, ...] = ()


def course(then: JsonObject, now: JsonObject, steps_done: Mapping[str, int]) -> Course:
    """How a run of the recipe `then` goes on as `now`; `steps_done` of every stage that has begun.

    ConfigError for a change that no begun stage can go on with.
    """
    stages = {stage["name"]: stage for stage in now["stages"]}
    before = {stage["name"]: stage for stage in then["stages"]}
    _check(then, now, steps_done)
    goes_on, again = [], []
    reads_anew = {name for name in stages if name not in steps_done}
    for name, stage in stages.items():
        if name not in steps_done:
            continue
        changed = stage != before.get(name)
        if sources(stage, now["stages"]) & reads_anew or (changed and stage["kind"] in BEGUN_AGAIN):
            again.append(name)
        elif changed:
            goes_on.append(name)
        if name in (*goes_on, *again):
            reads_anew.add(name)
    on_one_side = tuple(f"stages.{name}." for name in before.keys() ^ stages.keys())
    lines = [line for line in difference(then, now) if not line.startswith(on_one_side)]
    return Course(tuple(lines), tuple(goes_on), tuple(again))


def sources(stage: JsonObject, stages: Sequence[JsonObject] = ()) -> set[str]:
    """The stages that a stage starts from or reads; of a list of all, also those that it measures by default.
    """
    read = stage.get("samples")  # a number in other kinds of stages
    named = {stage.get("from"), stage.get("start"), *(read if isinstance(read, list) else ())} - {None}
    for key in ("replay", "models"):
        named |= set(stage.get(key, ()))
    if stages and stage["kind"] == "eval" and not stage.get("models"):
        names = [other["name"] for other in stages]
        named |= set(names[: names.index(stage["name"])])
    return named


def _check(then: JsonObject, now: JsonObject, steps_done: Mapping[str, int]) -> None:
    before = {stage["name"]: stage for stage in then["stages"]}
    stages = {stage["name"]: stage for stage in now["stages"]}
    wrong = []
    for key in ("name", "seed"):
        wrong += difference(_only(then, key), _only(now, key))
    for name, done in steps_done.items():
        if name not in stages:
            if before[name]["kind"] not in BEGUN_AGAIN:
                wrong.append(f"stages.{name}: has begun, and the recipe now has no such stage")
            continue
        stage = stages[name]
        if stage["kind"] not in BEGUN_AGAIN:
            lines = difference(_kept(before.get(name, {})), _kept(stage))
            wrong += [f"stages.{name}.{line}" for line in lines]
        if stage.get("steps", done) < done:
            wrong.append(f"stages.{name}.steps: has done {done}, the recipe now has {stage['steps']}")
        model = stage.get("model")
        lines = difference(_only(then["models"], model), _only(now["models"], model))
        wrong += [f"models.{line}" for line in lines]
    if wrong:
        raise ConfigError(
            "\n  ".join(["this run can't go on so:", *dict.fromkeys(wrong)])
            + f"\nof a stage that has begun, {', '.join(OF_A_STAGE)} may change, and of the run "
            f"{', '.join(OF_A_RUN)}; for the rest use another --out, with --from this run"
        )


def another(root: Path, changes: Sequence[str]) -> ConfigError:
    """For a run directory that began with another recipe."""
    return ConfigError(
        "\n  ".join([f"{root} holds a run of another recipe:", *changes])
        + "\nuse another --out, or restore the recipe to go on with this run; for more steps, other "
        "threads, another device or [mesh] without the same bits: --continue"
    )


def _kept(stage: JsonObject) -> JsonObject:
    """What may not change of a stage that has begun."""
    return {key: value for key, value in stage.items() if key not in OF_A_STAGE}


def _only(table: JsonObject, key: str | None) -> JsonObject:
    return {key: table[key]} if key in table else {}


def is_of(event: JsonObject, stages: Collection[str]) -> bool:
    """Whether an event is about one of the stages, or says where and under which recipe all that follow ran.
    """
    return event.get("stage") in stages or event["kind"] in ("continue", "machine")
