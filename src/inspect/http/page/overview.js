// The overview: what is wrong, every node in a table, and the cluster as a graph.
const sorts = { nodes: { column: undefined, down: false }, keys: { column: undefined, down: false } };
let filter = "", onlyBad = false;

function command(name, about, cache) {
  const text = commandFor(name, about, cache);
  return [h("button", { class: "b", type: "button", "data-do": "copy", "data-text": text, "aria-label": "copy command: " + name + " " + about }, "copy command"), " ", code(text)];
}
// The warnings now, and since when, as far as this node's events reach.
function troubles() {
  const cluster = page.cluster, warned = warningsOf(cluster), found = new Map(), now = cluster.nodes[0].process.at_ms;
  const when = time => clock(time) + ", " + span(Math.max(0, now - time)) + " ago";
  const told = new Set(warned.filter(({ warning }) => GONE.has(warning.name)).map(({ warning }) => warning.about));
  for (const { name, node, state, since } of membersOf(cluster)) {
    if (node || told.has(name)) continue;
    const text = state === "dead" ? "It was found dead by the failure detector: its process has crashed or is paused, or it is cut off. If it does not return, forget it on every node." : "It is a live member and does not answer: its process is paused or starved, it is cut off, or its release is older.";
    found.set("silent\n" + name, { kind: "bad", name: state === "dead" ? "dead" : "silent", about: name, caches: [], since: since === null ? null : when(since), source: "reported by all nodes that answer", text, command: "silent" });
  }
  // One line for the same warning about several caches.
  for (const { warning, cache, seen } of warned) {
    const id = warning.name + "\n" + warning.about, known = found.get(id);
    if (known) { known.caches.push(cache); continue; }
    const told = past.events.findLast(event => event.kind === "warning-began" && event.warning === warning.name && event.about === warning.about && (event.cache ?? "") === cache)?.at_ms;
    const began = warning.since ? Date.parse(warning.since) : told;
    found.set(id, { kind: GONE.has(warning.name) ? "bad" : "warn", name: warning.name, about: warning.about, caches: [cache], since: began ? when(began) : null, source: (warning.source ? warning.source + ", " : "") + "reported by " + someOf(seen), text: warning.text, command: warning.name });
  }
  const line = ([id, { caches, ...one }]) => ({ id, ...one, cache: caches.filter(cache => cache && cache !== one.about).join(", ") });
  return [...found].map(line).sort((a, b) => (a.kind === "bad" ? 0 : 1) - (b.kind === "bad" ? 0 : 1));
}
// The warnings that say that a member does not answer.
const GONE = new Set(["member-down", "silent-member"]);
const someOf = names => (names.length > 6 ? names.length + " nodes, " + names.slice(0, 4).join(", ") + " among them" : names.join(", "));
function troubleLine({ id, kind, name, about, cache, since, until, source, text, command: help }) {
  return h("li", { key: id }, badge(kind, name), " ", h("b", {}, about), cache ? " in " + cache : "", " ", h("span", { class: "dim" }, (since ? "since " + since + (until ? " until " + until : "") + "; " : "") + source + ". "), text, help ? h("div", {}, command(help, about, cache)) : null);
}
function warningsPanel() {
  const all = troubles();
  return h("section", { key: "warnings" }, h("h2", {}, all.length ? "What is wrong" : "Warnings"), h("ul", { class: "plain", id: "warnings" }, all.length ? all.slice(0, 8).map(troubleLine) : h("li", { key: "none", class: "good" }, SHAPES.good + " none")), all.length > 8 ? h("a", { href: address({ view: "events" }) }, "all " + all.length) : null);
}

