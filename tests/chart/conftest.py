"""Tests of the chart that need helm and no cluster."""

from tests.support.charting import helm  # noqa: F401 - pytest finds fixtures by their names here
