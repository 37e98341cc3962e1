/* The page stays alive. In: its websocket, and what the browser says of network, tab and sleep. Out: a line of words while the connection
   is lost, and the page loaded again as soon as the server has it. All that was chosen stands in the URL, so the same view comes back.

   It is part of the page, not a file beside it: a server that ends while a page loads must not leave one that never tries again. It takes
   the place of Bokeh's own reconnecting, which pulls the document without its columns ("buffer for id=... not found", 3.9.2), gives up
   after five attempts, never tries where the first connection failed, and cannot tell a silent connection from a quiet one. */
"use strict";
(() => {
  const SILENCE_MS = 10_000 // a page with charts hears the server several times a second; after this it asks
  const ANSWER_MS = 10_000 // and waits this long
  const FIRST_MS = 1_000 // between attempts, doubled up to
  const LONGEST_MS = 10_000
  const ARRIVAL_MS = 30_000 // the page has grown to its full height by then
  const QUESTION = [{msgid: "alive", msgtype: "SERVER-INFO-REQ"}, {}, {}].map((part) => JSON.stringify(part)) // Bokeh's protocol

  let {reloads, top} = history.state?.alive ?? {reloads: 0, top: 0} // so many in a row, and how far down the reader was
  history.replaceState({alive: {reloads, top: 0}}, "")
  let socket = null // Bokeh's
  let loaded_ms = Infinity // when the page was there, silence is counted from here on
  let heard_ms = 0 // when the server was last heard
  let asked_ms = 0 // when it was asked whether it is there; 0: it has answered
  let lost = false
  let leaving = false
  let trying = false
  let next = 0 // the timer of the next attempt
  let pause_ms = Math.min(FIRST_MS * 2 ** reloads, LONGEST_MS) // a page whose connection is refused each time must not race

  const line = document.createElement("p")
  line.setAttribute("role", "status")
  line.style.cssText = "position: fixed; z-index: 1000; inset: auto 0 16px; margin: 0; text-align: center; pointer-events: none"

  window.WebSocket = class extends WebSocket {
    constructor(...where) {
      super(...where)
      socket = this
      this.addEventListener("message", hear)
      this.addEventListener("close", lose)
    }
  }

  function hear() {
    heard_ms = Date.now()
    asked_ms = 0
    if (lost) { // by silence, which has ended
      lost = false
      pause_ms = FIRST_MS
      clearTimeout(next)
      say("")
    }
  }

  function look() {
    const now_ms = Date.now()
    if (lost) {
      attempt()
    } else if (asked_ms && now_ms - asked_ms >= ANSWER_MS) {
      lose()
    } else if (now_ms - Math.max(heard_ms, loaded_ms) >= SILENCE_MS) {
      ask()
    }
  }

  function ask() {
    if (asked_ms) return
    asked_ms = Date.now()
    if (socket?.readyState === WebSocket.OPEN) QUESTION.forEach((part) => socket.send(part))
  }

  function lose() {
    if (lost || leaving) return
    lost = true
    for (const shown of window.Bokeh?.documents ?? []) {
      shown.config.setv({reconnect_session: false, notify_connection_status: false}, {sync: false})
    }
    const of = heard_ms ? ` What is shown is of ${new Date(heard_ms).toISOString().slice(11, 19)} UTC.` : ""
    say(`The connection is lost; trying again.${of}`)
    wait()
  }

  function wait() {
    clearTimeout(next)
    next = setTimeout(attempt, pause_ms * (0.75 + Math.random() / 2)) // so that not all pages come at the same moment
    pause_ms = Math.min(2 * pause_ms, LONGEST_MS)
  }

  async function attempt() {
    if (trying) return
    trying = true
    const there = await has_page()
    trying = false
    if (!lost) return
    if (!there) return wait()
    history.replaceState({alive: {reloads: reloads + 1, top: top || scrollY}}, "")
    location.reload()
  }

  /* Whether the server has the page. Bokeh's answer to this costs no session; a proxy or a hotel's sign-in page in its place gives none. */
  async function has_page() {
    try {
      const where = location.pathname.replace(/\/?$/, "/metadata")
      const answer = await fetch(where, {cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS)})
      return answer.ok && "url" in await answer.json()
    } catch {
      return false
    }
  }

  function say(words) {
    const shown = document.createElement("span")
    shown.textContent = words
    shown.style.cssText = `display: inline-block; margin: 0 16px; padding: 8px 16px; border-radius: 8px;
      font: 600 14px/1.5 var(--sans); background: var(--bad); color: var(--card)`
    line.replaceChildren(...(words ? [shown] : []))
  }

  /* The page has held for longer than a dead one goes unseen: the next loss is the first again. */
  function hold() {
    if (lost) return
    reloads = 0
    pause_ms = FIRST_MS
    history.replaceState(null, "")
  }

  /* To where the reader was, as far as the page has grown until then, and no more once the reader moves. */
  function scroll_back() {
    history.scrollRestoration = "manual"
    const grown = new ResizeObserver(() => scrollTo(0, top))
    for (const part of document.body.children) grown.observe(part)
    const enough = () => {
      grown.disconnect()
      top = 0
    }
    for (const moved of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(moved, enough, {once: true, passive: true})
    setTimeout(enough, ARRIVAL_MS)
  }

  addEventListener("DOMContentLoaded", () => {
    document.body.append(line)
    if (top) scroll_back()
  })
  addEventListener("load", () => {
    loaded_ms = Date.now()
    setInterval(() => lost || look(), SILENCE_MS / 5)
    setTimeout(hold, 2 * SILENCE_MS + ANSWER_MS)
  })
  addEventListener("online", look)
  addEventListener("offline", ask) // it may be another network than the server's
  document.addEventListener("visibilitychange", () => document.hidden || look())
  addEventListener("pagehide", () => leaving = true)
  addEventListener("pageshow", (event) => {
    leaving = false
    if (event.persisted) lose()
  })
})()
