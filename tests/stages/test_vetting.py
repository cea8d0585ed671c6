"""What a person hands in is read before a model is trained on it."""

import json
from pathlib import Path

import borrowed
import brought
import calling
import pytest
from shapes import shape

from nomoat.config import ConfigError, DataError, read_recipe
from nomoat.run.directory import Run
from nomoat.stages import pipeline, vetting
from nomoat.stages import recipe as recipes
from nomoat.tokenizer import bpe

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
LAMP = (Path(__file__).parents[2] / "nomoat/tasks/families/lamp.py").read_text()


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


def test_conversations_that_are_cut_before_every_reply_are_refused(tmp_path, begun):
    path = tmp_path / "talks.jsonl"
    recipe, run = begun({"lamp": [4]}, f"sft.text={path}")
    talk = {"messages": [{"role": "user", "content": "so " * 200}, {"role": "assistant", "content": "Yes."}]}
    path.write_text(json.dumps(talk) + "\n")
    with pytest.raises(DataError, match="in none of 1 documents a reply begins within rows of 128 tokens"):
        vetting.texts(recipe, run)
    path.write_text(json.dumps(talk) + '\n{"prompt": "?", "completion": "Yes."}\n')
    vetting.texts(recipe, run)


def test_conversations_with_tools_are_refused_before_a_model_that_has_no_place_for_them(tmp_path, begun):
    path = tmp_path / "talks.jsonl"
    path.write_text('{"text": "so"}\n' + json.dumps(calling.ROW))
    with pytest.raises(DataError, match="`sft`: talks.jsonl: .* tools .* our own layout has no place for"):
        vetting.texts(*begun({"lamp": [4]}, f"sft.text={path}"))
    stage = {"kind": "sft", "from": "main", "text": str(path), "shares": {"prose": 1.0}, "steps": 1}
    for template, tokenizer in (("calls", calling.made("qwen")), ("none", borrowed.made("qwen"))):
        spec = shape(
            vocab_size=tokenizer.vocab_size, n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_head=8,
            d_ffn=8, context=512, tied=True,
        )  # fmt: skip
        brought.saved(tmp_path / template, spec, tokenizer)
        models = {"main": {"from": str(tmp_path / template)}}
        recipe = recipes.resolve({"name": "a", "seed": 1, "models": models, "stages": [stage]})
        if template == "calls":
            vetting.vet_given(recipe)
            continue
        with pytest.raises(DataError, match="talks.jsonl, the conversation of 'Rain .*: the chat template "):
            vetting.vet_given(recipe)


def test_a_question_is_not_learnt_from_one_file_and_measured_from_another(tmp_path):
    rows = [{"question": f"What is {n}?", "answer": str(n)} for n in range(40)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    again = {"question": " what is  7?", "answer": "7"}
    others = [{"question": "New?", "answer": "1"}, again]
    (tmp_path / "again.jsonl").write_text("\n".join(map(json.dumps, others)))

    def of(measured, stage="rl"):
        table = read_recipe(SMOKE)
        for config in table["stages"]:
            if config["kind"] in (stage, "eval"):
                name = measured if config["kind"] == "eval" else "mine.jsonl"
                config["tasks"] = {str(tmp_path / name): [0]}
        return recipes.resolve(table)

    vetting.apart(of("mine.jsonl"))
    vetting.apart(of("again.jsonl:test", stage="tokenizer"))
    for measured, found in (("again.jsonl:test", "line 2: .* is measured by eval and learnt by rl .*line 8"),
                            ("mine.jsonl:exact:test", "as are 3[0-9] in all; expected questions that no")):
        with pytest.raises(DataError, match=found):
            vetting.apart(of(measured))


def test_conversations_of_problems_need_worked_examples(tmp_path):
    lacks = tmp_path / "lacks.py"
    lacks.write_text(LAMP.replace("def work(", "def worked("))
    for shares in ("{dialogues = 1.0}", "{tasks = 0.5, dialogues = 0.5}"):
        with pytest.raises(ConfigError, match="shows worked examples, and .*lacks.py has no `work`"):
            recipes.resolve(read_recipe(SMOKE, [f"sft.shares={shares}", f'sft.tasks={{"{lacks}" = [4]}}']))


@pytest.mark.parametrize("chain", ["''", "'lamp 1: neither'"])
def test_worked_examples_that_lead_elsewhere_are_not_planned(tmp_path, chain):
    work = tmp_path / "work.py"
    work.write_text(f"{LAMP}\ndef work(problem):\n    return {chain}\n")
    with pytest.raises(ConfigError, match="level 4: work .*; mend it, and try .*task check"):
        recipes.resolve(read_recipe(SMOKE, [f'sft.tasks={{"{work}" = [4]}}']))


@pytest.mark.parametrize("body", ["raise KeyboardInterrupt", "return check(problem, answer)", "return False"])
def test_a_task_file_that_refuses_its_own_answer_is_not_planned(tmp_path, body):
    judge = tmp_path / "judge.py"
    judge.write_text(f"{LAMP}\ndef check(problem, answer):\n    {body}\n")
    with pytest.raises(ConfigError, match="level 4: check .* expected it to accept .*task check"):
        recipes.resolve(read_recipe(SMOKE, [f'rl.tasks={{"{judge}" = [4]}}']))


def test_a_file_that_is_there_to_measure_can_be_planned(tmp_path):
    rows = [json.dumps({"question": f"{n}?", "answer": str(n)}) for n in range(9)]
    (tmp_path / "held.jsonl").write_text("\n".join(rows))
    change = f'eval.tasks={{"{tmp_path}/held.jsonl:test" = [0], lamp = [4]}}'
    recipe = recipes.resolve(read_recipe(SMOKE, [change]))
    assert recipe.plan(recipe.stage("eval"))["tokens"] > 0


def test_small_talk_that_has_no_room_is_told_before_the_first_model(begun):
    small = [f"{place}.context=70" for place in ("models.main", "models.student", "extend")]
    with pytest.raises(DataError, match="`eval.talk`: the question .* and the context of .* is 70"):
        vetting.questions(*begun({"sorting": [3]}, *small, "eval.talk=1"))


def test_a_question_of_too_many_words_is_told_before_there_is_a_tokenizer(tmp_path):
    place = tmp_path / "mine.jsonl"
    rows = [{"question": f"{n}?" + " so" * (200 if n == 50 else 0), "answer": "7"} for n in range(100)]
    place.write_text("\n".join(map(json.dumps, rows)))
    table = read_recipe(SMOKE)
    for stage in table["stages"]:
        if stage.get("tasks"):
            stage["tasks"] = {str(place): [0]}
    recipe = recipes.resolve(table)
    with pytest.raises(DataError, match=r"line 51: .* has 203 tokens or more, and the context of rl"):
        pipeline.check(recipe, whole=False)
    tokenizer = bpe.train([" so" * 9], bpe.SMALLEST_VOCAB + 4)
    assert bpe.fewest(" so" * 200) == 200 == len(tokenizer.encode(" so" * 200))
