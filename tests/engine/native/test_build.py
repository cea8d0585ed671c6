"""The compiled step as a file: whole, or made again."""

from nomoat.engine.native import build


def test_a_file_that_was_cut_is_made_again(tmp_path, monkeypatch):
    made = []

    def compiled(compiler, path):
        made.append(path)
        path.write_bytes(b"a library")
        digest = build.hashlib.sha256(b"a library").hexdigest()
        path.with_suffix(".sha256").write_text(digest)

    path = tmp_path / "step.so"
    assert not build._intact(path)
    compiled("cc", path)
    assert build._intact(path)
    path.write_bytes(b"a libr")
    assert not build._intact(path)


def test_without_a_compiler_there_is_no_library(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.library.__wrapped__() is None
    assert not list(tmp_path.rglob("*.so"))
