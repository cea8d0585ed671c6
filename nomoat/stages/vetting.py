"""What a person hands in, read before anything is trained: texts whole, questions against the context."""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nomoat.config import ConfigError, DataError
from nomoat.data import documents
from nomoat.data.readers import Document
from nomoat.evals import talk
from nomoat.run.directory import Run
from nomoat.stages import footprint, given, inputs
from nomoat.stages.inputs import ReadsText
from nomoat.stages.limits import contexts
from nomoat.stages.models import load_tokenizer
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tasks import base, find
from nomoat.tasks.base import Problem
from nomoat.tokenizer import bpe
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.tokenizer.layout import called, no_place_for_tools, render_batch, turns
from nomoat.train.session import Session

N_TRIED = 64  # problems of each level of a task that draws them; of a family of the package N_OWN
N_OWN = 8


class Asked(NamedTuple):
    """A task of a stage, at some levels, of one split."""

    family: str
    levels: list[int]
    split: str


class Vetting:
    """Questions, which are looked at once, before the first stage with a model."""

    def __init__(self, recipe: Recipe, run: Run):
        self.recipe, self.run = recipe, run
        self.asked = False

    def before(self, session: Session, config: StageConfig) -> None:
        """What a stage has to wait for: that nobody asked to stop, and that its questions fit."""
        session.check_stop()
        if not self.asked and config.kind not in ("tokenizer", "import"):
            self.asked = True
            session.mesh.lead(lambda: questions(self.recipe, self.run))


def vet_given(recipe: Recipe, run: Run | None = None) -> None:
    """UserError, before anything is loaded, for given models that can't be: by their headers, their
    tokenizers and templates, questions that leave no room for an answer, and conversations, of those that
    a file begins with, that the template doesn't take.
    """
    tokenizers = {}
    for config in recipe.stages:
        if config.kind == "import" and not (run and run.finished(config.name)):
            found = given.told(recipe.given[config.model])
            tokenizers[config.model] = given.check(config.model, found, recipe.model(config.model))
    one, *others = {tokenizer.fingerprint: name for name, tokenizer in tokenizers.items()}.values() or [None]
    if others:
        raise ConfigError(
            f"models.{one} and models.{others[0]} have different tokenizers; expected one for a recipe: a "
            "teacher and its student read the same ids; give them models of one family"
        )
    if tokenizers:
        tokenizer = next(iter(tokenizers.values()))
        questions(recipe, run, tokenizer)
        _conversations(recipe, run, tokenizer)
    for config in recipe.stages if recipe.given and recipe.device == "cpu" else ():
        if not (run and run.finished(config.name)):
            footprint.fits(recipe, config)


def _conversations(recipe: Recipe, run: Run | None, tokenizer: Tokenizer) -> None:
    """DataError for one of the first conversations of a stage's file that can't be rendered."""
    for config in recipe.stages:
        if not isinstance(config, ReadsText) or config.text is None or config.is_prepared:
            continue
        if not (run and run.finished(config.name)):
            begin = itertools.islice(config.documents(), documents.BATCH)
            deque(documents.prose([document for document in begin if document.turns], tokenizer), 0)


def texts(recipe: Recipe, run: Run | None = None, *, whole: bool = True) -> None:
    """DataError with its place for what can't be read in the texts of stages that have not begun in `run`.

    `whole`: all of a file, else, and of a data set, the first document.
    """
    begun = {event["stage"] for event in run.events("stage_start")} if run else set()
    before = {stage["name"]: stage.get("text") for stage in run.recipe["stages"]} if begun else {}
    read = []
    ours = any(config.kind == "tokenizer" for config in recipe.stages)
    for config in recipe.stages:
        if not isinstance(config, ReadsText) or not (config.text or config.hub):
            continue
        asked = config.text, config.hub, config.text_bytes
        if asked in read or (config.name in begun and before.get(config.name) == config.text):
            continue
        read.append(asked)
        n = None if whole and config.text else 1
        chosen = itertools.islice(config.documents(), n)
        if n is None and hasattr(config, "context") and ours:
            _check_replies(config, chosen)
        else:
            deque(chosen, 0)


def _check_replies(config: StageConfig, chosen: Iterator[Document]) -> None:
    """DataError where all conversations have too many words before a reply, for any tokenizer of ours, or
    one has tools.
    """
    n_late = n = 0
    for document in chosen:
        n += 1
        said = document.turns or ()
        if document.tools or called(said):
            raise DataError(f"`{config.name}`: {document.source}: {no_place_for_tools()}")
        turns_before = itertools.takewhile(lambda turn: turn.role != "assistant", said)
        n_words = sum(bpe.fewest(turn.content) for turn in turns_before)
        n_late += n_words >= config.context
    if n and n_late == n:
        raise inputs.no_reply(f"`{config.name}`: {config.text}", n, config.context)


def questions(recipe: Recipe, run: Run | None, tokenizer: Tokenizer | None = None) -> None:
    """DataError with its place for a question that leaves a model no token for its answer, in any stage to
    come; by default of the run's tokenizer.
    """
    try:
        tokenizer = tokenizer or load_tokenizer(run)
    except DataError:  # the stage that needs it says so
        return
    for config in recipe.stages:
        if (run and run.finished(config.name)) or not hasattr(config, "max_new_tokens"):
            continue
        think = getattr(config, "policy_think", getattr(config, "think", None))
        of_tasks = ((asked.family, tried(asked)) for asked in asked_of(config))
        for place, problems in (*of_tasks, *small_talk(config)):
            problems = list(problems)
            talks = [turns(problem.prompt, problem.facts) for problem in problems]
            prompts = render_batch(tokenizer, talks, generate=True, think=think)
            lengths = [len(prompt.ids) for prompt in prompts]
            for name, context in contexts(recipe, config):
                _check_room(place, dict(zip(lengths, problems)), context, f"{name} (stage {config.name})")


def room(recipe: Recipe, run: Run | None = None) -> None:
    """The same before there is a tokenizer: for a question of a file that has too many words for any."""
    if not any(config.kind == "tokenizer" for config in recipe.stages):
        return
    for config in recipe.stages:
        if (run and run.finished(config.name)) or not hasattr(config, "max_new_tokens"):
            continue
        for asked in asked_of(config):
            problems = getattr(find.find(asked.family), "listed", {}).get(asked.split, ())
            for name, context in contexts(recipe, config):
                lengths = {}
                for problem in problems:
                    if len(problem.prompt.encode()) >= context:  # no token is less than a byte
                        lengths[bpe.fewest(problem.prompt)] = problem
                _check_room(asked.family, lengths, context, f"{name} (stage {config.name})", " or more")


def apart(recipe: Recipe, run: Run | None = None) -> None:
    """DataError for a question of a file that one stage learns and another, not finished in `run`, measures.

    Of one file the split keeps them apart; another file, or the same with :test, may hold it again.
    """
    learnt: dict[str, tuple[str, Problem]] = {}
    for config in recipe.stages:
        if config.kind not in ("tokenizer", "import", "eval"):
            for problem in _listed(config, "train"):
                learnt.setdefault(_same(problem), (config.name, problem))
    for config in recipe.stages:
        if config.kind != "eval" or (run and run.finished(config.name)):
            continue
        both = [problem for problem in _listed(config, "eval") if _same(problem) in learnt]
        if both:
            stage, trained = learnt[_same(both[0])]
            raise DataError(
                f"{both[0].facts['place']}: the question {both[0].prompt[:60]!r} is measured by "
                f"{config.name} and learnt by {stage} ({trained.facts['place']}), as are {len(both):,} "
                "in all; expected questions that no stage trains on; drop them from one of the files, or "
                "name one file, without :test, in both stages"
            )


def _listed(config: StageConfig, split: str) -> Iterator[Problem]:
    """The problems of a stage's files on one side of the split."""
    for family in {**getattr(config, "tasks", {}), **getattr(config, "policy_tasks", {})}:
        yield from getattr(find.find(family), "listed", {}).get(split, ())


def _same(problem: Problem) -> str:
    """Two questions that differ in blanks and case alone are one."""
    return " ".join(problem.prompt.casefold().split())


def _check_room(
    family: str, of_length: Mapping[int, Problem], context: int, model: str, more: str = ""
) -> None:
    longest = max(of_length, default=0)
    if longest < context:
        return
    problem = of_length[longest]
    place = problem.facts.get("place", family)
    raise DataError(
        f"{place}: the question {problem.prompt[:60]!r} has {longest:,} tokens{more}, and the "
        f"context of {model} is {context:,}; expected room for an answer; drop or shorten it, or "
        "raise the context"
    )


def asked_of(config: StageConfig) -> Iterator[Asked]:
    if config.kind == "distill" and not config.policy_steps:
        return
    tasks = getattr(config, "policy_tasks", None) or config.tasks
    for family, levels in tasks.items():
        yield Asked(family, levels, "eval" if config.kind == "eval" else "train")


def small_talk(config: StageConfig) -> Iterator[tuple[str, list[Problem]]]:
    """What an evaluation asks of small talk, whatever its seed; training leaves out what doesn't fit."""
    if config.kind == "eval" and config.talk:
        free = talk.questions(config.tasks, 0, 0)[talk.FREE]
        yield f"`{config.name}.talk`", [exercise.problem for exercise in free]


def tried(asked: Asked) -> Iterator[Problem]:
    """All problems of a file, some of a task that draws them."""
    task = find.find(asked.family)
    if hasattr(task, "listed"):
        yield from task.listed[asked.split]
        return
    n = N_OWN if asked.family in find.FAMILIES else N_TRIED
    for level in asked.levels:
        stream = base.problems(task, level, split=asked.split, seed=0)
        yield from (problem for problem, _ in zip(stream, range(n)))
