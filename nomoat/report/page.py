"""RUN/report.html: the lab's page of one run as a file, with the run inside it and nothing to load.

Whatever a model wrote is data: it stands in the page as JSON, and the page's script makes text of it.  The
page allows itself exactly that script and that style sheet, by their hashes.
"""

import base64
import hashlib
import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import nomoat
from nomoat.config import JsonObject
from nomoat.files import write_whole
from nomoat.report import bundle, curves, snapshot
from nomoat.report.leaves import Leaves, fitting
from nomoat.report.rollouts import Record
from nomoat.run.directory import Run
from nomoat.run.log import Still

WEB = Path(nomoat.__file__).parent / "serve" / "pages" / "web"
STYLES = ("base.css", "vendor/uplot.css", "lab.css")
LANGUAGES = ("en", "de")
# of JSON: what HTML could end a script by, and what nobody sees
UNSEEN = re.compile(r"[<\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
POINTS = 300  # of a curve
N_EACH = 6  # rollouts of each kind that the file carries
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<script type="application/json" id="words">{words}</script>
<script type="application/json" id="snapshot">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def write(run: Run) -> Path:
    """Writes the page of a run, finished or not; gives its path."""
    path = run.root / "report.html"
    write_whole(path, render(run))
    return path


def render(run: Run) -> str:
    """The page as text."""
    style, script = assets()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src 'sha256-{digest(script)}'",
            f"style-src 'sha256-{digest(style)}'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ]
    )
    title = html.escape(f"{run.root.resolve().name} · nomoat")
    return PAGE.format(
        policy=policy, title=title, style=style, script=script, words=within(words()), data=within(data(run))
    )


def data(run: Run) -> JsonObject:
    """All that the page shows."""
    run = Run.open(run.root)
    run.lines = Still(run.root / "events.jsonl")
    taught, tries = {}, {}
    for stage in run.recipe.get("stages", []):
        name = snapshot.name_of(stage)
        if steps := run.curve(name):
            taught[name] = curves.curves(steps, POINTS)
        if stage["kind"] == "rl" and (found := telling(run, name)):
            tries[name] = found
    return {"run": snapshot.snapshot(run, run.root.resolve().name), "curves": taught, "tries": tries}


def telling(run: Run, stage: str) -> list[Record]:
    """A few rollouts: the newest doubted, wrong and right ones."""
    leaves = Leaves(run.stage_dir(stage) / "rollouts.jsonl")
    pages = [leaves.page(fitting(None, only), N_EACH) for only in ("doubted", "wrong", "right")]
    return list({record["id"]: record for page in pages for record in page.records}.values())


@cache
def assets() -> tuple[str, str]:
    """The style sheet and the script, as they stand in the page."""
    style = "\n".join((WEB / name).read_text("utf-8") for name in STYLES)
    if "</style" in style or re.search(r"url\(|@import", style):
        raise ValueError("a style sheet of the page loads something, or ends before its end")
    return style, bundle.bundle(WEB / "lab" / "report.js")


def words() -> JsonObject:
    """language -> what the page says in it."""
    files = {name: (f"{name}.json", f"lab.{name}.json") for name in LANGUAGES}
    return {
        name: {key: text for file in both for key, text in read(file).items()} for name, both in files.items()
    }


def read(file: str) -> JsonObject:
    return json.loads((WEB / "text" / file).read_text("utf-8"))


def within(value: Any) -> str:
    """JSON that HTML can't take for anything else."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "replace").decode()


def digest(text: str) -> str:
    """SHA-256 as a policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