const none = value => (value === null || value === undefined ? h("span", { class: "dim" }, "…") : value);
const fixed = value => (value === null ? null : short(value));
const of = (read, show = value => value) => ({ node }) => { if (!node || !cacheOf(node)) return ""; const value = read(node, cacheOf(node)); return value === null ? none(null) : show(value); };
const raw = read => ({ node }) => (node && cacheOf(node) ? read(node, cacheOf(node)) : null);
const cpu = node => { const used = rate(node, each => each.process.cpu_ms ?? NaN); return used === null || Number.isNaN(used) ? null : used / 10; };
// The wall clock of a node minus that of the node shown first, as other nodes measured it.
const skewOf = name => { const here = cacheOf(page.cluster.nodes[0]); return page.cluster.nodes[0].node === name ? 0 : here?.peers.find(peer => peer.node === name && peer.live)?.clock_skew_ms ?? null; };
const ratioOf = node => { const hits = rateOf(node, cache => cache.hits), all = rateOf(node, cache => cache.hits + cache.misses); return all ? hits / all : hits === null ? null : NaN; };
const staleOf = cache => { const live = cache.peers.filter(peer => peer.live).map(peer => peer.staleness_ms); return live.length ? (live.includes(null) ? null : Math.max(...live)) : 0; };
const column = (title, read, show, note) => [title, of(read, show), { kind: "n", by: raw(read), title: note }];
const NODE_COLUMNS = [
  ["node", ({ name }) => name, { by: ({ name }) => name }],
  ["state", member => [badge(member.kind, member.state), member.since ? h("span", { class: "since" }, "since " + clock(member.since)) : null], { by: ({ kind, state }) => ["bad", "warn", "good"].indexOf(kind) + state }],
  ["version", ({ node }) => node?.process.version ?? "", { by: ({ node }) => node?.process.version ?? "" }],
  ["up", ({ node }) => (node ? span(node.process.uptime_ms) : ""), { kind: "n", by: ({ node }) => node?.process.uptime_ms ?? null }],
  ["processor", ({ node }) => (node ? none(cpu(node) === null ? null : cpu(node).toFixed(1) + " %") : ""), { kind: "n", by: ({ node }) => (node ? cpu(node) : null), title: "processor time of the process, in percent of one core" }],
  ["resident", ({ node }) => (node?.process.rss_bytes ? size(node.process.rss_bytes) : ""), { kind: "n", by: ({ node }) => node?.process.rss_bytes ?? null, title: "resident memory of the process" }],
  ["clock", ({ name, node }) => { const skew = skewOf(name); return node && skew !== null ? (skew > 0 ? "+" : "") + skew + " ms" : ""; }, { kind: "n", by: ({ name }) => skewOf(name), title: "its clock minus the clock of the first node, less the time of transit" }],
  column("entries", (node, cache) => cache.entries, whole),
  column("weight of capacity", (node, cache) => (cache.max_capacity ? cache.weight / cache.max_capacity : cache.weight), value => value, "weight of the values, of max_capacity"),
  column("hit ratio", node => ratioOf(node), value => (Number.isNaN(value) ? "no reads" : percent(value)), "reads that found a value, of all reads in the last ten seconds"),
  column("reads /s", node => rateOf(node, cache => cache.hits + cache.misses), fixed),
  column("writes /s", node => rateOf(node, cache => cache.counters.writes ?? 0), fixed),
  column("evictions /s", node => rateOf(node, cache => cache.removals.size ?? 0), fixed),
  column("fills running", (node, cache) => cache.fills_running, whole),
  column("fills failed", (node, cache) => failedFills(cache), whole, "fills that failed, panicked or took too long, since the cache was opened"),
  column("staleness", (node, cache) => staleOf(cache), span, "what is read there is at most this old"),
];
NODE_COLUMNS[8][1] = ({ node }) => {
  const cache = node && cacheOf(node);
  if (!cache) return "";
  if (!cache.max_capacity) return whole(cache.weight) + ", no limit";
  const part = Math.min(1, cache.weight / cache.max_capacity);
  return [h("span", { class: "share", style: "width:3rem", "aria-hidden": "true" }, h("i", { style: "width:" + Math.round(100 * part) + "%" })), " " + whole(cache.weight) + " of " + whole(cache.max_capacity)];
};

function nodesPanel(members) {
  const wanted = members.filter(({ name, state, kind }) => (!onlyBad || kind !== "good") && (name + " " + state).toLowerCase().includes(filter.toLowerCase()));
  return h("section", { key: "nodes", id: "nodes" }, h("h2", {}, "Nodes", page.cache ? h("span", { class: "dim" }, ", cache " + page.cache) : ""),
    h("div", { class: "tools" }, h("label", { for: "filter" }, "filter"), h("input", { id: "filter", type: "text", autocomplete: "off", placeholder: "name or state", "data-filter": true }), h("label", {}, h("input", { type: "checkbox", id: "onlybad", "data-only": true }), " only with a problem"), h("span", { class: "dim" }, wanted.length + " of " + members.length + " shown")),
    table("nodes", NODE_COLUMNS, wanted, { sort: { name: "nodes", state: sorts.nodes }, rowKey: ({ name }) => name, empty: "no node matches the filter" }));
}

