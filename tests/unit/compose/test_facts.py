"""Our tables against the specification's published schema, where a copy of it is at hand."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from pannier.compose import facts
from pannier.compose.gaps import UNSUPPORTED
from pannier.compose.shapes import Either, Entries, Items, Record, Shape
from pannier.compose.source import ComposeError, read_text
from pannier.compose.validation import validate

SCHEMA = Path(__file__).parents[4] / "shared/specs/compose-spec.json"


@pytest.fixture(scope="module")
def schema():
    if not SCHEMA.exists():
        pytest.skip("no copy of the specification's schema beside this checkout")
    return json.loads(SCHEMA.read_text())


def our_paths(shape: Shape, path: str = "") -> set[str]:
    match shape:
        case Record():
            found = set()
            for key, value in shape.keys.items():
                found |= {f"{path}.{key}"} | our_paths(value, f"{path}.{key}")
            return found
        case Entries():
            return our_paths(shape.value, f"{path}.*")
        case Items():
            return our_paths(shape.item, f"{path}.*")
        case Either():
            return set().union(*(our_paths(option, path) for option in shape.options))
    return set()


def their_paths(node: dict, schema: dict, path: str = "") -> set[str]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        return their_paths(schema["definitions"][name], schema, path)
    found: set[str] = set()
    for key, value in node.get("properties", {}).items():
        found |= {f"{path}.{key}"} | their_paths(value, schema, f"{path}.{key}")
    for pattern, value in node.get("patternProperties", {}).items():
        if pattern != "^x-":
            found |= their_paths(value, schema, f"{path}.*")
    if isinstance(node.get("items"), dict):
        found |= their_paths(node["items"], schema, f"{path}.*")
    for option in node.get("oneOf", []):
        found |= their_paths(option, schema, path)
    return found


def test_every_key_of_the_specification_is_known_and_no_other(schema):
    assert our_paths(facts.PROJECT) == their_paths(schema, schema)


def test_gaps_name_keys_that_exist():
    known = {path.removeprefix(".") for path in our_paths(facts.PROJECT)}
    assert known >= UNSUPPORTED


FILES = [
    "services: {a: {image: x}}",
    "services: {a: {image: [x]}}",
    "services: {a: {image: x, expose: [1, '2']}}",
    "services: {a: {image: x, expose: [1, 1]}}",
    "services: {a: {image: x, command: }}",
    "services: {a: {image: x, command: [1]}}",
    "services: {a: {image: x, ports: [80, '81', {target: 82}]}}",
    "services: {a: {image: x, ports: [{targett: 82}]}}",
    "services: {a: {image: x, ports: 80}}",
    "services: {a: {image: x, environment: {A: 1, B: true, C: , D: 1.5}}}",
    "services: {a: {image: x, environment: {A: [1]}}}",
    "services: {a: {image: x, environment: [A, A]}}",
    "services: {a: {image: x, volumes: [{type: bind, source: a, target: b}]}}",
    "services: {a: {image: x, volumes: [{source: a, target: b}]}}",
    "services: {a: {image: x, volumes: [{type: other, target: b}]}}",
    "services: {a: {image: x, deploy: {replicas: 3, x-y: 1}}}",
    "services: {a: {image: x, deploy: }}",
    "services: {a: {image: x, deploy: {update_config: {order: sideways}}}}",
    "services: {a: {image: x, depends_on: {b: {condition: service_healthy}}}}",
    "services: {a: {image: x, depends_on: {b: {}}}}",
    "services: {a: {image: x, depends_on: {b: {condition: when_ready}}}}",
    "services: {a: {image: x, networks: {n: , m: {aliases: [z]}}}}",
    "services: {a: {image: x, networks: {n: {alias: z}}}}",
    "services: {a: {image: x, oom_score_adj: 2000}}",
    "services: {a: {image: x, oom_score_adj: -5}}",
    "services: {a: {image: x, ulimits: {nofile: {soft: 1}}}}",
    "services: {a: {image: x, ulimits: {nofile: 5, core: {soft: 1, hard: 2}}}}",
    "services: {a: {image: x, healthcheck: {test: [a], retries: 3, interval: 1s}}}",
    "services: {a: {image: x, healthcheck: {interval: 1}}}",
    "services: {a: {image: x, privileged: 'yes', tty: 1}}",
    "services: {a: {image: x, container_name: '-'}}",
    "services: {a: {image: x, pull_policy: sometimes}}",
    "services: {a: {image: x, gpus: all}}",
    "services: {a: {image: x, gpus: most}}",
    "services: {a: {image: x, develop: {watch: [{path: a, action: sync}]}}}",
    "services: {a: {image: x, develop: {watch: [{path: a}]}}}",
    "services: {a: {image: x, env_file: [a, {path: b, required: false}]}}",
    "services: {a: {image: x, env_file: [{required: false}]}}",
    "services: {a: {image: x, extends: {file: y}}}",
    "services: {a: {image: x, secrets: [a, {source: b, mode: 0400}]}}",
    "services: {a: {image: x, blkio_config: {weight: 5, x-y: 1}}}",
    "services: {a: {image: x, storage_opt: {size: 1g}}}",
    "services: {'a b': {image: x}}",
    "services: {a: {image: x}}\nnetworks: {n: , m: {ipam: {config: [{subnet: s}]}}}",
    "services: {a: {image: x}}\nnetworks: {n: {external: {name: y}}}",
    "services: {a: {image: x}}\nvolumes: {v: {driver_opts: {a: 1}}}",
    "services: {a: {image: x}}\nvolumes: {v: {driver_opts: {a: [1]}}}",
    "services: {a: {image: x}}\nsecrets: {s: {file: a}}\nconfigs: {c: {content: a}}",
    "services: {a: {image: x}}\nsecrets: {s: {content: a}}",
    "services: {a: {image: x}}\nx-other: 1\nmodels: {m: {model: y}}\ninclude: [a, {path: b}]",
    "services: {a: {image: x}}\nother: 1",
    "name: 5",
]


@pytest.mark.parametrize("text", FILES)
def test_files_are_judged_as_by_the_schema(schema, text):
    plain = YAML(typ="safe", pure=True).load(text)
    good = jsonschema.Draft7Validator(schema).is_valid(plain)
    if good:
        validate(read_text(text, "f"))
    else:
        with pytest.raises(ComposeError):
            validate(read_text(text, "f"))
