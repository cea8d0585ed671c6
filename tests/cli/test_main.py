"""The command line's own manners: help, start-up, progress, how it reads `--set`."""

import inspect
import io
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import typing
from types import SimpleNamespace

import pytest
from rich.console import Console

import nomoat
from nomoat.cli import args, main, say, work
from nomoat.config import ConfigError, read_recipe
from nomoat.report.progress import Watch
from nomoat.run.directory import Run
from nomoat.run.ledger import read_prices

VERBS = list(main.verbs())


def test_help_fits_a_screen_and_comes_without_torch():
    code = (
        "import sys; from nomoat.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'matplotlib', 'numpy', 'prompt_toolkit'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=plain()
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 41  # thirty verbs and one, one line each
    assert max(map(len, lines[1:])) <= 80
    assert all(re.search(rf"\b{verb}\b", done.stdout) for verb in VERBS)


def plain() -> dict:
    import os

    return {**os.environ, "COLUMNS": "80", "LINES": "24", "NO_COLOR": "1"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_on_a_screen(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as leave:
        main.main([verb, "--help"])
    assert leave.value.code == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 26
    assert "{None}" not in out


def test_the_version_is_the_packages(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"nomoat {nomoat.__version__}\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_bash_completes_verbs_flags_and_values(capsys):
    with pytest.raises(SystemExit):
        main.main(["completion", "bash"])
    script = capsys.readouterr().out
    for words, expected in (
        (["nomoat", "re"], {"receipt", "reject", "report"}),
        (["nomoat", "export", "--t"], {"--to", "--type"}),
        (["nomoat", "export", "--to", ""], {"hf", "gguf", "peft"}),
    ):
        ask = f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}; _tyro_nomoat"
        lines = [script, ask, "printf '%s\\n' \"${COMPREPLY[@]}\""]
        done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) == expected


@pytest.mark.parametrize(
    ("argv", "gathered"),
    [
        (["run", "r"], ["run", "r"]),
        (["run", "--set", "a=1", "r"], ["run", "r", "--set", "a=1"]),
        (
            ["run", "r", "--set", "a=1", "b=2", "--out", "d", "--set", "c=3"],
            ["run", "r", "--out", "d", "--set", "a=1", "b=2", "c=3"],
        ),
        (["run", "--set=a=1", "r"], ["run", "r", "--set", "a=1"]),
        (["run", "r", "--set"], ["run", "r", "--set", ""]),
        (["chat", "r", "-p", "x = 1"], ["chat", "r", "-p", "x = 1"]),
    ],
)
def test_every_way_to_write_set(argv, gathered):
    assert main.gather_sets(argv) == gathered


@pytest.mark.parametrize(
    ("argv", "gathered"),
    [
        ("eval M --task a --task b c --json", "eval M --json --task a b c"),
        ("eval M --task=a --task=b", "eval M --task a b"),
        ("eval M --task a b", "eval M --task a b"),
        ("transfer R --files a --quick --files b", "transfer R --quick --files a b"),
        ("serve --model a=b --model c=d", "serve --model a=b --model c=d"),  # the parser's own way
        ("run r --task a --task b", "run r --task a --task b"),
        ("", ""),
    ],
)
def test_a_list_may_be_given_one_by_one(argv, gathered):
    assert main.gather_lists(argv.split()) == gathered.split()


def events(n_steps: int = 20):
    yield {"kind": "stage_start", "stage": "rl"}
    yield {"kind": "begin", "stage": "rl", "what": "encode [tasks]"}
    yield {"kind": "work", "stage": "rl", "what": "encode", "seconds": 2.0}
    for step in range(1, n_steps + 1):
        yield {"kind": "step", "stage": "rl", "step": step, "n_steps": n_steps, "loss": None, "reward": 0.5,
               "seconds": 1.0,
               "tokens_per_second": 1234.0, "joules": 30.0}  # fmt: skip
    yield {"kind": "note", "stage": "rl", "text": "[bold]no markup[/bold]"}
    yield {"kind": "stage_end", "stage": "rl", "outputs": {"bought": "reward"}}


def test_without_a_terminal_a_line_now_and_then(monkeypatch):
    now = [0.0]
    console = Console(file=io.StringIO(), no_color=True)
    with Watch(console, ["rl"], clock=lambda: now[0]) as watch:
        for event in events():
            now[0] += 1.0 if event["kind"] == "step" else 0.0
            watch(event)
    lines = console.file.getvalue().splitlines()
    steps = [line for line in lines if "/20" in line]
    assert len(steps) == 4
    assert "reward 0.500" in steps[0]
    assert "1.23 ktok/s" in steps[0]
    assert re.search(r"1\d\.0 s left", steps[0])
    assert lines[-2] == "rl: [bold]no markup[/bold]"
    assert lines[-1].startswith("rl: done  6")
    assert lines[-1].endswith("reward")
    assert "\x1b" not in console.file.getvalue()


def test_a_stage_has_no_more_left_than_the_run():
    """A limit of the whole run ends the stage sooner than its own steps would."""
    outlook = SimpleNamespace(hear=lambda event: None, seconds=lambda: 2.0, says=lambda: "2.0 s left of all")
    console = Console(file=io.StringIO(), no_color=True)
    watch = Watch(console, ["rl"], outlook=outlook, clock=itertools.count(0, 10).__next__)
    for event in list(events())[3:5]:
        watch(event)
    first, second = console.file.getvalue().splitlines()
    assert "tok/s 2.0 s left of all" in first
    assert "tok/s 2.0 s left 2.0 s left of all" in second


def test_the_cost_is_the_ledgers():
    watch, prices = Watch(Console(file=io.StringIO()), ["rl"], units=2), read_prices()
    for event in events():
        watch(event)
    assert watch.joules == 20 * 30.0 + 2 * 2.0 * prices.device("cpu").watts
    assert watch.money == pytest.approx(watch.joules / 3.6e6 * prices.per_kwh)


def test_on_a_terminal_there_are_bars():
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100, height=30)
    with Watch(console, ["tokenizer", "rl"], {"tokenizer"}) as watch:
        for event in events():
            watch(event)
    text = console.file.getvalue()
    assert "done before" in text
    assert "[bold]no markup[/bold]" in text
    assert re.search("done .* reward", text)


def test_a_narrow_terminal_keeps_every_number():
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=44, height=30)
    with Watch(console, ["tokenizer", "rl"], {"tokenizer"}) as watch:
        for event in list(events())[:-2]:
            watch(event)
    shown = " ".join(console.file.getvalue().split("\r")[-1].split())
    for part in ("20/20", "reward 0.500", "1.23 ktok/s", "s left", "J", "USD"):
        assert part in shown


