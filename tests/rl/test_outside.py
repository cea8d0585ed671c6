"""Laws of a sampler that is another process, held against the project's own server."""

import contextlib
from types import SimpleNamespace

import pytest
import ranks
import torch
from serving import ROWS, SPEC, running

from nomoat.config import ConfigError, DataError, UserError, parse
from nomoat.engine import generate
from nomoat.engine.engine import Engine, Limits
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import ALONE
from nomoat.rl import exchange, reward, rollout
from nomoat.rl.outside import CHOICES, Outside, SamplerConfig, key_of
from nomoat.rl.rollout import Exercise
from nomoat.rl.step import Settings
from nomoat.serve import updating
from nomoat.serve.shelf import Served, fingerprint
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe

HOW = {"max_new_tokens": 12, "seed": 5}


@pytest.fixture(scope="module")
def tokenizer():
    task = find.find("addition")
    stream = base.problems(task, 1, split="train", seed=0)
    return bpe.train([p.prompt + task.work(p) for p, _ in zip(stream, range(50))], 280)


def policy(seed=0):
    return Transformer(SPEC).initialise(seed).eval()


@contextlib.contextmanager
def served(tokenizer, place, seed=0):
    """A server of a policy, which takes weights from `place`."""
    torch.set_num_threads(1)
    model = policy(seed)
    engine = Engine(model, Limits(rows=ROWS), tokenizer=tokenizer)
    place.mkdir(exist_ok=True)
    told = Served("lamp", engine, tokenizer, fingerprint(engine, tokenizer))
    with running(told, more=updating.routes(place)) as client:
        yield client


def outside(client, place, mesh=ALONE, **fields):
    url = f"http://127.0.0.1:{client.port}/v1"
    table = {"url": url, "model": "lamp", "requests": 4, "bound": 1e-4, **fields}
    return Outside(parse(SamplerConfig, table, "sampler"), place, mesh)


def exercises(n):
    task = find.find("addition")
    stream = base.problems(task, 1, split="train", seed=0)
    return [Exercise("addition", 1, task, next(stream)) for _ in range(n)]


def test_it_draws_what_the_engine_draws_and_is_told_of_new_weights(tokenizer, tmp_path):
    """Sample by sample: a request is keyed, whoever answers it."""
    with served(tokenizer, tmp_path / "w") as client:
        sampler = outside(client, tmp_path / "w")
        for number, model in enumerate((policy(0), policy(1))):
            sampler.renew(number, model, tokenizer)
            assert [p.name for p in (tmp_path / "w").iterdir()] == [f"step_{number:06d}"]
            ended = []
            how = {"draw": sampler.draw, "keys": range(3)}
            drawn = rollout.sample(model, tokenizer, exercises(3), group=CHOICES + 1, **HOW, **how)
            for i, group in enumerate(drawn):
                prompt = group[0].prompt_T.tolist()
                for ask in sampler.asks(i, prompt, i, CHOICES + 1, HOW["seed"], {"max_tokens": 12}):
                    own = {"n_per_prompt": ask.body["n"], "seed": ask.body["seed"], "keys": [0]}
                    own |= {"max_new_tokens": 12, "stop_ids": (2,)}
                    for j, sample in enumerate(generate.sample(model, [prompt], **own)[0], ask.first):
                        assert group[j].ids_T.tolist() == sample.ids_T.tolist()
                        torch.testing.assert_close(group[j].logp_T, sample.logp_T, rtol=0, atol=1e-5)
                        ended.append(sample.stop)
            judged = reward.judge(drawn)
            weighed, found = sampler.weighed(number, model, judged, 1.0)
            assert found.gap < 1e-5
            assert found.tokens == sum(r.length for group in drawn for r in group)
            assert len({*ended}) <= 2


def test_verdicts_begin_with_each_answer_that_ends(tokenizer, tmp_path):
    heard = []
    with served(tokenizer, tmp_path / "w") as client:
        sampler = outside(client, tmp_path / "w")
        stops = tuple(range(0, 280, 3))  # so that most answers end
        drawn = sampler.draw(
            policy(), [[1, 40]], n_per_prompt=3, stop_ids=stops, keys=[0], **HOW,
            on_end=lambda i, j, ids_T: heard.append((i, j, ids_T.tolist())),
        )  # fmt: skip
    ended = [(0, j, s.ids_T.tolist()) for j, s in enumerate(drawn[0]) if s.stop == "end"]
    assert sorted(heard) == ended != []


def test_stale_weights_are_refused_and_the_error_says_what_to_look_at(tokenizer, tmp_path):
    with served(tokenizer, tmp_path / "w") as client:
        deaf = outside(client, tmp_path / "w", update=[], bound=0.01)
        model = policy(1)
        deaf.renew(6, model, tokenizer)
        drawn = reward.judge(
            rollout.sample(model, tokenizer, exercises(1), group=4, draw=deaf.draw, keys=[0], **HOW)
        )
        with pytest.raises(UserError, match=r"step 7: .* nats, largest .*expected 0.01 at most.*step_000006"):
            deaf.weighed(6, model, drawn, 1.0)
        lenient = replace_bound(deaf, 50.0)
        assert lenient.weighed(6, model, drawn, 1.0)[1].gap > 0.01


