"""The planner: what is wanted and what is there -> what is done, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.base.errors import InvalidArgument
from pannier.compose.model import (
    Dependency,
    Endpoint,
    Mount,
    Network,
    Port,
    Project,
    Service,
    UpdateConfig,
    Volume,
)
from pannier.stack.actual import Actual, Replica
from pannier.stack.hashing import config_hash
from pannier.stack.order import start_order
from pannier.stack.planning import Wanted, plan_up, starts_first
from pannier.stack.teardown import DownWish, needs_in, plan_down


def project(**services: Service) -> Project:
    return Project(name="shop", services=services)


def wanted(of: Project, image: str = "i1", **options: object) -> Wanted:
    hashes = {name: config_hash(of, name) for name in of.services}
    return Wanted(of, dict.fromkeys(of.services, image), hashes, **options)  # type: ignore[arg-type]


def replica(of: Project, service: str, number: int, **other: object) -> Replica:
    values = {
        "id": f"{service}{number}".ljust(64, "0"),
        "name": f"shop-{service}-{number}",
        "config_hash": config_hash(of, service),
        "image_id": "i1",
        "status": "running",
        **other,
    }
    return Replica(service=service, number=number, **values)  # type: ignore[arg-type]


def brief(steps: list) -> list[str]:
    return [f"{step.verb} {step.subject}{step.number or ''}" for step in steps]


def test_an_empty_host_gets_everything_in_order():
    of = Project(
        name="shop",
        services={
            "web": Service(
                image="w",
                networks={"default": Endpoint()},
                depends_on={"db": Dependency(condition="service_healthy")},
            ),
            "db": Service(
                image="d",
                networks={"default": Endpoint()},
                mounts=[Mount(type="volume", source="data", target="/data")],
            ),
        },
        networks={"default": Network(name="shop_default"), "unused": Network(name="x")},
        volumes={"data": Volume(name="shop_data"), "spare": Volume(name="shop_spare")},
    )
    steps = {step.id: step for step in plan_up(wanted(of), Actual())}
    assert list(steps) == [
        "network:default",
        "volume:data",
        "create:db:1",
        "await:db:service_healthy",
        "create:web:1",
    ]
    assert steps["create:db:1"].needs == ("network:default", "volume:data")
    assert steps["await:db:service_healthy"].needs == ("create:db:1",)
    assert steps["create:web:1"].needs == ("network:default", "await:db:service_healthy")


def test_nothing_is_done_when_all_is_as_wanted():
    of = project(web=Service(image="w", scale=2), db=Service(image="d"))
    actual = Actual((replica(of, "web", 1), replica(of, "web", 2), replica(of, "db", 1)))
    assert plan_up(wanted(of), actual) == []


def test_only_the_changed_service_is_touched():
    old = project(web=Service(image="w"), db=Service(image="d"))
    new = project(web=Service(image="w", environment={"A": "1"}), db=Service(image="d"))
    actual = Actual((replica(old, "web", 1), replica(old, "db", 1)))
    step, retirement = plan_up(wanted(new), actual)
    assert retirement.verb == "retire"
    assert (step.verb, step.subject, step.reason) == (
        "replace",
        "web",
        "its configuration has changed",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 1, "update": UpdateConfig(parallelism=3)},
        {"profiles": ["x"]},
        {"depends_on": {"db": Dependency()}},
        {"pull_policy": "always"},
    ],
)
def test_what_does_not_shape_a_container_changes_nothing(change):
    old = project(web=Service(image="w"), db=Service(image="d"))
    new = project(web=Service(image="w", **change), db=Service(image="d"))
    actual = Actual((replica(old, "web", 1), replica(old, "db", 1)))
    assert plan_up(wanted(new), actual) == []


def test_a_new_image_replaces_batch_by_batch():
    update = UpdateConfig(parallelism=2, delay=5)
    of = project(web=Service(image="w", scale=3, update=update))
    actual = Actual(tuple(replica(of, "web", n) for n in (1, 2, 3)))
    steps = plan_up(wanted(of, image="i2"), actual)
    one, two, three = (step for step in steps if step.verb == "replace")
    # The next batch begins as soon as the new ones serve, while the old ones still drain.
    retirements = [step for step in steps if step.verb == "retire"]
    assert [step.needs for step in retirements] == [(one.id,), (two.id,), (three.id,)]
    assert all(s.start_first for s in (one, two, three))
    assert one.needs == two.needs == ()
    assert three.needs == (one.id, two.id)
    assert (one.delay, three.delay) == (0, 5)


def test_scaling_up_takes_the_lowest_free_numbers():
    of = project(web=Service(image="w", scale=4))
    actual = Actual((replica(of, "web", 2), replica(of, "web", 5)))
    steps = plan_up(wanted(of), actual)
    assert [step.number for step in steps] == [1, 3]
    assert all(step.gated for step in steps)  # others serve already


def test_scaling_down_takes_outdated_then_high_numbers_and_drains():
    of = project(web=Service(image="w", scale=2))
    actual = Actual(
        (
            replica(of, "web", 1, config_hash="old"),
            replica(of, "web", 2),
            replica(of, "web", 3),
            replica(of, "web", 4),
        )
    )
    steps = plan_up(wanted(of), actual)
    assert brief(steps) == ["remove web4", "remove web1"]
    assert all(step.drain for step in steps)


def test_scale_zero_removes_all():
    of = project(web=Service(image="w", scale=0))
    assert brief(plan_up(wanted(of), Actual((replica(of, "web", 1),)))) == ["remove web1"]


def test_a_stopped_replica_is_started():
    of = project(web=Service(image="w"))
    (step,) = plan_up(wanted(of), Actual((replica(of, "web", 1, status="exited"),)))
    assert (step.verb, step.reason) == ("start", "it is exited")


def test_dependents_restart_with_what_they_depend_on_when_asked():
    of = project(
        web=Service(image="w", depends_on={"db": Dependency(restart=True)}),
        other=Service(image="w", depends_on={"db": Dependency()}),
        db=Service(image="d"),
    )
    actual = Actual(
        (
            replica(of, "web", 1),
            replica(of, "other", 1),
            replica(of, "db", 1, config_hash="old"),
        )
    )
    steps = plan_up(wanted(of), actual)
    assert brief(steps) == ["replace db1", "retire db1", "restart web1"]
    assert steps[2].needs == ("replace:db:1", "retire:db:1")


def test_who_shares_a_namespace_is_replaced_with_its_owner():
    of = project(side=Service(image="s", network_mode="service:web"), web=Service(image="w"))
    actual = Actual((replica(of, "side", 1), replica(of, "web", 1, config_hash="old")))
    assert brief(plan_up(wanted(of), actual)) == [
        "replace web1",
        "retire web1",
        "replace side1",
        "retire side1",
    ]


def test_an_interrupted_replacement_is_finished_with_the_new_one():
    of = project(web=Service(image="w"))
    old = replica(of, "web", 1, image_id="i0")
    new = replica(of, "web", 1, id="n" * 64, name="web100000000_shop-web-1")
    removal, rename = plan_up(wanted(of), Actual((old, new)))
    assert (removal.verb, removal.container, removal.drain) == ("remove", old.id, True)
    assert (rename.verb, rename.name, rename.needs) == ("rename", "shop-web-1", (removal.id,))


def test_an_interrupted_replacement_starts_again_when_the_new_one_is_not_ready():
    of = project(web=Service(image="w"))
    old = replica(of, "web", 1, image_id="i0")
    new = replica(of, "web", 1, id="n" * 64, name="web100000000_shop-web-1", healthy=False)
    removal, again, _retirement = plan_up(wanted(of), Actual((old, new)))
    assert (removal.verb, removal.container) == ("remove", new.id)
    assert (again.verb, again.container, again.needs) == ("replace", old.id, (removal.id,))


def test_orphans_go_only_when_asked():
    of = project(web=Service(image="w"))
    left = Replica("o" * 64, "shop-old-1", "old", 1, "h", "i", "running")
    actual = Actual((replica(of, "web", 1), left))
    assert plan_up(wanted(of), actual) == []
    assert brief(plan_up(wanted(of, remove_orphans=True), actual)) == ["remove old1"]


def test_recreate_can_be_forced_or_forbidden():
    of = project(web=Service(image="w"))
    actual = Actual((replica(of, "web", 1),))
    assert brief(plan_up(wanted(of, recreate="all"), actual)) == ["replace web1", "retire web1"]
    assert plan_up(wanted(of, image="i2", recreate="none"), actual) == []


@pytest.mark.parametrize(
    ("service", "first"),
    [
        (Service(image="x"), True),
        (Service(image="x", ports=[Port(target=80)]), True),
        (Service(image="x", ports=[Port(target=80, published="80")]), False),
        (Service(image="x", ports=[Port(target=80, published="80-82")]), True),
        (Service(image="x", networks={"a": Endpoint(ipv4_address="10.0.0.2")}), False),
        (Service(image="x", network_mode="host"), False),
        (Service(image="x", mounts=[Mount(type="volume", source="d", target="/d")]), False),
        (
            Service(image="x", scale=2, mounts=[Mount(type="volume", source="d", target="/d")]),
            True,
        ),
        (
            Service(
                image="x", mounts=[Mount(type="bind", source="/d", target="/d", read_only=True)]
            ),
            True,
        ),
        (Service(image="x", update=UpdateConfig(order="stop-first")), False),
        (
            Service(
                image="x",
                ports=[Port(target=80, published="80")],
                update=UpdateConfig(order="start-first"),
            ),
            True,
        ),
    ],
)
def test_old_and_new_run_side_by_side_only_where_they_can(service, first):
    assert starts_first(service) is first


def test_a_cycle_is_refused_and_named():
    of = project(
        a=Service(image="x", depends_on={"b": Dependency()}),
        b=Service(image="x", depends_on={"c": Dependency()}),
        c=Service(image="x", network_mode="service:a"),
    )
    with pytest.raises(InvalidArgument, match="cycle detected: a -> b -> c -> a"):
        plan_up(wanted(of), Actual())


def test_down_removes_dependents_first_then_networks_then_asked_volumes():
    of = project(web=Service(image="w", depends_on={"db": Dependency()}), db=Service(image="d"))
    actual = Actual((replica(of, "web", 1), replica(of, "db", 1)), {"shop_default"}, {"shop_data"})
    wish = DownWish(needs_in(of), {"n": "shop_default"}, {"v": "shop_data"})
    web, db, network, volume = plan_down(wish, actual)
    assert (web.subject, web.needs) == ("web", ())
    assert (db.subject, db.needs) == ("db", (web.id,))
    assert network.needs == volume.needs == (web.id, db.id)
    assert not web.drain


def test_down_of_one_service_drains_and_leaves_the_rest():
    of = project(web=Service(image="w"), db=Service(image="d"))
    actual = Actual((replica(of, "web", 1), replica(of, "db", 1)), {"shop_default"})
    (step,) = plan_down(DownWish({}, {"n": "shop_default"}, {}, selected=["web"]), actual)
    assert (step.subject, step.drain) == ("web", True)


_NAMES = st.sampled_from("abcdef")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(_NAMES, st.sets(_NAMES), min_size=1),
    st.dictionaries(_NAMES, st.integers(0, 4)),
)
def test_plans_can_be_carried_out_in_their_order(graph, scales):
    """Every need names an earlier step: no plan can wait for itself."""
    services = {
        name: Service(
            image="x",
            scale=scales.get(name, 1),
            depends_on={
                other: Dependency(condition="service_healthy")
                for other in needs
                if other in graph and other < name
            },
        )
        for name, needs in graph.items()
    }
    of = Project(name="shop", services=services)
    actual = Actual(
        tuple(replica(of, name, n, image_id=f"i{n % 2 + 1}") for name in graph for n in (1, 3))
    )
    seen: set[str] = set()
    for step in plan_up(wanted(of), actual):
        assert set(step.needs) <= seen, step
        assert step.id not in seen
        seen.add(step.id)
    assert sorted(start_order(of)) == sorted(services)
