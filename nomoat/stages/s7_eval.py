"""Stage 7: what each model of the run can do, measured on text and problems that no stage trained on."""

from collections.abc import Iterator, Sequence
from typing import Any

from nomoat import stats
from nomoat.config import DataError
from nomoat.data import documents, ngram, sources
from nomoat.evals.bits import bits_per_byte, held_out
from nomoat.model import counts
from nomoat.model.transformer import Transformer
from nomoat.rl import reward
from nomoat.rl.rollout import account, exercises, sample
from nomoat.stages import estimate
from nomoat.stages.models import load_model, load_tokenizer, to_device
from nomoat.stages.recipe import LEAVE_WEIGHTS, Recipe, StageConfig
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session, Work, count


class Config(StageConfig):
    """`models` are the stages whose weights are measured, by default every one that left some.

    `problems` are drawn per family and level; each is answered once greedily and `samples` times at temperature 1.
    `think` opens (true) or skips (false) the thinking for the model, and its name in the scores then says so.
    """

    models: list[str] = []
    tasks: dict[str, list[int]]
    problems: int = 50
    samples: int = 4
    max_new_tokens: int = 96
    think: bool | None = None
    ngram_orders: list[int] = [5, 6]
    heldout_bytes: int | None = None


def run(session: Session, config: Config, recipe: Recipe) -> dict[str, Any]:
    tokenizer = load_tokenizer(session.run)
    held = held_out(config.heldout_bytes)
    for order in config.ngram_orders:
        with Work(session, f"{order}-gram"):
            model = ngram.train("\n".join(training_text(recipe)).encode(), order)
            for lang, texts in held.items():
                value = ngram.bits_per_byte(model, "\n".join(texts).encode())
                session.log("score", name=f"bpb/{lang}", model=f"{order}-gram", value=value)
    names = config.models or list(session.run.all_weights())
    if not names:
        raise DataError("nothing to measure: no stage of this run has left weights yet")
    means = {}
    for name in dict.fromkeys(names):
        session.check_stop()
        model = to_device(load_model(session, name), session, "fp32").eval()
        label = name + {None: "", True: ", thinking", False: ", not thinking"}[config.think]
        means[label] = measure(session, config, recipe, label, model, tokenizer, held)
    bought = ", ".join(f"{name} {100 * mean:.0f} %" for name, mean in means.items())
    return {"means" if config.think is None else "controls": means, "bought": bought}


def training_text(recipe: Recipe) -> Iterator[str]:
    """What the recipe's pretraining reads, so that the n-gram rows are a fair comparison."""
    config = next((s for s in recipe.stages if s.kind == "pretrain"), None)
    found = documents.text(config.text, config.text_bytes, config.hub) if config else sources.shipped("train")
    return (d.text for d in found)


def measure(
    session: Session, config: Config, recipe: Recipe, name: str, model: Transformer, tokenizer: Tokenizer,
    held: dict[str, list[str]],
) -> float:  # fmt: skip
    """Logs every score of one model; gives its mean sampled accuracy over families."""
    spec = model.spec
    with Work(session, f"bits per byte of {name}") as work:
        for lang, texts in held.items():
            count(work, model, sum(map(len, tokenizer.encode_batch(texts))), spec.context / 2)
            value = bits_per_byte(model, tokenizer, texts)
            session.log("score", name=f"bpb/{lang}", model=name, value=value, n=sum(len(t.encode()) for t in texts))
    with Work(session, f"problems for {name}") as work:
        n = config.problems * sum(len(levels) for levels in config.tasks.values())
        drawn = list(documents.problems(config.tasks, n, recipe.key("eval"), split="eval"))
        marks = {}
        for how, samples in (("greedy", 1), ("sampled", config.samples)):
            groups = sample(
                model, tokenizer, exercises(drawn), group=samples, max_new_tokens=config.max_new_tokens, greedy=how == "greedy",
                seed=recipe.key("eval", "sample"), think=config.think, max_rows=1024,
            )  # fmt: skip
            account(work, model, groups)
            marks[how] = [([j.rollout for j in g], [j.score for j in g]) for g in reward.judge(groups)]
    for family in dict.fromkeys(f for f, _, _ in drawn):  # one answer of each family for the report
        i = next(i for i, entry in enumerate(drawn) if entry[0] == family)
        rollout, mark = marks["greedy"][i][0][0], marks["greedy"][i][1][0]
        session.log("sample", model=name, family=family, level=drawn[i][1], prompt=drawn[i][2].prompt,
                    reply=rollout.text, right=mark.strict, lenient=mark.lenient)  # fmt: skip
    return log_scores(session, name, drawn, marks, config.samples)


def log_scores(session: Session, name: str, drawn: Sequence, marks: dict[str, list], samples: int) -> float:
    by_cell: dict[tuple[str, int], list[int]] = {}
    for i, (family, level, _) in enumerate(drawn):
        by_cell.setdefault((family, level), []).append(i)
    by_family: dict[str, list[float]] = {}
    for (family, level), where in sorted(by_cell.items()):
        greedy = [marks["greedy"][i][1][0] for i in where]
        right = sum(s.strict for s in greedy)
        low, high = stats.wilson(right, len(where))
        fields = {"model": name, "family": family, "level": level, "n": len(where)}
        session.log("score", name="accuracy/greedy", value=right / len(where), low=low, high=high,
                    lenient=sum(s.lenient for s in greedy) / len(where), **fields)  # fmt: skip
        counts = [sum(s.strict for s in marks["sampled"][i][1]) for i in where]
        rates = [c / samples for c in counts]
        low, high = stats.bootstrap(rates, key=f"{family}/{level}")
        lenient = sum(s.lenient for i in where for s in marks["sampled"][i][1]) / samples / len(where)
        lengths = [r.length for i in where for r in marks["sampled"][i][0]]
        session.log("score", name="accuracy/sampled", value=sum(rates) / len(rates), low=low, high=high, lenient=lenient,
                    length=sum(lengths) / len(lengths), **fields)  # fmt: skip
        passed = sum(stats.pass_at_k(samples, c, samples) for c in counts) / len(counts)
        session.log("score", name=f"pass@{samples}", value=passed, **fields)
        by_family.setdefault(family, []).extend(rates)
    return sum(sum(r) / len(r) for r in by_family.values()) / len(by_family)


def plan(config: Config, recipe: Recipe) -> dict[str, Any]:
    n = config.problems * sum(len(levels) for levels in config.tasks.values())
    names = config.models or [s.name for s in recipe.stages if s.kind in LEAVE_WEIGHTS]
    specs = [recipe.shape(recipe.stage(name)) for name in names]
    prompt, answer = estimate.lengths(config.tasks, config.think, config.max_new_tokens)
    said, read = n * (1 + config.samples) * answer, 2 * n * prompt
    text = estimate.text_bytes("heldout", config.heldout_bytes) / estimate.PROSE_BYTES_PER_TOKEN
    flops = sum(counts.flops_forward(spec, prompt + answer / 2) for spec in specs)
    scored = text * sum(counts.flops_forward(spec, spec.context / 2) for spec in specs)
    return {
        "tokens": round(len(specs) * (said + read + text)),
        "flops": (said + read) * flops + scored,
        "sampled": said * flops + (read * flops + scored) / 2,
        "answers": len(specs) * n * (1 + config.samples),
    }