const LARGEST_RING = 12;
// Up to twelve nodes: a ring, with the lag on the edges. More: groups by the name without its number.
function graphPanel(members) {
  const pairs = pairsOf(page.cluster), slow = pairs.filter(({ live, lag_ms }) => !live || lag_ms >= 1000);
  const many = members.length > LARGEST_RING;
  return h("section", { key: "graph" }, h("h2", {}, "Cluster"), many ? groups(members) : ring(members, pairs),
    h("p", { class: "dim" }, many ? "Each group has the nodes whose names differ in their number only." : "Each edge has the age of the oldest write that the node at one end is not known to have."),
    many || slow.length ? [h("h3", {}, "Slow pairs"), h("ul", { class: "plain" }, slow.length ? slowLines(slow) : h("li", { key: "none" }, badge("good", "none has a lag of a second or more")))] : null);
}
// The nodes with slow pairs: each pair counts for the node that has more of them, which is most often the slow one.
function slowLines(slow) {
  const count = new Map(), found = new Map();
  for (const { from, to } of slow) for (const name of [from, to]) count.set(name, (count.get(name) ?? 0) + 1);
  for (const pair of slow) {
    const name = count.get(pair.from) > count.get(pair.to) ? pair.from : pair.to, other = name === pair.to ? pair.from : pair.to, known = found.get(name) ?? { others: [], lag_ms: 0, live: true };
    found.set(name, { others: [...known.others, other], lag_ms: Math.max(known.lag_ms, pair.lag_ms), live: known.live && pair.live });
  }
  return [...found].slice(0, 6).map(([name, { others, lag_ms, live }]) => h("li", { key: name }, badge(live ? "warn" : "bad", name), (live ? ": lag of up to " + span(lag_ms) : ": dead") + " with " + someOf(others)));
}
function ring(members, pairs) {
  const place = new Map(members.map(({ name }, at) => {
    const angle = 2 * Math.PI * at / members.length - Math.PI / 2;
    return [name, members.length === 1 ? [210, 120] : [210 + 130 * Math.cos(angle), 130 + 88 * Math.sin(angle)]];
  })), parts = [];
  for (const { id, from, to, live, lag_ms } of pairs) {
    if (!place.has(from) || !place.has(to)) continue;
    const [x1, y1] = place.get(from), [x2, y2] = place.get(to), kind = !live || lag_ms >= 5000 ? "bad" : lag_ms >= 1000 ? "warn" : "good";
    parts.push(h("line", { key: "l" + id, x1, y1, x2, y2, stroke: "var(--" + kind + ")", "stroke-width": kind === "good" ? 1.5 : 3, "stroke-dasharray": live ? "none" : "5 4" }));
    // Near one end, where edges do not cross. On a ring of more than six, lags of less than a second would cover each other.
    if (members.length <= 6 || kind !== "good") parts.push(h("text", { key: "t" + id, class: "halo", x: (10 * x1 + 3 * x2) / 13, y: (10 * y1 + 3 * y2) / 13 + 4, "text-anchor": "middle" }, live ? span(lag_ms) : "dead"));
  }
  for (const { name, kind, state } of members) {
    const [x, y] = place.get(name), ink = "var(--" + kind + ")", shape = kind === "good" ? h("circle", { cx: x, cy: y, r: 10, fill: ink }) : kind === "warn" ? h("path", { d: "M" + x + " " + (y - 12) + "l12 21h-24z", fill: ink }) : h("path", { d: "M" + (x - 10) + " " + (y - 10) + "h20v20h-20z", fill: ink });
    parts.push(h("g", { key: "n" + name }, h("title", {}, name + ": " + state), shape, h("text", { class: "halo", x, y: y < 130 ? y - 16 : y + 26, "text-anchor": "middle" }, name + (kind === "good" ? "" : ": " + state))));
  }
  const wrong = members.filter(({ kind }) => kind !== "good");
  return h("svg", { class: "ring", viewBox: "0 0 420 268", role: "img", "aria-label": members.length + " nodes; " + (wrong.length ? wrong.map(({ name, state }) => name + " is " + state).join(", ") : "all are well") }, parts);
}
function groups(members) {
  const found = new Map();
  for (const member of members) { const group = member.name.replace(/[-_.]?\d+$/, "") || member.name; found.set(group, [...(found.get(group) ?? []), member]); }
  return [...found].sort(([a], [b]) => a.localeCompare(b)).map(([name, group]) => {
    const wrong = group.filter(({ kind }) => kind !== "good").length;
    return h("div", { key: name }, h("h3", {}, name + " ", h("span", { class: wrong ? "warn" : "dim" }, group.length + (group.length === 1 ? " node" : " nodes") + (wrong ? ", " + SHAPES.warn + " " + wrong + " with a problem" : ""))),
      h("ul", { class: "cells" }, group.map(member => h("li", { key: member.name }, h("a", { href: address({ node: member.node ? member.name : "" }), class: member.kind, title: member.name + ": " + member.state, "aria-label": member.name + ": " + member.state }, SHAPES[member.kind] + " " + (member.name.match(/\d+$/)?.[0] ?? member.name))))));
  });
}
function overview() {
  const members = membersOf(page.cluster);
  return [h("div", { key: "lead", class: members.length > LARGEST_RING ? "lead many" : "lead" }, h("div", { class: "stack" }, warningsPanel(), recentPanel()), graphPanel(members)), nodesPanel(members), pastPanel(["Reads", "Hit ratio", "Changes", "Removals", "Delay", "Processor", "Memory", "Network", "Members"])];
}
