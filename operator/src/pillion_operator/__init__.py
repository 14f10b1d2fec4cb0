"""Pillion's control plane: watch, compile, publish, report. It knows no kind by name.

Nothing is imported here, so that `pillion --help` loads neither kopf nor kubernetes.
"""
