"""What a person hands in is read before a model is trained on it."""

import json
from pathlib import Path

import pytest

from nomoat.config import DataError, read_recipe
from nomoat.run.directory import Run
from nomoat.stages import recipe as recipes
from nomoat.stages import vetting
from nomoat.tokenizer import bpe

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"


@pytest.fixture
def begun(tmp_path):
    """A run of the smoke recipe that has a tokenizer, with tasks in the place of its own; and the recipe."""

    def made(tasks, *changes):
        table = read_recipe(SMOKE, changes)
        for stage in table["stages"]:
            if stage.get("tasks"):
                stage["tasks"] = tasks
        recipe = recipes.resolve(table)
        run = Run.create(tmp_path / "run", recipe.table)
        tokenizer = bpe.train(["so"], bpe.SMALLEST_VOCAB)
        tokenizer.save(run.root / "tokenizer")
        run.log("stage_start", stage="tokenizer")
        outputs = {"tokenizer": "tokenizer", "fingerprint": tokenizer.fingerprint}
        run.log("stage_end", stage="tokenizer", outputs=outputs)
        return recipe, run

    return made


def write(path, n_long):
    rows = [{"question": f"{n}?" + "x" * (400 if n == n_long else 0), "answer": "7"} for n in range(100)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return {str(path): [0]}


def test_a_question_longer_than_the_context_is_told_with_its_line(tmp_path, begun):
    tasks = write(tmp_path / "mine.jsonl", 50)
    with pytest.raises(DataError, match=r"mine.jsonl, line 51: .* '50\?x+' has 4\d\d tokens, and the"):
        vetting.questions(*begun(tasks))


def test_questions_that_fit_are_no_matter(tmp_path, begun):
    vetting.questions(*begun(write(tmp_path / "mine.jsonl", None)))


def test_a_task_that_draws_long_questions_is_told_too(tmp_path, begun):
    with pytest.raises(DataError, match=r"lamp: the question .* and the context of rl \(stage rl\) is 40"):
        vetting.questions(*begun({"lamp": [4]}, "models.main.context=39", "extend.context=40"))


def test_the_context_is_that_of_the_last_extension(begun):
    recipe, _ = begun({"lamp": [4]})
    contexts = dict(vetting.contexts(recipe, recipe.stage("eval")))
    assert contexts == {"pretrain": 96, "extend": 128, "sft": 128, "rl": 128, "distill": 128}


def test_texts_of_later_stages_are_read_before_the_first(tmp_path, begun):
    path = tmp_path / "talks.jsonl"
    path.write_text('{"text": "so"}\n' * 300 + '{"messages": [{"role": "user", "content": "?"}]}\n')
    recipe, run = begun({"lamp": [4]}, f"sft.text={path}")
    with pytest.raises(DataError, match="talks.jsonl:301 has no turn of the assistant"):
        vetting.texts(recipe, run)
    vetting.texts(recipe, whole=False)  # a plan reads no more than the first
    run.log("stage_start", stage="sft")
    vetting.texts(recipe, run)
    other = path.rename(tmp_path / "other.jsonl")  # of another run, that this one takes stages over from
    table = read_recipe(SMOKE, [f"sft.text={other}"])
    with pytest.raises(DataError, match="other.jsonl:301 has no turn"):
        vetting.texts(recipes.resolve(table), run)
