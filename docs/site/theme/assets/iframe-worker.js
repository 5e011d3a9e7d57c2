// Browsers start no worker for a page that is read as a file. There, what searches runs in a frame
// of the page instead: a window of its own, whose messages are passed on.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.append(frame)
      this.inside = frame.contentWindow
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
      const load = address => new Promise((done, failed) => {
        const script = frame.contentDocument.createElement("script")
        Object.assign(script, {src: new URL(address, location.href), onload: done, onerror: failed})
        frame.contentDocument.body.append(script)
      })
      this.inside.importScripts = (...all) => Promise.all(all.map(load))
      this.ready = load(url)
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", {data})))
    }
    terminate() {}
  }
}
