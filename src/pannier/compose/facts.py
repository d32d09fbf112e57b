"""What a compose file may hold: every key of the Compose Specification with the shape of its value.

Source: the specification's published schema (https://github.com/compose-spec/compose-spec).  A
test compares these tables with it.  Which keys are not carried out yet is in `gaps`.
"""

from __future__ import annotations

import re

from pannier.compose.shapes import (
    BOOLEAN,
    INTEGER,
    LIST_OR_DICT,
    NULL,
    NUMBER,
    OPTIONS,
    TEXT,
    TEXT_OR_LIST,
    TEXTS,
    UNIQUE_TEXTS,
    Anything,
    Entries,
    Items,
    Record,
    Shape,
    choice,
    either,
    matching,
    scalar,
)

NAME = re.compile(r"^[a-zA-Z0-9._-]+$")

COMMAND = either(NULL, TEXT, TEXTS)
EXTRA_HOSTS = either(Entries(either(TEXT, TEXTS)), UNIQUE_TEXTS)

_FILE_GRANTS = Items(
    either(
        TEXT,
        Record(
            {"source": TEXT, "target": TEXT, "uid": TEXT, "gid": TEXT, "mode": NUMBER},
        ),
    )
)

_ULIMITS = Entries(
    either(INTEGER, Record({"hard": INTEGER, "soft": INTEGER}, required=("soft", "hard"))),
    names=re.compile(r"^[a-z]+$"),
)

_HOOK = Record(
    {
        "command": COMMAND,
        "user": TEXT,
        "privileged": BOOLEAN,
        "working_dir": TEXT,
        "environment": LIST_OR_DICT,
    },
    required=("command",),
)

BUILD: dict[str, Shape] = {
    "context": TEXT,
    "dockerfile": TEXT,
    "dockerfile_inline": TEXT,
    "entitlements": TEXTS,
    "args": LIST_OR_DICT,
    "ssh": LIST_OR_DICT,
    "labels": LIST_OR_DICT,
    "cache_from": TEXTS,
    "cache_to": TEXTS,
    "no_cache": BOOLEAN,
    "additional_contexts": LIST_OR_DICT,
    "network": TEXT,
    "provenance": BOOLEAN,
    "sbom": BOOLEAN,
    "pull": BOOLEAN,
    "target": TEXT,
    "shm_size": INTEGER,
    "extra_hosts": EXTRA_HOSTS,
    "isolation": TEXT,
    "privileged": BOOLEAN,
    "secrets": _FILE_GRANTS,
    "tags": TEXTS,
    "ulimits": _ULIMITS,
    "platforms": TEXTS,
}

_BLKIO_LIMITS = Items(Record({"path": TEXT, "rate": INTEGER}, extensions=False))

_BLKIO: dict[str, Shape] = {
    "device_read_bps": _BLKIO_LIMITS,
    "device_read_iops": _BLKIO_LIMITS,
    "device_write_bps": _BLKIO_LIMITS,
    "device_write_iops": _BLKIO_LIMITS,
    "weight": INTEGER,
    "weight_device": Items(Record({"path": TEXT, "weight": INTEGER}, extensions=False)),
}

HEALTHCHECK: dict[str, Shape] = {
    "disable": BOOLEAN,
    "interval": TEXT,
    "retries": NUMBER,
    "test": either(TEXT, TEXTS),
    "timeout": TEXT,
    "start_period": TEXT,
    "start_interval": TEXT,
}

_UPDATE: dict[str, Shape] = {
    "parallelism": INTEGER,
    "delay": TEXT,
    "failure_action": TEXT,
    "monitor": TEXT,
    "max_failure_ratio": NUMBER,
    "order": choice("start-first", "stop-first"),
}

_DEVICE_REQUEST: dict[str, Shape] = {
    "capabilities": UNIQUE_TEXTS,
    "count": INTEGER,
    "device_ids": UNIQUE_TEXTS,
    "driver": TEXT,
    "options": LIST_OR_DICT,
}

_GENERIC_RESOURCES = Items(
    Record({"discrete_resource_spec": Record({"kind": TEXT, "value": NUMBER})})
)

DEPLOY: dict[str, Shape] = {
    "mode": TEXT,
    "endpoint_mode": TEXT,
    "replicas": INTEGER,
    "labels": LIST_OR_DICT,
    "rollback_config": Record(_UPDATE),
    "update_config": Record(_UPDATE),
    "resources": Record(
        {
            "limits": Record({"cpus": NUMBER, "memory": TEXT, "pids": INTEGER}),
            "reservations": Record(
                {
                    "cpus": NUMBER,
                    "memory": TEXT,
                    "generic_resources": _GENERIC_RESOURCES,
                    "devices": Items(Record(_DEVICE_REQUEST, required=("capabilities",))),
                }
            ),
        }
    ),
    "restart_policy": Record(
        {"condition": TEXT, "delay": TEXT, "max_attempts": INTEGER, "window": TEXT}
    ),
    "placement": Record(
        {
            "constraints": TEXTS,
            "preferences": Items(Record({"spread": TEXT})),
            "max_replicas_per_node": INTEGER,
        }
    ),
}

