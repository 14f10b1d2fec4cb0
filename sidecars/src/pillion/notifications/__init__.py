"""Notifications: a template and some data become an e-mail that arrives.

A template is proven when it is applied: every variable it uses is declared, every construct it uses is allowed, and it renders with data made
from its own schema. A notification is rendered when it is accepted, so what cannot be rendered is refused instead of lost; what was accepted
is stored as the finished message and delivered by the delivery machine that webhooks use too.
"""
