"""How the page says things. In: numbers, states, text from topics. Out: words, and HTML in which all such text is escaped. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from heapq import nlargest
from html import escape
from math import floor, log10
from operator import itemgetter

from serve.feed import DISCOVERY_S, State
from serve.selection import ALL, View
from serve.shape import TOTAL, Kpi, Row, Value, label

LARGE = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
TINY = 1e-6
MOST_PERCENT = 1e9  # what has grown further was as good as zero
DIGITS = 3  # after the first
OLD_S = 30.0  # from here on, data is called old in a second way than by its number
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
MARKS = (  # what the charts draw, as SVG of 26 by 10
    ("final", '<path d="M0 5H26"/>'),
    ("provisional", '<path d="M0 5H18" stroke-dasharray="5 4"/><circle cx="22" cy="5" r="2.5" stroke-width="1.5"/>'),
    ("closed by idle", '<rect x="9" y="1" width="8" height="8" stroke-width="1.5"/>'),
    ("no window", '<path d="M1 9L9 1M9 9L17 1M17 9L25 1" stroke-width="1"/>'),
    ("unknown", '<path d="M3 5h.1M9 5h.1M15 5h.1M21 5h.1" stroke-linecap="round"/>'),
)


def number(value: Value) -> str:
    """A value with about four digits.

    >>> [number(it) for it in (2629.8, 12_345_678.0, 42.0, -0.0, 0.00123, -1e-9, "Berlin", None)]
    ['2,630', '12.35 M', '42', '0', '0.00123', '-1e-09', 'Berlin', 'unknown']
    """
    if isinstance(value, tuple):
        return ", ".join(f"{name} {number(its)}" for name, its in nlargest(3, value, key=itemgetter(1))) or "none"
    if value is None or isinstance(value, str):
        return "unknown" if value is None else value
    for size, name in LARGE:
        if abs(value) >= size:
            return f"{value / size:,.4g} {name}"
    if value == int(value):
        return f"{value + 0.0:,.0f}"  # -0.0 + 0.0 is 0.0
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
    return f"{share:+,.1f} %" if abs(share) < MOST_PERCENT else ""


def span(seconds: float) -> str:
    """A stretch of time.

    >>> span(1.234), span(42.7), span(90), span(7200)
    ('1.2 s', '42 s', '1 min', '2 h')
    """
    for size, name in UNITS:
        if seconds >= size:
            return f"{int(seconds / size)} {name}"
    return f"{max(seconds, 0):.1f} s" if seconds < 10 else f"{int(seconds)} s"  # noqa: PLR2004 - where the tenth stops to matter


def fates(late: Mapping[str, int], dead: Mapping[str, int]) -> str:
    """How many messages of a topic were set aside, for a button.

    >>> fates({"late": 1200}, {}), fates({}, {})
    ('Late 1,200 · dead letters 0', 'Late 0 · dead letters 0')
    """
    return f"Late {sum(late.values()):,} · dead letters {sum(dead.values()):,}"


def reasons(late: Mapping[str, int], dead: Mapping[str, int], now: float) -> str:
    """Why messages were set aside, and as of when.

    >>> reasons({"late": 12}, {"magic": 3}, 0.0)
    'late 12 · magic 3 · as of 00:00:00 UTC'
    """
    said = [f"{reason} {n:,}" for reason, n in (*sorted(late.items()), *sorted(dead.items()))]
    return " · ".join([*said, f"as of {datetime.fromtimestamp(now, UTC):%H:%M:%S} UTC"])


def waiting(rows: int) -> str:
    """What resuming would bring.

    >>> waiting(1), waiting(1200)
    ('Resume (1 row waiting)', 'Resume (1,200 rows waiting)')
    """
    return f"Resume ({rows:,} row{'s' if rows != 1 else ''} waiting)"


def status(state: State, now: float) -> str:
    """The line at the top: whether the feed reads, and from where."""
    if state.trouble:
        words = f"{state.trouble} · for {span(now - state.trouble_s)} · trying again"
        return f'<p class="status trouble"><i></i>{escape(words)}</p>'
    if not state.looked:
        return f'<p class="status"><i></i>connecting to {escape(state.address)}</p>'
    behind = f" · reading history, {state.behind:,} records to go" if state.behind else ""
    unreadable = f" · {state.unreadable:,} unreadable" if state.unreadable else ""
    topics = f"{state.topics:,} KPI topic{'s' if state.topics != 1 else ''}"
    return f'<p class="status live"><i></i>{topics}{behind}{unreadable} · {escape(state.address)}</p>'


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


def tile(kpi: Kpi, value: Value, before: Value, path: str) -> str:
    """One KPI in an overview card: its newest value, how it compares with the window before, and its last windows as an SVG path."""
    line = f'<svg viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true"><path d="{path}"/></svg>'
    return f"""<li><p class="note">{escape(kpi.name)}</p><p class="value">{_measured(kpi, value)}</p>
        <p class="note"><b>{change(value, before) or "&nbsp;"}</b></p>{line}</li>"""


def link(topic: str, query: str, *, chosen: bool) -> str:
    """A topic's name as a link to its charts."""
    current = ' aria-current="true"' if chosen else ""
    return f'<h2 class="name"><a href="?{escape(query)}"{current}>{escape(topic)}</a></h2>'


