"""Alerts, dashboards and their examples: every metric they name exists, every alert fires and has its runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hermes.metrics import FAMILIES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config/monitoring"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
# What Prometheus itself or prometheus-client's process collector gives.
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
LABELS = {"instance", "job", "le"}
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")


def metrics() -> dict[str, set[str]]:
    """Every series a node shows -> its labels."""
    shown: dict[str, set[str]] = {name: set() for name in OTHERS}
    for family in FAMILIES:
        names = [family.name]
        if family.type == "histogram":
            names = [family.name + end for end in ("_bucket", "_sum", "_count")]
        shown |= {name: set(family.labels) for name in names}
    return shown


def panels(path: Path) -> Iterator[dict[str, Any]]:
    for panel in json.loads(path.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in panels(path):
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for annotation in json.loads(path.read_text())["annotations"]["list"]:
            yield f"{path.name}: {annotation['name']}", annotation["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_every_metric_and_label_that_is_named_exists(where: str, expression: str) -> None:
    known = metrics()
    named = {word for word in _WORD.findall(expression) if word.startswith(("hermes_", "process_")) or word == "up"}
    assert named and named <= set(known)
    for name, matchers in _SELECTOR.findall(expression):
        labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= known[name] | LABELS, name


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_every_alert_says_what_to_do_and_how_urgent_it_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "runbook", "runbook_url"}
    assert len(notes["runbook"]) > 40
    assert notes["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_every_alert_has_its_section_in_the_runbook_and_no_section_is_left_over() -> None:
    page = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == NAMES


def test_every_alert_is_made_to_fire() -> None:
    tests = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]
    fired = {test["name"].removesuffix(" fires") for test in tests if test["name"].endswith(" fires")}
    assert fired == set(NAMES)


def promtool(*argv: str) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    result = subprocess.run([tool, *argv], capture_output=True, text=True, check=False, cwd=FOLDER, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_alerts_fire_on_what_should_make_them_and_on_nothing_else() -> None:
    promtool("test", "rules", "alerts.test.yaml")


def test_examples_for_prometheus_are_in_order() -> None:
    promtool("check", "config", "prometheus.yaml")


def test_expressions_of_the_dashboards_are_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboard:{n}", "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for n, (_, expression) in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    promtool("check", "rules", str(path))


def test_alertmanager_tells_receivers_it_has_and_holds_no_secret() -> None:
    path = FOLDER / "alertmanager.yaml"
    config = yaml.safe_load(path.read_text())
    receivers = {receiver["name"] for receiver in config["receivers"]}
    routes = config["route"]["routes"]
    assert {config["route"]["receiver"], *(route["receiver"] for route in routes)} == receivers
    assert not re.search(r"(routing_key|service_key|api_url):", path.read_text())
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            for name in re.findall(r"Hermes[A-Z]\w+", matcher):
                assert name in NAMES
    tool = shutil.which("amtool")
    if tool is not None:
        subprocess.run([tool, "check-config", str(path)], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_dashboard_has_panels_that_say_what_they_show_and_do_not_overlap(path: Path) -> None:
    found = list(panels(path))
    assert len(found) >= 15
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        assert panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells


SCHEMA = ROOT / "tests/npm/node_modules/@grafana/schema/dist/types/raw"
CHECKED = """\
import { Dashboard } from "SCHEMA/dashboard/x/types.gen.js";
import { FieldConfig, Options } from "SCHEMA/composable/timeseries/panelcfg/x/types.gen.js";
// JSON has texts where the schema has enumerations.
type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
export const dashboard: Plain<Dashboard> = DASHBOARD;
export const options: Plain<Options>[] = OPTIONS;
export const fields: Plain<FieldConfig>[] = FIELDS;
"""


@pytest.mark.skipif(not SCHEMA.is_dir(), reason="tests/npm/node_modules has no @grafana/schema (make test)")
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_dashboard_is_of_grafanas_own_schema(path: Path, tmp_path: Path) -> None:
    document = json.loads(path.read_text())
    for annotation in document["annotations"]["list"]:
        for key in ("expr", "titleFormat", "textFormat"):  # the Prometheus data source's own
            del annotation[key]
    shown = [panel for panel in document["panels"] if panel["type"] == "timeseries"]
    assert len(shown) == len(list(panels(path))), "options of another type have another schema"
    values = {
        "SCHEMA": str(SCHEMA),
        "DASHBOARD": json.dumps(document),
        "OPTIONS": json.dumps([panel["options"] for panel in shown]),
        "FIELDS": json.dumps([panel["fieldConfig"]["defaults"]["custom"] for panel in shown]),
    }
    source = tmp_path / "dashboard.ts"
    source.write_text(re.sub("|".join(values), lambda found: values[found[0]], CHECKED))
    tsc = ROOT / "tests/npm/node_modules/.bin/tsc"
    asked = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")
    result = subprocess.run([tsc, *asked, source], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout
