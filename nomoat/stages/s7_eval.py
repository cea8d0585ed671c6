"""Stage 7: what each model of the run can do, measured on text and problems that no stage trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from nomoat.config import ConfigError, Count, DataError, Whole
from nomoat.data import ngram
from nomoat.evals import talk
from nomoat.evals.bits import bits_per_byte, held_out, window
from nomoat.evals.problems import Answered, Candidate, constants, mean_accuracy, scores
from nomoat.model import counts
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import release_memory
from nomoat.report.scores import measurable, unmeasured
from nomoat.rl.reward import Group
from nomoat.rl.rollout import Exercise, exercises
from nomoat.stages import estimate, footprint, inputs
from nomoat.stages.models import load_model, load_tokenizer, to_device
from nomoat.stages.recipe import Fields, Recipe, SomeTasks, StageConfig
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session, Work, count

THINKING = {None: "", True: ", thinking", False: ", not thinking"}  # how the scores call a model
Held = Mapping[str, list[str]]  # language -> texts


class Config(StageConfig):
    """`models` are the stages whose weights are measured, by default every earlier one that left some.  What
    was measured before, of weights that have not changed since, is not measured again.

    `problems` are drawn per family and level; each is answered once greedily, `samples` times at temperature
    1.
    `talk` questions of small talk are asked greedily as the first turn and as a later one, and `turns`
    problems per family as the first, second and fourth; with `common`, small talk and facts that any chat
    model may be asked.
    `think` opens (true) or skips (false) the thinking for the model; its name in the scores then says so.
    """

    models: list[str] = []
    tasks: SomeTasks
    problems: Count = 50
    samples: Count = 4
    talk: Whole = 0
    turns: Whole = 0
    common: bool = False
    max_new_tokens: Count = 96
    think: bool | None = None
    precision: Literal["bf16", "fp32"] = "fp32"  # of answers, see problems.Candidate
    ngram_orders: list[Annotated[int, Field(ge=1, le=ngram.MAX_ORDER)]] = [5, 6]
    heldout_bytes: Whole | None = None

    @property
    def n_problems(self) -> int:
        return self.problems * sum(len(levels) for levels in self.tasks.values())

    @property
    def n_turns(self) -> int:
        """Problems that are asked in several turns."""
        return min(self.turns * len(self.tasks), self.n_problems)


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    return session.lead(lambda own: _run(own, config, recipe))


def _run(session: Session, config: Config, recipe: Recipe) -> Fields:
    held = held_out(config.heldout_bytes)
    models = measurable(session.run, config.name)
    if not models:
        raise DataError("nothing to measure: no stage of this run has left weights yet")
    kind = "means" if config.think is None else "controls"
    means = {}
    if before := session.run.finished(config.name):
        means |= before["outputs"][kind]
    else:
        for order in config.ngram_orders:
            log_ngram_bits(session, inputs.text_of(recipe, config), order, held)
    asked = exercises(config.tasks, config.n_problems, recipe.key("eval"), "eval")
    if not before:
        for fields in constants(asked):
            session.log("constant", **fields)
    for name in unmeasured(session.run, config.name):
        session.check_stop()
        label = name + THINKING[config.think]
        means[label] = measure(session, config, name, label, held, asked, recipe.key("eval", "sample"))
        release_memory()
    bought = ", ".join(f"{name} {100 * mean:.0f} %" for name, mean in means.items())
    return {kind: means, "measured": models, "bought": bought}


def measure(
    session: Session,
    config: Config,
    name: str,
    label: str,
    held: Held,
    asked: Sequence[Exercise],
    seed: int,
) -> float:
    """Logs what one model scores, as `label`; its mean accuracy.  It is gone when the next one comes."""
    tokenizer = load_tokenizer(session.run)
    model = to_device(load_model(session, name), session, "fp32").eval()
    log_bits(session, label, model, tokenizer, held)
    candidate = Candidate(model, tokenizer, config.max_new_tokens, config.think, precision=config.precision)
    with Work(session, f"problems for {label}") as work:
        answered = candidate.both(work, asked, config.samples, seed)
        said = conversation(work, candidate, config, answered[: config.n_turns], seed)
    log_samples(session, label, answered)
    log_scores(session, label, answered)
    log_conversation(session, label, said)
    return mean_accuracy(answered)


def log_ngram_bits(session: Session, reader: inputs.ReadsText, order: int, held: Held) -> None:
    """Bits per byte of an n-gram model of what the recipe's pretraining reads: a fair comparison."""
    name = f"{order}-gram"
    with Work(session, name):
        read = (document.text for document in inputs.text(session, reader))
        model = ngram.train("\n".join(read).encode(), order)
        for lang, texts in held.items():
            value = ngram.bits_per_byte(model, "\n".join(texts).encode())
            session.log("score", name=f"bpb/{lang}", model=name, value=value)


