"""What every kind of resource shares: models, schemas, checks, the registry, snapshots and their revisions.

Everything here is pure: text and values in, values out. The sidecar, the operator and the command line all run this same code, so that
a manifest behaves the same in `pillion lint`, in `pillion run` and in a cluster.
"""
