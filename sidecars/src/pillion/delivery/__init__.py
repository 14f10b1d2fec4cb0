"""The delivery machine: what was accepted is delivered at least once, whatever crashes in between.

Blocks that send things (webhooks, notifications) each run one `Machine` over one SQLite file of their own. They say what a "send" is; the
machine keeps what was accepted, decides when each delivery is due, retries, records every attempt and forgets in time.
"""
