"""The lab in a browser: it follows a run that another process trains, through a kill and a resume of both."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nomoat.report import page as report
from nomoat.run.directory import Run

pytestmark = pytest.mark.check
ROOT = Path(__file__).parents[2]
SECONDS = 240  # for a stage of the smoke recipe on a busy machine
HOSTILE = (
    "<img src=x onerror=window.ran=1>", "<script>window.ran=1</script>",
    "</script><script>window.ran=1</script>",
    "<svg onload=window.ran=1>", "javascript:window.ran=1", "{{constructor.constructor('window.ran=1')()}}",
    "\u202e<b>reversed", "]]><!--", "'\"><iframe srcdoc='<script>parent.ran=1</script>'>",
)  # fmt: skip
STAGES = [{"kind": "pretrain"}, {"kind": "sft", "from": "pretrain"}, {"kind": "rl", "from": "sft"}]


@contextlib.contextmanager
def trains(out):
    """The smoke recipe in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nomoat", "run", "smoke", "--out", str(out)]
    with open(out.parent / "said", "ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def long(root, name, n_steps, text="words"):
    """A run with a stage of reinforcement of so many steps, its free texts all `text`."""
    run = Run.create(root / name, {"name": text, "seed": 1, "stages": STAGES})
    with run.locked():
        costs = {"seconds": 1.0, "tokens": 99, "flops_model": 5, "flops_executed": 6, "grad_norm": 0.1}
        for stage in ("pretrain", "sft", "rl"):
            run.log("stage_start", stage=stage, config={"group": 8}, units=1, device="cpu")
            for step in range(1, n_steps + 1):
                reward = step / n_steps
                rl = {"reward": reward, "lenient": reward, "length": 9.0, "entropy": 0.3, "dead_groups": 0.2,
                      "rewards": {"lamp": reward, text: 0.5}, "levels": {"lamp/1": reward}}  # fmt: skip
                more = rl if stage == "rl" else {"loads": [[100, 120, 80, 100]] * 2} if step % 99 == 1 else {}
                run.log("step", stage=stage, step=step, n_steps=n_steps, loss=2.0 / step, **costs, **more)
            outputs = {"bought": text, "parameters": 1000, "active": 900}
            run.log("stage_end", stage=stage, outputs=outputs)
        for step in (1, n_steps):
            probe = {"family": text, "prompt": text, "reply": f"<think>{text}</think>{text}", "right": True}
            run.log("probe", stage="rl", step=step, probes=[probe])
        for model in ("pretrain", "sft", "rl"):
            where = {"model": model, "family": "lamp", "level": 1, "n": 20, "lenient": 0.5}
            run.log("score", stage="eval", name="accuracy/sampled", value=0.5, low=0.3, high=0.7, **where)
            texts = {"family": text, "prompt": text, "reply": text}
            run.log("sample", stage="eval", model=model, level=1, right=False, **texts)
        run.log("note", stage="rl", text=text)
    (run.root / "rl").mkdir(exist_ok=True)
    with (run.root / "rl" / "rollouts.jsonl").open("w") as file:
        for step in range(1, 40):
            record = {"step": step, "group": 0, "family": text, "level": 1, "prompt": text, "reply": text,
                      "strict": step % 2 == 0, "reward": 1.0, "length": 3, "logp": -0.1}  # fmt: skip
            file.write(json.dumps(record) + "\n")
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("lab") / "runs"
    root.mkdir()
    long(root, "long", 10_000)
    long(root, "short", 200)
    return root


@pytest.fixture(scope="module")
def lab(launch, runs):
    return launch("--runs", runs)


def settled(page):
    page.locator("main > :not(.crumb)").first.wait_for()
    page.locator(".loading, .later").first.wait_for(state="detached")


def test_a_run_is_followed_through_a_kill_and_a_resume(visit, lab, runs):
    out = runs / "live"
    with trains(out) as process:
        page = visit("/lab", lab)
        link = page.get_by_role("navigation", name="Runs").get_by_role("link", name="live")
        link.click(timeout=SECONDS * 1000)
        now = page.get_by_role("region", name="Now")
        now.get_by_text("pretrain", exact=True).wait_for(timeout=SECONDS * 1000)
        first = now.locator(".stage-at").inner_text()
        page.wait_for_timeout(100)
        until(lambda: now.locator(".stage-at").inner_text() != first)
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.locator(".run-head .chip.stopped").wait_for()
    with trains(out) as process:
        page.locator(".run-head .chip.running").wait_for(timeout=SECONDS * 1000)
        page.locator('.map [data-stage="pretrain"].finished').wait_for(timeout=SECONDS * 1000)
        assert process.wait(SECONDS) == 0
    page.locator(".run-head .chip.finished").wait_for()
    page.get_by_role("figure", name="sft: Loss").first.wait_for()


def until(holds):
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_page_goes_on_when_the_server_is_back(visit, watch, launch, runs):
    server = launch("--runs", runs)
    page = visit("/lab#/short/overview", server)
    settled(page)
    server.kill()
    page.get_by_text("The server is away").wait_for()
    watch.errors.clear()  # that nobody answers is told on the console
    launch("--runs", runs, "--port", server.port)
    run = Run.open(runs / "short", write=True)
    with run.locked():
        page.locator(".run-head .chip.running").wait_for()
    page.get_by_text("The server is away").wait_for(state="hidden")
    watch.errors.clear()


VIEWS = ("overview", "stage/rl", "stage/rl/reward", "stage/pretrain/loads", "rollouts", "learning", "cost",
         "rollouts?stage=rl&only=wrong", "rollouts?stage=rl&at=7.0", "recipe")  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_has_a_link_of_its_own(visit, lab, view):
    page = visit(f"/lab#/short/{view}", lab)
    settled(page)
    assert page.locator("h1").inner_text() == "short"
    if view.count("/") == 2:
        figure = page.locator(f'figcaption a[href="#/short/{view}"]')
        assert figure.bounding_box()["y"] < 900
    if "only=wrong" in view:
        page.locator(".try").first.wait_for()
        assert page.locator(".try.right").count() == 0
    if "at=" in view:
        page.locator(".problem", has_text="step 7").first.wait_for()


def test_two_runs_have_a_link(visit, lab):
    page = visit("/lab", lab)
    for name in ("long", "short"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Two runs side by side").wait_for()
    assert page.url.endswith(("#/compare/long/short", "#/compare/short/long"))


def test_every_chart_is_saved_as_a_picture(visit, lab, tmp_path):
    page = visit("/lab#/short/stage/pretrain", lab)
    settled(page)
    pictures = page.get_by_role("button", name="Save as picture")
    assert pictures.count() >= 3
    for i in range(pictures.count()):
        with page.expect_download() as saved:
            pictures.nth(i).click()
        path = tmp_path / saved.value.suggested_filename
        saved.value.save_as(path)
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert int.from_bytes(data[16:20]) > 600
        assert len(data) > 4000


SCROLL = """async () => {
    const gaps = [];
    let last = performance.now();
    for (let y = 0; y < document.documentElement.scrollHeight; y += 160) {
        scrollTo(0, y);
        await new Promise(requestAnimationFrame);
        gaps.push(performance.now() - last);
        last = performance.now();
    }
    return gaps;
}"""


@pytest.mark.parametrize("view", ["overview", "stage/rl", "rollouts"])
def test_ten_thousand_steps_stay_smooth(visit, lab, view):
    page = visit(f"/lab#/long/{view}", lab)
    settled(page)
    gaps = page.evaluate(SCROLL)
    assert statistics.median(gaps) < 100, gaps


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_in_a_log_never_runs(visit, watch, launch, tmp_path, text):
    run = long(tmp_path, "hostile", 21, text)
    server = hostile_server(launch, tmp_path)
    for view in ("overview", "rollouts", "learning", "stage/rl", "recipe"):
        page = visit(f"/lab#/hostile/{view}", server)
        settled(page)
        assert page.evaluate("window.ran") is None
        page.context.close()
    page = opened(visit("/lab", server), run, watch)
    assert page.evaluate("window.ran") is None
    assert page.locator("main script, main iframe, main img").count() == 0


def opened(page, run, watch):
    """The report of a run, as a file: it asks for nothing but itself."""
    file = report.write(run).as_uri()
    page.goto(file)
    page.locator("main > :not(.crumb)").first.wait_for()
    assert watch.offsite == [file]
    watch.offsite.clear()
    return page


def hostile_server(launch, root, kept={}):  # noqa: B006
    """One server for all of them: the directory is the same, what is in it is not."""
    link = root.parent / "hostile-runs"
    if "server" not in kept:
        link.mkdir(exist_ok=True)
        kept.update(server=launch("--runs", link), link=link)
    place = kept["link"] / "hostile"
    if place.exists():
        import shutil

        shutil.rmtree(place)
    (root / "hostile").rename(place)
    (root / "hostile").symlink_to(place)
    return kept["server"]


def test_the_report_is_the_lab_as_a_file(visit, lab, runs, watch):
    page = opened(visit("/lab", lab), Run.open(runs / "short"), watch)
    assert page.get_by_role("region", name="The run in short").bounding_box()["y"] < 300
    assert page.get_by_role("region", name="One problem, every stage").bounding_box()["y"] < 800
    assert page.locator("figure.curves canvas").count() > 5
    page.get_by_role("button", name="Language").click()
    page.get_by_role("region", name="Eine Aufgabe, jede Stufe").wait_for()
    watch.offsite = [url for url in watch.offsite if not url.startswith("file:")]


@pytest.mark.parametrize("width", [320, 390, 768, 1440, 2200])
@pytest.mark.parametrize(
    "view", ["", "#/short/overview", "#/short/stage/rl", "#/short/rollouts", "#/compare/short/long"]
)
def test_no_view_is_wider_than_its_window(visit, lab, view, width):
    page = visit(f"/lab{view}", lab, viewport={"width": width, "height": 800})
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_lab_speaks_german_and_its_stages_are_leafed_through_by_keys(visit, lab):
    page = visit("/lab#/short/overview", lab, locale="de-DE")
    settled(page)
    page.get_by_role("link", name="Überblick").wait_for()
    page.keyboard.press("]")
    page.wait_for_url("**/lab#/short/stage/pretrain")
    page.keyboard.press("]")
    page.wait_for_url("**/lab#/short/stage/sft")
    page.keyboard.press("[")
    page.wait_for_url("**/lab#/short/stage/pretrain")
    page.keyboard.press("r")
    page.get_by_role("navigation", name="Läufe").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["", "#/compare/short/long", *(f"#/short/{view}" for view in VIEWS[:8])])
def test_every_view_is_accessible(visit, accessible, lab, view, scheme):
    size = {"width": 1440 if scheme == "light" else 390, "height": 800}
    page = visit(f"/lab{view}", lab, color_scheme=scheme, viewport=size)
    settled(page)
    accessible(page)
