// Time series: one cursor for all graphs, and events on the same axis. The node keeps the samples: a page that has just
// been opened shows the last fifteen minutes.
const KEPT = 900000;
let period = null; // What the graphs show: three minutes, of which there is a sample a second, or all fifteen.
const past = { id: "", cache: [], node: [], events: [], last: 0, sampled: true, error: null, cursor: null };
const INKS = ["var(--blue)", "var(--orange)", "var(--violet)", "var(--teal)"], DASHES = ["none", "6 3", "2 3", "9 3 2 3"];

// Fetches what is new since the last call. Another cache or node begins anew.
async function fetchPast() {
  const cache = page.cache, node = page.node, shown = page.cluster.nodes.find(each => each.node === (node || page.cluster.nodes[0].node));
  // A restarted node begins anew: its events are numbered from one again.
  const id = [cache, node, shown?.incarnation].join("\n");
  if (past.id !== id) Object.assign(past, { id, cache: [], node: [], events: [], last: 0, error: null, cursor: null });
  const params = node ? { member: node } : {}, after = list => ({ ...params, after_ms: list.at(-1)?.at_ms ?? 0 });
  try {
    const [of, own] = await Promise.all([cache ? ask(ofCache(cache, "past", after(past.cache))) : { samples: [], sampled: true }, ask("/v1/past?" + new URLSearchParams({ ...after(past.node), from_event: past.last + 1 }))]);
    if (past.id !== id) return;
    const merge = (all, more) => { const old = (more.at(-1)?.at_ms ?? 0) - KEPT - 60000; return [...all, ...more].filter(sample => sample.at_ms > old); };
    past.cache = merge(past.cache, of.samples);
    past.node = merge(past.node, own.samples);
    past.events = [...past.events, ...own.events].slice(-512);
    past.last = past.events.at(-1)?.number ?? past.last;
    Object.assign(past, { sampled: of.sampled, error: null, now: own.at_ms });
  } catch (error) { if (past.id === id) past.error = error.message; }
}

// The points of a line: [time, value], with null where samples are missing, so that no line runs through a pause.
function points(samples, value) {
  const found = [];
  samples.forEach((sample, at) => {
    const before = samples[at - 1];
    if (before && sample.at_ms - before.at_ms > 25000) found.push([before.at_ms + 1, null]);
    found.push([sample.at_ms, value(sample, before)]);
  });
  return found;
}
const level = field => samples => points(samples, sample => sample[field]);
// Over fifteen minutes, rates are those of ten seconds throughout: samples of one second would look like noise.
const even = samples => (period === KEPT ? samples.filter((sample, at) => at === samples.length - 1 || Math.floor(sample.at_ms / 10000) !== Math.floor((samples[at - 1]?.at_ms ?? 0) / 10000)) : samples);
const perSecond = (field, scale = 1) => samples => points(even(samples), (sample, before) => {
  if (!before || before[field] === null || sample[field] === null) return null;
  const rise = sample[field] - before[field], seconds = (sample.at_ms - before.at_ms) / 1000;
  return rise < 0 || seconds <= 0 || seconds > 25 ? null : scale * rise / seconds;
});
const hitRatio = samples => points(even(samples), (sample, before) => {
  if (!before) return null;
  const hits = sample.hits - before.hits, all = hits + sample.misses - before.misses;
  return all > 0 && hits >= 0 ? 100 * hits / all : null;
});
const perSec = value => short(value) + " /s", inPercent = value => value.toFixed(1) + " %";
const CHARTS = [
  { name: "Reads", unit: perSec, of: "cache", lines: [["hits", perSecond("hits")], ["misses", perSecond("misses")]] },
  { name: "Hit ratio", unit: inPercent, of: "cache", top: 100, lines: [["hits of reads", hitRatio]] },
  { name: "Changes", unit: perSec, of: "cache", lines: [["own writes", perSecond("writes")], ["from other nodes", perSecond("merged")]] },
  { name: "Removals", unit: perSec, of: "cache", lines: [["evicted", perSecond("evicted")], ["expired", perSecond("expired")]] },
  { name: "Fills", unit: perSec, of: "cache", lines: [["started", perSecond("fills")], ["failed", perSecond("fills_failed")]] },
  { name: "Fills running", unit: short, of: "cache", lines: [["running", level("fills_running")]] },
  { name: "Entries", unit: short, of: "cache", lines: [["values", level("entries")], ["tombstones", level("tombstones")]] },
  { name: "Delay", unit: span, of: "cache", time: true, lines: [["staleness bound here", level("staleness_ms")], ["lag of the slowest member", level("lag_ms")]] },
  { name: "Processor", unit: inPercent, of: "node", lines: [["of one core", perSecond("cpu_ms", 0.1)]] },
  { name: "Memory", unit: size, of: "node", bytes: true, lines: [["resident", level("rss_bytes")]] },
  { name: "Network", unit: value => size(value) + "/s", of: "node", bytes: true, lines: [["in", perSecond("bytes_in")], ["out", perSecond("bytes_out")]] },
  { name: "Members", unit: short, of: "node", lines: [["other live members", level("members")], ["warnings", level("warnings")]] },
];

