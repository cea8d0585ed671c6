"""The page and its tables: everything escaped, everything from the log, nothing from the network."""

import json
import re
from html.parser import HTMLParser

import pytest

from nomoat import stats
from nomoat.report import diagnosis, page
from nomoat.report.receipt import receipt_table
from nomoat.report.scores import score_tables, scores_of
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.ledger import money, receipt

HOSTILE = [
    "<script>alert(1)</script>", "</pre></details><img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>",
    "' onclick='x",
    "{{ 7 * 19391 }}", "{% include 'x' %}", "&lt;b&gt;", "<!--", "]]>", "\x1b[31mred", "\u202eevil",
    "</style><b>", "javascript:alert(1)",
]  # fmt: skip
VOID = {"meta", "link", "br", "img", "use", "path"}


class Reader(HTMLParser):
    """Counts elements, checks nesting, keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.stack, self.tags, self.attributes, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def make(root, texts, stages=("sft", "rl")):
    """A finished-looking run whose every free text is one of `texts`."""

    def turn(i):
        return texts[i % len(texts)]

    recipe = {
        "name": turn(0),
        "seed": 1,
        "stages": [{"kind": s} for s in stages],
        "models": {"main": {turn(1): turn(2)}},
    }
    run = Run.create(root, recipe)
    with run.locked():
        for stage in stages:
            run.log("stage_start", stage=stage, config={}, units=1, device="cpu")
            for step in range(1, 80):
                rl = {"reward": 0.5, "lenient": 0.6, "length": 9.0, "length_right": None, "dead_groups": 0.2,
                      "truncated": 0.0,
                      "entropy": 0.3, "rewards": {turn(3): 0.4, "lamp": 1.0}, "sample_seconds": 1.0,
                      "update_seconds": 1.0}  # fmt: skip
                run.log("step", stage=stage, step=step, n_steps=79, loss=1.0 / step, grad_norm=1.0,
                        seconds=0.25, tokens=10,
                        flops_model=5, flops_executed=6, **(rl if stage == "rl" else {}))  # fmt: skip
            run.log("note", stage=stage, text=turn(4))
            run.log("stage_end", stage=stage, outputs={"bought": turn(5), "parameters": 1000, "active": 900})
        for i, model in enumerate((turn(6), "rl")):
            for k, family in enumerate((turn(7), "lamp")):
                for level in (1, 2):
                    fields = {
                        "stage": "eval",
                        "model": model,
                        "family": family,
                        "level": level,
                        "n": 20,
                        "lenient": 0.5,
                    }
                    right = 3 + i * 5 + k + level
                    low, high = stats.wilson(right, 20)
                    run.log("score", name="accuracy/greedy", value=right / 20, low=low, high=high, **fields)
                    run.log("score", name="accuracy/sampled", value=right / 20, low=low, high=high, **fields)
                run.log("sample", stage="eval", model=model, family=family, level=1, prompt=turn(8),
                        right=False, lenient=True,
                        reply=f"<think>{turn(9)}</think>{turn(10)}")  # fmt: skip
            run.log("score", stage="eval", name="bpb/en", model=model, value=2.0)
        run.log("score", stage="eval", name="bpb/en", model="5-gram", value=2.2)
    return Run.open(root)


def read(text):
    """The page's elements, and what its two tables of JSON hold."""
    reader = Reader()
    reader.feed(text)
    assert reader.stack == []
    tables = re.findall(r'<script type="application/json" id="\w+">(.*?)</script>', text, re.DOTALL)
    return reader, *map(json.loads, tables)


@pytest.mark.parametrize("shift", range(3))
def test_no_text_becomes_markup(tmp_path, shift):
    texts = HOSTILE[shift * 4 :] + HOSTILE[: shift * 4]
    run = make(tmp_path / "a", texts)
    hostile, _, data = read(page.render(run))
    harmless, _, _ = read(page.render(make(tmp_path / "b", [f"words{i}" for i in range(len(texts))])))
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
    assert HOSTILE[0] in json.dumps(data), "and none of it is lost"


