"""Start the command line: `cohortlib …` and `python -m cohortlib …`."""

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; without click or rich, say which extra to install."""
    if find_spec("click") is None or find_spec("rich") is None:
        print("the command line needs the extra: pip install 'cohortlib[cli]'", file=sys.stderr)
        sys.exit(2)
    from cohortlib.cli.main import cli

    cli.main(prog_name="cohortlib")


if __name__ == "__main__":
    main()
