"""What Argo CD makes of an object: the shipped Lua script, run by Lua 5.1 with what Argo CD lends it and no more."""

from functools import cache
from typing import Any

from lupa import lua51

Json = dict[str, Any]

ARGO_OF = {"Current": {"Healthy", "Suspended"}, "InProgress": {"Progressing"}, "Failed": {"Degraded"}, "Terminating": {"Progressing"}}  # fmt: skip
"""What Argo CD is to say where kstatus says so."""

WITHHELD = ("string", "math", "io", "os", "debug", "coroutine", "require", "dofile", "loadfile", "load", "loadstring", "python")  # fmt: skip
"""What an interpreter of Argo CD lacks."""


@cache
def _judge(script: str) -> Any:
    runtime = lua51.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    function = runtime.execute(f"return function(obj)\n{script}\nend")
    for name in WITHHELD:
        runtime.globals()[name] = None
    return runtime, function


def argocd_health(script: str, resource: Json) -> tuple[str, str]:
    """Give status and message of one object."""
    runtime, function = _judge(script)
    verdict = function(runtime.table_from(resource, recursive=True))
    return verdict["status"], verdict["message"]
