"""What a node shows a monitor is what docs/metrics.md lists."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from hermes.metrics import FAMILIES
from tests.node.harness import Node


async def test_a_node_shows_every_listed_metric_and_no_other(node: Node) -> None:
    text = (await node.ask("GET", "/metrics")).body
    families = {family.name: family for family in text_string_to_metric_families(text)}
    shown = {name: family.type for name, family in families.items() if not name.startswith("process_")}
    assert shown == {family.name.removesuffix("_total"): family.type for family in FAMILIES}
    values = {sample.name: sample.value for family in families.values() for sample in family.samples}
    assert values["hermes_ready"] == values["hermes_journal_up"] == 1
    assert 0 < values["hermes_data_free_bytes"] < values["hermes_data_size_bytes"]
