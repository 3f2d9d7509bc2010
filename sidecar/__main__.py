"""`python -m sidecar` and the command `litestream-sidecar`."""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from sidecar.cli import entry  # noqa: PLC0415 - the imports of a command are paid by that command

    sys.exit(entry(sys.argv[1:]))


if __name__ == "__main__":
    main()
