"""The Kubernetes programs of the tests: which module pins each, and how the Go toolchain makes them.

No registry of binaries is needed: a Go module of our own (`tools/<module>/go.mod`, `go.sum`) names each version and its checksums, and the result is kept outside
the tree in `$XDG_CACHE_HOME/pillion/<module>/<sha256 of go.mod, go.sum and the Go version>/`. A build happens once: a file lock makes parallel runs
wait for the first, and a finished program is moved into place in one step, so that an interrupted build never leaves half a program.

What this module does not do: it never chooses where a cluster comes from (`sources.py`) and starts nothing.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).parent / "tools"
"""The folder of the tool modules."""

Say = Callable[[str], None]
"""Where progress lines go."""


@dataclass(frozen=True)
class Module:
    """One Go module under `tools/` and what its programs want from the linker."""

    name: str
    """Its folder, and its folder in the cache."""
    source: str
    """The Go module whose version the programs carry."""
    version_packages: tuple[str, ...] = ()
    """Packages whose `gitVersion` the linker sets. Without it an API server calls itself v0.0.0-master and `kubeVersion` gates fail."""
    first_build: str = "a minute"
    """How long the first build of all its programs takes on two cores, for the progress line."""

    @property
    def folder(self) -> Path:
        """Where its `go.mod` lies."""
        return TOOLS / self.name

    def version(self) -> str:
        """The pinned version of `source`, with its leading `v`."""
        found = re.search(
            rf"^(?:require)?\s+{re.escape(self.source)} (v\S+)", (self.folder / "go.mod").read_text(), re.MULTILINE
        )
        if found is None:
            raise LookupError(
                f"{self.folder / 'go.mod'}: no requirement of {self.source}; add one and run `go mod tidy`"
            )
        return found[1]

    def linker_flags(self) -> str:
        """The value of `-ldflags`: no symbol tables, and the version where a program asks for it."""
        version = self.version()
        major, minor, _ = version.removeprefix("v").split(".", 2)
        stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        return " ".join(
            [
                "-s -w",
                *(
                    f"-X {package}.{name}={value}"
                    for package in self.version_packages
                    for name, value in stamps.items()
                ),
            ]
        )


@dataclass(frozen=True)
class Program:
    """One program: its name, the module that pins it, and the Go package that holds it."""

    name: str
    module: Module
    package: str


_KUBERNETES_VERSIONS = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_CONTROL_PLANE = Module("controlplane", "k8s.io/kubernetes", _KUBERNETES_VERSIONS, "four minutes")
_NODE = Module("node", "k8s.io/kubernetes", _KUBERNETES_VERSIONS, "three minutes")
_ETCD = Module("etcd", "go.etcd.io/etcd/server/v3")
_COREDNS = Module("coredns", "github.com/coredns/coredns", first_build="two minutes")
_HELM = Module("helm", "helm.sh/helm/v4", first_build="two minutes")
_KIND = Module("kind", "sigs.k8s.io/kind", first_build="half a minute")
_KWOK = Module("kwok", "sigs.k8s.io/kwok", first_build="two minutes")
_PROMQL = Module("promql", "github.com/prometheus/prometheus", first_build="half a minute")

PROGRAMS: Final[Mapping[str, Program]] = {
    program.name: program
    for program in (
        *(Program(name, _CONTROL_PLANE, f"k8s.io/kubernetes/cmd/{name}") for name in ("kube-apiserver", "kubectl")),
        *(
            Program(name, _CONTROL_PLANE, f"k8s.io/kubernetes/cmd/{name}")
            for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy")
        ),
        # 1.34 in a module of its own: from 1.35 on the kubelet refuses cgroup v1; three minors of skew are allowed.
        Program("kubelet", _NODE, "k8s.io/kubernetes/cmd/kubelet"),
        Program("etcd", _ETCD, "go.etcd.io/etcd/server/v3"),
        Program("coredns", _COREDNS, "github.com/coredns/coredns"),
        Program("helm", _HELM, "helm.sh/helm/v4/cmd/helm"),
        Program("kind", _KIND, "sigs.k8s.io/kind"),
        Program("kwok", _KWOK, "sigs.k8s.io/kwok/cmd/kwok"),
        # A few lines of our own around the parser: promtool would bring every discovery of Prometheus.
        Program("promql", _PROMQL, "."),
    )
}
"""Every program that the tests know, by name."""

API_PROGRAMS: Final = ("kube-apiserver", "etcd", "kubectl")
"""All that a test against an API server needs."""


class MissingToolchainError(Exception):
    """No Go toolchain that could build the programs; the message says what to install."""


class BuildError(Exception):
    """The toolchain failed; the message carries the end of its output."""


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/pillion`, or `~/.cache/pillion` (XDG Base Directory Specification)."""
    home = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "pillion"


