"""Rate limiting: how often may this user, address or tenant do that, decided in memory in a few microseconds.

`kind.py` is the resource, `compiled.py` what becomes of it, `engine.py` the decision, `counters.py` its memory, `answers.py` the wire form, and
`service.py` the routes. Everything but the service is pure.
"""
