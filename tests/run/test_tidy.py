"""What a run takes on the disk, and what of it can go: nothing that anybody reads again."""

import pytest

from nomoat.config import UserError
from nomoat.run import tidy
from nomoat.run.directory import Run


def make(root):
    run = Run.create(root, {"name": "r", "stages": [{"kind": "sft"}, {"kind": "rl", "name": "late"}]})
    for stage in ("sft", "late"):
        for name in ("checkpoints", "data", "model", "reference"):
            (root / stage / name).mkdir(parents=True)
            (root / stage / name / "file").write_bytes(b"x" * 1000)
    (root / "late" / "rollouts.jsonl").write_text("{}")
    run.log("stage_end", stage="sft", outputs={})
    return run


def test_only_what_a_finished_stage_rebuilds_can_go(tmp_path):
    run = make(tmp_path / "run")
    before = tidy.kept(run)
    assert [path.relative_to(run.root).parts for path in before.removable] == [
        ("sft", "checkpoints"), ("sft", "data"), ("sft", "reference"),
    ]  # fmt: skip
    assert before.removable_bytes == 3000
    assert tidy.clean(run) == before
    after = tidy.kept(Run.open(run.root))
    assert after.removable == ()
    assert before.n_bytes > 8000 > after.n_bytes > 5000
    left = sorted(str(path.relative_to(run.root)) for path in run.root.rglob("file"))
    assert left == ["late/checkpoints/file", "late/data/file", "late/model/file", "late/reference/file",
                    "sft/model/file"]  # fmt: skip


def test_a_run_in_use_is_left_alone(tmp_path):
    run = make(tmp_path / "run")
    with run.locked(), pytest.raises(UserError, match="is in use"):
        tidy.clean(Run.open(run.root))
    assert tidy.kept(run).removable_bytes == 3000


def test_runs_are_found_in_folders_and_nothing_else_is(tmp_path):
    make(tmp_path / "a" / "b")
    make(tmp_path / "c")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "recipe.json").write_text("{}")
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.warns(UserWarning, match="left out: .*else/recipe.json is not the record of a run"):
        assert [run.root.name for run in tidy.found(tmp_path)] == ["b", "c"]
    assert [run.root.name for run in tidy.found(tmp_path / "c")] == ["c"]
    assert list(tidy.found(tmp_path / "nowhere")) == []
