"""Pillion's data plane: one sidecar that serves an application's backend plumbing on localhost.

Nothing is imported here: a command pays only for the blocks that it runs.
"""
