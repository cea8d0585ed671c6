"""docs/serve.md: its commands are read out of it, and run as they stand, but for the port."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.check
PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
ADDRESS = "http://127.0.0.1:8000"
CURLS = re.findall(r"^    (curl http.*?')$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
ASK = "How much is 47+85?"


@pytest.fixture(scope="module")
def base(serve):
    with serve(Path("evening")) as served:
        yield served.base


def fenced(kind: str) -> str:
    return re.search(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]


def said(command: list, text: str = "") -> str:
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine")
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("command", CURLS, ids=range(len(CURLS)))
def test_what_curl_asks_is_answered(base, command):
    answer = said(["sh", "-c", command.replace(ADDRESS, base)])
    assert "".join(re.findall(r'"content":"([^"]*)"', answer)).strip().isdecimal()


def test_an_editor_gets_its_answer(base):
    assert said(["sh", "-c", fenced("sh").replace(ADDRESS, base)], ASK).strip() == "132"


def test_python_is_answered(base, installed, run):
    code = fenced("python").replace(ADDRESS, base)
    assert run([installed("python"), "-c", code]).strip().isdecimal()


def test_there_are_commands():
    assert len(CURLS) == PAGE.read_text().count("    curl http")
