"""Stage 6: a smaller dense student learns from the RL model, in the end on what the student itself writes.

First the student reads worked problems and prose and matches the teacher's whole distribution at every
trained token: forward KL(p_T || p_S), which covers what the teacher does.  In the last `policy_steps` it
writes answers itself and the teacher judges every token of them: reverse KL(p_S || p_T), which drops what the
teacher would not do (on-policy distillation, arXiv 2306.13649, section 3).  The common tokenizer makes both
exact over the whole vocabulary.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import model_validator
from torch import Tensor

from nomoat.config import ConfigError, Count, Share, Whole
from nomoat.data.packing import Batch
from nomoat.model import counts
from nomoat.model.loss import IGNORED, divergence
from nomoat.model.spans import Spans
from nomoat.model.spec import Kernels, Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import ALONE, Mesh
from nomoat.rl import exchange, reward, rollout
from nomoat.rl.curriculum import Curriculum
from nomoat.rl.reward import Group
from nomoat.rl.rows import hidden_at, lay, passes
from nomoat.stages import estimate, fit
from nomoat.stages.begin import Start, Values, build, frozen, new
from nomoat.stages.models import dtype_of, load_tokenizer, new_spec, save_model, stored
from nomoat.stages.recipe import Fields, Recipe, Tasks
from nomoat.stats import mean
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.loop import Gradient, train
from nomoat.train.microbatches import microbatches
from nomoat.train.objective import document_mask, n_rows
from nomoat.train.optim import Optimizer
from nomoat.train.session import Session
from nomoat.train.whole import Follower


class Config(fit.Config):
    """As pretraining, of another `model`; the last `policy_steps` are `prompts` x `group` answers of the
    student's own."""

    model: str = "student"
    start: str | None = None  # the earlier stage whose weights the student starts from
    inherit: bool = (
        True  # without it, start from a part of the teacher's layers, see below; else from random weights
    )
    policy_steps: Whole = 50
    policy_tasks: Tasks = {}
    prompts: Count = 32
    group: Count = 4
    max_new_tokens: Count = 96
    policy_think: bool | None = None
    behind: Share = 0.0  # of the policy's problems, behind earlier turns

    @model_validator(mode="after")
    def _without_replay(self):
        if self.replay:
            raise ValueError(
                f"`replay` = {self.replay}, and a student has replied to nothing yet; leave it out"
            )
        return self


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    tokenizer = load_tokenizer(session.run)
    taught = stored(session, config.source)
    teacher = frozen(session, taught, config.precision)
    start = first_student(session, config, recipe, taught, tokenizer)
    student, _ = build(session, start, config.precision, fit.learns(config, recipe))
    optimizer = Optimizer(student, config.optim, session.mesh)
    dtype = dtype_of(session, config.precision)
    follower = Follower(student, optimizer, dtype) if session.mesh.dense else None
    n_read = config.steps - config.policy_steps
    say_all(session, config)
    data = fit.prepare(session, config, recipe, tokenizer) if n_read > 0 else None
    asked = config.policy_tasks or config.tasks
    problems = Curriculum(asked, behind=config.behind)
    pair = Pair(student, teacher)
    mesh = session.mesh

    def compute(step: int) -> Gradient:
        if step < n_read:
            return imitate(pair, microbatches(fit.rows_at(config, data, step), mesh), mesh)
        if follower:
            follower.renew()
        writer = follower.model if follower else student
        return practise(pair, writer, mesh, config, tokenizer, problems, recipe.key(config.name, step))

    train(session, student, optimizer, config.schedule, config.steps, compute, problems.success)
    outputs = save_model(session, student, optimizer, tokenizer, start_of(config, recipe))
    share = counts.params_active(student.spec) / counts.params_active(teacher.spec)
    return {**outputs, "bought": f"a student of {100 * share:.0f} % of the active parameters"}


def say_all(session: Session, config: Config) -> None:
    """Into the log, where the student's own answers are asked for more steps than there are."""
    if session.leads and config.policy_steps > config.steps:
        session.log("note", text=f"policy_steps = {config.policy_steps:,} of {config.steps:,} steps: all")


def first_student(
    session: Session, config: Config, recipe: Recipe, teacher: Start, tokenizer: Tokenizer
) -> Start:
    if start := start_of(config, recipe):
        return stored(session, start)
    shape = {"stretch": teacher.spec.stretch, "context": teacher.spec.context}
    spec = recipe.model(config.model)
    if spec.vocab_size != teacher.spec.vocab_size:
        spec = new_spec(session, spec, tokenizer)
    spec = spec.model_copy(update=shape)
    student = new(spec, recipe.kernels, recipe.key(config.name, "weights"))
    return inherit(student, teacher) if config.inherit else student


