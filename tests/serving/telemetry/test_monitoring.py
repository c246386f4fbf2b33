"""Rules and dashboards name what the servers export, alerts fire when they should, and each alert has its section."""

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
from google.protobuf import text_format

from ladle.clients.web.http.metrics import GatewayMetrics
from ladle.clients.wire import messages as pb
from ladle.serving.telemetry import prometheus

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
PAGE = (ROOT / "docs" / "operations.md").read_text()
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
RECORDED = {rule["record"]: rule["expr"] for group in RULES for rule in group["rules"] if "record" in rule}
ALERTS = {rule["alert"]: rule["expr"] for group in RULES for rule in group["rules"] if "alert" in rule}
WORDS = {"and", "or", "unless", "on", "offset", "ignoring", "bool"}
EMBEDDED_ONLY, UPSTREAM_ONLY = "Embedded server only.", "TensorFlow Serving only."


def names(query: str) -> set[str]:
    """The metrics that a PromQL query reads, those that recording rules read included."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|without|ignoring) *\([^)]*\)|label_values\(|offset \w+", " ", bare)
    found = set()
    for name in re.findall(r"(?<![\w:.$])[A-Za-z_:][\w:]*(?! *\()(?![\w:])", bare):
        if name in RECORDED:
            found |= names(RECORDED[name])
        elif name not in WORDS:
            found.add(name)
    return found


def queries() -> Iterator[tuple[str, str, str]]:
    """Dashboard and panel, description, query."""
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{dashboard['title']}: {panel['title']}", panel.get("description", ""), target["expr"]
        for variable in dashboard["templating"]["list"]:
            yield f"{dashboard['title']}: ${variable['name']}", "", variable["query"]["query"].rpartition(",")[0]


def exported(text: bytes) -> set[str]:
    """The series that a Prometheus text promises: a histogram is its buckets, its sum and its count."""
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text.decode(), re.MULTILINE):
        found |= {f"{name}{end}" for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return found


def table() -> dict[str, tuple[bool, bool]]:
    """The page's table of metrics: whether the embedded server has it, whether TensorFlow Serving has."""
    rows = re.findall(r"^\| `([\w:]+)` \| \w+ \| (yes|no) \| (yes|no)\b.*\|$", PAGE, re.MULTILINE)
    return {name: (embedded == "yes", upstream == "yes") for name, embedded, upstream in rows}


def has(name: str, metrics: dict[str, tuple[bool, bool]]) -> tuple[bool, bool]:
    return metrics[re.sub(r"_(bucket|sum|count)$", "", name) if name not in metrics else name]


@pytest.fixture(scope="module")
def embedded(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the embedded server exports, read from one that runs."""
    server = serve("--repository", tmp_path_factory.mktemp("none"), "--enable_metrics")
    status, text = server.get(prometheus.PATH)
    server.stop()
    assert status == 200
    return exported(text)


def test_the_table_of_metrics_is_what_the_server_exports(embedded: set[str]) -> None:
    metrics = table()
    mine = {re.sub(r"_(bucket|sum|count)$", "", n) if n not in metrics else n for n in embedded}
    assert {name for name, (is_ours, _) in metrics.items() if is_ours} == mine
    assert {name for name, (is_ours, is_theirs) in metrics.items() if is_theirs and not is_ours}
    assert all(name.startswith(":tensorflow:") == is_theirs for name, (_, is_theirs) in metrics.items())


@pytest.mark.parametrize(("where", "description", "query"), [pytest.param(*q, id=q[0]) for q in queries()])
def test_a_query_uses_metrics_of_both_servers_or_says_which_server_has_them(
    where: str, description: str, query: str, embedded: set[str]
) -> None:
    found = names(query)
    assert found, query
    gateway = exported(GatewayMetrics().text())
    metrics = table()
    if found <= gateway | {"up"}:
        return
    on_embedded = found - {"up"} <= embedded
    on_upstream = all(has(name, metrics)[1] for name in found - {"up"})
    if any(name.startswith(":tensorflow:cc:") for name in found) and any(n.startswith(":ladle:") for n in found):
        return  # a union: one metric of each
    assert (EMBEDDED_ONLY in description, UPSTREAM_ONLY in description) == (not on_upstream, not on_embedded), found


@pytest.mark.parametrize("name", sorted({**RECORDED, **ALERTS}))
def test_a_rule_uses_existing_metrics(name: str, embedded: set[str]) -> None:
    known = embedded | exported(GatewayMetrics().text()) | {"up"}
    known |= {metric for metric, (_, is_upstream) in table().items() if is_upstream}
    assert names({**RECORDED, **ALERTS}[name]) <= known


def test_every_recorded_series_is_shown_or_alerted_on() -> None:
    used = " ".join([*(query for _, _, query in queries()), *ALERTS.values()])
    assert {name for name in RECORDED if name not in used} == set()


def test_every_metric_of_our_own_is_shown_or_alerted_on() -> None:
    used = " ".join([*(query for _, _, query in queries()), *ALERTS.values(), *RECORDED.values()])
    own = [metric.name for metric in prometheus.METRICS.values() if metric.name.startswith(":ladle:")]
    assert [name for name in own if not re.search(rf"{name}\b|{name}_(bucket|sum|count)\b", used)] == []


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    sections = re.findall(r"^### ([A-Z]\w+)$", PAGE.split("\n## Alerts\n")[1].split("\n## ")[0], re.MULTILINE)
    assert sections == list(ALERTS)
    runbooks = [rule["annotations"]["runbook"] for group in RULES for rule in group["rules"] if "alert" in rule]
    assert runbooks == [f"docs/operations.md#{name.lower()}" for name in ALERTS]


def test_dashboards_use_the_provisioned_data_source() -> None:
    sources = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    panels = [panel for file in DASHBOARDS for panel in json.loads(file.read_text())["panels"]]
    used = {target["datasource"]["uid"] for panel in panels for target in panel.get("targets", ())}
    assert used == {source["uid"] for source in sources["datasources"]}


def test_prometheus_scrapes_the_port_of_the_container() -> None:
    file = ROOT / "serving" / "config_writer" / "monitoring.config"
    config = text_format.Parse(file.read_text(), pb.get("tensorflow.serving.MonitoringConfig")())
    assert config.prometheus_config.enable
    assert f"metrics_path: {config.prometheus_config.path}\n" in (MONITORING / "prometheus.yml").read_text()


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    return found


def test_promtool_accepts_the_configuration_and_the_rules(promtool: str, tmp_path: Path) -> None:
    for name in ("prometheus.yml", "rules.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    (tmp_path / "gateway.credentials").touch()
    done = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(RECORDED) + len(ALERTS)} rules found" in done.stdout


def test_alerts_fire_only_when_they_should(promtool: str, tmp_path: Path) -> None:
    series = Path(__file__).with_name("rules.test.yml").read_text()
    (tmp_path / "test.yml").write_text(series.replace("[RULES]", f'["{MONITORING / "rules.yml"}"]'))
    done = subprocess.run([promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(ALERTS) <= set(re.findall(r"\b[A-Z]\w+", series))
