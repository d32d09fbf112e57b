"""Negotiation, headers, errors."""

from __future__ import annotations

import asyncio
import json

import pytest


async def test_ping_head_and_get(served):
    status, headers, body = await served.call("HEAD", "/_ping")
    assert (status, body) == (200, b"")
    assert headers["Api-Version"] == "1.50"
    assert headers["Builder-Version"] == "1"
    assert headers["Ostype"] == "linux"
    assert headers["Docker-Experimental"] == "false"
    assert headers["Server"] == "pannier/0.1 (linux)"
    assert (await served.call("GET", "/v1.41/_ping"))[2] == b"OK"


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.50"])
async def test_versions(served, prefix):
    status, headers, body = await served.call("GET", f"{prefix}/version")
    assert status == 200
    assert headers["Api-Version"] == "1.50"
    assert json.loads(body)["MinAPIVersion"] == "1.24"


async def test_version_out_of_range(served):
    status, _, body = await served.call("GET", "/v1.99/version")
    assert status == 400
    assert json.loads(body) == {
        "message": "client version 1.99 is too new. Maximum supported API version is 1.50"
    }
    status, _, body = await served.call("GET", "/v1.12/version")
    assert status == 400
    assert "too old" in json.loads(body)["message"]


@pytest.mark.parametrize("path", ["/grpc", "/session", "/nothing", "/v1.50/containers", "/"])
async def test_unknown_route(served, path):
    status, headers, body = await served.call("POST", path)
    assert status == 404
    assert json.loads(body) == {"message": "page not found"}
    assert "Api-Version" not in headers


async def test_swarm_is_off(served):
    status, _, body = await served.call("GET", "/v1.50/nodes")
    assert status == 503
    assert json.loads(body)["message"].startswith("This node is not a swarm manager")


async def test_errors_carry_message_and_status(served):
    status, _, body = await served.call("GET", "/containers/nosuch/json")
    assert (status, json.loads(body)) == (404, {"message": "No such container: nosuch"})
    status, _, body = await served.call("POST", "/containers/create", {"Image": "missing"})
    assert (status, json.loads(body)["message"]) == (404, "No such image: missing:latest")
    await served.create("wait")
    status, _, body = await served.call("POST", "/containers/create?name=c1", {"Image": "x"})
    assert status == 409


async def test_not_modified_has_no_body(served):
    container = await served.create("wait")
    assert (await served.call("POST", f"/containers/{container}/start"))[0] == 204
    status, _, body = await served.call("POST", f"/containers/{container}/start")
    assert (status, body) == (304, b"")


async def test_bad_body_names_the_field(served):
    bad = {"Image": "x", "HostConfig": {"Memory": "much"}}
    status, _, body = await served.call("POST", "/containers/create", bad)
    assert status == 400
    assert "HostConfig.Memory" in json.loads(body)["message"]


async def test_bad_query_values(served):
    for path in ("/containers/json?limit=x", "/containers/json?filters=%7B", "/images/get"):
        assert (await served.call("GET", path))[0] == 400
    container = await served.create("wait")
    status, _, body = await served.call("POST", f"/containers/{container}/kill?signal=FOO")
    assert (status, json.loads(body)["message"]) == (400, "Invalid signal: FOO")


async def test_a_defect_answers_500_and_the_server_lives(served):
    status, _, body = await served.call("GET", "/images/x/history")  # not in the memory backend
    assert status == 500
    assert "internal error" in json.loads(body)["message"]
    assert (await served.call("GET", "/_ping"))[0] == 200


async def test_a_change_is_completed_though_its_caller_left(served):
    await served.create("wait")
    served.backend.containers.hold.clear()
    peer = await served.peer()
    await peer.send("POST", "/containers/c1/stop?t=3", upgrade=False)
    while not served.backend.containers.calls:
        await asyncio.sleep(0.001)
    peer.close()
    await peer.writer.wait_closed()
    served.backend.containers.hold.set()
    async with asyncio.timeout(5):
        while ("stopped", "c1") not in served.backend.containers.calls:
            await asyncio.sleep(0.001)
    assert ("stop", "c1", 3, None) in served.backend.containers.calls


async def test_keep_alive_serves_many_requests(served):
    peer = await served.peer()
    for _ in range(3):
        await peer.send("GET", "/_ping", upgrade=False)
        assert await peer.head() == 200
        assert await peer.reader.readexactly(2) == b"OK"
