"""The files of the pages by themselves: their words, their size, what the worker keeps."""

import gzip
import json
import re
from pathlib import Path

import pytest

import nomoat.serve.pages

WEB = Path(nomoat.serve.pages.__file__).with_name("web")
OURS = sorted([*WEB.glob("app/*.js"), *WEB.glob("chat/*.js")])
SHARED = ("text/en.json", "text/de.json")
WORDS = {"index.html": SHARED, "lab.html": (*SHARED, "text/lab.en.json", "text/lab.de.json")}
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


def first_load(page: str) -> dict[Path, int]:
    named = re.findall(r'(?:href|src)="/assets/([^"]+)"', source(WEB / page))
    return reached(page, *WORDS[page], *named)


@pytest.mark.parametrize("page", WORDS)
def test_the_first_load_is_small(page):
    sizes = first_load(page)
    assert sum(sizes.values()) < MOST_BYTES, sizes


@pytest.mark.parametrize("page", WORDS)
def test_the_worker_keeps_all_that_a_page_loads(page):
    kept = source(WEB / "sw.js")
    for path in first_load(page):
        name = path.relative_to(WEB).as_posix()
        bare = name.removesuffix(".js").rpartition("/")[2]
        is_kept = f'"/assets/{name}"' in kept or f'"{bare}"' in kept
        assert is_kept or name in WORDS or path.suffix == ".png", name
    assert '"/"' in kept
    assert '"/lab"' in kept


@pytest.mark.parametrize(("page", "main"), [("index.html", "chat/main.js"), ("lab.html", "lab/main.js")])
def test_a_page_fetches_its_modules_at_once(page, main):
    ahead = re.findall(r'rel="modulepreload" href="/assets/([^"]+)"', source(WEB / page))
    modules = {path.relative_to(WEB).as_posix() for path in reached(main)} - {main}
    assert sorted(ahead) == sorted(modules)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_modules_are_small_and_write_no_html(path):
    lines = source(path).splitlines()
    assert len(lines) <= 350
    wide = [n for n, line in enumerate(lines, 1) if len(line) > 110 and not re.search(r'[\d.]{4}', line)]
    assert not wide  # drawings are numbers, however long
    assert not SINKS.search(source(path))
