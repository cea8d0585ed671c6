"""Is it learning: every rule holds where it should and nowhere else."""

import json
import random
import re
from pathlib import Path

import pytest

from nomoat import stats
from nomoat.report import curve as curves
from nomoat.report import diagnosis
from nomoat.report.diagnosis import Share
from nomoat.report.scores import Scores
from nomoat.stats import Accuracy

HEALTHY = {
    "lenient": 0.02,
    "shadow": 0.0,
    "undecided": 0,
    "length": 20.0,
    "length_right": 20.0,
    "length_wrong": 21.0,
    "truncated": 0.01,
    "dead_groups": 0.2,
    "common": 0.2,
    "common_right": 0.1,
    "entropy": 0.4,
    "drift": 2e-5,
    "kl": 0.02,
    "sample_seconds": 0.3,
    "update_seconds": 0.4,
}


def at(value, share):
    """A constant, or what lies so far between two values."""
    return value[0] + (value[1] - value[0]) * share if isinstance(value, tuple) else value


def steps(n=100, reward=(0.3, 0.8), problems=16, group=16, families=("lamp", "path"), **changes):
    """A curve: each field a constant, or (from, to), with a little noise on the reward."""
    rng = random.Random("curve")
    curve = []
    for i in range(n):
        e = {
            "kind": "step",
            "stage": "rl",
            "step": i + 1,
            "n_steps": n,
            "reward": at(reward, i / max(n - 1, 1)),
        }
        e |= {key: at(changes.get(key, v), i / max(n - 1, 1)) for key, v in HEALTHY.items()}
        e["lenient"] = e["reward"] + e["lenient"] if "lenient" not in changes else e["lenient"]
        e["rewards"] = {f: min(max(e["reward"] + rng.uniform(-0.02, 0.02), 0.0), 1.0) for f in families}
        e["levels"] = dict.fromkeys((f"{f}/2" for f in families), e["reward"])
        e["tokens"] = problems * group * e["length"]
        curve.append(e)
    return curve


def settings(curve, **config):
    return {f.setting for f in diagnosis.diagnose(curve, {"group": 16, **config})}


def said(curve, severity=None):
    found = diagnosis.diagnose(curve, {"group": 16})
    return " ".join(f.sentence for f in found if severity in (None, f.severity))


def test_a_healthy_run_says_what_rose_and_nothing_else():
    (finding,) = diagnosis.diagnose(steps(reward=(0.2, 0.97)), {"group": 16})
    assert finding.severity == "good"
    assert "rose from 22.9 % (17 %–30 %) to 93.0 % (88 %–96 %)" in finding.sentence
    low, high = stats.wilson(
        149, 160
    )  # sixteen problems in each of ten steps; the sixteen rollouts of one count once
    assert f"({low:.0%}–{high:.0%})".replace("%", " %") in finding.sentence


BROKEN = {
    "tasks, group": (
        {"dead_groups": 0.75, "reward": 0.1},
        "75 % of the groups teach.*every answer is wrong.*lower levels",
    ),
    "tasks": ({"dead_groups": 0.75, "reward": 0.9}, "75 %.*every answer is right: raise"),
    "optim.adam_lr, kl": ({"entropy": (0.5, 0.02)}, r"Entropy fell to \d+ % of its start"),
    "max_new_tokens": ({"truncated": 0.2}, "20 % of the answers are cut off.*raise max_new"),
    "from, rewards.format": ({"reward": 0.3, "lenient": 0.6}, "30 % of the answers are right.*SFT"),
    "precision": ({"drift": 3e-3}, r"100 of 100 steps, by 0\.003 at most.*precision"),
    "sandbox": ({"undecided": 2}, "200 answers could not be judged.*nomoat doctor"),
    "kl, optim.adam_lr": ({"kl": (0.0, 2.0)}, r"1\.\d+ nats a token from its start"),
    "variant, max_new_tokens": ({"reward": 0.4, "length": (20.0, 60.0)}, "from 22 to 58 tokens.*not right"),
    "optim.adam_lr": ({"reward": (0.8, 0.3)}, r"fell from 77\.\d %.*lower optim.adam_lr"),
    "steps, optim.adam_lr": ({"reward": 0.4}, "No rise beyond chance in the last half, 40"),
}  # fmt: skip


