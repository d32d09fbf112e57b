"""The documents of an image: names on the wire, what is left out, what is refused."""

from __future__ import annotations

import json

import pytest

from pannier.base.errors import InvalidArgument
from pannier.oci import image as oci

_DIFF = "sha256:" + "1" * 64


def _config(**changes: object) -> oci.ImageConfig:
    base = {"architecture": "amd64", "os": "linux", "rootfs": oci.RootFS([_DIFF])}
    return oci.ImageConfig(**{**base, **changes})  # type: ignore[arg-type]


def test_keys_are_those_of_the_specification() -> None:
    defaults = oci.ContainerDefaults(
        cmd=["bash"],
        exposed_ports={"80/tcp": {}},
        working_dir="/x",
        on_build=["RUN x"],
        healthcheck=oci.Healthcheck(test=["CMD", "true"], start_period=5),
    )
    document = json.loads(oci.encode(_config(config=defaults, os_version="1")))
    assert document["rootfs"] == {"diff_ids": [_DIFF], "type": "layers"}
    assert document["os.version"] == "1"
    assert document["config"] == {
        "Cmd": ["bash"],
        "ExposedPorts": {"80/tcp": {}},
        "WorkingDir": "/x",
        "OnBuild": ["RUN x"],
        "Healthcheck": {"Test": ["CMD", "true"], "StartPeriod": 5},
    }


def test_null_and_unknown_keys_are_taken_as_docker_writes_them() -> None:
    text = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "docker_version": "20",
            "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Cmd": None, "Labels": None, "Hostname": "x", "Volumes": {"/v": {}}},
        }
    )
    config = oci.decode(text.encode(), oci.ImageConfig, "config")
    assert config.defaults.cmd is None
    assert config.defaults.volumes == {"/v": {}}
    bare = oci.decode(
        b'{"architecture":"a","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":null}',
        oci.ImageConfig,
        "config",
    )
    assert bare.defaults == oci.ContainerDefaults()


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"os":"linux"}'])
def test_what_is_no_config_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="invalid config of x"):
        oci.decode(data, oci.ImageConfig, "config of x")


def test_equal_documents_have_one_digest() -> None:
    assert oci.encode(_config()) == oci.encode(_config())
    assert oci.digest_of(b"") == "sha256:" + "e3b0c44298fc1c149afbf4c8996fb924" + (
        "27ae41e4649b934ca495991b7852b855"
    )


def test_chain_ids_start_with_the_first_diff_id_and_depend_on_all_below() -> None:
    a, b, c = (f"sha256:{digit * 64}" for digit in "abc")
    assert oci.chain_ids([]) == []
    assert oci.chain_ids([a])[0] == a
    assert oci.chain_ids([a, b, c])[:2] == oci.chain_ids([a, b])
    assert oci.chain_ids([a, b])[1] == oci.digest_of(f"{a} {b}".encode())
    assert oci.chain_ids([b, a])[1] != oci.chain_ids([a, b])[1]