def digest(go_mod: bytes, go_sum: bytes, go_version: str) -> str:
    """The name of a cache folder: SHA-256 over what decides the bytes of a program; code of our own counts with *go_sum*."""
    parts = (go_mod, go_sum, go_version.encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def go_version(module: Module) -> str:
    """What `go version` says inside *module*.

    Raises:
        MissingToolchainError: There is no `go`, or it is older than the module asks for and may not fetch a newer one.
    """
    go = shutil.which("go")
    if go is None:
        raise MissingToolchainError("no Go toolchain on PATH (install Go 1.26 or newer)")
    # -C picks the toolchain that the module asks for; GOTOOLCHAIN=local makes an old one say so.
    answer = subprocess.run(
        [go, "-C", str(module.folder), "version"], capture_output=True, text=True, timeout=120, check=False
    )
    if answer.returncode:
        raise MissingToolchainError(
            f"the Go toolchain does not fit {module.name}: {answer.stderr.strip()} (install Go 1.26 or newer)"
        )
    return answer.stdout.strip()


def cache_folder(module: Module) -> Path:
    """Where the programs of *module* lie once built."""
    own = b"".join(file.read_bytes() for file in sorted(module.folder.glob("*.go")))
    files = (module.folder / "go.mod").read_bytes(), (module.folder / "go.sum").read_bytes() + own
    return cache_root() / module.name / digest(*files, go_version(module))


def cached(names: Iterable[str]) -> dict[str, Path]:
    """Those of *names* that are built already; builds nothing."""
    places = {name: cache_folder(PROGRAMS[name].module) / name for name in names}
    return {name: place for name, place in places.items() if place.is_file()}


def build(names: Iterable[str], say: Say) -> dict[str, Path]:
    """The paths of the programs *names*; those not in the cache are built first, at a low priority.

    Raises:
        MissingToolchainError: Something is missing and no toolchain can build it.
        BuildError: The toolchain failed.
        KeyError: A name that `PROGRAMS` does not know.
    """
    wanted: dict[Module, list[Program]] = {}
    for name in names:
        program = PROGRAMS[name]
        wanted.setdefault(program.module, []).append(program)
    return {
        name: path for module, programs in wanted.items() for name, path in _build_module(module, programs, say).items()
    }


def _build_module(module: Module, programs: list[Program], say: Say) -> dict[str, Path]:
    folder = cache_folder(module)
    places = {program.name: folder / program.name for program in programs}
    if all(place.is_file() for place in places.values()):
        return places
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that builds {module.name} programs")
            fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [program for program in programs if not places[program.name].is_file()]
        if missing:
            _go_build(module, missing, folder, say)
    return places


def _go_build(module: Module, programs: list[Program], folder: Path, say: Say) -> None:
    names = ", ".join(program.name for program in programs)
    say(f"building {names} {module.version()} into {folder} (once; up to {module.first_build} on two cores)")
    started = time.monotonic()
    for stale in folder.glob(".build-*"):  # left by a build that was killed: we hold the lock, so nobody works in it
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
        for program in programs:
            # One output file each: for a folder, go would name the program after the last path element ("v3" and its like).
            command = [
                "go",
                "-C",
                str(module.folder),
                "build",
                "-trimpath",
                "-mod=readonly",
                "-ldflags",
                module.linker_flags(),
            ]
            command += ["-o", str(Path(scratch) / program.name), program.package]
            _run_niced(command, program, say)
        for program in programs:
            (Path(scratch) / program.name).rename(folder / program.name)
    say(f"built {names} in {time.monotonic() - started:.0f} s")


def _run_niced(command: list[str], program: Program, say: Say) -> None:
    started = time.monotonic()
    environ = {**os.environ, "CGO_ENABLED": "0"}
    prefix = ["nice", "-n", "10"] if shutil.which("nice") else []
    with subprocess.Popen(
        [*prefix, *command], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    output, _ = process.communicate(timeout=30)
                    break
                say(f"still building {program.name} ({time.monotonic() - started:.0f} s)")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise BuildError(f"{' '.join(command)} failed with status {process.returncode}:\n{output[-4000:]}")
