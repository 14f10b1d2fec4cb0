"""Admission: the API server asks before it stores a resource or a pod, and gets an answer from every replica of the operator.

Stateless: the answers follow from the request, the kinds' checks and what the replica has watched.
"""