def replace_bound(sampler, bound):
    return Outside(sampler.sampler.model_copy(update={"bound": bound}), sampler.directory, ALONE)


def test_weights_are_due_every_so_many_steps_and_at_the_beginning(tokenizer, tmp_path):
    with served(tokenizer, tmp_path / "w") as client:
        sampler, had = outside(client, tmp_path / "w", every=3), []
        for number in range(4, 8):
            sampler.renew(number, policy(), tokenizer)
            had.append(sampler.place.name)
    assert had == ["step_000004", "step_000004", "step_000006", "step_000006"]


def test_a_server_that_was_started_again_gets_the_weights_again(tokenizer, tmp_path):
    """Its own are older: without them its tokens would be refused."""
    model = policy(1)
    with served(tokenizer, tmp_path / "w") as client:
        sampler = outside(client, tmp_path / "w", patience_seconds=60.0)
        sampler.renew(0, model, tokenizer)
    with served(tokenizer, tmp_path / "w") as other:  # at another port, as it happens
        sampler.server.place = f"127.0.0.1:{other.port}"
        sampler.server.lost = True
        group = rollout.sample(model, tokenizer, exercises(1), group=2, draw=sampler.draw, keys=[0], **HOW)
        assert sampler.weighed(0, model, reward.judge(group), 1.0)[1].gap < 1e-5


def test_what_is_wrong_at_the_door_is_said_before_anything_is_drawn(tokenizer, tmp_path, free_port):
    other = bpe.train(["Another text about other things. " * 9], 280)
    gone = SimpleNamespace(port=free_port)
    with pytest.raises(UserError, match=f"{free_port}/v1: no answer .*start it first"):
        outside(gone, tmp_path).renew(0, policy(), tokenizer)
    with served(tokenizer, tmp_path / "w") as client:
        with pytest.raises(ConfigError, match="no such model; did you mean `lamp`"):
            outside(client, tmp_path / "w", model="lamb").renew(0, policy(), tokenizer)
        with pytest.raises(UserError, match="another tokenizer"):
            outside(client, tmp_path / "w").renew(0, policy(), other)
        with pytest.raises(UserError, match="not below the --updates directory"):
            outside(client, tmp_path / "elsewhere").renew(0, policy(), tokenizer)
        with pytest.raises(UserError, match="/nowhere .status 404"):
            outside(client, tmp_path / "w", update=[{"path": "/nowhere"}]).renew(0, policy(), tokenizer)
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="cannot write"):
            outside(client, tmp_path / "file").renew(0, policy(), tokenizer)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("url", "127.0.0.1:8000/v1", "sampler.url"),
        ("url", "http://me:secret@host/v1", "sampler.url"),
        ("url", "http://host:8000", "sampler.url"),
        ("clip", 0.5, "expected 1.0 or more"),
        ("bound", 0.0, "expected more than 0"),
        ("update", [{"path": "reload"}], "sampler.update"),
        ("directori", "x", "did you mean `directory`"),
    ],
)
def test_a_mistake_in_the_recipe_is_said(field, value, said):
    table = {"url": "http://host:8000/v1", "model": "m", field: value}
    with pytest.raises(ConfigError, match=said):
        parse(SamplerConfig, table, "sampler")


def test_a_temperature_that_servers_do_not_tell_is_refused():
    table = {"tasks": {"lamp": [4]}, "steps": 1, "sampler": {"url": "http://host/v1", "model": "m"}}
    assert parse(Settings, table, "rl").sampler.clip == 2
    with pytest.raises(ConfigError, match=r"temperature = 0.7 beside sampler.*expected 1"):
        parse(Settings, table | {"temperature": 0.7}, "rl")


def test_the_key_is_in_the_environment(monkeypatch):
    sampler = SamplerConfig(url="http://host/v1", model="m", key="SAMPLER_KEY")
    monkeypatch.delenv("SAMPLER_KEY", raising=False)
    with pytest.raises(ConfigError, match="export SAMPLER_KEY="):
        key_of(sampler)
    monkeypatch.setenv("SAMPLER_KEY", "0123456789abcdef")
    assert key_of(sampler) == "0123456789abcdef"


def failing_on(mesh, rank):
    """What every rank is told when the sampler of one fails."""

    def work(own):
        if mesh.rank == rank:
            raise UserError("no answer")
        return []

    with pytest.raises(UserError) as caught:
        exchange.draw(mesh, [None, None], work)
    return str(caught.value)


def test_a_sampler_that_fails_one_rank_ends_all():
    assert ranks.run(failing_on, 2, 1) == ["rank 1: no answer", "no answer"]
