"""What cannot be computed or saved is refused before a stage begins."""

from pathlib import Path

import pytest

from nomoat.cli.work import teach
from nomoat.config import ConfigError, override, parse, read_recipe
from nomoat.model.spec import PRESETS, Spec
from nomoat.run import record
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
from nomoat.stages.pipeline import check, facts, run_stages
from nomoat.stages.recipe import resolve
from nomoat.tasks.families import sorting

SMOKE = Path(__file__).parents[2] / "recipes" / "smoke.toml"
GROUPED = '{kind = "grouped", n_heads = 4, n_kv_heads = 2, d_head = 8}'


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (f"attention={GROUPED}", r"(?s)models.main: .*has grouped-query attention.*llama.*n_mtp = 1"),
        ('ffn.scoring="softmax"', r"(?s)models.main: .*the model has scoring = 'softmax'"),
        ('positions="learned"', "the spec has learned positions, which is planned but not computed"),
    ],
    ids=["grouped", "softmax", "learned"],
)
def test_a_shape_that_no_stage_could_save_is_refused_at_once(tmp_path, change, complaint):
    table = read_recipe(SMOKE)
    override(table, f"models.main.{change}")
    recipe = resolve(table)
    run = Run.create(tmp_path / "run", recipe.table)
    with Stop() as stop, run.locked(), pytest.raises(ConfigError, match=complaint):
        run_stages(run, recipe, stop)
    assert run.events() == []


def test_ranks_that_cannot_share_the_experts_are_refused_at_once():
    table = read_recipe(SMOKE)
    override(table, "mesh={expert = 5}")
    with pytest.raises(ConfigError, match=r"models.main: expert = 5 .* 4 experts.*nearest is expert = 4$"):
        check(resolve(table))


def test_ranks_compare_what_each_reads_by_itself(tmp_path, monkeypatch):
    """A file of a task, which may lie beside each rank, and the program, whose version is that of many."""
    mine = tmp_path / "mine.py"
    mine.write_bytes(Path(sorting.__file__).read_bytes())
    recipe = resolve(teach(read_recipe(SMOKE), str(mine)))
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(record.nomoat, "__file__", str(package / "__init__.py"))
    before = facts(recipe)
    assert before == facts(recipe)
    mine.write_bytes(mine.read_bytes() + b"# another\n")
    then = facts(recipe)
    assert {key for key in then if then[key] != before[key]} == {f"task file {mine}"}
    (package / "a.py").touch()
    assert {key for key, value in facts(recipe).items() if value != then[key]} == {"nomoat"}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"n_heads": 3}, "it is `models.main.attention.n_heads`"),
        ({"n_routed": 3}, "it is `models.main.ffn.n_routed`"),
        ({"ffn": {"kind": "desne"}}, "`models.main.ffn.kind` = 'desne'; did you mean `dense`?"),
        ({"n_layer": 3}, "did you mean `n_layers`?"),
    ],
    ids=str,
)
def test_a_key_in_the_wrong_place_is_told_its_place(change, hint):
    with pytest.raises(ConfigError, match=hint.replace("?", r"\?")):
        parse(Spec, {**PRESETS["deepseek-v3"].model_dump(), **change}, "models.main")