def test_a_page_allows_its_own_script_and_style_alone(tmp_path):
    text = page.render(make(tmp_path, ["words"]))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert rules[rule] == f"'sha256-{page.digest(body)}'"
    assert rules["default-src"] == "'none'"
    assert set(rules) >= {"base-uri", "form-action", "require-trusted-types-for"}
    assert not re.search(r"""(?:src|href)=["']?http|url\(|@import|connect-src|unsafe""", text)


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    run = Run.create(tmp_path, {"name": "new", "stages": [{"kind": "pretrain"}]})
    assert read(page.render(run))[2]["run"]["state"] == "new"
    with run.locked():
        run.log("stage_start", stage="pretrain", config={})
        run.log("step", stage="pretrain", step=1, n_steps=9, loss=None, grad_norm=None, seconds=1.0, tokens=1,
                flops_model=1,
                flops_executed=1)  # fmt: skip
    _, _, data = read(page.render(run))
    assert data["run"]["stages"][0]["steps"] == 9
    assert data["curves"]["pretrain"]["steps"] == [1]


def test_the_words_of_both_languages_are_the_same_ones():
    words = page.words()
    assert set(words["en"]) == set(words["de"])
    places = {
        lang: {key: re.findall(r"\{(\w+)\}", json.dumps(text)) for key, text in of.items()}
        for lang, of in words.items()
    }
    for key, names in places["en"].items():
        assert set(names) == set(places["de"][key]), key


def test_every_finding_has_words_in_german():
    words = page.words()["de"]
    for rule in diagnosis.RULES:
        assert set(re.findall(r"\{(\w+)", words[f"finding.{rule.name}"])) <= set(
            re.findall(r"\{(\w+)", rule.sentence)
        )


def test_every_word_that_the_lab_says_is_known():
    words = page.words()["en"]
    said = set()
    for file in (page.WEB / "lab").glob("*.js"):
        said |= set(re.findall(r'\bt\("([\w.-]+)"', file.read_text("utf-8")))
    assert len(said) > 80
    assert said <= set(words)


def test_a_receipt_shows_the_sums_of_the_ledger(tmp_path):
    run = make(tmp_path, ["words"])
    found = receipt(run.events())
    table = receipt_table(found)
    assert table.rows[-1][1] == f"{2 * 79 * 10 / 1000:.3g} k"
    assert table.rows[-1][4] == f"{2 * 79 * 0.25:.1f} s"
    lines = table.text(80).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[1].split()) == "stage tokens model FLOPs executed device time energy USD bought"


def test_levels_are_pooled_and_only_the_last_measurement_counts():

    def event(value, level, **more):
        where = {"kind": "score", "name": "accuracy/greedy", "model": "rl", "family": "lamp", "level": level}
        return {**where, "value": value, "n": 20, "low": 0.0, "high": 1.0, "lenient": value, **more}

    sampled = [{**event(0.5, 1), "name": "accuracy/sampled", "low": 0.4, "high": 0.6}]
    found = scores_of([event(0.9, 1), event(0.5, 1), event(1.0, 2), event(0.0, 2, redone=True), *sampled])
    lamp = found.accuracy["greedy"]["rl"]["lamp"]
    assert (lamp.value, lamp.n) == (0.75, 40)
    assert (lamp.low, lamp.high) == stats.wilson(30, 40)
    assert found.accuracy["sampled"]["rl"]["lamp"].low == pytest.approx(0.4)
    assert score_tables(found)[0].rows[0] == ("lamp", "75 [60-86]")


def test_what_was_measured_of_a_conversation_is_a_table_of_its_own():

    def event(name, model, value):
        bounds = {"low": 0.4, "high": 0.9, "lenient": value, "n": 50}
        return {"kind": "score", "name": name, "model": model, "value": value, **bounds}

    events = [event("turn/2", "rl", 0.5), event("talk/free", "rl", 0.8), event("talk/free", "sft", 0.7)]
    found = scores_of(events)
    (table,) = score_tables(found)
    assert table.header == ("what", "rl", "sft")
    assert table.rows == [
        ("talk, written apart", "80 [40-90]", "70 [40-90]"),
        ("problems, turn 2", "50 [40-90]", ""),
    ]


def test_a_table_wraps_its_words_and_aligns_its_figures():
    table = Table(
        "T", ("name", "n", "words"), (("a", "1", "many words " * 9), ("bb", "22", "")), words=("words",)
    )
    lines = table.text(40).splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[3].startswith("a      1  many words")
    assert lines[-1] == "bb    22"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (5.5e6, "5,500,000.00"), (0.0123, "0.012"), (0.000123, "0.00012"), (1e-9, "< 0.0001")],
)
def test_money_is_readable(value, text):
    assert money(value) == text
