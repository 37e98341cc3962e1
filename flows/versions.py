"""The versions of a topic's schema as one. In: schemas. Out: the fields that any of them has, under every name they were given. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from flows.fields import Leaf, Schema, promotes

MEASURED = ("integer", "float", "decimal", "boolean", "time", "date", "daytime")  # kinds that are more than text


def names_of(schemas: Sequence[Schema]) -> dict[str, tuple[str, ...]]:
    """Each path, and the names that a rename (an alias in the schema) gives the same field in other versions, itself first."""
    same: dict[str, dict[str, None]] = {path: {path: None} for schema in schemas for path in schema.leaves}
    for path, alias in [(path, alias) for schema in schemas for path, leaf in schema.leaves.items() for alias in leaf.aliases]:
        if alias in same and same[alias] is not same[path]:
            same[path] |= same[alias]
            same |= dict.fromkeys(same[path], same[path])
    return {path: (path, *(name for name in known if name != path)) for path, known in same.items()}


def leaves_of(schemas: Sequence[Schema], names: Mapping[str, Sequence[str]]) -> dict[str, Leaf]:
    """The fields of all versions (the oldest comes first), whatever a version calls them; the newest says what KPIs it wants of one."""
    leaves: dict[str, Leaf] = {}
    for schema in schemas:
        for path, leaf in schema.leaves.items():
            for name in names[path]:
                if name == path or name not in schema.leaves:
                    leaves[name] = replace(_either(leaves[name], leaf) if name in leaves else leaf, path=name, kpi=leaf.kpi)
    return leaves


def _either(old: Leaf, new: Leaf) -> Leaf:
    """What a field is of which two versions have these: the newer, unless only the older can hold both, or can be measured.

    A decimal keeps the most digits behind the point.
    """
    if old.kind == new.kind == "decimal":
        scale = max(old.scale, new.scale)
        return replace(new, scale=scale, dtype=pl.Decimal(38, scale))
    if promotes(old.dtype, new.dtype):
        return new
    return old if promotes(new.dtype, old.dtype) or old.kind in MEASURED or new.kind not in MEASURED else new


def former(path: str, schemas: Sequence[Schema], names: Mapping[str, Sequence[str]]) -> bool:
    """Whether a field has another name by now: the newest version that has it calls it otherwise."""
    newest = next(schema for schema in reversed(schemas) if any(name in schema.leaves for name in names[path]))
    return path not in newest.leaves
