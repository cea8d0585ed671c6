"""`python -m nomoat` and the `nomoat` command."""

import sys


def main() -> int:
    """Runs the command line; the exit code is for the caller."""
    from nomoat.cli.main import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
