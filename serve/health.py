"""How the dashboard is, for who looks after it. In: the feed's state. Out: an HTTP status and what is said with it. Pure."""

from serve.feed import State

WELL, AWAY = 200, 503


def health(state: State, pages: int, *, alive: bool) -> tuple[int, dict[str, object]]:
    """200 while the feed reads; 503 and the trouble while it waits, or where its thread is not `alive`. It names no
    address of its own accord: anybody may ask.
    """
    trouble = state.trouble if alive else "the feed has ended"
    if not trouble and not state.looked:
        trouble = "connecting to Kafka"
    read = {"topics": state.topics, "rows": state.rows, "unreadable": state.unreadable}
    return AWAY if trouble else WELL, {"reads": not trouble, "trouble": trouble, **read, "pages": pages}
