"""What people read rather than look at. In: rows, messages set aside. Out: HTML in which all text from topics is escaped. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from serve.asides import Aside
from serve.shape import Kpi, Row, Value, label, state, visible
from serve.words import bound, number

ROWS = 100  # rows of a chart's table; the CSV has them all
WIDE = 16  # bytes in a line of a hexdump


def moment(ms: int) -> str:
    """A time, as everywhere on the page: UTC, to the second.

    >>> moment(0), moment(10**18)
    ('1970-01-01 00:00:00', '1000000000000000000 ms')
    """
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a year that Python has not
        return f"{ms} ms"


def exact(value: Value) -> str:
    """A value with all digits that a double has for certain.

    >>> exact(1234567.125), exact(None), exact((("DE", 2.0),)), exact("x")
    ('1,234,567.125', 'unknown', 'DE 2', 'x')
    """
    if isinstance(value, tuple):
        return ", ".join(f"{name} {exact(its)}" for name, its in value)
    return f"{value:,.15g}" if isinstance(value, float) else number(value)


def table(kpi: Kpi, window: str, rows: Sequence[tuple[Row, Value]]) -> str:
    """The newest of a chart's rows, newest first."""
    newest = sorted(rows, key=lambda it: (-it[0].start_ms, -it[0].end_ms, label(it[0].group.values)))[:ROWS]
    about = ", ".join(text for text in (escape(kpi.unit), bound(kpi)) if text)
    unit = f" ({about})" if about else ""
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Window from", "to (UTC)", "Group", f"Value{unit}", "Events", "Revision", "State")
    )
    body = "".join(
        f"<tr><td>{moment(row.start_ms)}</td><td>{moment(row.end_ms)}</td><td>{escape(label(row.group.values))}</td><td>{escape(exact(value))}</td>"
        f"<td>{row.events:,}</td><td>{row.revision}</td><td>{state(row)}</td></tr>"
        for row, value in newest
    )
    name = escape(f"{kpi.name}, {window}")
    more = f": the newest {ROWS} of {len(rows):,} rows; the CSV has them all" if len(rows) > ROWS else ""
    return _scrolled(
        f"Table of {name}", f"<table><caption>{name}{more}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def asides(topic: str, newest: Sequence[Aside], reasons: str) -> str:
    """Messages that were set aside, newest first: why, where they are, and their first bytes."""
    if not newest:
        return f'<p class="note">No message of {escape(topic)} was set aside since this dashboard began to read.</p>'
    entries = "".join(
        f"<li><p><b>{escape(each.reason)}</b> {escape(visible(each.error))}</p>"
        f'<p class="note">{escape(each.topic)} · partition {each.partition} · offset {each.offset} · {_when(each.timestamp_ms)}'
        f" · kept in {'kpi.late' if each.fate == 'late' else 'kpi.dead-letters'}</p>"
        f"<pre>{escape(_bytes(each))}</pre></li>"
        for each in newest
    )
    return _scrolled(
        f"Messages of {escape(topic)} that were set aside", f'<p class="note">{escape(reasons)}</p><ol class="asides">{entries}</ol>'
    )


def _when(timestamp_ms: int) -> str:
    return "time unknown" if timestamp_ms < 0 else f"{moment(timestamp_ms)} UTC"


def _bytes(aside: Aside) -> str:
    if aside.value is None:
        return "no value"
    rest = aside.size - len(aside.value)
    return hexdump(aside.value) + (f"\n… {rest:,} bytes more" if rest > 0 else "")


def hexdump(value: bytes) -> str:
    r"""Bytes as people read them: offset, hexadecimal, and what of it is text.

    >>> print(hexdump(b"\x00<a>"))
    00000000  00 3c 61 3e                                      |.<a>|
    """
    lines = []
    for at in range(0, len(value), WIDE):
        part = value[at : at + WIDE]
        text = "".join(chr(each) if 0x20 <= each < 0x7F else "." for each in part)  # noqa: PLR2004 - printable ASCII
        lines.append(f"{at:08x}  {part.hex(' '):<{3 * WIDE - 1}}  |{text}|")
    return "\n".join(lines) or "empty"


def _scrolled(name: str, content: str) -> str:
    """In a box of its own, which the keyboard reaches and can scroll."""
    return f'<div class="scrolled" role="region" tabindex="0" aria-label="{name}">{content}</div>'
