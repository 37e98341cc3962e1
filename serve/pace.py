"""When a browser gets its next frame: when it has painted the last. In: lines. Out: whether a frame is due. A slow browser gets fewer.

Without this, one that needs longer for a frame than a second is sent ever more of them, and answers nothing else any more.
"""

from collections.abc import Iterable

from bokeh.models import CustomJS
from bokeh.models.widgets import TextInput

from serve.lines import Lines

PATIENCE = 40  # ticks: 10 s. A tab that nobody sees paints nothing, and says so late
PAINTED = """if (!globalThis.painting) {
    const said = () => { if (globalThis.painting) { globalThis.painting = false; beat.value = String(Number(beat.value) + 1) } }
    globalThis.painting = true
    requestAnimationFrame(() => setTimeout(said))
    setTimeout(said, 2000)
}"""


class Pace:
    """One session's. `beat` is a model of its page, through which the browser says that it has painted."""

    def __init__(self) -> None:
        self.beat = TextInput(name="painted", value="0", visible=False)
        self._waited: int | None = None  # ticks since a frame was sent that is not painted yet
        self._painted = CustomJS(args={"beat": self.beat}, code=PAINTED)
        self.beat.on_change("value", lambda _attr, _old, _new: self._painted_it())

    def listen(self, lines: Iterable[Lines]) -> None:
        """Hear when the browser has painted these lines anew."""
        for each in lines:
            each.open.js_on_change("data", self._painted)

    def is_due(self) -> bool:
        """Whether the browser may be sent a frame; to be asked once a tick."""
        if self._waited is not None:
            self._waited = self._waited + 1 if self._waited < PATIENCE else None
        return self._waited is None

    def sent(self) -> None:
        """A frame was sent."""
        self._waited = 0

    def _painted_it(self) -> None:
        self._waited = None
