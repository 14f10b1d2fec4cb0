"""`pillion operator`: flags in, exit code out. What it needs beyond the standard library is imported when it runs, not when it is described."""

import argparse
import sys

from pillion_operator import settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    settings.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the operator until it is told to stop: 0 afterwards, 2 where settings or environment do not allow it."""
    from pillion_operator import main  # noqa: PLC0415 - kopf and kubernetes take a second to import

    try:
        return main.run(settings.from_arguments(args))
    except (settings.InvalidSettingsError, OSError) as error:
        sys.stderr.write(f"pillion operator: {error}\n")
        return 2
