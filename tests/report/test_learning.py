"""The screen of a stage: one screen, from the log alone; nothing that a model wrote is obeyed."""

import json

import pytest

from nomoat.report import diagnosis, learning, page, snapshot
from nomoat.run.directory import Run


def steps(n=100, families=("lamp", "path")):
    """The step records of a stage that learns."""
    level = {"length": 20.0, "tokens": 5120, "entropy": 0.4, "kl": 0.02, "truncated": 0.2, "dead_groups": 0.2}
    curve = []
    for i in range(n):
        reward = 0.3 + 0.5 * i / n
        rewards = {"rewards": dict.fromkeys(families, reward), "levels": {f"{f}/2": reward for f in families}}
        step = {"kind": "step", "stage": "rl", "step": i + 1, "n_steps": n}
        curve.append({**step, **level, **rewards, "reward": reward})
    return curve


def test_old_and_empty_telemetry_is_tolerated():
    old = [{"step": i + 1, "reward": 0.5, "kl": None, "shadow": None, "rewards": None} for i in range(30)]
    diagnosis.diagnose(old)
    (course,) = learning.Screen("rl", old, (), ()).tables()
    cells = {row[0]: row[1:] for row in course.rows}
    assert cells["KL to the start, nats"][:3] == ("–", "–", "–")
    assert set(cells["KL to the start, nats"][3]) == {"·"}
    assert cells["right, as drawn"][:3] == ("50.0 %",) * 3


def test_spark_goes_from_the_least_to_the_most():
    assert learning.spark([0.0, 0.5, 1.0, None]) == "▁▅█·"
    assert set(learning.spark([0.3] * 9)) == {"▁"}
    assert learning.spark([0.5, 0.501]) == "▁▁"  # a flat line is not blown up
    assert learning.spark([]) == ""


NASTY = "<script>alert(1)</script>\x1b[2J\u202e\x9b31m\n</section>'\"&"


def make(root, curve, probes=(), name="rl"):
    run = Run.create(
        root, {"name": "r", "stages": [{"kind": "rl", "name": name}, {"kind": "rl", "name": "second"}]}
    )
    with run.locked():
        run.log("stage_start", stage=name, config={"group": 16}, units=1, device="cpu")
        for e in curve:
            run.log("step", **{k: v for k, v in e.items() if k != "kind"})
        for step, reply in probes:
            told = [
                {"family": NASTY, "prompt": f"{NASTY} {k}", "reply": reply, "right": step > 5}
                for k in range(5)
            ]
            run.log("probe", stage=name, step=step, probes=told)
    return Run.open(root)


def test_the_screen_shows_the_same_prompts_over_time(tmp_path):
    run = make(tmp_path / "run", steps(), [(s, f"reply {s}") for s in (0, 10, 20, 30, 40)])
    text = learning.screen(run, "rl").text(80)
    for prompt in range(5):
        assert [r.step for r in learning.probes(run, "rl")[prompt].replies] == [0, 20, 40]
    assert text.count("step     0 ✗ reply 0") == 5
    assert text.count("step    40 ✓ reply 40") == 5
    assert "reply 10" not in text


def test_probes_done_again_after_a_resume_count_once(tmp_path):
    make(tmp_path / "run", [])
    run = Run.open(tmp_path / "run", write=True)

    def told(step, reply):
        probe = {"family": "f", "prompt": "p", "reply": reply, "right": True}
        run.log("probe", stage="rl", step=step, probes=[probe])

    def done(*numbers):
        for n in numbers:
            run.log("step", stage="rl", step=n, n_steps=50)

    with run.locked():  # as the stage logs them: a probe, then the step that it belongs to
        told(1, "a")
        done(*range(1, 21))
        told(21, "old")
        done(*range(21, 41))
        told(41, "old")
        run.log("resume", stage="rl", step=15)
        done(*range(16, 21))
        told(21, "killed before its step was done")
        run.log("resume", stage="rl", step=20)
        told(21, "new")
    replies = [(r.step, r.text) for probe in learning.probes(Run.open(run.root), "rl") for r in probe.replies]
    assert replies == [(1, "a"), (21, "new")]


@pytest.mark.parametrize("width", [48, 60, 80, 110])
def test_the_screen_is_one_screen_and_harmless(tmp_path, width):
    run = make(tmp_path / "run", steps(families=(NASTY, "path")), [(0, NASTY), (20, NASTY * 20)])
    text = learning.screen(run, "rl").text(width)
    assert all(c == "\n" or c.isprintable() for c in text)
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) < 70


def test_the_page_has_the_verdict_and_the_prompts_as_data_alone(tmp_path):
    run = make(tmp_path / "run", steps(families=(NASTY, "path")), [(0, NASTY), (20, NASTY)])
    html = page.render(run)
    data = json.loads(html.partition('id="snapshot">')[2].partition("</script>")[0])
    assert NASTY not in html
    assert all(c == "\n" or c.isprintable() for c in html)
    (found,) = [each for each in data["run"]["learning"] if each["steps"]]
    assert found["findings"]
    assert [reply["text"] for reply in found["probes"][0]["replies"]] == [NASTY, NASTY]


def test_a_run_without_reinforcement_has_no_verdict(tmp_path):
    run = Run.create(tmp_path / "run", {"name": "r", "stages": [{"kind": "sft"}]})
    assert snapshot.snapshot(run)["learning"] == []


def test_a_stage_that_just_began_has_a_screen(tmp_path):
    run = make(tmp_path / "run", [])
    assert learning.screen(run, "rl").text(80).startswith("rl, before its first step")
    assert learning.screen(run, "rl").to_json()["steps"] == 0


def test_the_summary_is_json(tmp_path):
    found = learning.screen(make(tmp_path / "run", steps()), "rl").to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["steps"] == 100
    assert found["tenths"]["reward"][0] < found["tenths"]["reward"][2]
    assert {"sentence", "setting", "severity", "rule", "facts"} == set(found["findings"][0])


def test_a_live_run_has_a_screen(smoke):
    """No rule misreads the telemetry that the stage writes today."""
    run = Run.open(smoke.root)
    name = next(s.get("name") or "rl" for s in run.recipe["stages"] if s["kind"] == "rl")
    text = learning.screen(run, name).text()
    assert f"{name}, step " in text
    assert "–" not in next(line for line in text.splitlines() if line.startswith("entropy"))
