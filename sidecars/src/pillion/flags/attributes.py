"""How rules reach into their context: `var`, `missing`, `missing_some`.

A path is split at its dots and followed through objects by name, through lists by index, through text by index too; `length` of a list or a
text is its length. What is not there is null, and null takes the default.
"""

from pillion.flags.coercion import Meter, number, text
from pillion.flags.program import Place, Program
from pillion.kinds.model import JSON


def look_up_path(data: JSON, parts: tuple[str, ...]) -> JSON:
    """Follow a path that is split already; None where it leads nowhere."""
    for part in parts:
        kind = type(data)
        if kind is dict:
            data = data.get(part)
        elif kind is list or kind is str:
            if part == "length":
                data = len(data)
            elif part.isascii() and part.isdigit() and len(part) < 10 and (part[0] != "0" or part == "0"):
                index = int(part)
                data = data[index] if index < len(data) else None
            else:
                return None
        else:
            return None
    return data


def look_up(data: JSON, key: JSON, meter: Meter) -> JSON:
    """Follow a path that has been computed; null and the empty text lead to *data* itself.

    Raises:
        Exceeded: the key is a list too large to be read.
    """
    if key is None or key == "":
        return data
    name = text(key, meter)
    meter.read(name)
    return look_up_path(data, tuple(name.split(".")))


def build_var(place: Place) -> Program:
    """Build `var`."""
    if not place.arguments or place.arguments[0] is None or place.arguments[0] == "":
        _note_all(place)
        return lambda data: data
    key = place.arguments[0]
    default = place.at(1) if len(place.arguments) > 1 else None
    if type(key) in (str, int, float, bool):
        return _fixed(place, text(key, place.meter), default)
    _note_all(place)
    computed, meter = place.at(0), place.meter

    def dynamic(data: JSON) -> JSON:
        found = look_up(data, computed(data), meter)
        return default(data) if found is None and default is not None else found

    return dynamic


def _fixed(place: Place, name: str, default: Program | None) -> Program:
    parts = tuple(name.split("."))
    if place.top:
        place.rule.reads.add(parts[0])
    if place.top and len(parts) == 1:  # the whole context is an object: no need to look what data is
        if default is None:
            return lambda data: data.get(name)

        def simple(data: JSON) -> JSON:
            found = data.get(name)
            return default(data) if found is None else found

        return simple
    if default is None:
        return lambda data: look_up_path(data, parts)

    def nested(data: JSON) -> JSON:
        found = look_up_path(data, parts)
        return default(data) if found is None else found

    return nested


def _note_all(place: Place) -> None:
    if place.top:
        place.rule.reads.add_all()


def _note_keys(place: Place, keys: list[JSON]) -> None:
    """Note the attributes that are looked for; keys that are computed may be any."""
    for key in keys if place.top else ():
        if type(key) is str and key:
            place.rule.reads.add(key.partition(".")[0])
        else:
            place.rule.reads.add_all()


def _absent(data: JSON, keys: list[JSON], meter: Meter) -> list[JSON]:
    """Give the keys that lead to null or to the empty text."""
    meter.spend(len(keys) >> 2)
    found = ((key, look_up(data, key, meter)) for key in keys)
    return [key for key, value in found if value is None or value == ""]


def build_missing(place: Place) -> Program:
    """Build `missing`: the keys are its operands, or the items of a list that its first operand gives."""
    arguments = place.arguments
    _note_keys(place, arguments[0] if len(arguments) == 1 and type(arguments[0]) is list else arguments)
    compiled, meter = place.all(), place.meter

    def run(data: JSON) -> JSON:
        keys = [operand(data) for operand in compiled]
        return _absent(data, keys[0] if keys and type(keys[0]) is list else keys, meter)

    return run


def build_missing_some(place: Place) -> Program:
    """Build `missing_some`: nothing when enough of the keys are there, else those that are not."""
    keys = place.arguments[1] if len(place.arguments) > 1 else None
    _note_keys(place, keys if type(keys) is list else [keys])
    need, names, meter = place.at(0), place.at(1), place.meter

    def run(data: JSON) -> JSON:
        least, wanted = number(need(data), meter), names(data)
        if type(wanted) is not list:
            return []
        absent = _absent(data, wanted, meter)
        return [] if len(wanted) - len(absent) >= least else absent

    return run
