"""Customers of the shop, as a program for a pod: they order without pause until SIGTERM, and print what became of each order.

Every order comes from another customer, so no limit is hit, and over a connection of its own, so that it meets whichever pod the Service chooses.
One JSON line each: `{"order", "event", "notification"}` for what the shop took, `{"failed"}` with the reason for what it did not.
"""

import itertools
import json
import signal
import sys
import threading
import urllib.error
import urllib.request

URL, COUNT, PAUSE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
stopping = threading.Event()
numbers = itertools.count()


def order() -> dict[str, str]:
    """Places one order."""
    body = json.dumps({"user": f"customer{next(numbers)}@load.example", "item": "bell", "quantity": 1}).encode()
    try:
        with urllib.request.urlopen(f"{URL}/orders", body, timeout=10) as answer:
            taken = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return {"failed": f"{error.code} {error.read().decode()}"}
    except OSError as error:
        return {"failed": str(error)}
    return {"order": taken["order"]["id"], "event": taken["event"], "notification": taken["notification"]}


def customer() -> None:
    """Orders again and again."""
    while not stopping.wait(PAUSE):
        line = json.dumps(order()) + "\n"
        sys.stdout.write(line)  # one write, so that threads do not mix theirs
        sys.stdout.flush()


signal.signal(signal.SIGTERM, lambda *_: stopping.set())
threads = [threading.Thread(target=customer) for _ in range(COUNT)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
