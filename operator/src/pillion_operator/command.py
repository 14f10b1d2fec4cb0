"""`pillion operator`: flags in, exit code out. What it needs beyond the standard library is imported when it runs, not when it is described."""

import argparse
import sys

from pillion_operator import arguments, injector
from pillion_operator.settings import InvalidSettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    arguments.add_arguments(parser)
    parser.add_argument(
        "--print-injection-policy",
        action="store_true",
        help="Print the MutatingAdmissionPolicy that injects as the other flags say, and stop. For API servers of Kubernetes 1.36 and later.",
    )


def run(args: argparse.Namespace) -> int:
    """Run the operator until it is told to stop, or print what it is asked for: 0 afterwards, 2 where settings or environment do not allow it."""
    try:
        chosen = arguments.from_arguments(args)
        if args.print_injection_policy:
            sys.stdout.write(injector.injection_policy(chosen))
            return 0
        from pillion_operator import main  # noqa: PLC0415 - kopf and kubernetes take a second to import

        return main.run(chosen)
    except (InvalidSettingsError, OSError) as error:
        sys.stderr.write(f"pillion operator: {error}\n")
        return 2
