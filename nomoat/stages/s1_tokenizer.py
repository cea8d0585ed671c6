"""Stage 1: a byte-level BPE tokenizer from the text that the model will see."""

from pydantic import Field

from nomoat.config import Count
from nomoat.data import documents, sources
from nomoat.stages import estimate, inputs
from nomoat.stages.recipe import Fields, Recipe, Tasks
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe
from nomoat.train.session import Session, Work


class Config(inputs.ReadsText):
    """A vocabulary of at most `vocab_size`; smaller where the text has no more pairs."""

    vocab_size: int = Field(2048, ge=bpe.SMALLEST_VOCAB, le=2**24)
    tasks: Tasks = {}
    task_documents: Count = 10_000


def run(session: Session, config: Config, recipe: Recipe) -> Fields:
    return session.lead(lambda own: _run(own, config, recipe))


def _run(session: Session, config: Config, recipe: Recipe) -> Fields:
    def texts():
        yield from (document.text for document in inputs.text(session, config))
        if config.tasks:
            for family, _, problem in documents.problems(
                config.tasks, config.task_documents, recipe.key("tokenizer")
            ):
                yield from (problem.prompt, *base.worked(find.find(family), problem))

    with Work(session, "train tokenizer"):
        tokenizer = bpe.train(texts(), config.vocab_size)
        tokenizer.save(session.directory)
    for lang in ("en", "de"):
        held = [d.text for d in sources.shipped("heldout") if d.lang == lang]
        session.log(
            "score", name=f"bytes_per_token/{lang}", value=tokenizer.bytes_per_token(held), n=len(held)
        )
    return {
        "tokenizer": session.stage,
        "fingerprint": tokenizer.fingerprint,
        "bought": f"{tokenizer.vocab_size} tokens",
    }


def plan(config: Config, recipe: Recipe) -> Fields:
    n_documents = config.task_documents if config.tasks else 0
    n_bytes = estimate.text_bytes("train", config.text_bytes)
    return {
        "host": estimate.encoding(n_documents, n_bytes),
        "host_bytes": estimate.held("tokenizer", n_bytes),
        "vocabulary": config.vocab_size,
    }
