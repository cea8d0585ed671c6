"""Laws of what the chat page asks beyond a chat: behind keys, never a 500, the verifier's own word."""

import hashlib
import json

import pytest
from serving import CHAT, HI, made, running

from nomoat.serve.limits import Doors
from nomoat.serve.pages import asking, routes
from nomoat.serve.pages.bodies import AskBody
from nomoat.serve.pages.models import Models
from nomoat.serve.refusal import Refusal
from nomoat.serve.shelf import described, entries
from nomoat.tasks import base, find
from nomoat.tasks.base import Problem
from nomoat.tasks.verdicts import Verdicts
from nomoat.weights import known

KEY = "a key that is long enough"
OWN = '''"""Say yes."""
from nomoat.tasks.base import Problem, check

levels = (1, 2)


def make(rng, level):
    n = rng.randrange(10**6)
    return Problem(f"Say yes to {n}.", str(n), "yes")


def near_misses(problem):
    return ["no"]
'''
WEEKDAY = {"family": "weekday", "level": 2}
STAGES = ("extend", "sft", "rl", "distill")  # of what ships


@pytest.fixture(scope="module")
def served():
    return made()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("tasks") / "mine.py"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="module")
def client(served, own):
    with running(served, more=routes.api([str(own)])) as it:
        yield it


def posted(client, path, **body):
    status, said = client.post(path, **body)
    assert status == 200, said
    return said


@pytest.fixture(scope="module")
def reply(client):
    """A chat's answer with ids and log-probabilities."""
    asked = {"return_token_ids": True, "logprobs": True, "top_logprobs": 3, "max_tokens": 12}
    return posted(client, CHAT, **HI | asked)


# --- replies that have begun ---


@pytest.mark.parametrize("more", [{}, {"enable_thinking": True, "thinking_token_budget": 4}])
def test_a_reply_that_is_gone_on_with_is_the_reply_in_one_go(client, more):
    fields = HI | {"return_token_ids": True, "max_tokens": 12} | more
    whole = posted(client, CHAT, **fields)
    ids = whole["choices"][0]["token_ids"]
    assert len(ids) == 12
    text = {name: whole["choices"][0]["message"].get(name, "") for name in ("content", "reasoning")}
    for n in range(1, 12):
        rest = posted(client, CHAT, **fields | {"reply_tokens": ids[:n], "max_tokens": 12 - n})
        assert rest["choices"][0]["token_ids"] == ids[n:]
        assert rest["prompt_token_ids"] == whole["prompt_token_ids"]
        for name, all_of_it in text.items():
            assert all_of_it.endswith(rest["choices"][0]["message"].get(name, ""))


def test_an_end_of_thinking_that_is_given_ends_it(client, served):
    end = served.tokenizer.layout.end_think_id
    said = posted(client, CHAT, **HI | {"enable_thinking": True, "reply_tokens": [41, end]})
    assert "reasoning" not in said["choices"][0]["message"]
    assert said["choices"][0]["message"]["content"]


def test_a_character_that_two_replies_share_is_whole_in_neither(client, served):
    ids = served.tokenizer.encode("ü")
    byte = served.tokenizer.token_bytes
    split = [id for id in range(300) if byte(id) in ("ü".encode()[:1], "ü".encode()[1:])]
    assert len(split) == 2 or len(ids) == 1
    first, second = sorted(split, key=lambda id: -byte(id)[0])
    fields = HI | {"logit_bias": {str(second): 100}, "max_tokens": 1, "reply_tokens": [first]}
    assert posted(client, CHAT, **fields)["choices"][0]["message"]["content"] == "ü"


@pytest.mark.parametrize(
    "fields",
    [{"reply_tokens": [300]}, {"reply_tokens": [-1]}, {"reply_tokens": "a"}, {"reply_tokens": [1.5]},
     {"reply_tokens": [[1]]}, {"reply_tokens": [41], "response_format": {"type": "json_object"}},
     {"reply_tokens": [41] * 300}],
)  # fmt: skip
def test_what_no_reply_can_begin_with_is_refused(client, fields):
    status, said = client.post(CHAT, **HI | fields)
    assert (status, said["error"]["param"][:12]) == (400, "reply_tokens"), said


