"""`python -m nomoat` and the `nomoat` command."""

import os
import signal
import sys


def main() -> int:
    """Runs the command line, on several ranks behind `ranks`; the exit code is for the caller.

    Whoever asks it to end finds what was being written cleared away; a run has a better answer (run.stop).
    """
    _open()
    try:
        if sys.argv[1:2] == ["ranks"]:
            from nomoat.cli import ranks

            return ranks.start(sys.argv[2:])
        from nomoat.cli.main import main
        from nomoat.run.stop import end
    except KeyboardInterrupt:  # what is imported here takes a second, and longer on a busy machine
        print("nomoat: stopped", file=sys.stderr)
        return 130
    signal.signal(signal.SIGTERM, end)
    sys.stdout.reconfigure(errors="backslashreplace")  # as stderr, where an alphabet lacks a sign
    return main(sys.argv[1:])


def _open() -> None:
    """Where a standard stream was closed (`>&-`), nothing stands in its place: otherwise the next file would.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
