"""The dashboard and the alerts ask for metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_ws_prometheus import WebSocketMetrics

from .markdown import ROOT

FOLDER = ROOT / "docs" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
(GROUP,) = yaml.safe_load((FOLDER / "prometheus-alerts.yml").read_text())["groups"]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
RULES = [rule["expr"] for rule in GROUP["rules"]]
#: What Prometheus adds to each metric.
SCRAPED = {"job", "instance"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
METRIC = re.compile(r"(flask_ws_server_\w+)(\{[^}]*\})?")
#: A function that adds up, what it adds up by, and what.
AGGREGATION = re.compile(r"by \(([^)]*)\) \((.*)")


def find_samples() -> Iterator[tuple[str, set[str]]]:
    """The names of what is exported, and the labels of each."""
    registry = CollectorRegistry()
    WebSocketMetrics(Flask("app"), registry=registry)
    for collector in registry._collector_to_names:
        for metric in collector.collect():
            labels = set(getattr(collector, "_labelnames", ()))
            for suffix in SUFFIXES[metric.type]:
                yield metric.name + suffix, labels | ({"le"} if suffix == "_bucket" else set())


SAMPLES = dict(find_samples())


def find_labels(query: str) -> Iterator[tuple[str, str]]:
    """The metrics in a query, each with a label that it has to have."""
    for name, matchers in METRIC.findall(query):
        for label in re.findall(r"(\w+)=~?\"", matchers):
            yield name, label
    for labels, inner in AGGREGATION.findall(query):
        name = METRIC.findall(inner)[0][0]
        for label in labels.split(", "):
            yield name, label


@pytest.mark.parametrize("query", [*QUERIES, *RULES])
def test_a_query_asks_for_metrics_and_labels_that_there_are(query: str) -> None:
    names = {name for name, _ in METRIC.findall(query)}
    assert names
    assert names <= set(SAMPLES)
    for name, label in find_labels(query):
        assert label in SAMPLES[name] | SCRAPED


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for query in QUERIES for name, _ in METRIC.findall(query)}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in SAMPLES}
    assert families == {re.sub("_(bucket|count|sum)$", "", name) for name in shown}


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    places = []
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        places.append(
            {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
        )
        assert place["x"] + place["w"] <= 24
    assert not any(one & other for one, other in combinations(places, 2))
    assert all(panel["title"] and panel["description"] for panel in PANELS)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("rule", GROUP["rules"], ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_how_bad_that_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    # What its text names is a label of what it has found.
    for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
        assert re.search(rf"by \([^)]*\b{label}\b", rule["expr"])
