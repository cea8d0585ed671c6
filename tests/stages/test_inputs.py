"""What a stage read stands in the log by content; what is another thing by now is found."""

from types import SimpleNamespace

import pytest

from nomoat.config import ConfigError, DataError, WeightsError, parse
from nomoat.parallel.mesh import ALONE
from nomoat.run.directory import Run
from nomoat.run.left import StageWeights, TokenizerFiles
from nomoat.run.stop import Interrupted, Stop
from nomoat.stages import fit, inputs, s1_tokenizer
from nomoat.train.session import Session


def config(**more):
    return parse(fit.Config, {"kind": "pretrain", "name": "pretrain", "steps": 1, **more}, "pretrain")


@pytest.fixture
def session(tmp_path):
    run = Run.create(tmp_path / "run", {})
    run.log("stage_start", stage="pretrain", config={})
    return Session(run, "pretrain", ALONE, Stop(), energy=None)


def changed(session, reader):
    return [change.read["what"] for change in inputs.changes(session.run, SimpleNamespace(stages=[reader]))]


def place_of(tmp_path, kind):
    """A file, a folder or a data set of a hub's kind, and what names it."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    keys = {"file": {"text": str(folder / "a.jsonl")}, "folder": {"text": str(folder)}}
    return folder / "a.jsonl", keys[kind]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize(
    ("text", "is_changed"),
    [
        ('{"text": "one"}\n{"text": "two"}\n', False),
        ('{"text": "one", "id": 7}\n\n{"text": "two"}\n', False),  # the same documents
        ('{"text": "two"}\n{"text": "one"}\n', True),
        ('{"text": "one"}\n', True),
        ('{"text": "one"}\n{"text": "twa"}\n', True),
        ('{"text": "one", "lang": "de"}\n{"text": "two"}\n', True),
        ("no JSON\n", True),
        ("", True),
        (None, False),  # gone: nobody can tell
    ],
)
def test_text_is_the_same_if_its_documents_are(tmp_path, session, kind, text, is_changed):
    file, keys = place_of(tmp_path, kind)
    reader = config(**keys)
    assert [document.text for document in inputs.text(session, reader)] == ["one", "two"]
    assert changed(session, reader) == []
    if text is None:
        file.unlink()
        (tmp_path / "texts").rmdir()
    else:
        file.write_text(text)
    assert changed(session, reader) == ["text"] * is_changed


def test_what_is_behind_the_bytes_that_were_asked_is_not_read(tmp_path, session):
    file, keys = place_of(tmp_path, "file")
    reader = config(**keys, text_bytes=2)
    assert len(list(inputs.text(session, reader))) == 1
    assert session.run.events("read")[0]["n_bytes"] == {"other": 3}
    file.write_text('{"text": "one"}\nand whatever comes\n')
    assert changed(session, reader) == []


def test_a_reading_that_was_broken_off_is_no_reading(tmp_path, session):
    _, keys = place_of(tmp_path, "file")
    next(iter(inputs.text(session, config(**keys))))
    assert session.run.events("read") == []
    session.stop.requested = True
    with pytest.raises(Interrupted):
        list(inputs.text(session, config(**keys)))


def test_files_of_tasks_are_those_that_they_are_made_of(tmp_path, monkeypatch):
    """With the modules beside them that they import, and what those import."""
    (tmp_path / "kit").mkdir()
    texts = {
        "sums.jsonl": "",
        "judge.py": "import os, json\nfrom beside import right\n",
        "beside.py": "def right():\n    import kit.words, judge\n",
        "kit/words.py": "",
        "mine.py": "import beside",
        "other.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    tasks = {"sums.jsonl:judge.py:right": [0], "lamp": [4]}
    assert [path.name for path in inputs.task_files(SimpleNamespace(tasks=tasks))] == [
        "sums.jsonl",
        "judge.py",
        "beside.py",
        "words.py",
    ]
    policy = SimpleNamespace(tasks={"lamp": [4]}, policy_tasks={"mine.py": [1], "rg:x": [0]})
    names = [path.name for path in inputs.task_files(policy)]
    assert names == ["mine.py", "beside.py", "words.py", "judge.py"]


def test_what_a_stage_read_before_it_began_again_counts_no_more(session):
    inputs.log(session, "task", "a.py", "1")
    inputs.log(session, "task", "a.py", "1")
    assert len(session.run.events("read")) == 1
    session.run.log("continue", changes=[], goes_on=["pretrain"], again=[])
    assert len(inputs.reads(session.run, "pretrain")) == 1
    session.run.log("continue", changes=[], goes_on=[], again=["pretrain"])
    assert inputs.reads(session.run, "pretrain") == {}


def test_samples_are_those_that_were_kept(session):
    with pytest.raises(DataError, match="run reject first"):
        inputs.samples(session, "reject")
    path = session.run.stage_dir("reject") / "samples.jsonl"
    path.write_text("{}\n")
    left = {"samples": "reject/samples.jsonl", "sha256": inputs.sha256(path)}
    session.run.log("stage_end", stage="reject", outputs=left)
    assert inputs.samples(session, "reject") == path
    path.write_text('{"answer": 5}\n')
    with pytest.raises(DataError, match=r"samples.jsonl is not what stage reject left"):
        inputs.samples(session, "reject")


@pytest.mark.parametrize("kind", [fit.Config, s1_tokenizer.Config])
def test_text_is_a_path_or_a_data_set(kind):
    table = {"kind": "tokenizer", "name": "t"} | ({"steps": 1} if kind is fit.Config else {})
    assert parse(kind, {**table, "hub": {"name": "wiki", "config": "de"}}, "t").hub.config == "de"
    with pytest.raises(ConfigError, match=r"text = 'a.txt' beside hub = .*wiki.*expected one of them"):
        parse(kind, {**table, "hub": "wiki", "text": "a.txt"}, "t")


def test_a_model_that_is_gone_is_told(tmp_path):
    tokenizer = TokenizerFiles(tmp_path, "")
    for digest in (None, "0" * 64):
        left = StageWeights("sft", tmp_path / "model", {}, tokenizer, digest)
        with pytest.raises(WeightsError, match="nothing at .*model, where stage sft left its model; restore"):
            left.check()
