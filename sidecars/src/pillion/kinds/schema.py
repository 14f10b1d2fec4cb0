"""From a model to the structural schema of a CustomResourceDefinition.

The API server accepts only *structural* schemas: no `$ref`, a `type` everywhere, unions only as nullable fields or as preserved unknown
fields. Hence an own, small generator instead of msgspec's JSON Schema, which uses `$ref` and `anyOf`. Every field must have a description and
every string, list and map a bound (otherwise the API server refuses CEL rules over it for their cost): a model that lacks one is a
mistake of its author, and `structural_schema` raises.
"""

from typing import Any

import msgspec
from msgspec import inspect

from pillion.kinds.model import FREEFORM, JSON, Model

Schema = dict[str, JSON]
"""One node of an OpenAPI v3 structural schema."""


class ModelError(TypeError):
    """A model cannot be written as a structural schema; the message names the model and the field."""


def structural_schema(model: type[Model]) -> Schema:
    """Give the structural schema of *model*, with descriptions, bounds, defaults and CEL rules.

    Raises:
        ModelError: a field has no description or no bound, or its type has no structural form.
    """
    info = inspect.type_info(model)
    if not isinstance(info, inspect.StructType):
        raise ModelError(f"{model} is no model")
    return _struct(info, model.__name__)


def _struct(info: inspect.StructType, where: str) -> Schema:
    properties: Schema = {}
    required: list[str] = []
    for field in info.fields:
        here = f"{where}.{field.encode_name}"
        schema = _node(field.type, here)
        if "description" not in schema:
            raise ModelError(f"{here} has no description")
        if field.required:
            required.append(field.encode_name)
        default = _default(field)
        if default is not None:
            schema["default"] = default
        properties[field.encode_name] = schema
    node: Schema = {"type": "object", "properties": properties}
    if required:
        node["required"] = required
    if info.cls.__doc__ and not info.cls.__doc__.startswith(info.cls.__name__ + "("):
        node["description"] = " ".join(info.cls.__doc__.split())
    if issubclass(info.cls, Model) and info.cls.rules:
        node["x-kubernetes-validations"] = [
            {"rule": rule.cel, "message": rule.message} | ({"fieldPath": f".{rule.field}"} if rule.field else {})
            for rule in info.cls.rules
        ]
    return node


def _default(field: inspect.Field) -> JSON:
    """Give the schema default of *field*; None where absence is the default, or where an empty container says the same as absence."""
    if field.default_factory is not msgspec.NODEFAULT:
        return None
    value = field.default
    if value is msgspec.NODEFAULT or value is None or value == ():
        return None
    return msgspec.json.decode(msgspec.json.encode(value))  # lists, not tuples


def _node(node: inspect.Type, where: str) -> Schema:
    match node:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            schema = {} if extra and extra.get("x-kubernetes-preserve-unknown-fields") else _node(inner, where)
            return schema | (extra or {})
        case inspect.UnionType(types=types):
            rest = [t for t in types if not isinstance(t, inspect.NoneType)]
            if len(rest) != 1:
                raise ModelError(f"{where}: a union has no structural form; mark it FREEFORM or model it as one object")
            return _node(rest[0], where)
        case inspect.StructType():
            return _struct(node, where)
        case inspect.AnyType():
            return dict(FREEFORM)
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType(ge=ge, le=le):
            return {"type": "integer", "format": "int64"} | _bounds(minimum=ge, maximum=le)
        case inspect.FloatType(ge=ge, le=le):
            return {"type": "number"} | _bounds(minimum=ge, maximum=le)
        case inspect.StrType(min_length=low, max_length=high, pattern=pattern):
            if high is None:
                raise ModelError(f"{where}: a string needs max_length")
            return {"type": "string"} | _bounds(minLength=low, maxLength=high, pattern=pattern)
        case inspect.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            if high is None:
                raise ModelError(f"{where}: a list needs max_length")
            return {"type": "array", "items": _node(item, f"{where}[]")} | _bounds(minItems=low, maxItems=high)
        case inspect.DictType(key_type=_, value_type=value, min_length=low, max_length=high):
            if high is None:
                raise ModelError(f"{where}: a map needs max_length")
            return {"type": "object", "additionalProperties": _node(value, f"{where}{{}}")} | _bounds(
                minProperties=low, maxProperties=high
            )
        case _:
            raise ModelError(f"{where}: {type(node).__name__} has no structural form")


def _bounds(**bounds: Any) -> Schema:
    return {name: value for name, value in bounds.items() if value is not None}
