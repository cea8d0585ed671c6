"""`python -m nomoat` and the `nomoat` command."""

import signal
import sys


def main() -> int:
    """Runs the command line; the exit code is for the caller.

    Whoever asks it to end finds what was being written cleared away; a run has a better answer (run.stop).
    """
    from nomoat.cli.main import main
    from nomoat.run.stop import end

    signal.signal(signal.SIGTERM, end)
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
