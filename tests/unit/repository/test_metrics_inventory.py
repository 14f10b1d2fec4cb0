"""The inventory of metrics, by which alerts are judged, sees what /metrics shows."""

from tests.support.metrics import declared

from pillion.logs import metrics as logs


def test_plain_composed_and_tabled_names_are_found():
    found = declared()

    assert found["pillion_operator_pods"] == {"state"}
    assert found["pillion_operator_admission_seconds_bucket"] == {"webhook", "le"}
    assert found["pillion_webhooks_deliveries_total"] == {"endpoint", "state"}
    assert {f"pillion_logs_sink_{name}_total" for name in logs._COUNTERS} <= set(found)
    assert found["pillion_operator_leading"] == set()
