"""Webhooks out: events in from the application, signed deliveries out to endpoints, by Standard Webhooks 1.0.0."""
