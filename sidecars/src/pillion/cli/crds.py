"""`pillion crds`: write one CustomResourceDefinition per kind, as the repository and the chart ship them."""

import argparse
from pathlib import Path

from pillion.cli.reference import reference_page
from pillion.kinds.argocd import config_map
from pillion.kinds.crd import crd_yaml
from pillion.kinds.registry import kinds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--reference", type=Path, help="also write the configuration reference to this file")
    parser.add_argument("--argocd", type=Path, help="also write Argo CD's health checks to this file")
    parser.add_argument("--output-dir", type=Path, help="write one file per kind there; without it all go to stdout")


def run(args: argparse.Namespace) -> int:
    """Write them; always 0."""
    if args.reference is not None:
        args.reference.write_text(reference_page(kinds()))
    if args.argocd is not None:
        args.argocd.write_text(config_map(kinds().values()))
    for kind in kinds().values():
        text = crd_yaml(kind)
        if args.output_dir is None:
            print("---\n" + text, end="")
        else:
            args.output_dir.mkdir(parents=True, exist_ok=True)
            (args.output_dir / f"{kind.plural}.yaml").write_text(text)
    return 0
