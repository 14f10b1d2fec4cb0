"""Install the Debian packages that the tests use, where that is allowed; else say in one line what is missing and what it costs.

    python tests/support/system_packages.py redis-server nginx-light

A package counts as there when its program is on the PATH. Never fails: the tests that need a missing program are skipped with the reason.
"""

import os
import shutil
import subprocess
import sys

PROGRAMS = {
    "redis-server": "redis-server",
    "nginx-light": "nginx",
    "wrk": "wrk",
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "nftables": "nft",
    "iproute2": "ip",
    "busybox-static": "busybox",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
}
"""The program by which a package is recognised."""

SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def main(packages: list[str]) -> int:
    missing = [package for package in packages if shutil.which(PROGRAMS.get(package, package), path=SEARCH) is None]
    if not missing:
        return 0
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") and (not prefix or shutil.which("sudo")):
        print(f"installing {', '.join(missing)} (once)", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = [*prefix, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        update = [*prefix, "apt-get", "update", "-qq"]
        # A fresh machine has no package lists yet: try, refresh them, try again.
        if _quiet(install, environment) or (_quiet(update, environment) and _quiet(install, environment)):
            return 0
    print(
        f"not installed: {', '.join(missing)}; tests that need them are skipped (apt-get install {' '.join(missing)})"
    )
    return 0


def _quiet(command: list[str], environment: dict[str, str]) -> bool:
    devnull = subprocess.DEVNULL
    return subprocess.run(command, stdout=devnull, stderr=devnull, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
