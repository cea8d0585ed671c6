"""A table fits the terminal that it is shown in, and loses nothing."""

import importlib.util
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nomoat.report.receipt import receipt_of, receipt_table, shares_of, shares_table
from nomoat.report.scores import score_tables, scores_of
from nomoat.report.table import Table
from nomoat.run.directory import Run

WORD = st.text("abcdefgh", min_size=1, max_size=9)
WORDS = st.lists(WORD, max_size=8).map(" ".join)
FIGURE = st.integers(0, 10**9).map(str)


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from([WORDS, FIGURE]), max_size=7))
    header = ["name", *(f"{'word' if kind is WORDS else 'figure'} {i}" for i, kind in enumerate(kinds))]
    rows = draw(st.lists(st.tuples(WORDS, *kinds), min_size=1, max_size=4))
    words = [name for name in header if name.startswith("word")]
    return Table(draw(WORDS), header, rows, draw(WORDS), words, draw(st.booleans()))


@given(tables(), st.integers(22, 130))
def test_no_line_is_too_long_and_no_word_is_lost(table, width):
    text = table.text(width)
    assert max(map(len, text.splitlines())) <= width
    cells = [cell for row in (table.header, *table.rows) for cell in row]
    for word in (table.title + " " + table.note + " " + " ".join(cells)).split():
        assert word in text


def test_columns_go_below_each_other():
    header = ("stage", "tokens", "bought")
    rows = [("sft", "1,234,567", "a model of words"), ("all", "2", "")]
    table = Table("Receipt", header, rows, words=("bought",), total=True)
    assert table.text(60) == (
        "Receipt\nstage     tokens  bought\n-----  ---------  ----------------\n"
        "sft    1,234,567  a model of words\n-----  ---------  ----------------\nall            2"
    )
    assert table.text(28).splitlines()[3:5] == ["sft    1,234,567  a model of", "                  words"]
    assert table.text(22) == (
        "Receipt\nstage     tokens\n-----  ---------\nsft    1,234,567\n-----  ---------\nall            2\n"
        "\n"
        "stage  bought\n-----  ---------------\nsft    a model of\n       words\n-----  ---------------\nall"
    )


def test_a_name_that_is_to_be_typed_stays_whole_in_a_narrow_terminal():
    """Unless a figure beside it needs the room."""
    rows = [("evening:distill", "1.21 MB", "601 k", "66 %", "ships; student of another")]
    table = Table("Models", ("model", "size", "parameters", "right answers", "what"), rows, words=("what",))
    lines = table.text(40).splitlines()
    assert sum(line.startswith("evening:distill  ") for line in lines) == 3, lines
    table = Table("Models", ("model", "size"), [("evening:distill", "1,234,567,890,123,456,78")])
    assert max(map(len, table.text(40).splitlines())) <= 40


def test_the_tables_of_a_run_fit_any_terminal(smoke):
    run = Run.open(smoke.root)
    bill = receipt_of(run)
    shown = [receipt_table(bill), shares_table(shares_of(run, bill)), *score_tables(scores_of(run.events()))]
    for width in (40, 50, 80, 110):
        assert all(max(map(len, table.text(width).splitlines())) <= width for table in shown)


def test_a_run_is_a_row_with_what_each_kind_of_model_answers(smoke):
    place = Path(__file__).resolve().parents[2] / "scripts" / "readme_table.py"
    spec = importlib.util.spec_from_file_location("readme_table", place)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    run = Run.open(smoke.root)
    sampled = {
        event["model"]: event["value"]
        for event in run.events("score")
        if event["name"] == "accuracy/sampled" and event["family"] == "lamp"
    }
    assert {"sft", "rl", "distill"} <= set(sampled)
    assert script.right_answers(run).count("%") == 3
    assert script.table([run]).splitlines()[2].startswith("| smoke | 0 |")
