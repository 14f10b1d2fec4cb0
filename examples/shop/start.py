"""Start the example shop: a sidecar, the shop behind it, a webhook receiver and a mail inbox, and print what to try.

Four ordinary processes. Ctrl-C ends all of them; when one ends by itself, the others are ended too and its last words are shown.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("SHOP_STATE", "/tmp/pillion-shop"))  # noqa: S108 - checked below: ours, and nobody else's to write
PORTS = {"sidecar": 3700, "probes": 3790, "shop": 8080, "receiver": 8081, "inbox": 8082, "smtp": 1025}
READY_SECONDS = 20

BOARD = """
  The shop is open.                                     (Ctrl-C closes it)

  sidecar    http://127.0.0.1:{sidecar}     API at /docs, configuration at /v1/config
  shop       http://127.0.0.1:{shop}     plain Python, talks to the sidecar over HTTP
  receiver   http://127.0.0.1:{receiver}     shows the webhooks it verified
  inbox      http://127.0.0.1:{inbox}     open it in a browser
  manifests  {manifests}     edit one: it counts within a second

  Try:

  1. A limit that bites on the 6th request
     for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{{http_code}} ' -d '{{"user": "ada@example.com"}}' localhost:{shop}/login; done; echo

  2. A flag that differs by user
     curl -s 'localhost:{shop}/checkout?user=ada@example.com'; curl -s 'localhost:{shop}/checkout?user=bob@elsewhere.org'

  3. An order: a signed webhook at the receiver, a mail in the inbox
     curl -s -d '{{"user": "ada@example.com", "item": "bell", "quantity": 2}}' localhost:{shop}/orders; sleep 1; curl -s localhost:{receiver}; curl -s localhost:{inbox}/messages

  4. Health, answered from memory
     curl -s localhost:{sidecar}/health

  5. The shop's logs, with addresses masked
     curl -s 'localhost:{sidecar}/v1/logs?q=order'
"""


def main() -> int:
    """Run until a signal comes or a process ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--manifests", type=Path, default=HERE / "manifests", help="manifests to serve (default: %(default)s)"
    )
    for name, port in PORTS.items():
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="PORT", help=f"(default: {port})")
    args = parser.parse_args()
    ports = {name: getattr(args, f"{name}_port") for name in PORTS}
    taken = [f"{port} ({name})" for name, port in ports.items() if answers(port)]
    if taken:
        print(
            f"Ports are taken: {', '.join(taken)}. Stop what listens there; is another shop running?", file=sys.stderr
        )
        return 2
    prepare(STATE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    processes = start(args.manifests, ports)
    try:
        if not wait_until_ready(processes, ports):
            return 1
        print(BOARD.format(manifests=os.path.relpath(args.manifests), **ports), flush=True)
        while all(process.poll() is None for process in processes.values()):
            time.sleep(0.2)
        report(processes)
        return 1
    except (KeyboardInterrupt, SystemExit):
        print("\n  Closing the shop.", flush=True)
        return 0
    finally:
        stop(processes)


def prepare(state: Path) -> None:
    """Make the folder for logs and data; it must be ours alone."""
    for folder in (state, state / "app", state / "archive", state / "data"):
        folder.mkdir(mode=0o700, exist_ok=True)
    if state.stat().st_uid != os.getuid():
        sys.exit(f"{state} belongs to somebody else; set SHOP_STATE and the paths in manifests/profile.yaml")


def start(manifests: Path, ports: dict[str, int]) -> dict[str, subprocess.Popen]:
    """Start the four processes, each in its own group, so that Ctrl-C reaches them through us and in order."""
    base = os.environ | {"PYTHONUNBUFFERED": "1", "PILLION_URL": f"http://127.0.0.1:{ports['sidecar']}"}
    sidecar = [
        "-m",
        "pillion.cli.main",
        "run",
        "-f",
        str(manifests),
        "--data-dir",
        str(STATE / "data"),
        "--log-level",
        "warning",
    ]
    sidecar += ["--port", str(ports["sidecar"]), "--admin-port", str(ports["probes"])]
    programs = {
        "inbox": ([str(HERE / "inbox.py")], {"PORT": str(ports["inbox"]), "SMTP_PORT": str(ports["smtp"])}, None),
        "receiver": ([str(HERE / "receiver.py")], {"PORT": str(ports["receiver"])}, None),
        "shop": ([str(HERE / "app.py")], {"PORT": str(ports["shop"])}, STATE / "app" / "shop.log"),
        "sidecar": (sidecar, {}, None),
    }
    processes = {}
    for name, (arguments, variables, log) in programs.items():
        output = log.open("ab") if log else None
        processes[name] = subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, *arguments], env=base | variables, stdout=output, stderr=output, process_group=0
        )
    return processes


def wait_until_ready(processes: dict[str, subprocess.Popen], ports: dict[str, int]) -> bool:
    """Wait until every port answers."""
    deadline = time.monotonic() + READY_SECONDS
    while not all(answers(port) for port in ports.values()):
        if any(process.poll() is not None for process in processes.values()):
            report(processes)
            return False
        if time.monotonic() > deadline:
            print(
                f"Not ready after {READY_SECONDS} s: {[n for n, p in ports.items() if not answers(p)]}", file=sys.stderr
            )
            return False
        time.sleep(0.05)
    return True


def answers(port: int) -> bool:
    """Tell whether something listens on *port*."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def report(processes: dict[str, subprocess.Popen]) -> None:
    """Say which process ended."""
    for name, process in processes.items():
        if process.poll() is not None:
            print(f"The {name} ended with code {process.returncode}.", file=sys.stderr)


def stop(processes: dict[str, subprocess.Popen]) -> None:
    """End the shop before its sidecar, so that its last events are still taken."""
    for name in ("shop", "sidecar", "receiver", "inbox"):
        processes[name].send_signal(signal.SIGINT)
        try:
            processes[name].wait(timeout=12)
        except subprocess.TimeoutExpired:
            processes[name].kill()
            processes[name].wait()


if __name__ == "__main__":
    sys.exit(main())
