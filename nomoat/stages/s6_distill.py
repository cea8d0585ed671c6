"""Stage 6: a smaller dense student learns from the RL model, in the end on what the student itself writes.

First the student reads worked problems and prose and matches the teacher's whole distribution at every trained token:
forward KL(p_T || p_S), which covers what the teacher does.  In the last `policy_steps` it writes answers itself and the
teacher judges every token of them: reverse KL(p_S || p_T), which drops what the teacher would not do (on-policy
distillation, arXiv 2306.13649, section 3).  The common tokenizer makes both exact over the whole vocabulary.
"""

import time
from typing import Any

import torch
from torch import Tensor

from nomoat.config import ConfigError
from nomoat.data.packing import Packed
from nomoat.model import counts
from nomoat.model.loss import IGNORED, divergence
from nomoat.model.moe import Experts, SwiGLU
from nomoat.model.spec import Kernels
from nomoat.model.transformer import Transformer
from nomoat.rl import curriculum, grpo, reward
from nomoat.rl.rollout import sample_groups
from nomoat.stages import estimate, fit
from nomoat.stages.models import load_model, load_tokenizer, save_model, to_device
from nomoat.stages.recipe import Recipe
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.loop import Gradient, train
from nomoat.train.objective import document_mask
from nomoat.train.optim import Optimizer
from nomoat.train.session import Session


class Config(fit.Config):
    """As pretraining, of another `model`; the last `policy_steps` are `prompts` x `group` answers of the student's own."""

    model: str = "student"
    start: str | None = None  # the earlier stage whose weights the student starts from
    inherit: bool = True  # without it, start from a part of the teacher's layers, see below; else from random weights
    policy_steps: int = 50
    policy_tasks: dict[str, list[int]] = {}
    prompts: int = 32
    group: int = 4
    max_new_tokens: int = 96
    policy_think: bool | None = None


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    teacher = to_device(load_model(session, config.source), session, config.precision).eval().requires_grad_(False)
    if config.start:
        student = load_model(session, config.start)
    else:
        spec = recipe.model(config.model).model_copy(update={"yarn": teacher.spec.yarn, "context": teacher.spec.context})
        student = Transformer(spec, recipe.kernels).initialise(recipe.key(config.name, "weights"))
        if config.inherit:
            inherit(student, teacher)
    student = to_device(student, session, config.precision)
    optimizer = Optimizer(student, config.optim)
    data = fit.prepare(session, config, recipe, tokenizer) if config.policy_steps < config.steps else None
    problems = curriculum.Choice(config.policy_tasks or config.tasks, config.prompts)

    def compute(step: int) -> Gradient:
        if step < config.steps - config.policy_steps:
            return imitate(session, config, student, teacher, data, step)
        return practise(session, config, student, teacher, tokenizer, problems, recipe.key(config.name, step))

    train(session, student, optimizer, config.schedule, config.steps, compute, problems.success)
    outputs = save_model(session, student, optimizer, tokenizer)
    share = counts.params_active(student.spec) / counts.params_active(teacher.spec)
    return {**outputs, "bought": f"a student of {100 * share:.0f} % of the active parameters"}


@torch.no_grad()
def inherit(student: Transformer, teacher: Transformer) -> None:
    """Layers spread over the teacher's depth lend their attention and norms (arXiv 1910.01108, section 3), and as much of
    their dense or shared feed-forward as fits; the embedding is the teacher's, and so is the head unless it is tied."""
    for name in ("d_model", "attention", "vocab_size"):
        if getattr(student.spec, name) != getattr(teacher.spec, name):
            raise ConfigError(
                f"the student's {name} = {getattr(student.spec, name)} and the teacher's is {getattr(teacher.spec, name)}; "
                "a student that inherits needs the same attention: make them equal, or set inherit = false"
            )
    student.embed.load_state_dict(teacher.embed.state_dict())
    student.norm.load_state_dict(teacher.norm.state_dict())
    if not student.spec.tied:
        student.head.load_state_dict(teacher.head.state_dict())
    n_layers, n_lenders = len(student.blocks), len(teacher.blocks)
    for i, block in enumerate(student.blocks):
        lender = teacher.blocks[round(i * (n_lenders - 1) / max(n_layers - 1, 1))]
        for name in ("attention", "norm_attention", "norm_ffn"):
            getattr(block, name).load_state_dict(getattr(lender, name).state_dict())
        lent = lender.ffn.shared if isinstance(lender.ffn, Experts) else lender.ffn
        if lent is not None:
            _lend(lent, block.ffn)


def _lend(lender: SwiGLU, borrower: SwiGLU) -> None:
    """As many hidden numbers as both have."""
    n = min(lender.w_down.weight.shape[1], borrower.w_down.weight.shape[1])
    for ours, theirs in zip(borrower.w_gate_up.weight.chunk(2), lender.w_gate_up.weight.chunk(2)):
        ours[:n].copy_(theirs[:n])
    borrower.w_down.weight[:, :n].copy_(lender.w_down.weight[:, :n])


