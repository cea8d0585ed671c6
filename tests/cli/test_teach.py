"""`nomoat teach`: a task file and a model in, a taught model out; killed anywhere, it ends in the same bits.
"""

import json
import signal

import pytest
from brought import LLAMA, saved, spoilt
from shapes import varied

from nomoat.cli import main
from nomoat.cli.teach import Clock
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
from nomoat.stages import footprint, s5_rl

TASK = '''
"""Letters."""
from nomoat.tasks.base import Problem, others

levels = (4, 5)

def make(rng, level):
    word = "".join(rng.choices("abcdefgh", k=level))
    return Problem(f"{word}?", f"letter {word}", word[0], {"lang": "en", "word": word})

def check(problem, answer):
    return 0 < len(answer) < 5 and answer[0] in problem.facts["word"]

def near_misses(problem):
    return others(problem, "x", "y", "z" + problem.facts["word"])
'''
QUICK = [["nomoat.lab.look", "PROBLEMS", 8], ["nomoat.plan.probe", "SECONDS", 0.1]]
FEW = {"sets": QUICK}
SMALL = (
    "threads=1", "save_seconds=0",
    "cold.steps=20", "cold.until=0.00003", "cold.rows=2", "cold.context=64", "cold.optim.adam_lr=0.03",
    "cold.schedule.warmup=0.1", "cold.schedule.decay=0.9",
    "rl.steps=4", "rl.prompts=3", "rl.group=8", "rl.watch_every=9", "rl.optim.adam_lr=0.03",
    "eval.heldout_bytes=200", "eval.problems=4", "eval.samples=1",
    "cold.precision=fp32", "rl.precision=fp32",  # so that all machines give the same
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("teach")
    saved(place / "base")
    (place / "letters.py").write_text(TASK)
    return place


def words(place, out, *more, replay=0):
    return [
        "teach",
        place / "base",
        "--task",
        place / "letters.py",
        "--out",
        place / out,
        *more,
        "--set",
        *SMALL,
        f"replay.problems={replay}",
    ]


@pytest.fixture(scope="module")
def taught(forge, place):
    done = forge(*words(place, "run", "--json"), trap=FEW)
    assert done.code == 0, done.err
    return Run.open(place / "run"), done


def test_one_command_looks_plans_teaches_and_measures(taught):
    run, done = taught
    assert [stage["name"] for stage in run.recipe["stages"]] == ["main", "cold", "rl", "eval"]
    assert json.loads(done.out)["ran"] == ["main", "cold", "rl", "eval"]
    assert run.recipe["stages"][1]["chains"] == 0.0  # no `work`, no right answer: it is shown answers alone
    (look,) = run.events("look")
    assert [(seen["level"], seen["n"]) for seen in look["levels"]] == [(4, 4), (5, 4)]
    assert "a cold start on right answers alone" in " ".join(done.err.split())
    assert "What it can do already" in done.err
    assert {e["model"] for e in run.events("score", "eval") if "model" in e} == {"main", "cold", "rl"}
    names = {e["name"] for e in run.events("score")}
    assert {"bpb/en", "accuracy/greedy", "common/talk", "common/facts"} <= names
    assert {(e["level"], e["n"]) for e in run.events("constant", "eval")} == {(4, 4), (5, 4)}
    assert any(0 < e["reward"] < 1 and e["dead_groups"] < 1 for e in run.curve("rl"))  # there was news
    assert (run.root / "rl" / "adapter" / "adapter_config.json").is_file()


def test_a_cold_start_ends_where_the_model_gives_whole_answers_often_enough(taught):
    run, done = taught
    steps = run.curve("cold")
    assert 4 <= len(steps) < steps[-1]["n_steps"] == 20
    (note,) = [e["text"] for e in run.events("note", "cold") if "until" in e["text"]]
    assert note.startswith(f"ends behind step {len(steps)} of 20: a whole answer of ")
    assert "cold start: at most 20 steps" in " ".join(done.err.split())


def test_all_weights_may_learn_instead_of_adapters(forge, place):
    whole = f'models.main={{ from = "{place / "base"}" }}'
    planned = forge(*words(place, "full", "--plan", "--json", replay=9), whole, trap=FEW)
    assert planned.code == 0, planned.err
    plan = json.loads(planned.out)
    stages = {stage["name"]: stage for stage in plan["recipe"]["stages"]}
    assert stages["cold"]["replay"] == ["replay"]
    assert "what it says to 9 general questions" in " ".join(step["what"] for step in plan["plan"]["steps"])
    assert stages["cold"]["lora"] is stages["rl"]["lora"] is None


def test_a_killed_one_goes_on_to_the_same_bits(forge, place, taught, weights, curve):
    run, _ = taught
    killed = {"signal": signal.SIGKILL, "kind": "step", "stage": "rl", "step": 2, **FEW}
    assert forge(*words(place, "killed"), trap=killed).code == -signal.SIGKILL
    again = forge(*words(place, "killed"), trap=FEW)
    assert again.code == 0, again.err
    assert "What it can do already" not in again.err  # the look and its plan are kept
    assert weights(place / "killed", "rl") == weights(run.root, "rl")
    assert curve(place / "killed", "rl") == curve(run.root, "rl")


@pytest.mark.check
def test_time_that_is_spent_ends_reinforcement_and_not_the_run(forge, place):
    hopeful = {"sets": [*QUICK, ["nomoat.lab.teach", "KEPT_BACK", -1e9]]}
    done = forge(*words(place, "late", "--minutes", "0.001"), trap=hopeful)
    assert done.code == 0, done.err
    assert "the time for training is spent: reinforcement ends behind step 1" in done.err
    run = Run.open(place / "late")
    assert len(run.curve("rl")) == 1
    assert run.finished("eval")


@pytest.mark.check
def test_r1s_order_of_stages_on_given_weights_runs_whole(forge, place):
    task = f'{{ "{place / "letters.py"}" = [4] }}'
    attention = '{ kind = "grouped", n_heads = 4, n_kv_heads = 2, d_head = 8, d_value = 8 }'
    student = [
        "n_layers=1", "d_model=32", "context=128", "rope_theta=10000.0", f"attention={attention}",
        'ffn={ kind = "dense", d_hidden = 32 }',
    ]  # fmt: skip
    small = [f"models.main.from={place / 'base'}", "threads=1", *(f"models.student.{s}" for s in student)]
    small += [f"panels.{name}={task}" for name in ("learn", "judge", "general", "everything")]
    for name in ("dev1", "dev3", "student"):
        small += [f"{name}.{key}" for key in ("chains=0.0", "context=64", "rows=2", "task_documents=40")]
        small.append(f"{name}.steps={2 if name != 'dev1' else 80}")
    small += ["dev1.optim.adam_lr=0.03", "gather.max_new_tokens=16"]
    small += ["student.policy_steps=1", f"student.policy_tasks={task}", "student.shares={ tasks = 1.0 }"]
    small += ["dev3.shares={ samples = 0.7, talk = 0.3 }", "dev3.talk_documents=20"]
    for name in ("dev2", "r1", "student"):
        small += [f"{name}.prompts=2", f"{name}.group=2", f"{name}.max_new_tokens=8"]
    small += ["dev2.steps=2", "r1.steps=2", "r1.talk=1", "gather.problems=150", "gather.samples=8"]
    small += ["eval.problems=2", "eval.talk=0", "eval.max_new_tokens=8", "eval.heldout_bytes=200"]
    planned = forge("run", "r1-open", "--plan", "--set", *small, trap=FEW)
    assert planned.code == 0, planned.err
    done = forge("run", "r1-open", "--out", place / "r1-open", "--set", *small, trap=FEW)
    assert done.code == 0, done.err
    run = Run.open(place / "r1-open")
    assert list(run.all_weights()) == ["main", "dev1", "dev2", "dev3", "r1", "student"]
    assert run.all_weights()["student"].spec["n_layers"] == 1


def test_a_run_of_another_task_is_left_alone(forge, place, taught):
    other = forge("teach", place / "base", "--task", "sorting", "--out", place / "run")
    assert (other.code, "name them, or another --out" in other.err) == (2, True)


def refused(capsys, *argv) -> str:
    assert main.main([str(word) for word in argv]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("no turns", "this tokenizer has no chat template"),
        ("no assistant", "the chat template marks"),
        ("cut", "model.safetensors"),
        ("nan", "values that are no finite numbers"),
    ],
)
def test_a_model_that_cant_be_taught_is_refused(place, tmp_path, capsys, what, complaint):
    path = spoilt(tmp_path / "m", what)["from"]
    said = refused(capsys, "teach", path, "--task", place / "letters.py", "--out", tmp_path / "run")
    assert complaint in said
    assert not (tmp_path / "run").exists()


