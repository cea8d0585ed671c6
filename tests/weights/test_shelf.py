"""Models that ship: by name, by name and stage, the first of them without a name; put there from a run."""

import importlib.util
import json
from pathlib import Path

import pytest

from nomoat.cli import main
from nomoat.config import ConfigError, WeightsError
from nomoat.report.receipt import receipt_of
from nomoat.run.directory import Run
from nomoat.serve import loading
from nomoat.weights import known, shelf

ROOT = Path(__file__).parents[2]


def script():
    spec = importlib.util.spec_from_file_location("shelve", ROOT / "scripts" / "shelve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    page = tmp_path_factory.mktemp("page") / "DATA.md"
    page.write_text("before\n<!-- shelf: begin -->\nNone.\n<!-- shelf: end -->\nafter\n")
    return page


@pytest.fixture(scope="module")
def filled(smoke, page, tmp_path_factory):
    """A shelf with the models of a small run."""
    place = tmp_path_factory.mktemp("shelf")
    assert script().main([str(smoke.root), "--name", "toy"], place, page) == 0
    return place


def test_a_finished_run_is_put_there_with_its_receipt_and_listed(smoke, filled, page):
    table = json.loads((filled / "toy" / "shelf.json").read_text())
    assert [*table["stages"]] == ["extend", "sft", "rl", "distill"]
    assert table["default"] in ("rl", "distill")
    assert table["device_seconds"] > 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    for stage, facts in table["stages"].items():
        assert f"| {facts['sha256']} |" in text
        assert facts["bytes"] < 2.2 * facts["parameters"] + 20_000  # two bytes each
        card = (filled / "toy" / stage / "README.md").read_text()
        assert "license: apache-2.0" in card
        assert "## Cost" in card
    rows = receipt_of(Run.open(smoke.root)).rows
    stages, money = table["stages"], 0.0
    for number, (stage, facts) in enumerate(stages.items()):
        money += facts["cost"]["money"]
        assert facts["cost_total"]["money"] == pytest.approx(money)
        assert (facts["place"], facts["kind"]) == (number, stage)
        if facts["scores"]:
            assert facts["scores"]["sampled"] == pytest.approx(facts["right"])
    end = [row.stage for row in rows].index("distill") + 1
    trained = [row.money for row in rows[:end] if row.stage != "eval"]
    assert money == pytest.approx(sum(trained))
    assert stages["rl"]["cost"]["joules"] == pytest.approx(*[row.joules for row in rows if row.stage == "rl"])
    assert not [path for path in filled.iterdir() if path.name.startswith(".")]


def test_it_is_found_by_name_stage_or_none(filled, monkeypatch, tmp_path):
    assert shelf.named("other", filled) is None
    assert shelf.named("toy:sft", filled).path == filled / "toy" / "sft"
    default = shelf.named("toy", filled)
    assert (default.name, shelf.first(filled)) == ("toy", "toy")
    with pytest.raises(WeightsError, match="toy has no stage `slt`; did you mean `sft`"):
        shelf.named("toy:slt", filled)
    with pytest.raises(ConfigError, match="no model ships with this installation; expected one: a run"):
        shelf.first(tmp_path / "none")
    monkeypatch.setattr(shelf, "SHELF", filled)
    assert known.locate("toy") == default.path
    one, other = loading.load("toy", "sft"), loading.load("toy:sft")
    assert one.origin == other.origin
    assert one.panel.kinds == ("lamp", "sorting")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()  # what lies here goes first
    assert known.locate("toy") == Path("toy")


def test_chat_without_a_name_answers_and_lists_what_there_is(filled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shelf, "SHELF", tmp_path / "none")
    assert main.main(["chat", "-p", "hello"]) == 2
    assert "no model ships with this installation" in capsys.readouterr().err
    monkeypatch.setattr(shelf, "SHELF", filled)
    asked = ["chat", "-p", "hello", "--json", "--max-tokens", "3"]
    assert main.main(asked) == main.main([*asked, "--stage", "sft"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(answer["n_tokens"] <= 3 for answer in answers)
    assert main.main(["chat", "list", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    ships = [record["name"] for record in records if not record.get("fetched")]
    assert ships[0] == "toy"
    assert "toy:sft" in ships
    assert ("smollm2" in [record["name"] for record in records]) == bool(importlib.util.find_spec("gguf"))
    assert main.main(["chat", "list"]) == 0
    assert "toy:sft" in capsys.readouterr().out


def test_what_is_too_large_or_no_run_leaves_the_shelf_as_it_was(smoke, filled, page, monkeypatch, capsys):
    before = sorted(filled.rglob("*"))
    shelve = script()
    monkeypatch.setattr(shelve, "MOST_BYTES", 100_000)
    assert shelve.main([str(smoke.root), "--name", "new"], filled, page) == 2
    assert "expected 100,000 at most; choose fewer --stages" in capsys.readouterr().err
    assert shelve.main(["nowhere"], filled, page) == 2
    assert sorted(filled.rglob("*")) == before


def test_what_ships_is_what_data_md_lists():
    text = (ROOT / "DATA.md").read_text()
    assert script().table(shelf.SHELF) in text
    assert script().size(shelf.SHELF) <= script().MOST_BYTES
