"""docs/plan.md says what the planner says."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location("plan_table", ROOT / "scripts" / "plan_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    _, begin, rest = (ROOT / "docs" / "plan.md").read_text("utf-8").partition(script.BEGIN)
    inside, end, _ = rest.partition(script.END)
    assert begin
    assert end
    assert inside.strip() == script.text(), "run `python scripts/plan_table.py`"
