"""The command line: one verb per stage and a few to look at a run.  The result goes to stdout, progress to
stderr.

Exit codes: 0 done, 2 a mistake that you can mend (the message says how), 75 interrupted after saving: run it
again.  Nothing heavy is imported before a verb needs it, so that `nomoat --help` comes at once.
"""

import inspect
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

import nomoat
from nomoat.cli import args, data, lab, look, models, runs, say, serve, shelf, tasks, teach
from nomoat.config import ConfigError, UserError
from nomoat.files import FULL
from nomoat.run.stop import Interrupted

MAY_BE_EMPTY = ("-p", "--prompt", "--system")  # the prompt has an error of its own
AGAIN = 75  # EX_TEMPFAIL of sysexits.h


def main(argv: Sequence[str]) -> int:
    """Runs one command; gives the exit code."""
    if list(argv) == ["--version"]:
        return say.result(f"nomoat {nomoat.__version__}")
    try:
        refuse_nothing(argv)
        code = _parsed(gather_lists(gather_sets(argv)))
        sys.stdout.flush()
        return code
    except UserError as error:
        if not error.told:
            say.aside(f"nomoat: {error}")
        return 2
    except Interrupted as stopped:
        if not stopped.told:
            say.aside(f"nomoat: interrupted ({stopped}); saved. To go on{_again(argv, stopped.n_ranks)}")
        return AGAIN
    except KeyboardInterrupt:
        say.aside("nomoat: stopped")
        return 130
    except BrokenPipeError:  # the reader of stdout has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        place = error.filename or "what was to be printed or written"
        say.aside(f"nomoat: no space for {place} ({error.strerror}); free some, and run it again")
        return 2


def _again(argv: Sequence[str], n_ranks: int) -> str:
    """The command to go on with: of `nomoat ranks` as it was given, else of one of as many ranks."""
    start = ["python", "-m", "nomoat"] if Path(sys.argv[0]).name == "__main__.py" else ["nomoat"]
    whole = n_ranks == 1 or sys.argv[1:2] == ["ranks"]
    words = sys.argv[1:] if sys.argv[1:2] == ["ranks"] else argv
    return f"{'' if whole else f', started on {n_ranks} ranks again'}:\n  {shlex.join([*start, *words])}"


def refuse_nothing(argv: Sequence[str]) -> None:
    """ConfigError for an argument of no letters, which as a path would be the current directory."""
    for before, word in itertools.pairwise(["nomoat", *argv]):
        name = before if word == "" else word.removesuffix("=")
        if (word == "" or word.startswith("--") and word != name) and name not in MAY_BE_EMPTY:
            raise ConfigError(f"nothing behind {name}; expected a value, or no {name}; is a variable unset?")


def _parsed(argv: Sequence[str]) -> int:
    tyro._experimental_options["ansi_codes"] = say.paints()  # by itself it doesn't know NO_COLOR
    return tyro.extras.subcommand_cli_from_dict(
        {name: args.bounded(verb) for name, verb in verbs().items()},
        prog="nomoat",
        args=argv,
        sort_subcommands=False,
        config=(tyro.conf.FlagCreatePairsOff,),
        description="A reasoning chatbot from raw text: nomoat run cpu (and --version, nomoat ranks)",
    )


def completion(shell: Positional[Literal["bash", "zsh"]], /) -> int:
    """Complete words in a shell: eval "$(nomoat completion bash)"."""
    return _parsed(["--tyro-print-completion", shell])


def verbs() -> dict[str, Callable[..., int]]:
    """Every verb, in the order of `nomoat --help`."""
    return {
        "run": runs.run,
        "teach": teach.teach,
        **{kind: runs.stage_verb(kind) for kind in runs.KINDS},
        "chat": models.chat,
        "serve": serve.serve,
        "eval": models.evaluate,
        "export": models.export,
        "import": models.import_,
        "inspect": models.inspect,
        "receipt": look.receipt,
        "report": look.report,
        "runs": shelf.runs,
        "plan": lab.plan,
        "task": tasks.task,
        "data": data.data,
        "learning": look.learning,
        "rollouts": look.rollouts,
        "transfer": lab.transfer,
        "compare": lab.compare,
        "truth": lab.truth,
        "scaling": lab.scaling,
        "bench": lab.bench,
        "chaos": lab.chaos,
        "doctor": look.doctor,
        "completion": completion,
    }


def gather_lists(argv: Sequence[str]) -> list[str]:
    """`--task a --task b` as `--task a b`, for every flag of the verb that takes a list."""
    words = list(argv)
    for flag in lists_of(words[0]) if words else ():
        values, others, at, n = [], [], 0, 0
        while at < len(words):
            word, at = words[at], at + 1
            if word.startswith(f"{flag}="):
                values.append(word.removeprefix(f"{flag}="))
                n += 1
            elif word == flag:
                first = at
                while at < len(words) and not (words[at].startswith("--") or words[at] == "-n"):
                    at += 1
                values += words[first:at]
                n += 1
            else:
                others.append(word)
        words = [*others, flag, *values] if n > 1 else words
    return words


def lists_of(verb: str) -> list[str]:
    """The flags of a verb that take a list, but --set, which is gathered otherwise."""
    function = verbs().get(verb)
    if function is None:
        return []
    named = inspect.signature(function).parameters.values()
    listed = []
    for parameter in named:
        type = str(parameter.annotation)
        flag = parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "set_"
        if flag and "tuple[" in type and "UseAppend" not in type:
            listed.append("--" + parameter.name.replace("_", "-"))
    return listed


def gather_sets(argv: Sequence[str]) -> list[str]:
    """`--set a=1 --set b=2` as one `--set a=1 b=2` at the end, which is what the parser reads."""
    others, sets, words = [], [], iter(argv)
    for word in words:
        if word == "--set":
            sets.append(next(words, ""))
        elif word.startswith("--set="):
            sets.append(word.removeprefix("--set="))
        elif sets and "=" in word and not word.startswith("-"):
            sets.append(word)
        else:
            others.append(word)
    return [*others, "--set", *sets] if sets else others
