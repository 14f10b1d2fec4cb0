"""Entry point of the `pillion` command: names the subcommands and hands over.

Every subcommand is a module with `add_arguments(parser)` and `run(args) -> int`, imported only when it is asked for. Errors that a person can
mend are one line on stderr and exit code 2; tracebacks are for bugs.
"""

import argparse
import sys
from importlib import import_module
from typing import Final

from pillion.cli.errors import UsageError
from pillion.cli.memory import forbid_core_dumps
from pillion.version import VERSION

COMMANDS: Final = {
    "run": ("pillion.cli.run", "serve the manifests of a folder on localhost, without a cluster"),
    "lint": ("pillion.cli.lint", "check manifests as the cluster would"),
    "sidecar": ("pillion.cli.sidecar", "run beside an application, configured by the operator"),
    "operator": ("pillion_operator.command", "run the control plane"),
    "verify": ("pillion_operator.verification", "ask a running operator whether it works"),
    "crds": ("pillion.cli.crds", "write the CustomResourceDefinitions"),
}

HOLDING_SECRETS: Final = frozenset({"run", "sidecar", "operator"})
"""Commands whose memory is to stay theirs."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and give the exit code: 0 good, 1 findings, 2 usage or environment."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="pillion", description="Backend plumbing for every pod, on localhost.")
    parser.add_argument("--version", action="version", version=f"pillion {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name, (module, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == asked:
            try:
                command = import_module(module)
            except ModuleNotFoundError as error:
                print(
                    f"pillion {name}: {error.name} is not installed; install pillion[operator] or pillion[sidecar]",
                    file=sys.stderr,
                )
                return 2
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    args = parser.parse_args(arguments)
    if asked in HOLDING_SECRETS:
        forbid_core_dumps()
    try:
        return int(args.run(args))
    except UsageError as error:
        print(f"pillion {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
