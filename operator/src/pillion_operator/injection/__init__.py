"""Injection: which pods get a sidecar, what it looks like, and the patch that adds it.

Pod in, patch out; nothing here talks to anybody. The admission server, the policy for API servers that inject by themselves and the repair
loop all use these functions, so that a pod gets the same sidecar whoever adds it.
"""
