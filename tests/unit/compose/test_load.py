"""From files and an environment to a project."""

from __future__ import annotations

import textwrap

import pytest

from pannier.base.errors import NotFound
from pannier.compose.load import Wish, load
from pannier.compose.model import Mount, Port, from_json, to_json
from pannier.compose.render import render
from pannier.compose.source import ComposeError


@pytest.fixture
def read(tmp_path):
    def _read(text, *more, **options):
        files = []
        for number, content in enumerate((text, *more)):
            path = tmp_path / f"compose{number}.yaml"
            path.write_text(textwrap.dedent(content))
            files.append(path)
        return load(Wish(tmp_path, options.pop("env", {}), files, **options))

    return _read


def service(loaded, name="web"):
    return loaded.project.services[name]


def test_everything_short_is_written_out(read, tmp_path):
    loaded = read(
        """
        name: shop
        services:
          web:
            build: ./web
            command: sh -c "echo 'a b'"
            environment: [A=1, HOME, EMPTY=]
            ports: ["8080:80", 443, "127.0.0.1:9000-9001:90-91/udp"]
            volumes: ["data:/data", "./conf:/etc/conf:ro", "/anon"]
            tmpfs: /run:size=1m,mode=755
            depends_on: [db]
            deploy:
              replicas: 3
              resources: {limits: {cpus: "0.5", memory: 64m, pids: 100}}
            healthcheck: {test: exit 0, interval: 1m30s, retries: "4"}
            stop_grace_period: 1500ms
            ulimits: {nofile: 1024, nproc: {soft: 1, hard: 2}}
            extra_hosts: {box: 10.0.0.1}
          db:
            image: postgres
            restart: on-failure:3
        volumes: {data: }
        """,
        env={"HOME": "/root"},
    )
    web = service(loaded)
    assert web.build.context == str(tmp_path / "web")
    assert web.command == ["sh", "-c", "echo 'a b'"]
    assert web.environment == {"A": "1", "HOME": "/root", "EMPTY": ""}
    assert web.ports == [
        Port(target=80, published="8080"),
        Port(target=443),
        Port(target=90, published="9000", host_ip="127.0.0.1", protocol="udp"),
        Port(target=91, published="9001", host_ip="127.0.0.1", protocol="udp"),
    ]
    assert web.mounts == [
        Mount(type="tmpfs", target="/run", size=1 << 20, mode=0o755),
        Mount(type="volume", source="data", target="/data"),
        Mount(
            type="bind",
            source=str(tmp_path / "conf"),
            target="/etc/conf",
            read_only=True,
            create_host_path=True,
        ),
        Mount(type="volume", target="/anon"),
    ]
    assert web.depends_on["db"].condition == "service_started"
    assert (web.scale, web.limits.cpus, web.limits.memory, web.limits.pids) == (
        3,
        500_000_000,
        64 << 20,
        100,
    )
    assert (web.healthcheck.test, web.healthcheck.interval, web.healthcheck.retries) == (
        ["CMD-SHELL", "exit 0"],
        90 * 10**9,
        4,
    )
    assert web.stop_grace_period == 1_500_000_000
    assert web.ulimits["nproc"].hard == 2
    assert web.extra_hosts == ["box:10.0.0.1"]
    assert (service(loaded, "db").restart.policy, service(loaded, "db").restart.attempts) == (
        "on-failure",
        3,
    )
    assert loaded.project.networks["default"].name == "shop_default"
    assert loaded.project.volumes["data"].name == "shop_data"


def test_it_travels_and_comes_back(read):
    project = read("services: {web: {image: x, ports: ['80:80'], environment: {A: '1'}}}").project
    assert from_json(to_json(project)) == project