def imitate(session: Session, config: Config, student: Transformer, teacher: Transformer, data: Packed, step: int) -> Gradient:
    """Forward KL on packed documents."""
    batch = fit.batch_of(session, config, data, step)
    B, T = batch.ids_BT.shape
    trained_M = (batch.targets_BT.flatten() != IGNORED).nonzero()[:, 0]
    loss = match(student, teacher, batch.ids_BT, None, document_mask(batch.doc_BT), trained_M, reverse=False)
    return _gradient(student, teacher, loss, B * T, (T + 1) / 2, T, {"trained_tokens": len(trained_M)})


def practise(
    session: Session, config: Config, student: Transformer, teacher: Transformer, tokenizer: Tokenizer,
    problems: curriculum.Choice, seed: int,
) -> Gradient:  # fmt: skip
    """Reverse KL on the student's own answers."""
    start = time.perf_counter()
    mine = problems.draw(seed)[session.mesh.rank :: session.mesh.world]
    groups = sample_groups(
        student, tokenizer, [entry[1:] for entry in mine], group=config.group, max_new_tokens=config.max_new_tokens,
        seed=seed + session.mesh.rank, think=config.policy_think,
    )  # fmt: skip
    sampled = time.perf_counter()
    rewards = [[float(s.strict) for s in group] for group in reward.scores(groups, tokenizer)]
    problems.learn(session.mesh, [place for place, *_ in mine], rewards)
    rows = grpo.pack(groups)
    loss, tokens, attended = 0.0, 0, 0.0
    n_targets = sum(len(row.source_M) for row in rows)
    for chunk in grpo.chunks(rows):
        laid = grpo.lay_out(chunk, tokenizer.layout.pad_id, student.device)
        share = len(laid.source_M) / n_targets
        loss += match(student, teacher, laid.ids_BT, laid.pos_BT, laid.mask, laid.source_M, reverse=True, weight=share)
        tokens += laid.ids_BT.numel()
        attended += laid.ids_BT.numel() * laid.ids_BT.shape[1]
    flat = [r for group in rewards for r in group]
    rollouts = [r for group in groups for r in group]
    telemetry = {
        "reward": sum(flat) / len(flat), "length": sum(r.length for r in rollouts) / len(rollouts),
        "sample_seconds": sampled - start, "update_seconds": time.perf_counter() - sampled,
    }  # fmt: skip
    return _gradient(student, teacher, loss, tokens, attended / tokens / 2, attended / tokens, telemetry)


def match(
    student: Transformer, teacher: Transformer, ids_BT: Tensor, pos_BT: Tensor | None, mask: Tensor, columns_M: Tensor,
    *, reverse: bool, weight: float = 1.0,
) -> float:  # fmt: skip
    """Backward pass of the mean divergence at the flattened columns `columns_M`; gives its value in nats times weight."""
    device = student.device
    ids_BT, mask, columns_M = ids_BT.to(device), mask.to(device), columns_M.to(device)
    with torch.no_grad():
        teacher_MD = teacher.final(teacher.hidden(ids_BT, pos_BT, mask)[0]).flatten(0, 1).index_select(0, columns_M)
    student_MD = student.final(student.hidden(ids_BT, pos_BT, mask)[0]).flatten(0, 1).index_select(0, columns_M)
    loss = weight * divergence(student_MD, student.head.weight, teacher_MD, teacher.head.weight, reverse=reverse)
    loss.backward()
    return float(loss.detach())


def _gradient(
    student: Transformer, teacher: Transformer, loss: float, tokens: int, attended: float, computed: float, telemetry: dict
) -> Gradient:
    def flops(width: float, kernels: Kernels | None = None) -> float:
        return counts.flops_train(student.spec, width, kernels) + counts.flops_forward(teacher.spec, width, kernels)

    return Gradient(loss, tokens, tokens * flops(attended), tokens * flops(computed, student.kernels), telemetry)


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    student, teacher = recipe.shape(config), recipe.shape(recipe.stage(config.source))
    n = config.policy_steps * config.prompts
    read = fit.plan(config.model_copy(update={"steps": config.steps - config.policy_steps}), recipe)
    prompt, answer = estimate.lengths(config.policy_tasks or config.tasks, config.policy_think, config.max_new_tokens)
    written, attended = n * (prompt + config.group * answer), prompt + answer / 2
    judged = written * (counts.flops_train(student, attended) + counts.flops_forward(teacher, attended))
    taught = read["tokens"] * counts.flops_forward(teacher, config.context / 2)
    drawn = n * config.group * answer * counts.flops_forward(student, attended)
    return read | {
        "tokens": read["tokens"] + round(written),
        "flops": read["flops"] + taught + judged,
        "trained": read["trained"] + taught + config.policy_steps * estimate.newton_schulz(student, config.optim),
        "sampled": drawn + judged / 2,
        "host": read["host"] * (config.steps > config.policy_steps),
    }