// The step between labels of an axis: a round number in the unit.
function step(top, { bytes, time }) {
  const rough = top / 3;
  if (time) return [10, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 30000, 60000, 120000, 300000, 600000].find(each => each >= rough) ?? 3600000;
  if (bytes) { let unit = 1; while (unit * 1024 <= rough) unit *= 1024; return unit * ([1, 2, 4, 8, 16, 32, 64, 128, 256, 512].find(each => each * unit >= rough) ?? 1024); }
  const unit = 10 ** Math.floor(Math.log10(rough)); return unit * [1, 2, 5, 10].find(each => each * unit >= rough * 0.999);
}
// The value of a line at a time: the last sample before it, unless samples are missing there.
function valueAt(line, time) {
  let low = 0, high = line.length;
  while (low < high) { const middle = (low + high) >> 1; if (line[middle][0] <= time + 500) low = middle + 1; else high = middle; }
  const found = line[low - 1];
  return found && time - found[0] < 25000 ? found[1] : null;
}
const LEFT = 58, RIGHT = 8, HIGH = 118, FLOOR = HIGH - 22;
function chart(spec, now, wide) {
  const lines = spec.lines.map(([name, read]) => [name, read(past[spec.of])]);
  const values = lines.flatMap(([, line]) => line.filter(([time, value]) => value !== null && time >= now - period).map(([, value]) => value));
  const highest = Math.max(0, ...values), by = step(Math.max(spec.top ?? highest, spec.bytes || spec.time ? 10 : 2), spec), top = spec.top ?? Math.max(by, Math.ceil(highest / by) * by);
  const x = time => LEFT + (wide - LEFT - RIGHT) * (1 - (now - time) / period), y = value => FLOOR - value / top * (FLOOR - 8), drawn = [];
  for (let value = 0; value <= top * 1.001; value += by) {
    drawn.push(h("line", { x1: LEFT, x2: wide - RIGHT, y1: y(value), y2: y(value), stroke: "var(--line)" }), h("text", { class: "axis", x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, spec.unit(value)));
  }
  drawn.push(h("text", { class: "axis", x: wide - 4, y: HIGH - 6, "text-anchor": "end" }, "now"));
  // At whole minutes, so that each label is the time of its place.
  const gap = period / 3;
  for (let time = Math.floor(now / gap) * gap; time > now - period; time -= gap) {
    if (now - time > gap / 4) drawn.push(h("text", { class: "axis", x: x(time), y: HIGH - 6, "text-anchor": "middle" }, clock(time).slice(0, 5)));
  }
  for (const event of past.events.filter(event => grave(event) && event.at_ms > now - period)) drawn.push(h("line", { x1: x(event.at_ms), x2: x(event.at_ms), y1: 8, y2: FLOOR, stroke: "var(--dim)", "stroke-dasharray": "1 3" }));
  lines.forEach(([, line], at) => {
    let pen = "M", path = "";
    for (const [time, value] of line) {
      if (value === null) { pen = "M"; continue; }
      if (time < now - period) continue;
      path += pen + x(time).toFixed(1) + " " + y(value).toFixed(1);
      pen = "L";
    }
    drawn.push(h("path", { d: path || "M0 0", fill: "none", stroke: INKS[at], "stroke-width": 2, "stroke-dasharray": DASHES[at], "stroke-linejoin": "round" }));
  });
  const time = past.cursor ?? now;
  if (past.cursor !== null) drawn.push(h("line", { x1: x(time), x2: x(time), y1: 4, y2: FLOOR, stroke: "var(--ink)", "stroke-width": 1.5 }));
  const legend = lines.map(([name, line], at) => { const value = valueAt(line, time); return h("span", {}, sample(at), name + " ", h("b", {}, value === null ? "no sample" : spec.unit(value))); });
  const summary = spec.name + ": " + lines.map(([name, line]) => { const value = valueAt(line, now); return name + " " + (value === null ? "unknown" : spec.unit(value)); }).join(", ");
  return h("figure", { key: spec.name }, h("h3", {}, spec.name), h("div", { class: "legend" }, legend), h("svg", { class: "series", style: "max-width:" + wide + "px", viewBox: "0 0 " + wide + " " + HIGH, role: "img", "aria-label": summary, "data-wide": wide }, drawn));
}
const sample = at => h("svg", { viewBox: "0 0 24 10", "aria-hidden": "true" }, h("line", { x1: 0, x2: 24, y1: 5, y2: 5, stroke: INKS[at], "stroke-width": 3, "stroke-dasharray": DASHES[at] }));

// Events: the shape says the kind. Down and begun are filled or point down; up and ended are open or point up.
const GLYPHS = { "member-down": "▼", "member-left": "◁", "member-up": "▲", "member-restarted": "↻", "member-forgotten": "✕", "node-started": "▶", "node-stalled": "‖", "warning-began": "◆", "warning-ended": "◇", "forced-drops": "!", reconcile: "⇄", "invalidate-all": "∅", "cache-opened": "+", "cache-closed": "−" };
const glyph = event => GLYPHS[event.kind] ?? "●";
const INK_OF = { "member-down": "bad", "node-stalled": "bad", "forced-drops": "bad", "warning-began": "warn", "member-up": "good", "member-restarted": "good", "warning-ended": "good" };
const grave = event => ["member-down", "member-left", "member-restarted", "node-started", "node-stalled", "forced-drops", "reconcile", "invalidate-all"].includes(event.kind);
const title = event => event.kind + (event.warning ? " " + event.warning : "") + " " + event.about;
function lane(now, wide) {
  const x = time => LEFT + (wide - LEFT - RIGHT) * (1 - (now - time) / period), shown = past.events.filter(event => event.at_ms > now - period), ends = [];
  // Events of one kind at one place share a mark. Marks at one place are stacked, so that none hides another.
  const marks = [], places = new Map();
  for (const event of shown) {
    const at = x(event.at_ms), id = event.kind + Math.round(at / 12), known = places.get(id);
    if (known) { known.events.push(event); continue; }
    const mark = { id, at, events: [event] };
    places.set(id, mark);
    marks.push(mark);
  }
  const drawn = marks.map(({ id, at, events }) => {
    let row = ends.findIndex(end => end < at - 13);
    if (row < 0) row = ends.push(at) - 1; else ends[row] = at;
    return h("text", { key: id + events[0].number, x: at, y: 16 + 14 * row, "text-anchor": "middle", style: "font-size:13px; fill:var(--" + (INK_OF[events[0].kind] ?? "ink") + ")" }, h("title", {}, events.map(event => clock(event.at_ms) + " " + title(event)).join("; ")), glyph(events[0]));
  });
  const tall = 10 + 14 * Math.max(1, ends.length);
  const cursor = past.cursor === null ? null : h("line", { key: "cursor", x1: x(past.cursor), x2: x(past.cursor), y1: 0, y2: tall, stroke: "var(--ink)", "stroke-width": 1.5 });
  return h("svg", { class: "series", viewBox: "0 0 " + wide + " " + tall, role: "img", "data-wide": wide, "aria-label": shown.length + " events; the list below has them as text" }, h("line", { key: "floor", x1: LEFT, x2: wide - RIGHT, y1: tall - 2, y2: tall - 2, stroke: "var(--line)" }), cursor, drawn);
}
// The events near the cursor, or the newest ones.
function nearby(now) {
  const all = past.events.filter(event => event.at_ms > now - period);
  if (past.cursor === null) return [];
  return all.filter(event => Math.abs(event.at_ms - past.cursor) < 15000).slice(0, 12);
}
function eventLine(event, now) {
  return h("li", { key: event.number }, h("span", { class: INK_OF[event.kind] ?? "" }, glyph(event) + " " + event.kind), " ", h("b", {}, (event.warning ? event.warning + ": " : "") + event.about), " ", h("span", { class: "dim" }, clock(event.at_ms) + ", " + span(Math.max(0, now - event.at_ms)) + " ago. "), event.text);
}
// The events of the last minutes, the newest first.
function recentPanel() {
  const now = past.now ?? Date.now(), all = past.events.slice(-6).reverse();
  return h("section", { key: "recent" }, h("h2", {}, "What happened last"), h("ul", { class: "plain", id: "recent" }, all.length ? all.map(event => eventLine(event, now)) : h("li", { key: "none", class: "dim" }, past.error ?? "nothing yet")));
}
function pastPanel(names) {
  // A node that has just started has little to show in fifteen minutes.
  period ??= page.cluster.nodes[0].process.uptime_ms < 180000 ? 180000 : KEPT;
  const now = past.now ?? Date.now(), room = (byId("main").clientWidth || 900) - 34, columns = Math.max(1, Math.floor((room + 22) / (352 + 22))), wide = Math.max(260, Math.floor((room - 22 * (columns - 1)) / columns));
  const node = page.node || page.cluster.nodes[0].node, ago = past.cursor === null ? 0 : now - past.cursor;
  const list = nearby(now), at = past.cursor === null ? "now" : clock(past.cursor) + ", " + span(ago) + " ago";
  return h("section", { key: "past" },
    h("h2", {}, "The last " + period / 60000 + " minutes on " + node + (page.cache ? ", cache " + page.cache : "")),
    past.error ? h("p", { class: "bad" }, "cannot read the past of " + node + ": " + past.error) : null,
    past.sampled ? null : h("p", { class: "warn" }, "This node keeps samples of 64 of its caches only, and this is not one of them."),
    h("div", { class: "tools" }, h("label", { for: "cursor" }, "time: "), h("b", { key: "at" }, at), h("button", { class: "b", type: "button", "data-do": "now", disabled: past.cursor === null }, "back to now"), h("button", { class: "b", type: "button", "data-do": "zoom" }, period === KEPT ? "show 3 minutes" : "show 15 minutes")),
    h("input", { id: "cursor", type: "range", min: 0, max: period / 1000, step: 1, value: String(Math.max(0, Math.round((period - ago) / 1000))), "aria-valuetext": at + "; " + (list.length ? list.map(event => title(event)).join("; ") : "no event near it") }),
    lane(now, room),
    h("ul", { class: "plain", id: "nearby" }, list.length ? list.map(event => eventLine(event, now)) : h("li", { key: "none", class: "dim" }, past.cursor === null ? "Point at a graph, or move the slider, to read the values and events of one moment." : "no event within 15 s of the cursor")),
    h("div", { class: "charts" }, CHARTS.filter(({ name }) => names.includes(name)).map(spec => chart(spec, now, wide))));
}
// A pointer over a graph moves the cursor of all of them. The slider does the same from the keyboard.
function pointAt(event) {
  const svg = event.target.closest?.("svg.series");
  if (!svg || page.paused && !past.now) return;
  const box = svg.getBoundingClientRect(), wide = Number(svg.dataset.wide), at = (event.clientX - box.left) * wide / box.width, part = (at - LEFT) / (wide - LEFT - RIGHT);
  if (part < 0 || part > 1) return;
  past.cursor = part > 0.995 ? null : past.now - period * (1 - part);
  render();
}
