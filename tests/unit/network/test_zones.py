from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pannier.network.zonefiles import ZoneFiles
from pannier.network.zones import Names, remove_zone, write_zone

if TYPE_CHECKING:
    from pannier.network.zones import Member, Zone


def zone(network: str, gateway: str, **names: list[str]) -> Zone:
    members: dict[str, Member] = {}
    for name, addresses in names.items():
        for address in addresses:
            members[address] = {"id": name, "name": name, "dns": []}
    return {
        "v": 1,
        "network": network,
        "gateway": gateway,
        "subnet": gateway.rsplit(".", 1)[0] + ".0/24",
        "internal": False,
        "members": members,
        "names": names,
    }


@pytest.fixture
def names(tmp_path: Path) -> Names:
    write_zone(tmp_path, "f", zone("front", "10.0.1.1", web=["10.0.1.2"], app=["10.0.1.3"]))
    write_zone(tmp_path, "b", zone("back", "10.0.2.1", app=["10.0.2.3"], db=["10.0.2.4"]))
    made = Names(str(tmp_path))
    made.load_all()
    return made


def test_each_sees_its_own_networks(names: Names) -> None:
    web = names.visible("10.0.1.1", "10.0.1.2")
    app = names.visible("10.0.1.1", "10.0.1.3")
    assert names.addresses(web, "db") is None
    assert names.addresses(app, "db") == ["10.0.2.4"]
    assert names.addresses(app, "db.back") == ["10.0.2.4"]
    assert names.addresses(app, "db.front") is None
    assert names.addresses(app, "app") == ["10.0.1.3"]  # the network that was asked on comes first


def test_strangers_see_nothing(names: Names) -> None:
    assert names.visible("10.0.1.1", "10.0.2.4") == []
    assert names.visible("10.9.9.9", "10.0.1.2") == []
    assert names.visible("10.0.1.1", "not an address") == []


def test_an_address_without_a_record_sees_the_network_it_asks_on(names: Names) -> None:
    found = names.visible("10.0.1.1", "10.0.1.77")
    assert [z["network"] for z in found] == ["front"]


def test_replicas_take_turns(names: Names, tmp_path: Path) -> None:
    every = ["10.0.1.2", "10.0.1.3", "10.0.1.4"]
    write_zone(tmp_path, "f", zone("front", "10.0.1.1", web=every))
    names.reload("f.json")
    found = names.visible("10.0.1.1", "10.0.1.2")
    first = [(names.addresses(found, "web") or [""])[0] for _ in range(6)]
    assert sorted(first) == sorted(every * 2)


def test_reverse(names: Names) -> None:
    found = names.visible("10.0.1.1", "10.0.1.2")
    assert names.name_of(found, "10.0.1.3") == "app.front"
    assert names.name_of(found, "10.0.1.9") == ""
    assert names.name_of(found, "8.8.8.8") is None


def test_a_removed_file_takes_its_names(names: Names, tmp_path: Path) -> None:
    remove_zone(tmp_path, "b")
    remove_zone(tmp_path, "b")
    names.reload("b.json")
    assert names.gateways() == {"10.0.1.1"}
    assert names.addresses(names.visible("10.0.1.1", "10.0.1.3"), "db") is None


def test_broken_and_foreign_files_change_nothing(names: Names, tmp_path: Path) -> None:
    (tmp_path / "f.json").write_bytes(b"{")
    (tmp_path / "new.json").write_bytes(b'{"v": 99}')
    (tmp_path / "boot_id").write_bytes(b"x")
    names.load_all()
    assert names.gateways() == {"10.0.1.1", "10.0.2.1"}


def test_zone_files_are_written_when_they_change(tmp_path: Path) -> None:
    files = ZoneFiles(tmp_path)
    files.write("f", zone("front", "10.0.1.1"))
    first = (tmp_path / "f.json").stat().st_ino
    files.write("f", zone("front", "10.0.1.1"))
    assert (tmp_path / "f.json").stat().st_ino == first
    files.write("f", zone("front", "10.0.1.1", a=["10.0.1.2"]))
    assert '"10.0.1.2"' in (tmp_path / "f.json").read_text()
    files.drop_others(set())
    assert list(tmp_path.iterdir()) == []


def test_a_boot_is_noticed_once(tmp_path: Path) -> None:
    assert ZoneFiles(tmp_path).first_since_boot()
    assert not ZoneFiles(tmp_path).first_since_boot()
    (tmp_path / "boot_id").write_text("another")
    assert ZoneFiles(tmp_path).first_since_boot()
