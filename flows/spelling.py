"""A declaration in the words people write. In: what was read. Out: tables, one text for one meaning, TOML. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from flows.declaration import EPOCH, Declaration, File
from flows.durations import label
from flows.said import Strict

SPELLED: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("lateness", "idle", "max_future", "retention"), label),
    "update": lambda interval_ms: "off" if interval_ms is None else label(interval_ms),
    "start": lambda start: (EPOCH + timedelta(milliseconds=start)).isoformat() if isinstance(start, int) else start,
    "windows": lambda windows: [window.spelled for window in windows],
    "by": lambda sets: [list(group_set) for group_set in sets],
    "kpis": lambda kpis: {name: said.spelled() for name, said in kpis.items()},
    "topics": lambda choice: {"include": list(choice.include), "exclude": list(choice.exclude)},
}


def canonical(declaration: Declaration) -> str:
    """The same text for the same meaning. The order of topics counts, as the first pattern that matches is taken; that of KPIs does not."""
    topics = [(name, spelled(said)) for name, said in declaration.file.topics.items()]
    defaults = {name: setting(name, getattr(declaration.defaults, name)) for name in type(declaration.defaults).model_fields}
    return json.dumps({"defaults": defaults, "topics": topics}, sort_keys=True)


def restored(text: str) -> Declaration:
    """The declaration of a canonical text. Raises ValueError where this program does not know what it says."""
    said = json.loads(text)
    return Declaration(File.model_validate({"defaults": said["defaults"], "topics": dict(said["topics"])}))


def spelled(said: Strict) -> dict[str, Any]:
    """What a table says, as it may stand in kpi.toml."""
    return {name: setting(name, getattr(said, name)) for name in type(said).model_fields if name in said.model_fields_set}


def setting(name: str, value: Any) -> Any:  # noqa: ANN401 - any setting
    """One setting as it may stand in kpi.toml. Its name says what its numbers mean."""
    return SPELLED[name](value) if name in SPELLED else value


def toml(value: Any) -> str:  # noqa: ANN401 - whatever TOML can hold
    """A value in TOML, tables inline.

    >>> toml({"quantile": "a.b", "q": [0.5, 0.99]}), toml([[], ["a"]])
    ('{ quantile = "a.b", q = [0.5, 0.99] }', '[[], ["a"]]')
    """
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key(name)} = {toml(it)}' for name, it in value.items())} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def key(name: str) -> str:
    """A key in TOML, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)