def test_one_line_says_where_no_compiler_made_the_engine_fast(monkeypatch, capsys):
    from nomoat.engine.native import build

    for library, n_lines in ((None, 1), (object(), 0)):
        monkeypatch.setattr(build, "library", lambda library=library: library)
        say.speed()
        said = capsys.readouterr()
        assert (said.out, len(said.err.splitlines())) == ("", n_lines)
    assert main.main(["chat", "nowhere", "--top-k", "5", "-p", "x"]) == 2
    assert "temperature 0 takes the likeliest; expected --temperature above 0" in capsys.readouterr().err


def test_runs_are_listed_compared_and_cleaned_by_one_verb(smoke, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(smoke.root, tmp_path / "runs" / "a")
    assert main.main(["runs"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"runs/a +smoke +0 +8 of 8 .* MB", listed)
    assert main.main(["runs", "runs"]) == 0
    assert capsys.readouterr().out == listed
    assert main.main(["runs", "compare", "runs/a", str(smoke.root)]) == 0
    assert "Loss, or reward" in capsys.readouterr().out
    assert main.main(["runs", "clean", "runs", "--plan"]) == 0
    told = capsys.readouterr().out.replace("would free", "freed")
    assert main.main(["runs", "clean", "runs"]) == 0
    assert capsys.readouterr().out == told
    assert "  runs/a/pretrain/data" in told
    assert not (tmp_path / "runs" / "a" / "pretrain" / "data").exists()
    for argv, complaint in (
        (["clean"], "expected runs"),
        (["compare", "runs/a"], "found 1 run; expected two"),
        (["list", "nowhere"], "no run in nowhere"),
        (["nowhere"], "no run in nowhere; expected a directory that `nomoat run` made"),
    ):
        assert main.main(["runs", *argv]) == 2
        assert complaint in capsys.readouterr().err


SAID_ELSEWHERE = {"gpus", "context", "mfu"}  # of `plan`, with sentences of their own


def test_every_number_of_every_verb_has_a_range():
    """What is outside is told before the verb does anything."""
    ran = []
    checked = args.bounded(lambda **_: ran.append(0) or 0)
    for verb in main.verbs().values():
        parameters = inspect.signature(verb, eval_str=True).parameters.values()
        for parameter in parameters:
            parts = {parameter.annotation, *typing.get_args(parameter.annotation)}
            kinds = parts | {inner for part in parts for inner in typing.get_args(part)}
            if not {int, float} & kinds or parameter.name in SAID_ELSEWHERE:
                continue
            low, high = args.RANGES[parameter.name]
            for value in (low - 1, high + 1, float("nan")):
                with pytest.raises(ConfigError, match="found --.* expected"):
                    checked(**{parameter.name: value})
            assert not ran
            checked(**{parameter.name: low})
            ran.clear()


def test_tasks_are_listed_within_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(say, "width", lambda: 50)
    assert main.main(["task", "list"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 50


SHELLS = typing.get_type_hints(main.completion)["shell"]


@pytest.mark.parametrize("shell", typing.get_args(SHELLS))
def test_every_shell_that_is_offered_is_completed(shell, capsys):
    with pytest.raises(SystemExit) as leave:
        main.main(["completion", shell])
    assert not leave.value.code
    assert "nomoat" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--out", ""], ["--out="], ["--plan", "--from", ""]])
def test_a_path_of_nothing_is_not_the_current_directory(capsys, words):
    assert main.main(["run", "smoke", *words]) == 2
    assert "expected a value" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    ["chat list -p hi", "chat list --system x", "chat list --top-k 5"]
    + ["data show x --column q", "data show x --dedup", "data prepare x -n 2"]
    + ["plan --list extra", "plan cpu --list", "task list good.csv", "task new t.py --columns question=q"]
    + ["task audit x.py", "runs . --plan", "runs compare a b --plan"],
)
def test_what_would_not_be_read_is_refused(capsys, line):
    assert main.main(line.split()) == 2
    assert "does not read" in capsys.readouterr().err


def test_options_of_a_suite_need_one(capsys):
    assert main.main("eval . --shots few".split()) == 2
    assert "expected --suite" in capsys.readouterr().err


@pytest.mark.parametrize(("no_color", "painted"), [("1", False), ("", True)])
def test_no_color_is_heard_where_words_are_refused(capsys, monkeypatch, no_color, painted):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    with pytest.raises(SystemExit):
        main.main(["chat", "a", "b"])
    said = capsys.readouterr()
    assert ("\x1b" in said.out + said.err) is painted


@pytest.mark.parametrize(("closed", "words", "code"), [
    (">&-", "--version", 0), ("<&-", "--version", 0), ("2>&-", "chat nosuch -p Hi", 2),
    ("<&- 2>&1", "chat -p -", 2), ("<&- 2>&1", "chat", 2),
])  # fmt: skip
def test_a_stream_that_is_closed_is_an_empty_one(closed, words, code):
    line = f"exec {shlex.quote(sys.executable)} -m nomoat {words} {closed}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=plain())
    assert (done.returncode, done.stderr) == (code, "")
    assert ("is empty" in done.stdout) == ("2>&1" in closed)
    assert "Traceback" not in done.stdout
    assert closed != "2>&-" or done.stdout == ""  # what is not the result isn't there instead


def test_ctrl_c_while_a_command_starts_leaves_no_traceback(tmp_path):
    """Something that is imported first is interrupted."""
    (tmp_path / "tyro.py").write_text("raise KeyboardInterrupt\n")
    starts = [sys.executable, "-m", "nomoat", "runs"]
    env = plain() | {"PYTHONPATH": f"{tmp_path}:."}
    done = subprocess.run(starts, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (130, "nomoat: stopped\n")


@pytest.mark.parametrize("flag", ["--problems", "--samples", "--max-tokens", "--limit"])
def test_nothing_is_measured_with_none(tmp_path, capsys, flag):
    assert main.main(["eval", str(tmp_path), flag, "0"]) == 2
    assert f"found {flag} 0; expected 1 or more" in capsys.readouterr().err


def test_a_plan_says_why_the_run_that_has_begun_would_not_go_on_so(tmp_path, capsys):
    table = read_recipe("smoke")
    run = Run.create(tmp_path / "run", work.resolve(table).table)
    for kind in ("stage_start", "work"):
        run.log(kind, stage="pretrain", config={}, seconds=1)
    recipe = work.resolve(read_recipe("smoke", ["models.main.d_model=64"]))
    for goes_on, told in ((False, "a run of another recipe:"), (True, "this run can't go on so:")):
        work.say_begun(recipe, run.root, goes_on)
        assert re.search(f"planned as a new run, since .*{told}\\n.*d_model", capsys.readouterr().err)
    work.say_begun(work.resolve(table), run.root, False)
    work.say_begun(recipe, tmp_path / "new", False)
    assert capsys.readouterr().err == ""


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\n', encoding="utf-8-sig")
    assert read_recipe(tmp_path / "mine.toml") == {"name": "mine"}