@pytest.mark.parametrize("setting", BROKEN)
def test_each_rule_names_its_setting(setting):
    changes, pattern = BROKEN[setting]
    found = diagnosis.diagnose(steps(**changes), {"group": 16})
    (finding,) = [f for f in found if f.setting == setting]
    assert re.search(pattern, finding.sentence), finding.sentence
    assert finding.severity in ("bad", "look")


def test_doubts_lead_to_the_rollouts():
    assert "3.0 % of the right answers also pass for another problem" in said(steps(shadow=0.03), "bad")
    assert "nomoat rollouts RUN --only doubted" in said(steps(shadow=0.03))


def test_levels_too_far_apart():
    assert "some all right and some all wrong" in said(steps(dead_groups=0.8, reward=0.5), "bad")


@pytest.mark.parametrize("changes", [
    {"dead_groups": 0.55}, {"entropy": (0.4, 0.2)}, {"truncated": 0.09}, {"shadow": 0.009}, {"drift": 9e-5},
    {"kl": 0.4}, {"length": (20.0, 60.0)}, {"lenient": 0.9},
])  # fmt: skip
def test_no_rule_speaks_below_its_limit(changes):
    found = diagnosis.diagnose(steps(reward=(0.2, 0.97), **changes), {"group": 16})
    assert [f.severity for f in found] == ["good"], found


def test_one_drift_by_rounding_is_none_but_a_large_one_is():
    curve = steps(reward=(0.2, 0.97))
    curve[50]["drift"] = 2e-4
    assert "precision" not in settings(curve)
    curve[50]["drift"] = 0.5
    assert "precision" in settings(curve)
    assert not any(f.rule == "drift" for f in diagnosis.diagnose(curve, {"group": 16, "precision": "bf16"}))
    curve[50]["drift"] = 101.0
    assert any(f.rule == "drift" for f in diagnosis.diagnose(curve, {"group": 16, "precision": "bf16"}))


def test_every_rule_can_speak():
    curves = [steps(**changes) for changes, _ in BROKEN.values()]
    curves += [
        steps(common=0.97, common_right=0.5),
        steps(shadow=0.03),
        steps(dead_groups=0.8, reward=0.5),
        steps(n=5),
        steps(),
    ]
    sentences = [f.sentence for curve in curves for f in diagnosis.diagnose(curve, {"group": 16})]
    for rule in diagnosis.RULES:
        pattern = re.sub(r"\\{.*?\\}", ".+", re.escape(rule.sentence))
        assert any(re.fullmatch(pattern, sentence) for sentence in sentences), rule.sentence
        assert rule.severity in diagnosis.SIGNS


def test_every_row_reads_something_that_the_stage_logs():
    assert set(curves.ROWS) - {"alike"} <= {*HEALTHY, "reward"}


def test_settings_are_those_of_the_stage():
    from nomoat.rl.reward import Weights
    from nomoat.stages.s5_rl import Config

    for rule in diagnosis.RULES:
        for setting in filter(None, rule.setting.split(", ")):
            head, _, rest = setting.partition(".")
            fields = Config.model_fields
            known = head in fields or head in {f.alias for f in fields.values()} or head == "sandbox"
            assert known, setting
            if head == "rewards":
                assert rest in Weights.model_fields
            if head == "optim":
                assert rest in fields["optim"].annotation.model_fields


def test_chance_is_no_rise():
    """With few problems a step the same means prove nothing."""
    weak, strong = (
        steps(n=20, reward=(0.40, 0.55), problems=4),
        steps(n=200, reward=(0.40, 0.55), problems=64),
    )
    assert "rose" not in said(weak)
    assert "rose" in said(strong)


def test_rollouts_of_one_problem_are_no_independent_witnesses():
    curve = steps(n=20, reward=(0.40, 0.55), problems=4)
    assert any(f.severity == "good" for f in diagnosis.diagnose(curve, {"group": 1}))
    assert not any(f.severity == "good" for f in diagnosis.diagnose(curve, {"group": 16}))


