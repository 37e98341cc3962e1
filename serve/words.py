"""How the page says things. In: numbers, states, text from topics. Out: words, and HTML in which all such text is escaped. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10

from serve.feed import DISCOVERY_S, State
from serve.selection import View
from serve.shape import Kpi, Row, Value, label

LARGE = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
TINY = 1e-6
DIGITS = 3  # after the first
OLD_S = 30.0  # from here on, data is called old in a second way than by its number
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: Value) -> str:
    """A value with about four digits.

    >>> [number(it) for it in (2629.8, 12_345_678.0, 42.0, 0.00123, -1e-9, "Berlin", None)]
    ['2,630', '12.35 M', '42', '0.00123', '-1e-09', 'Berlin', 'unknown']
    """
    if not isinstance(value, float):
        return (
            "unknown" if value is None else value if isinstance(value, str) else ", ".join(f"{name} {number(n)}" for name, n in value[:3])
        )
    for size, name in LARGE:
        if abs(value) >= size:
            return f"{value / size:,.4g} {name}"
    if value == int(value):
        return f"{value:,.0f}"
    if abs(value) < TINY:
        return f"{value:.3g}"
    digits = min(max(DIGITS - floor(log10(abs(value))), 0), 9)
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def change(new: Value, old: Value) -> str:
    """The change against the window before, with its sign.

    >>> change(103.2, 100.0), change(90.0, 100.0), change(5.0, 0.0)
    ('+3.2 %', '-10.0 %', '')
    """
    if not isinstance(new, float) or not isinstance(old, float) or not old:
        return ""
    share = (new - old) / abs(old) * 100
    return f"{share:+,.1f} %"


def span(seconds: float) -> str:
    """A stretch of time.

    >>> span(1.234), span(42.7), span(90), span(7200)
    ('1.2 s', '42 s', '1 min', '2 h')
    """
    for size, name in UNITS:
        if seconds >= size:
            return f"{int(seconds / size)} {name}"
    return f"{max(seconds, 0):.1f} s" if seconds < 10 else f"{int(seconds)} s"  # noqa: PLR2004 - where the tenth stops to matter


def fate(name: str, reasons: Mapping[str, int]) -> str:
    """How many messages met a fate, and by hovering why."""
    why = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
    return f'<span class="fate" title="{escape(why) or "none"}">{escape(name)} {sum(reasons.values()):,}</span>'


def status(state: State, now: float) -> str:
    """The line at the top: whether the feed reads, and from where."""
    if state.trouble:
        words = f"{state.trouble} · for {span(now - state.trouble_s)} · trying again"
        return f'<p class="status trouble"><i></i>{escape(words)}</p>'
    if not state.looked:
        return f'<p class="status"><i></i>connecting to {escape(state.address)}</p>'
    unreadable = f" · {state.unreadable:,} unreadable" if state.unreadable else ""
    topics = f"{state.topics:,} KPI topic{'s' if state.topics != 1 else ''}"
    return f'<p class="status live"><i></i>{topics} · {state.rows:,} rows{unreadable} · {escape(state.address)}</p>'


def empty(state: State, topic: str) -> str:
    """What to see and to do while there is no chart."""
    address, registry = f"<code>{escape(state.address)}</code>", f"<code>{escape(state.registry)}</code>"
    by_itself = "<p>This page fills by itself; there is no need to load it again.</p>"
    if topic:
        return f"<h2>No row of {escape(topic)} yet</h2><p>Its charts appear here with the first one.</p>{by_itself}"
    if state.trouble or not state.looked:
        what = state.trouble or "Connecting to Kafka"
        return f"""<h2>{escape(what[:1].upper() + what[1:])}</h2><p>Tried: Kafka at {address}, schema registry at {registry}.</p>
            <p>Start them (<code>make demo</code> or <code>make up</code>), or say where they are with <code>KAFKA_BOOTSTRAP_SERVERS</code>
            and <code>SCHEMA_REGISTRY_URL</code> and start the dashboard again.</p>{by_itself}"""
    return f"""<h2>No KPI row yet</h2><p>Kafka answers at {address}, and no topic <code>kpi.*</code> holds a row.
        Start the flow: <code>python -m bytewax.run flows.kpi</code></p>
        <p>It is looked for every {DISCOVERY_S:.0f} s.</p>{by_itself}"""


def tile(kpi: Kpi, window: str, row: Row, before: Value) -> str:
    """An overview tile's newest value, and how it compares with the window before."""
    so_far = "" if row.final else " so far"
    return f"""<p class="value">{_measured(kpi, row.values[0])}</p>
        <p class="note">{escape(kpi.name)} · {escape(window)}{so_far} <b>{change(row.values[0], before)}</b></p>"""


def heading(view: View, lines: Sequence[tuple[str, Sequence[str | None]]], age_s: float | None, fates: str) -> str:
    """What the charts below show: topic, window, freshness, and a colour for each group."""
    old = "" if age_s is None else f'<span class="{"old" if age_s > OLD_S else "fresh"}">data {span(age_s)} old</span> · '
    names = "".join(f'<li><i style="background:{colour}"></i>{escape(label(values))}</li>' for colour, values in lines)
    by = f" · by {escape(', '.join(view.by))}" if view.by else ""
    return f"""<h2>{escape(view.shape.topic)}</h2><p class="note">{escape(view.shape.window)} windows{by} · {old}{fates}</p>
        <ul class="legend">{names}<li class="final"><svg width="26" height="8"><path d="M0 4H26"/></svg>final</li>
        <li class="open"><svg width="26" height="8"><path d="M0 4H26" stroke-dasharray="5 4"/></svg>provisional</li></ul>"""


def caption(kpi: Kpi, row: Row, value: Value) -> str:
    """The head of one chart: name, what it is, and the newest value, with the group it is of."""
    of = f" of {kpi.of}" if kpi.of not in {"", "*"} else ""
    state = f"{label(row.group.values)} · {'final' if row.final else 'so far'}"
    newest = f'<p class="newest">{_measured(kpi, value)}<span class="note">{escape(state)}</span></p>'
    return f'{newest}<h3>{escape(kpi.name)}</h3><p class="note">{escape((kpi.aggregate + of)[:120])}</p>'


def _measured(kpi: Kpi, value: Value) -> str:
    return escape(number(value)) + (f" <small>{escape(kpi.unit)}</small>" if kpi.unit else "")


def note(row: Row) -> str:
    """What a row's tooltip says below its value."""
    how = {"idle": "final, closed by idle", "repair": "final, repaired"}.get(row.closed_by or "", "final")
    state = how if row.final else "provisional"
    return f"{row.events:,} events · revision {row.revision} · {state}"


def literal(text: str) -> str:
    """Text for a Bokeh tooltip, where HTML and the placeholders @, $ and {} would mean something."""
    marks = {"@": "&#64;", "$": "&#36;", "{": "&#123;", "}": "&#125;"}
    return "".join(marks.get(each, each) for each in escape(text))
