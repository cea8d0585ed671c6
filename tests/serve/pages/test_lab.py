"""The lab's routes: runs of a directory and no other, a log as it grows, and from any line on."""

import json
import shutil
import threading

import pytest
from starlette.testclient import TestClient

from nomoat.cli.serve import directory_of
from nomoat.run.directory import Run
from nomoat.serve.limits import Bounds, Doors
from nomoat.serve.pages import follow, lab
from nomoat.serve.pages.runs import Grown, Runs


def made(root, name, stages=("sft", "rl")):
    return Run.create(root / name, {"name": name, "seed": 1, "stages": [{"kind": kind} for kind in stages]})


def trained(run, stage="rl", first=1, last=5):
    with run.locked():
        run.log("stage_start", stage=stage, config={}, units=1, device="cpu")
        for number in range(first, last + 1):
            run.log("step", stage=stage, step=number, n_steps=9, loss=1.0, reward=0.5, seconds=1.0, tokens=9,
                    flops_model=1, flops_executed=1)  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    for name in ("one", "two"):
        trained(made(root, name))
    return root


@pytest.fixture
def client(runs):
    return client_of(lab.routes(runs))


class Plain:
    """An application with the doors and refusals of the server, without a model."""

    def __init__(self, routes):
        from nomoat.serve.app import App
        from nomoat.serve.shelf import Shelf

        self.app = App(Shelf([], 1), Doors(), Bounds(), more=routes)


def client_of(routes):
    return TestClient(Plain(routes).app, base_url="http://localhost", raise_server_exceptions=True)


def test_runs_are_listed_and_shown(client):
    listed = client.get("/api/runs").json()["runs"]
    assert {run["name"] for run in listed} == {"one", "two"}
    assert listed[0]["step"] == 5
    found = client.get("/api/runs/one").json()
    assert found["stages"][1]["state"] == "stopped"
    assert client.get("/api/runs/one/curve/rl").json()["steps"] == [1, 2, 3, 4, 5]
    both = client.get("/api/compare?a=one&b=two").json()
    assert [change["key"] for change in both["recipe"]] == ["name"]
    assert both["curves"][0]["field"] == "reward"


NAMES = ["..", "../one", "..%2Fone", "%2e%2e", "/etc", "C:\\x", "one%00", "link", "one%0a", "x" * 999]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_directory(client, runs, name):
    made(runs.parent, "outside")
    (runs / "link").symlink_to(runs.parent / "outside")
    for path in (f"/api/runs/{name}/curve/rl", f"/api/runs/{name}/events", f"/api/compare?a={name}&b=one"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "outside" not in answer.text


@pytest.mark.parametrize("stage", ["..", "../../two/rl", "no", ""])
def test_no_stage_leads_out_of_a_run(client, stage):
    answer = client.get("/api/runs/one/rollouts", params={"stage": stage})
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "stage")


def test_a_curve_of_no_stage_is_refused(client):
    answer = client.get("/api/runs/one/curve/no")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "stage")


@pytest.mark.parametrize(("field", "value"), [("only", "some"), ("step", "-1"), ("limit", "x"), ("at", "5")])
def test_a_query_that_means_nothing_is_refused(client, field, value):
    answer = client.get(f"/api/runs/one/rollouts?stage=rl&{field}={value}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize(("asked", "param"), [("", "a"), ("?a=one", "b"), ("?a=no&b=one", "a")])
def test_of_two_runs_the_one_that_is_none_is_named(client, asked, param):
    answer = client.get(f"/api/compare{asked}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, param)


def test_a_server_that_is_older_than_the_first_run_lists_it(runs, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    lab = Runs(directory_of(None))
    assert lab.rows() == []
    shutil.copytree(runs, "runs")
    assert lab.rows()


def test_a_damaged_run_is_told_and_the_others_stay(client, runs):
    (runs / "one" / "events.jsonl").write_text("{}\nno event\n")
    (runs / "two" / "recipe.json").write_text("[]")
    made(runs, "three")
    states = {run["name"]: run["state"] for run in client.get("/api/runs").json()["runs"]}
    assert states == {"one": "damaged", "two": "damaged", "three": "new"}
    assert client.get("/api/runs/one").status_code == 409
    assert client.get("/api/runs/three").json()["state"] == "new"


def test_a_run_of_another_place_is_listed_under_a_name_of_its_own(runs):
    made(runs.parent, "one")
    places = Runs(runs, [runs.parent / "one", runs / "two"]).places()
    assert list(places) == ["one", "two", "one~2"]
    assert places["one~2"] == (runs.parent / "one").resolve()


def test_a_log_is_read_on_from_where_it_was_and_again_where_it_is_another(runs):
    run = Run.open(runs / "one", write=True)
    grown = Grown(run.lines.path)
    assert grown.events() == run.events()
    before = grown.events()
    trained(run, first=3, last=6)  # as after a resume
    assert grown.events() == run.events()
    assert [e.get("redone", False) for e in before if e["kind"] == "step"] == [False, False, True, True, True]
    with run.lines.path.open("a") as file:
        file.write('{"kind": "torn')
    assert len(grown.events()) == len(before) + 5
    run.lines.path.unlink()
    assert grown.events() == []


def test_the_tail_gives_whole_lines_once_from_any_line_on(tmp_path):
    path = tmp_path / "events.jsonl"
    tail = follow.Tail(path, after=1)
    assert tail.more() == (False, [])
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a"')
    assert tail.more() == (False, [(2, b'{"a": 2}')])
    assert tail.more() == (False, [])
    with path.open("r+b") as file:  # a killed process left it torn, the next one cuts it
        file.truncate(18)
    with path.open("ab") as file:
        file.write(b'{"a": 3}\n')
    assert tail.more() == (False, [(3, b'{"a": 3}')])
    path.unlink()
    path.write_bytes(b'{"b": 1}\n')
    assert tail.more() == (True, [(1, b'{"b": 1}')])


def test_a_run_is_followed_while_it_grows_and_the_stream_ends_with_the_server(runs, monkeypatch):
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.01)
    app = Plain(lab.routes(runs)).app
    run = Run.open(runs / "one", write=True)
    seen, writers = [], []

    def on_line(line):
        if line.startswith("data:"):
            seen.append(json.loads(line[5:]))
        if seen and "running" in seen[-1] and not writers:
            writers.append(threading.Thread(target=trained, args=(run,), kwargs={"first": 6, "last": 9}))
            writers[0].start()
        if seen and seen[-1].get("step") == 9:
            app.ending = True

    headers = {"Last-Event-ID": "5"}
    feed(app, headers, on_line)
    writers[0].join()
    assert [e["step"] for e in seen if e.get("kind") == "step"] == [5, 6, 7, 8, 9]


def feed(app, headers, on_line):
    """What the route sends, line by line; TestClient itself waits for the end of an answer."""
    import asyncio

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        for line in message.get("body", b"").decode().splitlines():
            on_line(line)

    given = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/api/runs/one/events", "raw_path": b"",
             "query_string": b"", "headers": [(b"host", b"localhost"), *given],
             "server": ("127.0.0.1", 1)}  # fmt: skip
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 20))
