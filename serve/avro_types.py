"""What the dashboard makes of Avro types. In: a field's type, as JSON has it. Out: whether it is text, bars, or too much to read. Pure."""

from typing import Any

NUMBERS = {"int", "long", "float", "double"}
PRIMITIVE = {*NUMBERS, "null", "boolean", "string", "bytes"}
PAIR = 2  # fields of a record that is one bar: its label and its number


def is_text(kind: Any) -> bool:  # noqa: ANN401 - as JSON has it
    """Whether a type, or the one beside null, is a string, an enum or a time."""
    kinds = [it for it in kind if it != "null"] if isinstance(kind, list) else [kind]
    if len(kinds) != 1 or not isinstance(kinds[0], dict):
        return kinds == ["string"]
    return kinds[0]["type"] in {"string", "enum"} or str(kinds[0].get("logicalType")).startswith(("date", "time", "local-time"))


def is_bars(kind: Any) -> bool:  # noqa: ANN401 - as JSON has it
    """Whether a type, or the one beside null, is a map of numbers, or an array of records of one text and one number."""
    kinds = [it for it in kind if it != "null"] if isinstance(kind, list) else [kind]
    return len(kinds) == 1 and (_is_list(kinds[0]) or (_is(kinds[0], "map") and _is_number(kinds[0]["values"])))


def _is_list(kind: Any) -> bool:  # noqa: ANN401 - as JSON has it
    if not _is(kind, "array") or not _is(kind["items"], "record"):
        return False
    types = [field["type"] for field in kind["items"]["fields"]]
    return len(types) == PAIR and any(map(_is_number, types)) and "string" in map(_plainly, types)


def _is(kind: object, name: str) -> bool:
    return isinstance(kind, dict) and kind["type"] == name


def _is_number(kind: object) -> bool:
    return _plainly(kind) in NUMBERS or (isinstance(kind, dict) and kind.get("logicalType") == "decimal")


def _plainly(kind: object) -> object:
    return kind["type"] if isinstance(kind, dict) and isinstance(kind["type"], str) else kind


def bounded(kind: Any) -> bool:  # noqa: ANN401 - as JSON has it
    """Whether a value of this type takes no more room than its bytes: five bytes may claim to be a thousand million nulls in an array.

    A type that is known by its name alone may hold itself, nested without end.
    """
    if isinstance(kind, list):
        return all(map(bounded, kind))
    if isinstance(kind, str):
        return kind in PRIMITIVE
    if kind["type"] == "record":
        return all(bounded(field["type"]) for field in kind["fields"])
    if kind["type"] == "array":
        return _is_list(kind)
    return kind["type"] in {"enum", "fixed"} or bounded(kind["values"] if kind["type"] == "map" else kind["type"])
