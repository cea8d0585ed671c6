"""The files of the pages by themselves: their words, their size, what the worker keeps."""

import gzip
import json
import re
from pathlib import Path

import pytest

import nomoat.serve.pages

WEB = Path(nomoat.serve.pages.__file__).with_name("web")
OURS = sorted([*WEB.glob("app/*.js"), *WEB.glob("chat/*.js")])
MOST_BYTES = 250_000  # over the wire, until a page is there
IMPORT = re.compile(r'^(?:import|export)[^;]*?from "([^"]+)"', re.M)
CALL = re.compile(r'\bt\(\s*"([^"]+)"')
GUESSED = ("family.", "joules.", "settings.", "stage.", "tab.", "verdict.")  # t(`tab.${name}`)
SINKS = re.compile(
    r"\.(innerHTML|outerHTML)\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc\s*="
)


def words(language: str) -> dict:
    return json.loads((WEB / "text" / f"{language}.json").read_text("utf-8"))


def source(path: Path) -> str:
    return path.read_text("utf-8")


def test_both_languages_say_the_same_things():
    english, german = words("en"), words("de")
    assert list(english) == list(german) == sorted(english)
    for key, text in english.items():
        for one, other in zip(forms(text), forms(german[key]), strict=True):
            assert set(re.findall(r"{\w+}", one)) == set(re.findall(r"{\w+}", other)), key


def forms(text: str | dict) -> list[str]:
    return [text] if isinstance(text, str) else [text["one"], text["other"]]


def test_every_word_is_there_and_used():
    known, all_of_it = set(words("en")), "".join(map(source, OURS))
    called = set(CALL.findall(all_of_it))
    assert called <= known, called - known
    unused = {key for key in known if f'"{key}"' not in all_of_it and not key.startswith(GUESSED)}
    named = {key for key in unused if f'"{key.removesuffix(".hint")}"' in all_of_it}  # t(`${name}.hint`)
    assert not unused - named


def reached(*names: str) -> dict[Path, int]:
    """The files that these load before anything is done, with their compressed bytes."""
    sizes: dict[Path, int] = {}
    left = [WEB / name for name in names]
    while left:
        path = left.pop().resolve()
        if path not in sizes:
            sizes[path] = len(gzip.compress(path.read_bytes(), 9))
            if path.suffix == ".js":
                left += [path.parent / name for name in IMPORT.findall(source(path))]
    return sizes


def first_load() -> dict[Path, int]:
    named = re.findall(r'(?:href|src)="/assets/([^"]+)"', source(WEB / "index.html"))
    return reached("index.html", "text/en.json", "text/de.json", "manifest.webmanifest", *named)


def test_the_first_load_is_small():
    sizes = first_load()
    assert sum(sizes.values()) < MOST_BYTES, sizes


def test_the_worker_keeps_all_that_the_page_loads():
    kept = source(WEB / "sw.js")
    for path in first_load():
        name = path.relative_to(WEB).as_posix()
        bare = name.removesuffix(".js").rpartition("/")[2]
        is_kept = f'"/assets/{name}"' in kept or f'"{bare}"' in kept
        assert is_kept or name in ("index.html", "manifest.webmanifest") or path.suffix == ".png", name


def test_the_page_fetches_its_modules_at_once():
    ahead = re.findall(r'rel="modulepreload" href="/assets/([^"]+)"', source(WEB / "index.html"))
    modules = {path.relative_to(WEB).as_posix() for path in reached("chat/main.js")} - {"chat/main.js"}
    assert sorted(ahead) == sorted(modules)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_modules_are_small_and_write_no_html(path):
    lines = source(path).splitlines()
    assert len(lines) <= 350
    wide = [n for n, line in enumerate(lines, 1) if len(line) > 110 and not re.search(r'[\d.]{4}', line)]
    assert not wide  # drawings are numbers, however long
    assert not SINKS.search(source(path))
