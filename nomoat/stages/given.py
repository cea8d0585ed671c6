"""Models that a recipe is given: what is told of them from their headers, before anything is loaded.

`[models.main] from = "smollm2"` names one: a known name, a directory, a .gguf file, a run or RUN:STAGE.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from nomoat.config import ConfigError, UserError, WeightsError, parse
from nomoat.model.spec import Spec
from nomoat.model.transformer import Transformer
from nomoat.run.directory import Run
from nomoat.serve import loading
from nomoat.tokenizer import layout
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import adapters, facts, peft
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.load import facts_of
from nomoat.weights.gguf.vocabulary import tokenizer_of

QUESTION, ANSWER = "What is 2+3?", "It is 5."


@dataclass(frozen=True, slots=True)
class Given:
    """A model before it is loaded: where its weights and its tokenizer lie, and its shape."""

    source: str  # as the recipe spells it
    weights: tuple[Path, ...]  # directories or .gguf files: of an adapter also its base's
    tokens: Path
    spec: Spec

    def tokenizer(self) -> Tokenizer:
        if self.tokens.is_file():
            return tokenizer_of(Header.of(self.tokens))
        return Tokenizer.load(self.tokens)


def told(source: str) -> Given:
    """What the headers say; WeightsError for what can't be read, or lacks tensors."""
    root, stage = loading.place_of(source)
    if (root / "recipe.json").is_file():
        left = Run.open(root).weights(stage)
        spec = parse(Spec, left.spec, f"{source}.spec")
        return Given(source, (left.path,), left.tokenizer.path, spec)
    if peft.is_adapter(root):
        return _adapted(source, root)
    found = facts_of(Header.of(root)) if loading.is_gguf(root) else facts.describe(root)
    wrong = [*found.missing, *found.misshapen]
    if wrong:
        raise WeightsError(
            f"{source} lacks {len(wrong)} tensors of its shape ({', '.join(wrong[:3])}); expected all of "
            "them; fetch or export it again"
        )
    return Given(source, (root,), root, found.spec)


def _adapted(source: str, root: Path) -> Given:
    """An adapter, and the base that it is merged into."""
    adapter = peft.opened(root)
    base = told(loading.base_of(adapter))
    with torch.device("meta"):
        adapter.match(adapters.places(Transformer(base.spec)))
    return Given(source, (root, *base.weights), base.tokens, base.spec)


def spec_of(name: str, table: dict[str, object]) -> Spec:
    """The shape of models.`name`, a table with `from`; of its facts only the context may be another one.

    A whole table, as a run keeps it, is taken as it stands: its file may be elsewhere by now.
    """
    table = dict(table)
    source = table.pop("from")
    if not isinstance(source, str):
        raise ConfigError(f"`models.{name}.from` = {source!r}: expected a text; write it in quotes")
    if "vocab_size" in table:
        return parse(Spec, table, f"models.{name}")
    if other := set(table) - {"context"}:
        raise ConfigError(
            f"`models.{name}.{min(other)}` stands beside from = {source!r}, which says what the model is; "
            "expected nothing but `context` and `lora`; leave it out"
        )
    spec = told(source).spec
    return spec.changed(**table)


def check(name: str, given: Given, spec: Spec) -> Tokenizer:
    """The tokenizer of a given model; WeightsError where it is another than the recipe says, or can't be
    trained on turns.
    """
    changed = given.spec.changed(context=spec.context)
    if changed != spec:
        raise WeightsError(
            f"{given.source} is another model than when this recipe was resolved: {changed} and {spec}; "
            "restore it, or begin in a new --out"
        )
    tokenizer = given.tokenizer()
    if tokenizer.vocab_size > spec.vocab_size:
        raise WeightsError(
            f"the tokenizer of {given.source} has {tokenizer.vocab_size} tokens and the model "
            f"{spec.vocab_size}: they do not belong together; restore the one that it was trained with"
        )
    place(given.source, tokenizer)
    return tokenizer


def place(source: str, tokenizer: Tokenizer) -> None:
    """WeightsError for a template that has no place for the assistant: one in which a question ends as it
    does without asking for an answer, or an answer is not there to be learnt.
    """
    asked = [layout.Message("user", QUESTION)]
    try:
        prompt = layout.render(tokenizer, asked, generate=True)
        learnt = layout.render(tokenizer, [*asked, layout.Message("assistant", ANSWER)], generate=False)
    except UserError as error:
        raise WeightsError(f"{source}: {error}") from None
    said = [id for id, trained in zip(learnt.ids, learnt.trained) if trained]
    if not prompt.ids or ANSWER not in tokenizer.decode(said, specials=True):
        raise WeightsError(
            f"the chat template of {source} has no place for the assistant: of the answer {ANSWER!r} it "
            f"leaves {tokenizer.decode(said, specials=True)!r} to learn; expected the answer; choose the "
            "model's instruct version, or put a chat_template.jinja beside its tokenizer.json"
        )