def short_bound(kpi: Kpi) -> str:
    """How far a value may be off, behind it.

    >>> short_bound(Kpi("p95", "quantile", "ms", "", error=0.01)), short_bound(Kpi("orders", "count", "*", ""))
    ('± 1 %', '')
    """
    return f"± {kpi.error * 100:.2g} %" if kpi.error else ""


def bound(kpi: Kpi) -> str:
    """The same, and from when on.

    >>> bound(Kpi("buyers", "distinct", "id", "", error=0.02, exact_up_to=1024))
    '± 2 % above 1,024'
    >>> bound(Kpi("top", "top", "sku", "", bars=True, error=1 / 1025, exact_up_to=1024))
    'above 1,024 different values at most 0.098 % of the events too low'
    """
    if kpi.bars and kpi.error:
        return f"above {kpi.exact_up_to:,} different values at most {kpi.error * 100:.2g} % of the events too low"
    return short_bound(kpi) + (f" above {kpi.exact_up_to:,}" if kpi.error and kpi.exact_up_to else "")


def tiles(window: str, row: Row | None, kpis: Sequence[str]) -> str:
    """An overview card: the tiles of a topic's KPIs, below what they are of."""
    if row is None:
        return '<p class="note">no window yet</p>'
    state = "newest final window" if row.final else "so far"
    of = "" if row.group == TOTAL else f" · {escape(label(row.group.values))}"
    return f'<p class="note">{escape(window)} · {state}{of}</p><ul class="kpis">{"".join(kpis)}</ul>'


def freshness(now: float, newest_ms: int | None, watermark_ms: int | None, lag: int | None) -> str:
    """How far behind the numbers are: age of the newest row, of the newest window that closed, and messages that the flow has not read."""
    said = []
    if newest_ms is not None:
        age_s = now - newest_ms / 1000
        said.append(f'<span class="{"old" if age_s > OLD_S else "fresh"}">data {span(age_s)} old</span>')
    if watermark_ms is not None:
        behind = f"watermark {span(now - watermark_ms / 1000)} behind"
        said.append(f'<span title="the newest window that is final ended so long ago">{behind}</span>')
    said.append('<span title="messages that the flow has not read yet">lag ' + ("unknown" if lag is None else f"{lag:,}") + "</span>")
    return f'<p class="note">{" · ".join(said)}</p>'


def heading(view: View, fresh: str) -> str:
    """What the charts below show: topic, window, groups and freshness."""
    by = f" · by {escape(', '.join(view.by))}" if view.by else ""
    shape = view.shape
    one = f"{shape.spoken} windows" if shape.kind.name == "tumbling" else shape.spoken
    windows = "windows of every size" if view.window == ALL else escape(one)
    doc = f'<p class="note">{escape(view.shape.doc)}</p>' if view.shape.doc else ""
    return f'<h2>{escape(view.shape.topic)}</h2>{doc}<p class="note">{windows}{by}</p>{fresh}'


def legend(lines: Sequence[tuple[str, Sequence[str | None]]]) -> str:
    """The colours of the groups, and what the marks mean."""
    names = "".join(f'<li><i style="background:{colour}"></i>{escape(label(values))}</li>' for colour, values in lines)
    marks = "".join(f'<li class="mark"><svg width="26" height="10">{drawn}</svg>{name}</li>' for name, drawn in MARKS)
    return f'<ul class="legend">{names}{marks}</ul>'


def caption(kpi: Kpi, window: str, row: Row | None, value: Value) -> str:
    """The head of one chart: name, what it is, and the newest value, with the group it is of."""
    of = f" of {kpi.of}" if kpi.of not in {"", "*"} else ""
    newest = ""
    if row is not None:
        state = f"{label(row.group.values)} · {'final' if row.final else 'so far'}"
        shown = "" if isinstance(value, tuple) else _measured(kpi, value)
        newest = f'<p class="newest">{shown}<span class="note">{escape(state)}</span></p>'
    doc = f' title="{escape(kpi.doc)}"' if kpi.doc else ""
    what = escape((kpi.aggregate + of)[:120]) + (f" · {bound(kpi)}" if kpi.error else "")
    return f'{newest}<h3{doc}>{escape(kpi.family or kpi.name)}</h3><p class="note">{what} · {escape(window)}</p>'


def _measured(kpi: Kpi, value: Value) -> str:
    return escape(number(value)) + (f" <small>{escape(kpi.unit)}</small>" if kpi.unit else "")


def literal(text: str) -> str:
    """Text for a Bokeh tooltip, where HTML and the placeholders @, $ and {} would mean something."""
    marks = {"@": "&#64;", "$": "&#36;", "{": "&#123;", "}": "&#125;"}
    return "".join(marks.get(each, each) for each in escape(text))
