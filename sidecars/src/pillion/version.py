"""The one place that states the version: the wheel, the image, the chart and the User-Agent read it from here."""

VERSION = "0.1.0"
