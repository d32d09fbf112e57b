"""Whole operations against an engine in memory."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pannier.base.errors import InvalidArgument, NotFound, Unavailable
from pannier.compose.model import Dependency, Healthcheck, Mount, Project, Service, Volume
from pannier.stack.manager import StackManager
from pannier.wire.stacks import StackDown, StackRollback, StackScale, StackUp

CHECK = Healthcheck(test=["CMD", "true"])


async def drain(events):
    return [event async for event in events]


def body(project: Project, **options) -> StackUp:
    return StackUp(project=msgspec.to_builtins(project), **options)


def app(image="app:1", **other) -> Service:
    return Service(image=image, scale=other.pop("scale", 3), healthcheck=CHECK, **other)


async def test_up_orders_by_health_and_does_nothing_twice(engine, manager, shop):
    web = Service(image="app:1", depends_on={"db": Dependency(condition="service_healthy")})
    project = shop(web=web, db=Service(image="db:1", healthcheck=CHECK))
    events = await drain(manager.up("shop", body(project)))
    assert engine.journal == [
        "create network shop_default",
        "create shop-db-1",
        "start shop-db-1",
        "create shop-web-1",
        "start shop-web-1",
    ]
    words = [(e.kind, e.name, e.status) for e in events]
    assert words.index(("service", "db", "healthy")) < words.index(
        ("container", "shop-web-1", "creating")
    )
    engine.forget_journal()
    events = await drain(manager.up("shop", body(project)))
    assert engine.journal == []
    assert [(e.name, e.status) for e in events if e.kind == "container"] == [
        ("shop-db-1", "running"),
        ("shop-web-1", "running"),
    ]


async def test_an_unhealthy_dependency_fails_with_its_name(engine, manager, shop):
    engine.containers.sick = {engine.images.known["db:1"]}
    web = Service(image="app:1", depends_on={"db": Dependency(condition="service_healthy")})
    project = shop(web=web, db=Service(image="db:1", healthcheck=CHECK))
    with pytest.raises(Unavailable, match="container shop-db-1 is unhealthy"):
        await drain(manager.up("shop", body(project)))
    assert engine.names() == ["shop-db-1"]


async def test_a_job_that_must_complete(engine, manager, shop):
    job = {"job": Dependency(condition="service_completed_successfully")}
    project = shop(web=Service(image="app:1", depends_on=job), job=Service(image="db:1"))
    engine.containers.ends = {engine.images.known["db:1"]: 3}
    with pytest.raises(Unavailable, match=r"shop-job-1 exited \(3\)"):
        await drain(manager.up("shop", body(project)))
    engine.containers.ends = {engine.images.known["db:1"]: 0}
    await drain(manager.up("shop", body(project)))
    assert engine.names() == ["shop-job-1", "shop-web-1"]


async def test_a_rolling_update_never_serves_with_fewer(engine, manager, shop):
    await drain(manager.up("shop", body(shop(app=app()))))
    await asyncio.sleep(0.05)
    engine.containers.least_serving = {"app": 3}
    engine.forget_journal()
    await drain(manager.up("shop", body(shop(app=app("app:2")))))
    assert engine.names() == ["shop-app-1", "shop-app-2", "shop-app-3"]
    assert {c.image_id for c in engine.containers.all()} == {engine.images.known["app:2"]}
    provisional = engine.journal[0].split()[1]
    own = [line for line in engine.journal if line.endswith("shop-app-1")]
    assert own == [
        f"create {provisional}",
        f"start {provisional}",
        f"withdraw {provisional}",
        f"announce {provisional}",
        "withdraw shop-app-1",
        "withdraw shop-app-1",
        "stop shop-app-1",
        "remove shop-app-1",
        f"rename {provisional} shop-app-1",
    ]


async def test_rollback_and_undo(engine, manager, shop):
    one, two = engine.images.known["app:1"], engine.images.known["app:2"]
    await drain(manager.up("shop", body(shop(app=app()))))
    await drain(manager.up("shop", body(shop(app=app("app:2")))))
    await drain(manager.scale("shop", StackScale(scale={"app": 2})))
    engine.containers.least_serving = {"app": 2}
    await drain(manager.rollback("shop", StackRollback(services=["app"])))
    assert [c.image_id for c in engine.containers.all()] == [one, one]
    with pytest.raises(NotFound, match="no previous image to go back to for app"):
        await drain(manager.rollback("shop", StackRollback(services=["app"])))
    await drain(manager.rollback("shop", StackRollback(undo=True)))
    assert [c.image_id for c in engine.containers.all()] == [two, two]
    await drain(manager.rollback("shop", StackRollback()))
    assert [c.image_id for c in engine.containers.all()] == [one, one]
    # Scaling afterwards keeps to what was rolled back to.
    await drain(manager.scale("shop", StackScale(scale={"app": 3})))
    assert [c.image_id for c in engine.containers.all()] == [one, one, one]


async def test_rollback_finds_the_old_image_after_its_tag_has_moved(engine, manager, shop):
    old = engine.images.known["app:1"]
    await drain(manager.up("shop", body(shop(app=app()))))
    engine.images.known["kept"] = old
    engine.images.known["app:1"] = "sha256:" + "9" * 64
    await drain(manager.up("shop", body(shop(app=app()))))
    await drain(manager.rollback("shop", StackRollback()))
    assert {c.image_id for c in engine.containers.all()} == {old}
    assert manager.images_in_use()[old] == ["shop"]


async def test_a_failing_update_leaves_the_old_replicas_serving(engine, manager, shop):
    await drain(manager.up("shop", body(shop(app=app()))))
    await asyncio.sleep(0.05)
    engine.containers.least_serving = {"app": 3}
    engine.containers.sick = {engine.images.known["app:2"]}
    with pytest.raises(Unavailable, match="is unhealthy") as caught:
        await drain(manager.up("shop", body(shop(app=app("app:2")))))
    assert caught.value.hint == "it said last:\n  output of 22222"
    assert engine.names() == ["shop-app-1", "shop-app-2", "shop-app-3"]
    assert {c.image_id for c in engine.containers.all()} == {engine.images.known["app:1"]}
    with pytest.raises(NotFound, match="no previous image"):  # v2 never was in place
        await drain(manager.rollback("shop", StackRollback()))


async def test_a_failing_stop_first_update_brings_the_old_one_back(engine, manager, shop):
    data = [Mount(type="volume", source="data", target="/data")]

    def project(image):
        db = Service(image=image, healthcheck=CHECK, mounts=data)
        return msgspec.structs.replace(shop(db=db), volumes={"data": Volume(name="shop_data")})

    await drain(manager.up("shop", body(project("app:1"))))
    engine.containers.ends = {engine.images.known["app:2"]: 1}
    with pytest.raises(Unavailable, match=r"exited \(1\)"):
        await drain(manager.up("shop", body(project("app:2"))))
    (left,) = engine.containers.all()
    assert (left.name, left.state.status) == ("shop-db-1", "running")
    assert left.image_id == engine.images.known["app:1"]


async def test_failure_action_rollback_goes_back_by_itself(engine, manager, shop):
    from pannier.compose.model import UpdateConfig

    update = UpdateConfig(failure_action="rollback", parallelism=1)
    await drain(manager.up("shop", body(shop(app=app(update=update)))))
    engine.containers.sick = {engine.images.known["app:2"]}
    with pytest.raises(Unavailable):
        await drain(manager.up("shop", body(shop(app=app("app:2", update=update)))))
    engine.forget_journal()
    await drain(manager.scale("shop", StackScale(scale={"app": 4})))
    assert {c.image_id for c in engine.containers.all()} == {engine.images.known["app:1"]}


async def test_scale_drains_before_it_stops(engine, manager, shop):
    await drain(manager.up("shop", body(shop(app=app(scale=2)))))
    engine.forget_journal()
    await drain(manager.scale("shop", StackScale(scale={"app": 1})))
    assert engine.journal == ["withdraw shop-app-2", "stop shop-app-2", "remove shop-app-2"]


async def test_down_takes_everything_and_forgets(engine, manager, shop):
    db = Service(image="db:1", mounts=[Mount(type="volume", source="data", target="/d")])
    project = msgspec.structs.replace(shop(db=db), volumes={"data": Volume(name="shop_data")})
    await drain(manager.up("shop", body(project)))
    await drain(manager.down("shop", StackDown()))
    assert engine.names() == []
    assert list(engine.volumes.found) == ["shop_data"]
    await drain(manager.up("shop", body(project)))
    await drain(manager.down("shop", StackDown(volumes=True)))
    assert not engine.volumes.found
    assert not engine.networks.found
    with pytest.raises(NotFound):
        await manager.status("shop")


async def test_down_of_nothing_says_so(manager):
    (event,) = await drain(manager.down("shop", StackDown()))
    assert event.message == "no resource found to remove"


async def test_an_update_interrupted_by_a_crash_is_finished_by_the_next_engine(
    engine, manager, shop, tmp_path
):
    await drain(manager.up("shop", body(shop(app=app()))))
    events = manager.up("shop", body(shop(app=app("app:2"))))
    async for event in events:
        if event.name == "shop-app-1" and event.status == "draining":
            break
    # The process dies: nothing is cleaned up.
    for operation in manager._operations._running.values():
        operation.task.cancel()
    engine.forget_journal()
    heir = StackManager(tmp_path / "stacks", *engine.ports(), drain=0.01)
    assert heir.resume() == ["shop"]
    (operation,) = heir._operations._running.values()
    await operation.task
    assert {c.image_id for c in engine.containers.all()} == {engine.images.known["app:2"]}
    assert engine.names() == ["shop-app-1", "shop-app-2", "shop-app-3"]
    assert heir.resume() == []
    await events.aclose()


async def test_an_operation_goes_on_without_its_caller_until_the_next_one(engine, manager, shop):
    events = manager.up("shop", body(shop(app=app())))
    async for _ in events:
        break
    await events.aclose()
    await asyncio.sleep(0.1)
    assert len(engine.names()) == 3
    await drain(manager.down("shop", StackDown()))
    assert engine.names() == []


async def test_services_that_are_not_selected_stay(engine, manager, shop):
    await drain(manager.up("shop", body(shop(app=app(), db=Service(image="db:1")))))
    newer = shop(app=app("app:2"), db=Service(image="db:1", environment={"A": "1"}))
    await drain(manager.up("shop", body(newer, services=["db"])))
    assert {c.image_id for c in engine.containers.all() if "app" in c.name} == {
        engine.images.known["app:1"]
    }
    await drain(manager.scale("shop", StackScale(scale={"app": 4})))
    assert {c.image_id for c in engine.containers.all() if "app" in c.name} == {
        engine.images.known["app:1"]
    }


async def test_missing_images_are_pulled_or_said(engine, manager, shop):
    engine.images.remote = {"far:1": "sha256:" + "f" * 64}
    await drain(manager.up("shop", body(shop(far=Service(image="far:1")))))
    with pytest.raises(NotFound, match="pull access denied"):
        await drain(manager.up("shop", body(shop(far=Service(image="nowhere:1")))))


async def test_bad_requests(manager, shop):
    with pytest.raises(InvalidArgument, match="is called 'shop'"):
        await drain(manager.up("other", body(shop(app=app()))))
    with pytest.raises(InvalidArgument, match="no such service: nope"):
        await drain(manager.up("shop", body(shop(app=app()), services=["nope"])))
    circle = shop(
        a=Service(image="app:1", depends_on={"b": Dependency()}),
        b=Service(image="app:1", depends_on={"a": Dependency()}),
    )
    with pytest.raises(InvalidArgument, match="a -> b -> a"):
        await drain(manager.up("shop", body(circle)))
    with pytest.raises(NotFound, match="No such stack"):
        await drain(manager.scale("shop", StackScale(scale={"app": 1})))


async def test_status_counts(engine, manager, shop):
    await drain(manager.up("shop", body(shop(app=app(scale=2)), wait=True)))
    (status,) = await manager.summaries()
    assert (status.name, status.status) == ("shop", "running(2)")
    (service,) = status.services
    assert (service.wanted, service.running, service.healthy) == (2, 2, 2)


async def test_a_replica_that_once_was_restarted_is_ready_all_the_same(engine, manager, shop):
    project = shop(app=app(scale=1))
    await drain(manager.up("shop", body(project)))
    engine.containers.all()[0].state.restart_count = 1
    await drain(manager.up("shop", body(project, wait=True)))
