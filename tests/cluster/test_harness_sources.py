"""Where the API server comes from: the order of the sources, what is cached under which name, kubeconfigs in and out."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.cluster import kubeconfig, namespaces, programs, sources
from tests.support.cluster.certificates import Authority
from tests.support.cluster.kubeconfig import Access, KubeconfigError


def _executable(folder: Path, name: str, script: str = "exit 0") -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def _environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": str(tmp_path / "bin"), **more}


def test_offered_cluster_comes_first(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.touch()

    source = sources.choose(_environ(tmp_path, PILLION_TEST_KUBECONFIG=str(config), KUBEBUILDER_ASSETS="/absent"))

    assert source == sources.Offered(config)


def test_current_context_of_the_person_is_never_used(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.touch()

    assert not isinstance(sources.choose(_environ(tmp_path, KUBECONFIG=str(config))), sources.Offered)


def test_offered_cluster_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sources.MisnamedSourceError, match="PILLION_TEST_KUBECONFIG=/absent: no such file"):
        sources.choose(_environ(tmp_path, PILLION_TEST_KUBECONFIG="/absent"))


def test_assets_come_second(tmp_path: Path) -> None:
    for name in programs.API_PROGRAMS:
        _executable(tmp_path / "assets", name)

    assert sources.choose(_environ(tmp_path, KUBEBUILDER_ASSETS=str(tmp_path / "assets"))) == sources.Assets(
        tmp_path / "assets"
    )


def test_incomplete_assets_are_an_error(tmp_path: Path) -> None:
    _executable(tmp_path / "assets", "etcd")

    with pytest.raises(sources.MisnamedSourceError, match="lacks kube-apiserver, kubectl"):
        sources.choose(_environ(tmp_path, KUBEBUILDER_ASSETS=str(tmp_path / "assets")))


@pytest.mark.parametrize(("engine", "expected"), [("exit 0", True), ("exit 1", False)])
def test_kind_needs_an_engine_that_answers(tmp_path: Path, engine: str, expected: bool) -> None:  # noqa: FBT001 - a table
    _executable(tmp_path / "bin", "kind")
    _executable(tmp_path / "bin", "kubectl")
    _executable(tmp_path / "bin", "docker", engine)

    assert isinstance(sources.choose(_environ(tmp_path)), sources.Kind) is expected


def test_nothing_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    described = sources.choose(_environ(tmp_path)).describe()

    assert "skipped" in described
    assert "install Go 1.26" in described
    assert "KUBEBUILDER_ASSETS" in described


@pytest.mark.parametrize("program", programs.PROGRAMS.values(), ids=lambda it: it.name)
def test_every_program_is_a_tool_of_a_pinned_module(program: programs.Program) -> None:
    manifest = (program.module.folder / "go.mod").read_text()

    assert program.package in manifest
    assert program.module.version().startswith("v")
    assert (program.module.folder / "go.sum").is_file()


def test_linker_is_told_the_version() -> None:
    module = programs.PROGRAMS["kube-apiserver"].module

    assert f"-X k8s.io/component-base/version.gitVersion={module.version()}" in module.linker_flags()


@given(st.lists(st.tuples(st.binary(), st.binary(), st.text("gov1.26")), min_size=2, max_size=2, unique=True))
def test_whatever_decides_a_program_decides_its_place(inputs: list[tuple[bytes, bytes, str]]) -> None:
    first, second = inputs

    assert programs.digest(*first) != programs.digest(*second)


@given(st.text())
def test_namespace_name_is_a_label(test: str) -> None:
    assert len(namespaces.name_for(test)) <= 63
    assert namespaces.name_for(test).replace("-", "").isascii()
    assert namespaces.name_for(test).replace("-", "").isalnum()


def test_kubeconfig_that_was_written_is_read(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    pair = authority.client("someone")
    written = Access("https://127.0.0.1:1", authority.certificate, pair).write(tmp_path / "config")

    read = kubeconfig.read(written, tmp_path)

    assert read.server == "https://127.0.0.1:1"
    assert read.authority
    assert read.authority.read_bytes() == authority.certificate.read_bytes()
    assert read.pair
    assert read.pair.key.read_bytes() == pair.key.read_bytes()
    assert read.pair.key.stat().st_mode & 0o077 == 0


def test_token_is_not_shown(tmp_path: Path) -> None:
    written = Access("https://127.0.0.1:1", None, token="abc.def").write(tmp_path / "config")

    read = kubeconfig.read(written, tmp_path)

    assert read.headers() == {"Authorization": "Bearer abc.def"}
    assert "abc.def" not in repr(read)


def test_helper_programs_are_refused_with_a_way_out(tmp_path: Path) -> None:
    config = tmp_path / "config"
    content = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"exec": {"command": "login"}}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    config.write_text(json.dumps(content))

    with pytest.raises(KubeconfigError, match="exec is not supported; offer a client certificate or a token"):
        kubeconfig.read(config, tmp_path)
