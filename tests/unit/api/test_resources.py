"""Routes of the other resources: queries in, Docker's shapes out."""

from __future__ import annotations

import asyncio
import base64
import json
from urllib.parse import quote

FILTERS = quote('{"label":["a=b"]}')


def lines(body: bytes) -> list[dict]:
    return [json.loads(line) for line in body.splitlines()]


async def test_container_list(served):
    await served.create("wait")
    _, _, body = await served.call("GET", f"/containers/json?all=1&limit=2&filters={FILTERS}")
    assert json.loads(body)[0]["Names"] == ["/c1"]
    assert ("list", True, {"label": ["a=b"]}, 2, False) in served.backend.containers.calls


async def test_kill_default_and_named(served):
    await served.create("wait")
    await served.call("POST", "/containers/c1/kill")
    await served.call("POST", "/containers/c1/kill?signal=SIGTERM")
    assert served.backend.containers.calls == [("kill", "c1", 9), ("kill", "c1", 15)]


async def test_stop_for_ever(served):
    await served.create("wait")
    await served.call("POST", "/containers/c1/stop?t=-1&signal=INT")
    assert served.backend.containers.calls[0] == ("stop", "c1", float("inf"), 2)


async def test_logs_are_framed_and_stamped_by_line(served):
    await served.create("wait")
    path = "/v1.50/containers/c1/logs?stdout=1&stderr=1&timestamps=1&tail=3"
    _, headers, body = await served.call("GET", path)
    assert headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    stamp = b"1970-01-01T00:00:01.000000001Z "
    assert body == (
        b"\x01\0\0\0\0\0\0\x23" + stamp + b"one\n"
        b"\x02\0\0\0\0\0\0\x21" + stamp + b"tw"
        b"\x02\0\0\0\0\0\0\x02o\n"
    )
    assert served.backend.containers.calls[-1][1].tail == 3


async def test_logs_need_a_stream(served):
    await served.create("wait")
    assert (await served.call("GET", "/containers/c1/logs"))[0] == 400


async def test_one_shot_stats(served):
    await served.create("wait")
    _, _, body = await served.call("GET", "/containers/c1/stats?stream=0&one-shot=1")
    assert json.loads(body)["precpu_stats"]["cpu_usage"]["total_usage"] == 0


async def test_archive(served):
    await served.create("wait")
    status, headers, _ = await served.call("HEAD", "/containers/c1/archive?path=/f")
    assert status == 200
    stat = json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))
    assert stat["linkTarget"] == ""
    _, headers, body = await served.call("GET", "/containers/c1/archive?path=/f")
    assert body == b"tardata"
    assert "X-Docker-Container-Path-Stat" in headers
    path = "/containers/c1/archive?path=/tmp&noOverwriteDirNonDir=true"
    assert (await served.call("PUT", path, "x"))[0] == 200
    assert served.backend.containers.calls[-1] == ("put", "/tmp", b'"x"', True, False)
    assert (await served.call("GET", "/containers/c1/archive"))[0] == 400


async def test_pull(served):
    path = "/images/create?fromImage=docker.io%2Flibrary%2Fx&tag=1"
    status, _, body = await served.call("POST", path)
    assert status == 200
    assert lines(body) == [{"status": "Pulling", "id": "12"}, {"status": "Done"}]
    assert served.backend.images.calls == [("pull", "docker.io/library/x:1", None)]


async def test_pull_errors_before_and_after_the_first_line(served):
    assert (await served.call("POST", "/images/create?fromImage=missing"))[0] == 404
    status, _, body = await served.call("POST", "/images/create?fromImage=broken")
    assert status == 200
    assert lines(body)[-1] == {
        "error": "layer is gone: pull again",
        "errorDetail": {"code": 404, "message": "layer is gone: pull again"},
    }


