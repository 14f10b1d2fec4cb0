"""The harness on the command line: build the programs ahead of the tests, say where they would come from, clean up.

python -m tests.support.cluster build [NAME...]     all that API tests need, or the named programs
python -m tests.support.cluster build --node        all that node tests need
python -m tests.support.cluster build --background  any of them, detached: `make` goes on, tests wait on the lock if they must
python -m tests.support.cluster where               which source the API tests would use
python -m tests.support.cluster clean               undo what a killed run of the node tests left on this machine
"""

import argparse
import subprocess
import sys
from pathlib import Path

if __package__ in {None, ""}:  # run as a file, as the Makefile does: make `tests.support.cluster` importable
    sys.path[0] = str(Path(__file__).parents[3])

from tests.support.cluster import programs, sources
from tests.support.cluster.node import node
from tests.support.cluster.node.prerequisites import NODE_PROGRAMS


def _say(line: str) -> None:
    print(f"pillion tests: {line}", flush=True)


def _build(names: list[str], *, background: bool) -> int:
    unknown = sorted(set(names) - set(programs.PROGRAMS))
    if unknown:
        print(f"unknown program {', '.join(unknown)}; known: {', '.join(sorted(programs.PROGRAMS))}", file=sys.stderr)
        return 2
    try:
        if not names:
            source = sources.choose()
            if not isinstance(source, sources.Toolchain):
                _say(f"nothing to build: {source.describe()}")
                return 0
            names = list(programs.API_PROGRAMS)
        if background:
            if len(programs.cached(names)) == len(set(names)):
                return 0
            log = programs.cache_root() / "build.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w") as output:
                subprocess.Popen(  # outlives this process on purpose: the tests wait on the lock of the build
                    [sys.executable, __file__, "build", *names],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            _say(f"building {', '.join(names)} in the background (log: {log})")
            return 0
        for name, path in programs.build(names, _say).items():
            _say(f"{name}: {path}")
    except (programs.MissingToolchainError, programs.BuildError) as error:
        print(f"pillion tests: {error}", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str]) -> int:
    """Runs one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="tests.support.cluster", description="The Kubernetes harness of the tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build programs into the cache")
    build.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(sorted(programs.PROGRAMS))}")
    build.add_argument("--node", action="store_true", help="all that node tests need")
    build.add_argument("--background", action="store_true", help="return at once; the build goes on at a low priority")
    path = commands.add_parser("path", help="print where a built program is")
    path.add_argument("name", metavar="NAME")
    commands.add_parser("where", help="say where the API server of the tests comes from")
    commands.add_parser("clean", help="undo what a killed run of the node tests left on this machine")
    options = parser.parse_args(arguments)
    if options.command == "build":
        names = [*options.names, *(NODE_PROGRAMS if options.node else ())]
        return _build(names, background=options.background)
    if options.command == "clean":
        if not node.clean(_say):
            _say("nothing to undo")
        return 0
    if options.command == "path":
        found = programs.cached([options.name]).get(options.name)
        print(found or f"{options.name} is not built", file=sys.stdout if found else sys.stderr)
        return 0 if found else 1
    print(sources.choose().describe())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