def start_of(config: Config, recipe: Recipe) -> str | None:
    """The stage whose weights the student starts from: as the stage says, or the one that takes in a student
    that is given."""
    taken_in = (s.name for s in recipe.stages if s.kind == "import" and s.model == config.model)
    return config.start or next(taken_in, None)


def inherit(student: Start, teacher: Start) -> Start:
    """The student, but layers spread over the teacher's depth lend their attention and norms (arXiv
    1910.01108, section 3), and as much of their dense or shared feed-forward as fits; the embedding is the
    teacher's, and so is the head unless it is tied.
    """
    check_heir(student.spec, teacher.spec)
    with torch.device("meta"):
        heirs, lenders = Transformer(student.spec), Transformer(teacher.spec)
    shapes = {name: parameter.shape for name, parameter in lenders.named_parameters()}
    lender_of = {name: _lender(name, student.spec, teacher.spec) for name, _ in heirs.named_parameters()}

    @torch.no_grad()
    def fill(tensors: Mapping[str, Tensor]) -> None:
        student.fill(tensors)
        theirs = {own: lender_of[own] for own in tensors if lender_of.get(own) in shapes}
        lent = {name: torch.empty(shapes[name]) for name in theirs.values()}
        teacher.fill(lent)
        for own, name in theirs.items():
            lend(lent[name], tensors[own], own)

    return Values(student.spec, fill)


def _lender(name: str, student: Spec, teacher: Spec) -> str | None:
    """Which of the teacher's parameters one of the student's begins as."""
    place, _, own = name.partition(".")
    if place != "blocks":
        return name if place in ("embed", "norm", "head") else None
    number, _, rest = own.partition(".")
    heir, n_heirs = int(number), student.n_layers
    lender = round(heir * (teacher.n_layers - 1) / max(n_heirs - 1, 1))
    if not rest.startswith("ffn."):
        return f"blocks.{lender}.{rest}"
    if student.is_moe(heir):
        return None
    if teacher.is_moe(lender):
        rest = rest.replace("ffn.", "ffn.shared.")
    return f"blocks.{lender}.{rest}"


def check_heir(student: Spec, teacher: Spec) -> None:
    """ConfigError for a student that can't take over layers of the teacher's."""
    for name in ("d_model", "attention", "vocab_size"):
        ours, wanted = getattr(student, name), getattr(teacher, name)
        if ours != wanted:
            raise ConfigError(
                f"the student's {name} = {ours} and the teacher's is {wanted}; a student that inherits needs "
                "the same attention: make them equal, or set inherit = false"
            )


def lend(lender: Tensor, borrower: Tensor, name: str) -> None:
    """As many numbers as both have: of a feed-forward, of gate and up each."""
    parts = 2 if name.endswith(".w_gate_up.weight") else 1
    for ours, theirs in zip(borrower.chunk(parts), lender.chunk(parts)):
        both = tuple(slice(min(sizes)) for sizes in zip(ours.shape, theirs.shape))
        ours[both] = theirs[both]


@dataclass(frozen=True)
class Pair:
    """The student and who teaches it."""

    student: Transformer
    teacher: Transformer

    def match(
        self,
        ids_BT: Tensor,
        pos_BT: Tensor | None,
        mask: Tensor | Spans,
        columns_M: Tensor,
        *,
        reverse: bool,
        weight: float = 1.0,
    ) -> float:
        """Backward pass of the mean divergence at the flattened columns; gives its value in nats times
        weight."""
        student, teacher, device = self.student, self.teacher, self.student.device
        inputs = ids_BT.to(device), pos_BT, mask.to(device)
        columns_M = columns_M.to(device)
        with torch.no_grad():
            teacher_MD = hidden_at(teacher, *inputs, columns_M)
        student_MD = hidden_at(student, *inputs, columns_M)
        loss = weight * divergence(
            student_MD, student.head.weight, teacher_MD, teacher.head.weight, reverse=reverse
        )
        loss.backward()
        return float(loss.detach())

    def flops(self, attended: float, kernels: Kernels | None = None) -> float:
        """Of one token, which the student learns from and the teacher judges."""
        learned = counts.flops_train(self.student.spec, attended, kernels)
        return learned + counts.flops_forward(self.teacher.spec, attended, kernels)