_WATCH = Record(
    {
        "ignore": TEXT_OR_LIST,
        "include": TEXT_OR_LIST,
        "path": TEXT,
        "action": choice("rebuild", "sync", "restart", "sync+restart", "sync+exec"),
        "target": TEXT,
        "exec": _HOOK,
        "initial_sync": scalar("boolean"),
    },
    required=("path", "action"),
)

PORT: dict[str, Shape] = {
    "name": TEXT,
    "mode": TEXT,
    "host_ip": TEXT,
    "target": INTEGER,
    "published": INTEGER,
    "protocol": TEXT,
    "app_protocol": TEXT,
}

MOUNT: dict[str, Shape] = {
    "type": choice("bind", "volume", "tmpfs", "cluster", "npipe", "image"),
    "source": TEXT,
    "target": TEXT,
    "read_only": BOOLEAN,
    "consistency": TEXT,
    "bind": Record(
        {
            "propagation": TEXT,
            "create_host_path": BOOLEAN,
            "recursive": choice("enabled", "disabled", "writable", "readonly"),
            "selinux": choice("z", "Z"),
        }
    ),
    "volume": Record({"labels": LIST_OR_DICT, "nocopy": BOOLEAN, "subpath": TEXT}),
    "tmpfs": Record({"size": either(scalar("integer", low=0), TEXT), "mode": NUMBER}),
    "image": Record({"subpath": TEXT}),
}

ENDPOINT: dict[str, Shape] = {
    "aliases": UNIQUE_TEXTS,
    "interface_name": TEXT,
    "ipv4_address": TEXT,
    "ipv6_address": TEXT,
    "link_local_ips": UNIQUE_TEXTS,
    "mac_address": TEXT,
    "driver_opts": OPTIONS,
    "priority": scalar("number"),
    "gw_priority": scalar("number"),
}

_DEPENDENCY: dict[str, Shape] = {
    "restart": BOOLEAN,
    "required": scalar("boolean"),
    "condition": choice("service_started", "service_healthy", "service_completed_successfully"),
}

_ENV_FILE_ITEM: dict[str, Shape] = {"path": TEXT, "format": TEXT, "required": BOOLEAN}