def log_bits(session: Session, name: str, model: Transformer, tokenizer: Tokenizer, held: Held) -> None:
    with Work(session, f"bits per byte of {name}") as work:
        for lang, texts in held.items():
            n_tokens, n_bytes = (
                sum(map(len, tokenizer.encode_batch(texts))),
                sum(len(t.encode()) for t in texts),
            )
            count(work, model, n_tokens, window(model.spec) / 2)
            value = bits_per_byte(model, tokenizer, texts)
            session.log("score", name=f"bpb/{lang}", model=name, value=value, n=n_bytes)


def log_samples(session: Session, name: str, answered: Sequence[Answered]) -> None:
    """The first greedy answer of each family, for the report."""
    first = {}
    for a in answered:
        first.setdefault(a.exercise.family, a)
    for family, a in first.items():
        session.log(
            "sample",
            model=name,
            family=family,
            level=a.exercise.level,
            lang=a.exercise.problem.facts.get("lang"),
            prompt=a.exercise.problem.prompt,
            reply=a.greedy.rollout.text,
            right=a.greedy.score.strict,
            lenient=a.greedy.score.lenient,
        )


def log_scores(session: Session, name: str, answered: Sequence[Answered]) -> None:
    for fields in scores(name, answered):
        session.log("score", **fields)


def conversation(
    work: Work, candidate: Candidate, config: Config, first: Sequence[Answered], seed: int
) -> dict[str, list[Group]]:
    """Greedy answers to small talk, and to the same problems in several turns; the first turn's are given."""
    said = {}
    if config.talk:
        questions = talk.questions(config.tasks, config.talk, seed)
        said = {f"talk/{how}": asked for how, asked in questions.items()}
    if first:
        exercises = [a.exercise for a in first]
        behind = {n: talk.at_turn(exercises, n, config.tasks, seed) for n in talk.TURNS}
        said |= {f"turn/{n}": asked for n, asked in behind.items() if n > 1}
    answers = {
        name: candidate.answers(work, asked, samples=1, seed=seed, greedy=True)
        for name, asked in said.items()
    }
    if config.common:
        short = replace(candidate, max_new_tokens=talk.COMMON_TOKENS)
        for what, asked in talk.common().items():
            name = f"common/{what}"
            answers[name] = short.answers(work, asked, samples=1, seed=seed, greedy=True)
    if first:
        answers["turn/1"] = [(a.greedy,) for a in first]
    return answers


def log_conversation(session: Session, name: str, said: Mapping[str, Sequence[Group]]) -> None:
    """How many were answered well, which topics and families were not, and the first reply to small talk."""
    for what, groups in said.items():
        missed = {place: f"{wrong} of {n}" for place, wrong, n in talk.missed(groups)}
        session.log("score", **talk.score(what, name, groups), missed=missed)
    for (judged,) in said.get(f"talk/{talk.FREE}", ())[:1]:
        log_samples(session, name, [Answered(judged.rollout.exercise, judged, ())])


def asked(config: Config, spec: Spec) -> float:
    rows = config.n_problems * config.samples
    return footprint.asking(spec, rows, config.max_new_tokens, config.precision)


def plan(config: Config, recipe: Recipe) -> Fields:
    n_talk = talk.n_questions(config.talk) + 2 * config.n_turns  # answers, most behind other turns
    n_talk += talk.n_common() if config.common else 0
    answers = config.n_problems * (1 + config.samples) + n_talk
    names = config.models or [s.name for s in recipe.stages if s.leaves_weights]
    specs = []
    for name in names:
        stage = recipe.stage(name)
        if not stage.leaves_weights:
            raise ConfigError(f"`{config.name}.models` names {name}, which leaves no weights; leave it out")
        specs.append(recipe.shape(stage))
    prompt, answer = estimate.lengths(config.tasks, config.think, config.max_new_tokens)
    written = answers * answer
    read = (2 * config.n_problems + (1 + estimate.EARLIER) * n_talk) * prompt
    text = estimate.text_bytes("heldout", config.heldout_bytes) / estimate.PROSE_BYTES_PER_TOKEN
    n_read = 0
    if config.ngram_orders:
        n_read = estimate.text_bytes("train", inputs.text_of(recipe, config).text_bytes)
    flops = scored = 0.0
    for spec in specs:
        flops += counts.flops_forward(spec, prompt + answer / 2)
        scored += text * counts.flops_forward(spec, window(spec) / 2)
    return {
        "tokens": round(len(specs) * (written + read + text)),
        "flops": (written + read) * flops + scored,
        "sampled": (written + read / 2) * flops,
        "scored": scored,
        "host": estimate.counting(len(config.ngram_orders), n_read),
        "host_bytes": estimate.held("ngrams", n_read),
        "answers": len(specs) * answers,
        **({"memory_bytes": max(asked(config, spec) for spec in specs)} if recipe.given else {}),
    }
