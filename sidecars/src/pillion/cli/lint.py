"""`pillion lint`: judge manifests by the very functions that the operator and admission use, without a cluster."""

import argparse
import sys

from pillion.cli import files
from pillion.cli.findings import print_findings
from pillion.kinds.bundle import read_bundle
from pillion.kinds.registry import kinds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="manifest files or folders")
    parser.add_argument("-R", "--recursive", action="store_true", help="read the folders below, too")
    parser.add_argument(
        "-o",
        "--output",
        choices=("human", "json", "github"),
        default="human",
        help="form of the findings (default: human)",
    )
    parser.add_argument("--strict", action="store_true", help="let warnings fail, too")
    parser.epilog = "exit codes: 0 nothing to refuse, 1 something is refused, 2 the files cannot be read"


def run(args: argparse.Namespace) -> int:
    """Lint; gives 0 when nothing is refused, else 1."""
    found = files.find(args.paths, recursive=args.recursive)
    bundle = read_bundle(files.read(found), kinds())
    print_findings(bundle.findings, args.output)
    failed = bool(bundle.errors) or (args.strict and bool(bundle.findings))
    if args.output == "human":
        warnings = len(bundle.findings) - len(bundle.errors)
        others = f", {bundle.ignored} objects of other groups left to kubectl" if bundle.ignored else ""
        print(
            f"{len(found)} files, {len(bundle.resources)} resources good, "
            f"{len(bundle.errors)} errors, {warnings} warnings{others}",
            file=sys.stderr,
        )
    return 1 if failed else 0
