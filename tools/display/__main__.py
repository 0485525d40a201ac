"""`python -m tools.display`: the live window as `m2m display` opens it."""

import sys

from tools.cli import main as m2m


def main() -> None:
    """Run `m2m display`."""
    m2m(["display", *sys.argv[1:]])


if __name__ == "__main__":
    main()