@pytest.mark.parametrize(
    ("prompt", "reply", "name"), [(41, 999, "reply_tokens"), (999, 1, "prompt_tokens"), (41, 0, None)]
)
def test_what_no_context_holds_is_named(client, served, prompt, reply, name):
    fields = {"prompt_tokens": [41] * prompt, "reply_tokens": [41] * reply}
    status, said = client.post("/api/inspect", **fields)
    assert status == (400 if name else 200)
    assert name in (None, said.get("error", {}).get("param"))


def test_a_refusal_of_many_answers_is_in_the_words_of_their_route():
    problem = Problem("Say yes. " * 40, "1", "yes")
    with pytest.raises(Refusal, match="tokens") as refused:
        asking.asked_of(AskBody(family="mine", level=1, seed=0), problem, made(context=64))
    assert refused.value.param == "family"


def test_a_reply_that_has_ended_is_not_gone_on_with(client, served):
    for end in served.tokenizer.layout.turn_ends:
        status, said = client.post(CHAT, **HI | {"reply_tokens": [41, end]})
        assert (status, said["error"]["param"]) == (400, "reply_tokens")


def test_a_stream_carries_ids_and_ends_with_what_it_took(client, reply):
    asked = {"return_token_ids": True, "timings": True, "max_tokens": 12}
    events = client.events(CHAT, **HI | asked)
    assert events[0]["prompt_token_ids"] == reply["prompt_token_ids"]
    ids = [id for event in events for each in event["choices"] for id in each.get("token_ids", [])]
    assert ids == reply["choices"][0]["token_ids"]
    timings = events[-1]["timings"]
    assert (events[-1]["choices"], timings["predicted_n"]) == ([], 12)
    assert timings["joules"] > 0
    assert timings["joules_source"] in ("estimated", "measured:rapl")
    assert timings["money"] == pytest.approx(timings["joules"] / 3.6e6 * 0.165)
    plain = client.events(CHAT, **HI)
    assert not [event for event in plain if event.keys() & {"timings", "prompt_token_ids"}]


# --- inspection ---


def test_inspected_probabilities_are_those_that_the_chat_told(client, reply):
    choice = reply["choices"][0]
    entries = choice["logprobs"]["content"]
    body = {"prompt_tokens": reply["prompt_token_ids"], "reply_tokens": choice["token_ids"]}
    tokens = posted(client, "/api/inspect", **body)["tokens"]
    assert [token["id"] for token in tokens] == choice["token_ids"]
    assert [entry["token_id"] for entry in entries] == choice["token_ids"]
    for token, entry in zip(tokens, entries):
        assert token["logprob"] == pytest.approx(entry["logprob"], abs=1e-4)
        assert [each["id"] for each in token["top"][:3]] == [e["token_id"] for e in entry["top_logprobs"]]


def test_experts_are_those_of_the_router_the_heaviest_first(client, reply, served):
    ffn = served.engine.model.spec.ffn
    body = {"prompt_tokens": reply["prompt_token_ids"], "reply_tokens": reply["choices"][0]["token_ids"]}
    (model,) = client.get("/api/models")[1]["models"]
    for token in posted(client, "/api/inspect", **body)["tokens"]:
        assert len(token["experts"]) == (model["experts"] or {"n_layers": 0})["n_layers"]
        for experts, weights in zip(token["experts"], token["weights"]):
            assert len(set(experts)) == ffn.n_active
            assert set(experts) < set(range(ffn.n_routed))
            assert weights == sorted(weights, reverse=True)