def test_the_canonical_form_gives_the_same_project(read, tmp_path):
    loaded = read(
        """
        name: shop
        services:
          web:
            image: x$$y
            entrypoint: []
            command: ["sh", "-c", "echo $$HOME"]
            ports: ["8080:80", {target: 9, published: 10, protocol: udp}]
            volumes:
            - "data:/d:ro"
            - "./c:/c"
            - {type: tmpfs, target: /t, tmpfs: {size: 2m, mode: 0700}}
            networks: {back: {aliases: [w], ipv4_address: 10.9.0.5}, front: }
            depends_on: {db: {condition: service_healthy, restart: true}}
            healthcheck: {test: [CMD, x], start_period: 5s, timeout: 250ms}
            cpus: 1.5
            mem_limit: 1g
            scale: 2
            deploy: {update_config: {parallelism: 0, delay: 2s, order: stop-first}}
            logging: {driver: local, options: {max-size: 1m}}
            secrets: [key]
            configs: [{source: conf, target: /etc/conf}]
            ulimits: {core: 0}
            init: false
            user: "1000"
          db:
            image: d
            healthcheck: {disable: true}
            restart: "no"
            devices: ["/dev/null:/dev/n:r"]
        networks:
          front:
          back: {internal: true, ipam: {config: [{subnet: 10.9.0.0/24, gateway: 10.9.0.1}]}}
        volumes: {data: {labels: {a: b}}}
        secrets: {key: {file: ./key}}
        configs: {conf: {content: "a: $$b"}}
        """
    )
    path = tmp_path / "again.yaml"
    path.write_text(render(loaded.project))
    again = load(Wish(tmp_path, {}, [path])).project
    assert again.services == loaded.project.services
    assert (again.networks, again.volumes) == (loaded.project.networks, loaded.project.volumes)
    assert (again.secrets, again.configs) == (loaded.project.secrets, loaded.project.configs)


def test_files_are_merged_by_the_rules(read):
    loaded = read(
        """
        services:
          web:
            image: one
            command: [a]
            environment: [A=1, B=1]
            ports: ["80:80"]
            volumes: ["/x:/data", "/y:/other"]
            cap_add: [NET_ADMIN]
            depends_on: [db]
            labels: {l: "1"}
          db: {image: d}
        """,
        """
        services:
          web:
            image: two
            command: [b, c]
            environment: {B: "2", C: "3"}
            ports: ["443:443"]
            volumes: ["/z:/data"]
            cap_add: [SYS_TIME]
            depends_on: {db: {condition: service_healthy}}
            labels: !reset
        """,
    )
    web = service(loaded)
    assert (web.image, web.command) == ("two", ["b", "c"])
    assert web.environment == {"A": "1", "B": "2", "C": "3"}
    assert [port.target for port in web.ports] == [80, 443]
    assert {m.target: m.source for m in web.mounts} == {"/data": "/z", "/other": "/y"}
    assert web.cap_add == ["NET_ADMIN", "SYS_TIME"]
    assert web.depends_on["db"].condition == "service_healthy"
    assert web.labels == {}


def test_override_replaces_instead_of_merging(read):
    loaded = read(
        "services: {web: {image: x, ports: ['80:80']}}",
        "services: {web: {ports: !override ['81:81']}}",
    )
    assert [port.published for port in service(loaded).ports] == ["81"]


def test_fragments_and_extensions(read):
    loaded = read(
        """
        x-common: &common
          restart: always
          environment: &env {A: "1"}
        services:
          web:
            <<: *common
            image: x
            environment: {<<: *env, B: "2"}
        """
    )
    assert service(loaded).environment == {"A": "1", "B": "2"}
    assert service(loaded).restart.policy == "always"


def test_extends_within_the_file(read):
    loaded = read(
        """
        services:
          base: {image: x, environment: {A: "1"}, depends_on: [other]}
          web: {extends: {service: base}, environment: {B: "2"}}
          other: {image: y}
        """
    )
    assert service(loaded).image == "x"
    assert service(loaded).environment == {"A": "1", "B": "2"}
    assert not service(loaded).depends_on


def test_profiles(read):
    text = """
        services:
          web: {image: x}
          debug: {image: y, profiles: [debug]}
        """
    assert list(read(text).project.services) == ["web"]
    assert read(text).project.disabled == ["debug"]
    assert list(read(text, profiles=["debug"]).project.services) == ["web", "debug"]
    assert len(read(text, env={"COMPOSE_PROFILES": "debug,x"}).project.services) == 2


def test_env_files(read, tmp_path):
    (tmp_path / ".env").write_text("TAG=from-file\nPORT='80'\n# comment\nexport X=\"a\\nb\" # c\n")
    (tmp_path / "web.env").write_text("A=file\nB=${TAG}\nC\n")
    loaded = read(
        """
        services:
          web:
            image: x:${TAG}
            env_file: [web.env, {path: absent.env, required: false}]
            environment: {A: own, X: "${X}"}
        """,
        env={"TAG": "from-environment"},
    )
    assert service(loaded).image == "x:from-environment"
    assert service(loaded).environment == {"A": "own", "B": "from-environment", "X": "a\nb"}


