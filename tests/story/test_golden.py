"""The smoke recipe gives what it gave: losses of every stage, an RL stage's steps and its first 64 rollouts, scores.

`golden.json` was recorded once (`python tests/story/test_golden.py RUN`) and is recorded again only where a change
means to change results; LOG.md then says why.  On the machine class and torch release that it names the comparison
is to the bit, but for keys of `LOOSE`, which say how far a change of the order of sums moved them; elsewhere kernels
differ and the losses are compared within a tolerance.
"""

import json
import math
import sys
from pathlib import Path

import torch

GOLDEN = Path(__file__).with_name("golden.json")
N_ROLLOUTS = 64
LOOSE = 0.0  # the largest relative difference of a loss since the record, where an order of sums changed
ELSEWHERE = 2e-3  # other kernels: thirty steps of training apart


def machine() -> dict[str, str]:
    return {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability()}


def observed(root: Path) -> dict:
    """What a run's log and rollouts say, without what the clock says."""
    events = [json.loads(line) for line in (root / "events.jsonl").read_text("utf-8").splitlines()]
    steps = [[e["stage"], e["step"], e["loss"], e["grad_norm"]] for e in events if e["kind"] == "step"]
    scores = [[e["name"], e.get("model"), e.get("family"), e["value"]] for e in events if e["kind"] == "score"]
    lines = (root / "rl" / "rollouts.jsonl").read_text("utf-8").splitlines()[:N_ROLLOUTS]
    rollouts = [[r["prompt"], r["reply"], r["reward"], r["logp"]] for r in map(json.loads, lines)]
    return {"machine": machine(), "steps": steps, "scores": scores, "rollouts": rollouts}


def test_the_smoke_recipe_gives_what_it_gave(smoke):
    then, now = json.loads(GOLDEN.read_text("utf-8")), observed(smoke.root)
    same_machine = then["machine"] == now["machine"]
    tolerance = LOOSE if same_machine else ELSEWHERE
    assert [row[:2] for row in now["steps"]] == [row[:2] for row in then["steps"]]
    for (stage, step, *values), (_, _, *expected) in zip(now["steps"], then["steps"]):
        for value, wanted in zip(values, expected):
            assert math.isclose(value, wanted, rel_tol=tolerance, abs_tol=tolerance), (stage, step, value, wanted)
    assert [row[:3] for row in now["scores"]] == [row[:3] for row in then["scores"]]
    assert len(then["rollouts"]) == N_ROLLOUTS
    if same_machine:
        assert [row[:3] for row in now["rollouts"]] == [row[:3] for row in then["rollouts"]]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(observed(Path(sys.argv[1])), indent=0, ensure_ascii=False) + "\n", "utf-8")