def test_inspection_waits_for_no_stream_and_disturbs_none(client, reply):
    from serving import endless

    body = {"prompt_tokens": reply["prompt_token_ids"], "reply_tokens": reply["choices"][0]["token_ids"]}
    first = posted(client, "/api/inspect", **body)
    with endless(client):
        assert posted(client, "/api/inspect", **body) == first
    client.settled()


def test_without_a_reply_only_the_end_of_thinking_is_told(client, served):
    said = posted(client, "/api/inspect", prompt_tokens=[], reply_tokens=[])
    assert said == {"tokens": [], "end_thinking_id": served.tokenizer.layout.end_think_id}


# --- problems and verdicts ---


def test_kinds_are_own_tasks_and_every_family(client):
    kinds = client.get("/api/kinds")[1]["kinds"]
    assert kinds[0] == {"family": "mine", "levels": [1, 2], "own": True}
    assert [kind["family"] for kind in kinds[1:]] == [*find.FAMILIES]
    assert all(kind["levels"] for kind in kinds)


@pytest.mark.parametrize("family", ["mine", *find.FAMILIES])
def test_a_problem_is_held_out_the_same_by_its_seed_and_judged_as_its_task_judges(client, own, family):
    task = find.find(family if family in find.FAMILIES else str(own))
    level = task.levels[0]
    asked = {"family": family, "level": level, "seed": 7, "lang": "de"}
    told = posted(client, "/api/problem", **asked)
    assert told == posted(client, "/api/problem", **asked)
    problem = next(base.problems(task, level, split="eval", seed=7, lang="de"))
    assert (told["prompt"], base.split_of(problem)) == (problem.prompt, "eval")
    for answer in (problem.witness, f"the answer is {problem.witness}", *task.near_misses(problem)[:2], ""):
        said = posted(client, "/api/verdict", **asked, answer=answer)
        with Verdicts() as verdicts:
            verdict = verdicts.verdict(task, problem, answer, ended=True)
        assert (said["right"], said["lenient"]) == (verdict.strict, verdict.lenient)
        assert (said["why"] == "right") is verdict.strict
        assert said["expected"] == problem.witness.strip()
    assert posted(client, "/api/verdict", **asked, answer=problem.witness)["right"]


def test_a_problem_without_a_seed_is_another_each_time(client):
    told = [posted(client, "/api/problem", **WEEKDAY) for _ in range(4)]
    assert len({each["seed"] for each in told}) == 4


@pytest.mark.parametrize("n", [1, 5, 32])
def test_counts_of_answers_sum_to_n(client, n):
    body = {"family": "lamp", "level": 4, "seed": 3, "n": n, "temperature": 1.5}
    said = posted(client, "/api/ask", **body)
    assert sum(each["count"] for each in said["answers"]) == said["n"] == n
    assert sum(each["count"] for each in said["answers"] if each["right"]) == said["right"]
    assert [*said["pass_at"]] == [str(k) for k in (1, 2, 4, 8, 16, 32) if k <= n]
    low, high = said["interval"]
    assert 0 <= low <= said["right"] / n <= high <= 1
    assert said["answers"] == posted(client, "/api/ask", **body)["answers"]


# --- models, keys, malformed bodies ---


def test_a_model_says_what_it_is(client, served):
    (model,) = client.get("/api/models")[1]["models"]
    assert (model["id"], model["loaded"], model["context"]) == ("lamp", True, served.context)
    assert model["thinks"] is (served.tokenizer.layout.think_id is not None)
    assert (model["cost"], model["scores"]) == (None, None)


BODIES = {
    "/api/inspect": {"prompt_tokens": [1, 2], "reply_tokens": [3]},
    "/api/problem": {"family": "lamp", "level": 4, "seed": 0},
    "/api/verdict": {"family": "lamp", "level": 4, "seed": 0, "answer": "x"},
    "/api/ask": {"family": "lamp", "level": 4, "seed": 0, "n": 1},
}
ODD = (None, "", "x", -1, 0, 1.5, 10**4000, [], [1], [[1]], {}, {"a": 1}, True, "\ud800", [2**40], [-1], "\0")