def imitate(pair: Pair, batches: Sequence[Batch], mesh: Mesh = ALONE) -> Gradient:
    """Forward KL on packed documents, of which each rank has its own."""
    trained = [(batch.targets_BT.flatten() != IGNORED).nonzero()[:, 0] for batch in batches]
    (n_trained,) = mesh.sums(float(sum(map(len, trained))))
    loss = 0.0
    for batch, trained_M in zip(batches, trained):
        mask, weight = document_mask(batch.doc_BT), len(trained_M) / max(n_trained, 1.0)
        loss += pair.match(batch.ids_BT, None, mask, trained_M, reverse=False, weight=weight)
    (loss,) = mesh.sums(loss)
    T = batches[0].ids_BT.shape[1]
    tokens = sum(n_rows(batch) * T for batch in batches)
    return Gradient(
        loss=loss,
        tokens=tokens,
        flops_model=tokens * pair.flops((T + 1) / 2),
        flops_executed=tokens * pair.flops(T, pair.student.kernels),
        telemetry={"trained_tokens": int(n_trained)},
    )


def practise(
    pair: Pair,
    writer: Transformer,
    mesh: Mesh,
    config: Config,
    tokenizer: Tokenizer,
    problems: Curriculum,
    key: int,
) -> Gradient:
    """Reverse KL on the student's own answers; `writer` is the student in one piece."""
    start = time.perf_counter()
    exercises = problems.draw(key, config.prompts)

    def work(own: range) -> list[Group]:
        rollouts = rollout.sample(
            writer,
            tokenizer,
            [exercises[i] for i in own],
            group=config.group,
            max_new_tokens=config.max_new_tokens,
            seed=key,
            keys=own,
            think=config.policy_think,
        )
        return reward.judge(rollouts)

    drawn = exchange.draw(mesh, exercises, work)
    sampled = time.perf_counter()
    problems.learn(drawn.groups)
    loss, tokens, attended = match_answers(pair, drawn.groups, mesh)
    answers = reward.flat(drawn.groups)
    return Gradient(
        loss=loss,
        tokens=tokens,
        flops_model=tokens * pair.flops(attended / 2),
        flops_executed=tokens * pair.flops(attended, pair.student.kernels),
        telemetry={
            "reward": mean(judged.reward for judged in answers),
            "length": mean(judged.rollout.length for judged in answers),
            "sample_seconds": sampled - start,
            "idle_share": exchange.idle_share([drawn]),
            "update_seconds": time.perf_counter() - sampled,
        },
    )


def match_answers(pair: Pair, groups: Sequence[Group], mesh: Mesh = ALONE) -> tuple[float, int, float]:
    """Backward passes over this rank's share of the sampled tokens; (loss of all, its columns computed, mean
    columns that each attended to)."""
    n_targets = sum(judged.rollout.length for judged in reward.flat(groups))
    loss = 0.0
    tokens = attended = 0
    for chunk in passes(pair.student, groups, mesh):
        columns = lay(chunk, pair.student.device)
        weight = len(columns.source_M) / n_targets
        inputs = columns.ids_BT, columns.pos_BT, columns.spans, columns.source_M
        loss += pair.match(*inputs, reverse=True, weight=weight)
        tokens += columns.ids_BT.shape[1]
        attended += columns.spans.n_scores
    (loss,) = mesh.sums(loss)
    return loss, tokens, attended / tokens


def plan(config: Config, recipe: Recipe) -> Fields:
    student = recipe.shape(config)
    teacher = recipe.shape(recipe.stage(config.source))
    if config.inherit and not start_of(config, recipe):
        check_heir(student, teacher)
    n_prompts = min(config.policy_steps, config.steps) * config.prompts
    reading = config.model_copy(update={"steps": max(config.steps - config.policy_steps, 0)})
    read = fit.plan(reading, recipe)
    tasks = config.policy_tasks or config.tasks
    prompt, answer = estimate.lengths(tasks, config.policy_think, config.max_new_tokens)
    prompt += config.behind * estimate.EARLIER * prompt

    attended = prompt + answer / 2
    written = n_prompts * (prompt + config.group * answer)
    matched = counts.flops_train(student, attended)
    matched += counts.flops_forward(teacher, attended)
    judged = written * matched
    taught = read["tokens"] * counts.flops_forward(teacher, config.context / 2)
    optimized = min(config.policy_steps, config.steps) * estimate.newton_schulz(student, config.optim)
    answers = n_prompts * config.group * answer
    drawn = answers * counts.flops_forward(student, attended)
    return read | {
        "tokens": read["tokens"] + round(written),
        "flops": read["flops"] + taught + judged,
        "trained": read["trained"] + taught,
        "sampled": drawn,
        "learned": judged + optimized,
        "host": read["host"] if config.steps > config.policy_steps else estimate.saving(),
    }