def test_a_choice_that_follows_the_news_does_not_hide_learning():
    """Solved families are drawn less: the reward as drawn stands still while every family improves."""
    curve = steps(reward=0.5)
    for i, e in enumerate(curve):
        e["rewards"] = {"lamp": 0.3 + 0.5 * i / 99, "path": 0.3 + 0.5 * i / 99}
    assert "rose from 32" in said(curve, "good")


def test_a_family_that_was_not_drawn_is_no_fall():
    curve = steps(reward=0.5, families=("lamp", "path"))
    for i, e in enumerate(curve):
        e["rewards"] = {"lamp": 0.99, "path": 0.3} if i < 50 else {"path": 0.3}
    assert "fell" not in said(curve)


def test_newcombe_interval_has_its_sides_right():
    assert diagnosis.moved(Share(0.5, 0.4, 0.6), Share(0.7, 0.62, 0.8)) == 1
    assert diagnosis.moved(Share(0.7, 0.62, 0.8), Share(0.5, 0.4, 0.6)) == -1
    assert diagnosis.moved(Share(0.5, 0.4, 0.6), Share(0.6, 0.5, 0.7)) == 0


def test_few_steps_tell_nothing():
    assert "5 steps so far" in said(steps(n=5))
    assert "0 steps so far" in said([])


def test_the_worst_comes_first():
    found = diagnosis.diagnose(steps(reward=(0.2, 0.6), truncated=0.5, undecided=1), {"group": 16})
    order = [list(diagnosis.SIGNS).index(f.severity) for f in found]
    assert order == sorted(order)
    assert len(order) >= 3


def real_curve():
    """Stage rl of recipes/cpu.toml, seed 0, four digits each, from before `levels` and the KL."""
    table = json.loads(Path(__file__).with_name("data").joinpath("rl_cpu_seed0.json").read_text("utf-8"))
    families = table.pop("rewards")
    n, curve = len(table["reward"]), []
    for i in range(n):
        rewards = {name: column[i] for name, column in families.items() if column[i] is not None}
        fields = {key: column[i] for key, column in table.items()}
        curve.append({"stage": "rl", "step": i + 1, "n_steps": n, **fields, "rewards": rewards})
    return curve


def test_a_real_run_learns_though_its_reward_as_drawn_stands_still():
    curve = real_curve()
    start, _, now = curves.tenths(curve)
    assert abs(diagnosis.value(now, "reward") - diagnosis.value(start, "reward")) < 0.01
    flat, rose = diagnosis.diagnose(curve, {"group": 16})
    assert (
        rose.sentence
        == "Right answers rose from 55.8 % (51 %–60 %) to 62.7 % (58 %–67 %), families weighed alike."
    )
    assert flat.sentence.startswith("No rise beyond chance in the last half, 63.8 %")


def test_one_answer_to_everything_is_said_to_be_nothing_learnt():
    (finding,) = [
        f for f in diagnosis.diagnose(steps(common=(0.3, 1.0), common_right=0.5)) if f.rule == "constant"
    ]
    assert finding.severity == "bad"
    assert "one and the same, which is right for 50 % of the questions" in finding.sentence
    rules = {f.rule for f in diagnosis.diagnose(steps(common=1.0, common_right=1.0))}
    assert "constant" not in rules  # where all the questions have one answer, that is no fault
    assert "constant" not in {f.rule for f in diagnosis.diagnose(steps(common=0.55, common_right=0.5))}


def test_held_out_answers_have_to_be_better_than_a_constant_one():
    def scored(right, n=100):
        greedy = {"rl": {"parity": Accuracy(right / n, *stats.wilson(right, n), 1.0, n)}}
        always = {"parity": Accuracy(0.5, 0.4, 0.6, 0.5, n)}
        return Scores(("parity",), {"greedy": greedy}, {}, constant=always)

    (finding,) = diagnosis.no_better("rl", ["parity", "path"], scored(55))
    assert (finding.severity, "55 [45-64] % of parity are right" in finding.sentence) == ("bad", True)
    assert "would be for 50 %" in finding.sentence
    assert list(diagnosis.no_better("rl", ["parity"], scored(70))) == []
    assert list(diagnosis.no_better("rl", ["path"], scored(55))) == []  # nobody taught it parity
    assert list(diagnosis.no_better("main", ["parity"], scored(55))) == []  # not measured