async def test_image_names_may_hold_slashes(served):
    name = "127.0.0.1:5000/library/x"
    _, _, body = await served.call("GET", f"/v1.50/images/{name}/json")
    assert json.loads(body)["RepoTags"] == [name]
    await served.call("POST", f"/images/{name}/tag?repo=docker.io%2Fy&tag=2")
    assert served.backend.images.calls == [("tag", name, "docker.io/y:2")]
    status, _, body = await served.call("GET", "/images/missing/json")
    assert (status, json.loads(body)["message"]) == (404, "No such image: missing")


async def test_build(served):
    args = quote('{"WHO":"world","EMPTY":null}')
    path = f"/build?t=a&t=b%3A2&buildargs={args}&dockerfile=D&nocache=1&hostca=1&version=1"
    status, _, body = await served.call("POST", path, "context")
    assert status == 200
    assert served.backend.builder.context == b'"context"'
    options = served.backend.builder.options
    assert options.tags == ["a", "b:2"]
    assert options.build_args == {"WHO": "world", "EMPTY": None}
    assert options.no_cache
    assert options.host_ca
    assert not options.pull
    assert lines(body)[1:] == [
        {"aux": {"ID": "sha256:" + "b" * 64}},
        {"stream": "Successfully built bbbbbbbbbbbb\n"},
        {"stream": "Successfully tagged a:latest\n"},
        {"stream": "Successfully tagged b:2\n"},
    ]


async def test_quiet_build_shows_the_id_only(served):
    _, _, body = await served.call("POST", "/build?q=1", "context")
    assert [line.get("stream") for line in lines(body)] == [None, "sha256:" + "b" * 64 + "\n"]


async def test_build_refusals(served):
    status, _, body = await served.call("POST", "/build?target=bad", "context")
    assert status == 400
    assert "unknown instruction" in json.loads(body)["message"]
    status, _, body = await served.call("POST", "/build?version=2", "context")
    assert status == 501
    assert "DOCKER_BUILDKIT=0" in json.loads(body)["hint"]


async def test_volume_prune_by_version(served):
    await served.call("POST", "/v1.41/volumes/prune")
    assert served.backend.volumes.filters == {"all": ["true"]}
    _, _, body = await served.call("POST", "/v1.42/volumes/prune")
    assert served.backend.volumes.filters == {}
    assert json.loads(body) == {"VolumesDeleted": ["v"], "SpaceReclaimed": 7}


async def test_events(served):
    _, _, body = await served.call("GET", "/events?until=5")
    first, second = lines(body)
    assert first["Actor"]["ID"] == "abc"
    assert (first["status"], first["from"], first["timeNano"]) == ("start", "nginx:1", 1500000000)
    assert second["Type"] == "network"
    for given, count in (
        ('{"type":{"container":true}}', 1),
        ('{"container":{"web":true},"event":{"start":true}}', 1),
        ('{"label":{"tier=a":true}}', 1),
        ('{"label":{"tier=b":true}}', 0),
        ('{"image":["nginx"]}', 1),
        ('{"network":["n"]}', 1),
    ):
        _, _, body = await served.call("GET", f"/events?until=5&filters={quote(given)}")
        assert len(lines(body)) == count, given


async def test_live_events_start_with_headers(served):
    peer = await served.peer()
    await peer.send("GET", "/events", upgrade=False)
    async with asyncio.timeout(5):
        assert await peer.head() == 200
        assert b"abc" in await peer.reader.readuntil(b"\n\r\n")


async def test_info_has_what_clients_look_for(served):
    _, _, body = await served.call("GET", "/info")
    info = json.loads(body)
    assert info["Name"] == "host"
    assert info["Swarm"]["LocalNodeState"] == "inactive"


async def test_stack_up(served):
    status, _, body = await served.call("POST", "/pannier/stacks/x/up", {"Project": {"a": 1}})
    assert status == 200
    assert lines(body)[-1] == {"error": "port 80 is in use"}
    assert (await served.call("POST", "/pannier/stacks/x/up", {"Project": {}}))[0] == 400


async def test_unsupported(served):
    for method, path in (("GET", "/images/search?term=x"), ("GET", "/distribution/x/json")):
        assert (await served.call(method, path))[0] == 501