def test_malformed_bodies_are_refused_and_never_a_mistake_of_the_server(client):
    for path, body in BODIES.items():
        assert client.post(path, **body)[0] == 200
        for name in body:
            for odd in ODD:
                status, said = client.post(path, **body | {name: odd})
                assert status in (200, 400, 404), (path, name, odd, said)
            left = {k: v for k, v in body.items() if k != name}
            may_miss = name == "n" or (path, name) == ("/api/problem", "seed")
            assert client.post(path, left)[0] == (200 if may_miss else 400), (path, name)
        for raw in (b"", b"[]", b"{", b"\xff", b'"a"', b"[" * 500):
            assert client.raw("POST", path, raw)[0] == 400
        assert client.raw("GET", path)[0] == 405


def test_nothing_is_answered_without_a_key(served, own):
    digest = hashlib.sha256(KEY.encode()).digest()
    with running(served, Doors(keys=frozenset({digest})), more=routes.api([str(own)])) as client:
        for route in routes.api():
            for method in route.methods:
                path = route.path
                assert client.raw(method, path, json.dumps(BODIES.get(path, {})).encode())[0] == 401
                keyed = {"Authorization": f"Bearer {KEY}"}
                status, _, _ = client.raw(method, path, json.dumps(BODIES.get(path, {})).encode(), keyed)
                names_a_run = "{name}" in path or path == "/api/compare"
                assert status == (404 if names_a_run else 200)


def test_a_task_that_cannot_be_read_is_told_before_anything_is_served(tmp_path, capsys):
    from nomoat.cli import main

    (tmp_path / "bad.py").write_text("levels = (1,)")
    for name, words in (("bad.py", "lacks make, check"), ("none.py", "no task file at")):
        assert main.main(["serve", "--task", str(tmp_path / name), "--port", "0"]) == 2
        assert words in capsys.readouterr().err
    assert main.main(["serve", "--runs", str(tmp_path / "none")]) == 2
    assert "expected a directory of runs" in capsys.readouterr().err


def test_the_document_describes_these_routes_too(client):
    paths = client.get("/openapi.json")[1]["paths"]
    assert {route.path for route in routes.api()} <= paths.keys()


def test_what_ships_is_listed_with_its_default_first_and_its_stages_in_order():
    listed = Models().all(entries(("evening",), ()))["models"]
    others = [stage for stage in STAGES if stage != "rl"]
    assert [model["id"] for model in listed] == ["evening", *(f"evening:{stage}" for stage in others)]
    assert [STAGES[model["place"]] for model in listed] == [model["stage"] for model in listed]
    by_stage = {model["stage"]: model for model in listed}
    for model in listed:
        assert model["run"] == "evening"
        assert model["scores"]["low"] < model["scores"]["greedy"] < model["scores"]["high"]
        costs = [each["cost"]["joules"] for each in listed if each["place"] <= model["place"]]
        assert model["cost_total"]["joules"] == pytest.approx(sum(costs))
        assert (model["loaded"], model["thinks"], model["context"]) == (False, True, 512)
    assert by_stage["rl"]["experts"]["n_active"] < by_stage["rl"]["experts"]["n_routed"]


def test_a_known_model_stands_beside_what_ships_and_is_fetched_by_no_list(monkeypatch, tmp_path):
    monkeypatch.setattr(known, "openable", lambda: ["smollm2"])
    monkeypatch.setattr(known, "_installed", lambda wheel: None)
    monkeypatch.setattr(known, "user_cache", lambda: tmp_path)
    monkeypatch.setattr(known, "_cached", lambda *_: pytest.fail("it was fetched"))
    listed = entries((), ())
    assert [entry.name for entry in listed][-1] == "smollm2"
    facts = Models().all(listed)["models"][-1]
    assert (facts["id"], facts["run"], facts["parameters"]) == ("smollm2", None, None)
    assert "93 MB" in described(listed[-1], "f32")["from"]