def test_names(read, tmp_path):
    text = "services: {web: {image: x, environment: {N: '${COMPOSE_PROJECT_NAME}'}}}"
    assert read(text, name="given").project.name == "given"
    assert service(read(text, name="given")).environment == {"N": "given"}
    assert read("name: in-file\n" + text).project.name == "in-file"
    assert read(text, env={"COMPOSE_PROJECT_NAME": "env"}).project.name == "env"
    with pytest.raises(ComposeError, match="invalid project name 'Big'"):
        read(text, name="Big")


def test_files_are_found_upwards(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with pytest.raises(NotFound, match="no compose file"):
        load(Wish(below / "nowhere"))
    (tmp_path / "compose.yaml").write_text("services: {web: {image: x}}")
    (tmp_path / "compose.override.yaml").write_text("services: {web: {image: y}}")
    loaded = load(Wish(below))
    assert service(loaded).image == "y"
    assert loaded.project.directory == str(tmp_path)


def test_warnings_name_place_and_key(read):
    loaded = read(
        """
        version: "3"
        services:
          web:
            image: "x:${UNSET}"
            links: [db]
            build: {context: ., ssh: [default]}
          db: {image: y}
        """
    )
    text = "\n".join(loaded.warnings)
    assert 'The "UNSET" variable is not set. Defaulting to a blank string.' in text
    assert "compose0.yaml:6: services.web.links: not supported yet" in text
    assert "compose0.yaml:7: services.web.build.ssh: not supported yet" in text
    assert "'version' is obsolete" in text


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("services:\n  web:\n    imagee: x", 3, "services.web.imagee", "unknown key"),
        ("services:\n  web:\n    image: 5", 3, "services.web.image", "must be a string"),
        (
            "services:\n  web:\n    image: x\n    ports:\n    - 80\n    - what",
            6,
            "services.web.ports.1",
            "'what' is not a port",
        ),
        (
            "services:\n  web:\n    image: x\n    ports: ['80:99999']",
            4,
            "services.web.ports.0",
            "ports go from 1 to 65535",
        ),
        (
            "services:\n  web:\n    image: x\n    depends_on: [db]",
            4,
            "services.web.depends_on",
            "there is no service 'db'",
        ),
        (
            "services:\n  web:\n    image: x\n    networks: [back]",
            4,
            "services.web.networks",
            "network 'back' is not defined",
        ),
        (
            "services:\n  web:\n    image: x\n    volumes: ['data:/d']",
            4,
            "services.web.volumes.0",
            "volume 'data' is not defined",
        ),
        ("services:\n  web:\n    restart: no", 3, "services.web", "'image' or a 'build'"),
        (
            "services:\n  web:\n    image: x\n    mem_limit: lots",
            4,
            "services.web.mem_limit",
            "invalid size",
        ),
        (
            "services:\n  web:\n    image: x\n    image: y",
            4,
            "image",
            "already defined on line 3",
        ),
        (
            "services:\n  web:\n    image: ${X:?give it}",
            3,
            "services.web.image",
            "required variable X is missing a value: give it",
        ),
        ("services:\n  web:\n    image: ${X", 3, "services.web.image", "invalid interpolation"),
        (
            "services:\n  web:\n    image: x\n    depends_on: {db: {}}\n  db: {image: x}",
            4,
            "services.web.depends_on.db",
            "the key 'condition' is missing",
        ),
        (
            "services:\n  a:\n    extends: b\n  b:\n    extends: a",
            3,
            "services.a.extends",
            "extend each other: a -> b -> a",
        ),
        (
            "services:\n  web:\n    image: x\n    container_name: me\n    scale: 2",
            4,
            "services.web.container_name",
            "2 replicas cannot share one container name",
        ),
        ("services:\n  web: [", 2, "", "not valid YAML"),
        ("services: []", 1, "services", "must be a mapping"),
        ("nothing: 1", 1, "nothing", "unknown key"),
    ],
)
def test_errors_name_file_line_and_key(read, text, line, key, problem):
    with pytest.raises(ComposeError) as caught:
        read(text)
    assert problem in caught.value.message
    assert caught.value.mark is not None
    if "YAML" not in problem:
        assert caught.value.mark.line == line
    assert "compose0.yaml:" in caught.value.message
    assert key in caught.value.message


def test_similar_keys_are_proposed(read):
    with pytest.raises(ComposeError) as caught:
        read("services:\n  web:\n    imagee: x")
    assert caught.value.hint == "did you mean 'image'?"


def test_aliases_that_explode_are_refused(read):
    lines = ["x-0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"x-{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ComposeError, match="too large once its aliases are filled"):
        read("\n".join(lines))
