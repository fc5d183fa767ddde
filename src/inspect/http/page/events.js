// All warnings with their times and sources, and all events.
let kindShown = "";
// The warnings that have ended: as all nodes remember them, or else as this node's events tell.
function endedWarnings() {
  const found = new Map();
  const note = (node, cache, { name, about, text, since, until, source }) => {
    const id = ["ended", name, about, cache, String(until).slice(0, 18)].join("\n"), known = found.get(id);
    if (known) known.seen.push(node); else found.set(id, { id, kind: "none", name, about, cache, since: clock(Date.parse(since)), until: clock(Date.parse(until)), ended: Date.parse(until), text, from: source, seen: [node], command: null });
  };
  for (const node of page.cluster.nodes) {
    for (const warning of node.ended_warnings ?? []) note(node.node, "", warning);
    for (const cache of node.caches) for (const warning of cache.ended_warnings ?? []) note(node.node, cache.cache, warning);
  }
  if (found.size) return [...found.values()].map(one => ({ ...one, source: (one.from ? one.from + ", " : "") + "reported by " + someOf(one.seen) })).sort((a, b) => b.ended - a.ended);
  return past.events.filter(event => event.kind === "warning-ended").map(event => {
    const began = past.events.findLast(one => one.kind === "warning-began" && one.number < event.number && one.warning === event.warning && one.about === event.about && one.cache === event.cache);
    return { id: "ended " + event.number, kind: "none", name: event.warning, about: event.about, cache: event.cache ?? "", since: began ? clock(began.at_ms) : null, until: clock(event.at_ms), source: "as " + (page.node || page.cluster.nodes[0].node) + " saw it", text: began?.text ?? event.text, command: null };
  }).reverse();
}
const NO_WARNINGS = "none, now or in what the nodes remember";
function eventsView() {
  // On a telephone the text of a warning would be out of sight in a table.
  const warnings = [...troubles(), ...endedWarnings()], narrow = innerWidth < 640;
  const now = past.now ?? Date.now(), node = page.node || page.cluster.nodes[0].node, kinds = [...new Set(past.events.map(({ kind }) => kind))].sort();
  const shown = past.events.filter(({ kind }) => !kindShown || kind === kindShown).reverse();
  return [
    h("section", { key: "warnings" }, h("h2", {}, "Warnings"), narrow ? h("ul", { class: "plain" }, warnings.length ? warnings.map(troubleLine) : h("li", { key: "none" }, NO_WARNINGS)) : table("warnings", [
      ["warning", ({ kind, name }) => badge(kind, name)], ["about", ({ about, cache }) => about + (cache && cache !== about ? " (" + cache + ")" : "")], ["since", ({ since }) => since ?? "before " + clock((past.events[0]?.at_ms) ?? now)], ["until", ({ until }) => until ?? h("b", {}, "now")],
      ["source", ({ source }) => source, { kind: "wrap" }], ["what it means, and what to do", ({ text, command: help, name, about, cache }) => [text, help ? h("div", {}, command(help, about, cache)) : null], { kind: "wrap" }],
    ], warnings, { rowKey: ({ id }) => id, empty: NO_WARNINGS })),
    pastPanel(["Members"]),
    h("section", { key: "events", id: "events" }, h("h2", {}, "Events on " + node), h("div", { class: "tools" }, h("label", { for: "kind" }, "kind"), h("select", { id: "kind" }, h("option", { key: "", value: "" }, "all"), kinds.map(kind => h("option", { key: kind, value: kind }, kind))), h("span", { class: "dim" }, shown.length + " events; a node keeps its last 512")),
      table("events", [
        ["time", ({ at_ms }) => clock(at_ms)], ["ago", ({ at_ms }) => span(Math.max(0, now - at_ms)), { kind: "n" }], ["event", event => h("span", { class: INK_OF[event.kind] ?? "" }, glyph(event) + " " + event.kind)],
        ["about", ({ about, warning }) => (warning ? warning + ": " : "") + about], ["cache", ({ cache }) => cache ?? ""], ["what happened", ({ text }) => text, { kind: "wrap" }],
      ], shown, { rowKey: ({ number }) => number, empty: past.error ?? "none yet" })),
  ];
}
