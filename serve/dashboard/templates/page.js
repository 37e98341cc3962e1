// What the page does in the browser alone: the theme, and links that open a topic without loading the page again.
"use strict"

{
  const root = document.documentElement
  const themed = () => {
    const theme = new URLSearchParams(location.search).get("theme")
    if (theme == "light" || theme == "dark") root.dataset.theme = theme
    else delete root.dataset.theme
    repaint()
  }
  // Bokeh's canvases read the colours when they are painted.
  const repaint = () => {
    for (const view of Object.values(globalThis.Bokeh?.index?.roots ?? {})) for (const each of plots(view)) each.repaint?.()
  }
  function* plots(view) {
    if (view.model.type == "Figure") yield view
    else for (const child of view.child_views ?? []) yield* plots(child)
  }
  themed()
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint)
  for (const name of ["replaceState", "pushState"]) {
    const write = history[name].bind(history)
    history[name] = (...address) => { write(...address); themed() }
  }
  const ask = (query) => {
    const asked = globalThis.Bokeh?.documents?.[0]?.get_model_by_name("asked")
    if (!asked) return false
    asked.value = "" // the same question again is one, too
    asked.value = query || "topic="
    return true
  }
  addEventListener("popstate", () => { themed(); ask(location.search.slice(1)) })

  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return // a tab of its own
    const path = event.composedPath()
    const within = (selector) => path.find((part) => part.matches?.(selector))
    const link = within("a[href^='?']") ?? Array.from(within(".topic")?.shadowRoot?.querySelectorAll("*") ?? [])
      .map((part) => part.shadowRoot?.querySelector("a[href^='?']")).find((found) => found)
    if (link && ask(link.getAttribute("href").slice(1))) event.preventDefault()
  })
}
