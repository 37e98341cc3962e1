"""One session of `bokeh serve dashboard`. Bokeh runs this file anew for each: everything that stays is in the modules of serve/."""

from bokeh.io import curdoc

from serve import feed
from serve.page import Page

document = curdoc()
request = getattr(document.session_context, "request", None)  # Bokeh's types do not know it
Page(document, feed.running(), request.arguments if request else {})