def test_a_question_without_room_for_an_answer_is_refused(place, tmp_path, capsys):
    long = TASK.replace('f"{word}?"', 'f"{word}?" * 200')
    (tmp_path / "long.py").write_text(long)
    said = refused(capsys, "teach", place / "base", "--task", tmp_path / "long.py", "--out", tmp_path / "run")
    assert "expected room for an answer" in said


def test_a_model_too_large_is_refused_before_it_is_loaded(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(footprint.memory, "available_bytes", lambda: 10**8)
    monkeypatch.setattr("nomoat.serve.loading.load", None)
    said = refused(capsys, "teach", place / "base", "--task", place / "letters.py", "--out", tmp_path / "run")
    assert "of memory, and 100 MB are free" in said


def test_an_adapter_of_another_base_is_refused(place, taught, tmp_path, capsys):
    run, _ = taught
    saved(tmp_path / "other", varied(LLAMA, d_model=16))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for file in (run.root / "rl" / "adapter").iterdir():
        (adapter / file.name).write_bytes(file.read_bytes())
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "other")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    said = refused(capsys, "teach", adapter, "--task", place / "letters.py", "--out", tmp_path / "run")
    assert "it is an adapter of another base; name that one" in said


def test_reinforcement_begins_with_the_steps_that_the_time_has_left_and_keeps_them(tmp_path):
    run = Run.create(tmp_path / "run", {})
    config = s5_rl.Config(kind="rl", name="rl", tasks={"lamp": [4]}, steps=50)
    with run.locked():
        run.log("look", stage=None, train_seconds=100.0, kept_seconds=10.0, step_seconds=9.0)
        run.log("step", stage="cold", step=1, seconds=30.0)
        begun = Clock(run, Stop(), "cpu", 1).cut(config)
        assert begun.steps == 6
        run.log("stage_start", stage="rl", config=begun.model_dump(by_alias=True))
        run.log("step", stage="rl", step=1, seconds=40.0)
        later = Clock(run, Stop(), "cpu", 1)
        assert later.cut(config) == begun
        assert not later.stop.requested
        later.hear({"kind": "step", "stage": "rl", "seconds": 29.0})
        assert not later.stop.requested
        later.hear({"kind": "step", "stage": "rl", "seconds": 2.0})
        assert later.stop.requested
