"""The smoke recipe gives what it gave: losses of every stage, an RL stage's steps and its first 64 rollouts, scores.

`golden.json` was recorded once (`python tests/story/test_golden.py RUN`) and is recorded again only where a change
means to change results; LOG.md then says why.  On the kind of machine and the torch release that it names the comparison
is to the bit; elsewhere other kernels, after a few steps of orthogonalised updates, end elsewhere, and only
the losses of pretraining are compared, to a hundredth.
"""

import json
import math
import sys
from pathlib import Path

import torch

GOLDEN = Path(__file__).with_name("golden.json")
N_ROLLOUTS = 64
ELSEWHERE = 0.01  # relative


def machine() -> dict[str, str]:
    keys = ("vendor_id", "cpu family", "model\t")
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    kind = [next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith(key)), "") for key in keys]
    capability = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "processor": " ".join([capability, *kind])}


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
    assert [row[:2] for row in now["steps"]] == [row[:2] for row in then["steps"]]
    if same_machine:
        assert now["steps"] == then["steps"]
        assert [row[:3] for row in now["rollouts"]] == [row[:3] for row in then["rollouts"]]
    for (stage, step, loss, _), (_, _, expected, _) in zip(now["steps"], then["steps"]):
        assert stage != "pretrain" or math.isclose(loss, expected, rel_tol=ELSEWHERE), (step, loss, expected)
    assert [row[:3] for row in now["scores"]] == [row[:3] for row in then["scores"]]
    assert len(then["rollouts"]) == N_ROLLOUTS


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(observed(Path(sys.argv[1])), indent=0, ensure_ascii=False) + "\n", "utf-8")
