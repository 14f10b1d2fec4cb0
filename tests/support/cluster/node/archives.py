"""Container images without a registry and without a builder: any folder of files becomes a docker-archive with the standard library.

Enough for small helpers (a busybox, a pause container). The product's own image is built from its real Dockerfile (`product_image.py`).
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.cluster.node.containerd import PAUSE_IMAGE
from tests.support.cluster.node.prerequisites import find

BUSYBOX_IMAGE: Final = "docker.io/pillion/busybox:test"
"""A shell, wget, httpd, nslookup and the rest, for pods of tests."""


def write_archive(archive: Path, name: str, layer: bytes, command: Sequence[str]) -> None:
    """Writes an image of one *layer* (an uncompressed tar) as a docker-archive (Docker Image Specification v1.2)."""
    config = json.dumps(
        {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for path, content in ((config_name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(tar, path, content, 0o644)


def busybox(folder: Path) -> list[Path]:
    """Archives of the pause image and of a busybox image, both made of the machine's static busybox; written into *folder*."""
    program = find("busybox")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "bin/busybox", program.read_bytes(), 0o755)
        for applet in (
            "sh",
            "sleep",
            "wget",
            "httpd",
            "nslookup",
            "cat",
            "echo",
            "nc",
            "ls",
            "id",
            "touch",
            "test",
            "true",
            "date",
            "kill",
        ):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for directory in ("tmp", "etc", "www"):
            made = tarfile.TarInfo(directory)
            made.type, made.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(made)
        _add(tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
    archives = []
    for name, command in ((PAUSE_IMAGE, ["/bin/busybox", "sleep", "infinity"]), (BUSYBOX_IMAGE, ["/bin/sh"])):
        archive = folder / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
        write_archive(archive, name, buffer.getvalue(), command)
        archives.append(archive)
    return archives


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
