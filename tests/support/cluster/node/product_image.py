"""Images built from real Dockerfiles, the product's own and the example shop's, with a Docker engine or without one, with a registry or without one.

Where a Docker engine answers, it builds. Elsewhere buildah does, and the base image, which nobody can pull then, is made of Debian packages by mmdebstrap: the same
Debian release and Python that the Dockerfile's own base has. Layers and the base are kept in the cache, so a second build takes seconds.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.support.cluster.node.prerequisites import find
from tests.support.cluster.programs import Say, cache_root

from pillion.version import VERSION

ROOT: Final = Path(__file__).parents[4]
IMAGE: Final = f"docker.io/library/pillion:{VERSION}"
"""What the chart's `pillion:VERSION` means to a container runtime."""
SHOP: Final = ROOT / "examples" / "shop"
SHOP_IMAGE: Final = "docker.io/library/pillion-shop:0.1.0"

_RELEASE: Final = "trixie"
"""Debian's release with Python 3.13."""
_BASE: Final = f"localhost/pillion-tests-base:{_RELEASE}"
_MOST_LAYERS: Final = 20
"""Intermediate images kept for the next build; about four builds."""
_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"


class ImageBuildError(Exception):
    """A builder failed; the message carries the end of its output."""


def build(archive: Path, say: Say, context: Path = ROOT, image: str = IMAGE) -> None:
    """Builds the Dockerfile in *context* and writes the image, named *image*, as a docker-archive.

    Raises:
        ImageBuildError: The build failed.
        FileNotFoundError: There is neither a Docker engine nor buildah with mmdebstrap.
    """
    started = time.monotonic()
    archive.unlink(missing_ok=True)
    if _docker_answers():
        _run(["docker", "build", "--tag", image, str(context)])
        _run(["docker", "save", "--output", str(archive), image])
    else:
        _with_buildah(archive, say, context, image)
    say(f"built {image} in {time.monotonic() - started:.0f} s")


def _with_buildah(archive: Path, say: Say, context: Path, image: str) -> None:
    cache = cache_root() / "images"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock, _names_cache_as_it_was():
        fcntl.flock(lock, fcntl.LOCK_EX)
        buildah = _buildah(cache)
        if not _exists(buildah, _BASE):
            _make_base(buildah, cache, say)
        command = [*buildah, "build", "--pull-never", "--layers", f"--build-arg=PYTHON_IMAGE={_BASE}", f"--tag={image}"]
        command += [f"--volume={source}:{target}:ro" for source, target in _host_configuration(cache)]
        _run([*command, str(context)])
        _run([*buildah, "push", image, f"docker-archive:{archive}:{image}"])
        _bound_store(buildah)


@contextlib.contextmanager
def _names_cache_as_it_was() -> Iterator[None]:
    """buildah keeps a cache of names in /var/lib/containers, whatever store it is given; on a machine without that folder none stays."""
    shared = Path("/var/lib/containers")
    was_there = shared.exists()
    try:
        yield
    finally:
        if not was_there:
            shutil.rmtree(shared, ignore_errors=True)


def _buildah(cache: Path) -> list[str]:
    """buildah with a store of its own."""
    return [str(find("buildah")), f"--root={cache / 'store'}", f"--runroot={cache / 'run'}", "--storage-driver=overlay"]


def _bound_store(buildah: Sequence[str]) -> None:
    """Forgets all intermediate layers once there are many: every change of the source adds some hundred megabytes."""
    command = [*buildah, "images", "--quiet", "--filter=dangling=true"]
    dangling = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    if len(dangling) > _MOST_LAYERS:
        _run([*buildah, "rmi", "--prune", "--force"])


def _make_base(buildah: Sequence[str], cache: Path, say: Say) -> None:
    say(f"making a base image of Debian {_RELEASE} packages (once)")
    folder = cache / "base"
    folder.mkdir(exist_ok=True)
    rootfs = folder / "rootfs.tar"
    packages = "python3,python3-venv,ca-certificates"
    _run([str(find("mmdebstrap")), "--quiet", "--variant=minbase", f"--include={packages}", _RELEASE, str(rootfs)])
    # The packages leave /usr/local empty; the official image has its Python there.
    (folder / "Dockerfile").write_text(
        "FROM scratch\nADD rootfs.tar /\nRUN ln -s /usr/bin/python3 /usr/local/bin/python\n"
    )
    _run([*buildah, "build", f"--tag={_BASE}", str(folder)])
    rootfs.unlink()


def _host_configuration(cache: Path) -> list[tuple[Path, str]]:
    """What lets pip and uv inside the build reach the package index as the host does: its CA bundle and its own configuration, read-only, in no layer."""
    mounts = []
    certificates = Path(os.environ.get("SSL_CERT_FILE") or _CERTIFICATES)
    if certificates.is_file():
        mounts.append((certificates, _CERTIFICATES))
    for name, places in (
        ("pip.conf", ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")),
        ("uv/uv.toml", ("/etc/uv/uv.toml", "~/.config/uv/uv.toml")),
    ):
        found = [path for path in (Path(place).expanduser() for place in places) if path.is_file()]
        if found:
            mounts.append((found[-1], f"/etc/{name}"))  # the person's own wins over the machine's
        elif name == "uv/uv.toml":
            # uv brings its own certificates unless it is told to use the system's.
            system = cache / "uv.toml"
            system.write_text("native-tls = true\n")
            mounts.append((system, f"/etc/{name}"))
    return mounts


def _exists(buildah: Sequence[str], image: str) -> bool:
    return (
        subprocess.run(
            [*buildah, "inspect", "--type=image", image], capture_output=True, timeout=60, check=False
        ).returncode
        == 0
    )


def _docker_answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def _run(command: Sequence[str]) -> None:
    environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}  # needs no runtime and works inside containers
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, env=environ, check=False
    )
    if done.returncode:
        raise ImageBuildError(f"{' '.join(command[:6])} … failed with status {done.returncode}:\n{done.stdout[-4000:]}")
