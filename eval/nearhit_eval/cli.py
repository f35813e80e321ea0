"""The `nearhit-eval` command.

nearhit-eval decisions set.json --ablate
nearhit-eval decisions --convert groups.jsonl --out set.json
nearhit-eval bench --json bench.json
"""

import argparse
import sys
from collections.abc import Sequence

from nearhit.errors import ConfigError, NearhitError
from nearhit_eval import bench, decisions


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, 1 for a fault found, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="nearhit-eval",
        description="Offline evaluation of nearhit.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    decisions.add_command(commands)
    bench.add_command(commands)
    options = parser.parse_args(argv)
    try:
        return int(options.run(options))
    except ConfigError as error:
        print(f"nearhit-eval: {error}", file=sys.stderr)
        return 2
    except NearhitError as error:
        print(f"nearhit-eval: {error}", file=sys.stderr)
        return 1
