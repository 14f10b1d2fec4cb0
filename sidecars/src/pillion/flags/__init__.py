"""Feature flags: flagd's flag definitions and targeting language, served over OFREP.

`kind.py` is the resource, `proof.py` what admission proves about its targeting; `compiler.py` turns JsonLogic into closures, `engine.py` turns
definitions into flags that evaluate; `service.py` puts them on the wire.
"""
