"""One session of the dashboard. Bokeh runs this file anew for each: everything that stays is in the modules of serve/."""

from bokeh.io import curdoc

from serve import door, feed
from serve.page import Page

document = curdoc()
context = document.session_context
request = getattr(context, "request", None)  # Bokeh's types do not know it
if door.running().has_room():
    Page(document, feed.running(), request.arguments if request else {})
    if context:
        door.running().entered(context.id)
else:
    document.template = door.template()  # who comes with a session's name of their own: no page, no callback
    document.template_variables.update(door.running().words())
