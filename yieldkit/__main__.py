"""`python -m yieldkit` and the `yieldkit` command: the one funnel for errors and exit statuses."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave with its exit status.

    0 done, 1 a bug, 2 bad input or usage, 3 the answer is no, 130 interrupted and resumable.
    """
    from yieldkit.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
