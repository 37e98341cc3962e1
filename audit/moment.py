"""Moments for people. In: UTC ms, or text. Out: the other. Pure."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_9999_MS = 253_402_300_799_999


def iso(at_ms: int) -> str:
    """A moment as ISO has it, in UTC; milliseconds only where there are some.

    >>> iso(1_760_000_000_000), iso(1_760_000_000_500)
    ('2025-10-09T08:53:20Z', '2025-10-09T08:53:20.500Z')
    """
    moment = EPOCH + timedelta(milliseconds=min(at_ms, YEAR_9999_MS))
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def moment_ms(text: str) -> int:
    """UTC ms of an ISO time, which is UTC unless it says otherwise.

    >>> moment_ms("2025-10-09T08:53:20"), moment_ms("2025-10-09T10:53:20.500+02:00")
    (1760000000000, 1760000000500)
    """
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