SERVICE: dict[str, Shape] = {
    "develop": either(NULL, Record({"watch": Items(_WATCH)})),
    "deploy": either(NULL, Record(DEPLOY)),
    "annotations": LIST_OR_DICT,
    "attach": BOOLEAN,
    "build": either(TEXT, Record(BUILD)),
    "blkio_config": Record(_BLKIO, extensions=False),
    "cap_add": UNIQUE_TEXTS,
    "cap_drop": UNIQUE_TEXTS,
    "cgroup": choice("host", "private"),
    "cgroup_parent": TEXT,
    "command": COMMAND,
    "configs": _FILE_GRANTS,
    "container_name": matching(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"),
    "cpu_count": either(TEXT, scalar("integer", low=0)),
    "cpu_percent": either(TEXT, scalar("integer", low=0, high=100)),
    "cpu_shares": NUMBER,
    "cpu_quota": NUMBER,
    "cpu_period": NUMBER,
    "cpu_rt_period": NUMBER,
    "cpu_rt_runtime": NUMBER,
    "cpus": NUMBER,
    "cpuset": TEXT,
    "credential_spec": Record({"config": TEXT, "file": TEXT, "registry": TEXT}),
    "depends_on": either(
        UNIQUE_TEXTS, Entries(Record(_DEPENDENCY, required=("condition",)), names=NAME)
    ),
    "device_cgroup_rules": UNIQUE_TEXTS,
    "devices": Items(
        either(
            TEXT,
            Record({"source": TEXT, "target": TEXT, "permissions": TEXT}, required=("source",)),
        )
    ),
    "dns": TEXT_OR_LIST,
    "dns_opt": UNIQUE_TEXTS,
    "dns_search": TEXT_OR_LIST,
    "domainname": TEXT,
    "entrypoint": COMMAND,
    "env_file": either(
        TEXT, Items(either(TEXT, Record(_ENV_FILE_ITEM, required=("path",), extensions=False)))
    ),
    "label_file": either(TEXT, TEXTS),
    "environment": LIST_OR_DICT,
    "expose": Items(NUMBER, unique=True),
    "extends": either(
        TEXT, Record({"service": TEXT, "file": TEXT}, required=("service",), extensions=False)
    ),
    "provider": Record(
        {
            "type": TEXT,
            "options": Entries(
                either(
                    scalar("string number boolean"),
                    Items(scalar("string number boolean")),
                )
            ),
        },
        required=("type",),
    ),
    "external_links": UNIQUE_TEXTS,
    "extra_hosts": EXTRA_HOSTS,
    "gpus": either(choice("all"), Items(Record({**_DEVICE_REQUEST}))),
    "group_add": Items(NUMBER, unique=True),
    "healthcheck": Record(HEALTHCHECK),
    "hostname": TEXT,
    "image": TEXT,
    "init": BOOLEAN,
    "ipc": TEXT,
    "isolation": TEXT,
    "labels": LIST_OR_DICT,
    "links": UNIQUE_TEXTS,
    "logging": Record({"driver": TEXT, "options": Entries(scalar("string number null"))}),
    "mac_address": TEXT,
    "mem_limit": NUMBER,
    "mem_reservation": INTEGER,
    "mem_swappiness": INTEGER,
    "memswap_limit": NUMBER,
    "network_mode": TEXT,
    "models": either(
        UNIQUE_TEXTS, Entries(Record({"endpoint_var": TEXT, "model_var": TEXT}), names=NAME)
    ),
    "networks": either(UNIQUE_TEXTS, Entries(either(Record(ENDPOINT), NULL), names=NAME)),
    "oom_kill_disable": BOOLEAN,
    "oom_score_adj": either(TEXT, scalar("integer", low=-1000, high=1000)),
    "pid": scalar("string null"),
    "pids_limit": NUMBER,
    "platform": TEXT,
    "ports": Items(either(scalar("number"), TEXT, Record(PORT)), unique=True),
    "post_start": Items(_HOOK),
    "pre_stop": Items(_HOOK),
    "privileged": BOOLEAN,
    "profiles": UNIQUE_TEXTS,
    "pull_policy": matching(
        r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+"
    ),
    "pull_refresh_after": TEXT,
    "read_only": BOOLEAN,
    "restart": TEXT,
    "runtime": TEXT,
    "scale": INTEGER,
    "security_opt": UNIQUE_TEXTS,
    "shm_size": NUMBER,
    "secrets": _FILE_GRANTS,
    "sysctls": LIST_OR_DICT,
    "stdin_open": BOOLEAN,
    "stop_grace_period": TEXT,
    "stop_signal": TEXT,
    "storage_opt": Anything(),
    "tmpfs": TEXT_OR_LIST,
    "tty": BOOLEAN,
    "ulimits": _ULIMITS,
    "use_api_socket": scalar("boolean"),
    "user": TEXT,
    "uts": TEXT,
    "userns_mode": TEXT,
    "volumes": Items(either(TEXT, Record(MOUNT, required=("type",))), unique=True),
    "volumes_from": UNIQUE_TEXTS,
    "working_dir": TEXT,
}

_EXTERNAL = either(BOOLEAN, Record({"name": TEXT}))
_EXTERNAL_FILE = either(BOOLEAN, Record({"name": TEXT}, extensions=True))

NETWORK: dict[str, Shape] = {
    "name": TEXT,
    "driver": TEXT,
    "driver_opts": OPTIONS,
    "ipam": Record(
        {
            "driver": TEXT,
            "config": Items(
                Record(
                    {
                        "subnet": TEXT,
                        "ip_range": TEXT,
                        "gateway": TEXT,
                        "aux_addresses": Entries(TEXT),
                    }
                )
            ),
            "options": Entries(TEXT),
        }
    ),
    "external": _EXTERNAL,
    "internal": BOOLEAN,
    "enable_ipv4": BOOLEAN,
    "enable_ipv6": BOOLEAN,
    "attachable": BOOLEAN,
    "labels": LIST_OR_DICT,
}

VOLUME: dict[str, Shape] = {
    "name": TEXT,
    "driver": TEXT,
    "driver_opts": OPTIONS,
    "external": _EXTERNAL,
    "labels": LIST_OR_DICT,
}

_FILE_OBJECT: dict[str, Shape] = {
    "name": TEXT,
    "environment": TEXT,
    "file": TEXT,
    "external": _EXTERNAL_FILE,
    "labels": LIST_OR_DICT,
    "template_driver": TEXT,
}

SECRET: dict[str, Shape] = {**_FILE_OBJECT, "driver": TEXT, "driver_opts": OPTIONS}
CONFIG: dict[str, Shape] = {**_FILE_OBJECT, "content": TEXT}

_MODEL: dict[str, Shape] = {
    "name": TEXT,
    "model": TEXT,
    "context_size": scalar("integer"),
    "runtime_flags": TEXTS,
}

_INCLUDE = either(
    TEXT,
    Record(
        {"path": TEXT_OR_LIST, "env_file": TEXT_OR_LIST, "project_directory": TEXT},
        extensions=False,
    ),
)

PROJECT = Record(
    {
        "version": TEXT,
        "name": TEXT,
        "include": Items(_INCLUDE),
        "services": Entries(Record(SERVICE), names=NAME),
        "models": Entries(Record(_MODEL, required=("model",)), names=NAME),
        "networks": Entries(either(NULL, Record(NETWORK)), names=NAME),
        "volumes": Entries(either(NULL, Record(VOLUME)), names=NAME),
        "secrets": Entries(Record(SECRET), names=NAME),
        "configs": Entries(Record(CONFIG), names=NAME),
    }
)
