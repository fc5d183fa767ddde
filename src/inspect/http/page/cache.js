// One cache: why it misses, why it removes, which keys are hot, which tombstones stay, and which keys it holds.
const lists = { id: "", hot: null, stones: null, keys: [], next: null, examined: 0, asked: false, busy: false, error: null };
const REASONS = {
  absent: "nothing is held: never written, or removed without a trace", deleted: "deleted", expired: "time to live ended", evicted: "evicted here", void: "a newer write may have been collected", invalidated: "older than an invalidate_all", unreadable: "does not decode as this cache's type",
};
const CAUSES = {
  size: "evicted here to stay within max_capacity", expired: "time to live ended", explicit: "removed by a call, here or on another node", replaced: "replaced by a newer value", invalidated: "invalidate_all", void: "it might have been stale", reconcile: "its delete was collected while this node was away",
};
const BLOCKS = {
  young: "younger than gc_grace", session: "a session is being received", "own-watermark": "a fill runs here, or it is younger than max_drift", unseen: "is not known to have seen it", watermark: "may still write below it", "departed-writes": "has not sent the writes of a departed replica",
};
const held = ({ why, node, replica, silent_ms }) => (node || replica ? (node ?? replica) + " " + BLOCKS[why] + " (last message " + span(silent_ms) + " ago)" : BLOCKS[why] ?? why);

function startLists() {
  const id = [page.cache, page.node, page.prefix].join("\n");
  if (lists.id === id) return;
  Object.assign(lists, { id, hot: null, stones: null, keys: [], next: null, examined: 0, asked: false, error: null });
  moreKeys();
}
async function fetchLists() {
  const id = lists.id, member = page.node ? { member: page.node } : {};
  const fetched = await Promise.allSettled([ask(ofCache(page.cache, "hot", { ...member, limit: 12 })), ask(ofCache(page.cache, "tombstones", { limit: 12 }))]);
  if (id !== lists.id) return;
  const [hot, stones] = fetched.map(({ value }) => value ?? null);
  Object.assign(lists, { hot, stones });
}
// A page of a search for a prefix may be empty: goes on until there are keys, or the walk ends.
async function moreKeys() {
  if (lists.busy || !page.cache) return;
  const id = lists.id, enough = lists.keys.length + 50;
  lists.busy = true;
  try {
    do {
      const found = await ask(ofCache(page.cache, "keys", { limit: 50, ...(page.prefix ? { prefix: page.prefix } : {}), ...(lists.next ? { cursor: lists.next } : {}) }));
      if (id !== lists.id) break;
      lists.keys.push(...found.keys);
      Object.assign(lists, { next: found.next, examined: lists.examined + found.examined, asked: true, error: null });
      render();
    } while (lists.next && lists.keys.length < enough);
  } catch (error) { if (id === lists.id) lists.error = error.message; }
  lists.busy = false;
  if (id !== lists.id) moreKeys(); else render();
}

// What fills the cache up, in one sentence.
function evictionSentence(node, cache) {
  if (!cache.max_capacity) return "This cache has no max_capacity on " + node.node + ", so it evicts nothing.";
  const evicted = rateOf(node, each => each.removals.size ?? 0), own = rateOf(node, each => (each.counters.writes ?? 0)) ?? 0, merged = rateOf(node, each => each.counters.merged ?? 0) ?? 0;
  const fills = rateOf(node, each => each.fills.filled ?? 0) ?? 0, room = cache.max_capacity - cache.weight;
  const full = whole(cache.weight) + " of " + whole(cache.max_capacity);
  if (evicted === null) return "Weight " + full + ".";
  if (evicted === 0) return node.node + " evicts nothing: its weight is " + full + ", and " + short(Math.max(0, room)) + " are free.";
  const largest = merged > own ? "most of it from other nodes" : fills > own / 2 ? "most of it by its own fills" : "most of it by its own writes";
  return node.node + " evicts " + short(evicted) + " values/s because it is full (weight " + full + "). Own writes and fills: " + short(own) + " /s; from other nodes: " + short(merged) + " /s: " + largest + ".";
}
function shares(caption, counts, words, live) {
  const rows = Object.entries(counts).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]), all = sum(rows.map(([, count]) => count));
  return table(caption, [
    [caption, ([name]) => [h("b", {}, name), h("span", { class: "reason dim" }, words[name] ?? "")]],
    ["share", ([, count]) => [h("span", { class: "share", "aria-hidden": "true" }, h("i", { style: "width:" + Math.round(100 * count / all) + "%" })), " " + percent(count / all)]],
    ["per s", ([name]) => none(fixed(live(name))), { kind: "n" }],
    ["total", ([, count]) => whole(count), { kind: "n", title: "since the cache was opened" }],
  ], rows, { rowKey: ([name]) => name });
}
function hotPanel(node) {
  const { hot } = lists, reads = rateOf(node, cache => cache.hits);
  const note = hot === null ? "loading" : !hot.noted ? "Reads are noted only by caches with max_capacity that evict by last use, not by the sieve." : "A sample of " + whole(hot.sampled) + " reads of the last seconds on " + hot.node + ".";
  const line = key => Math.max(0, key.reads - key.error) / Math.max(1, hot.sampled);
  return h("section", { key: "hot" }, h("h2", {}, "Hot keys on " + node.node), h("p", { class: "dim" }, note), hot?.noted ? table("hot keys", [
    ["key", ({ key }) => keyLink(key), { kind: "key" }],
    ["share of reads", key => [h("span", { class: "share", "aria-hidden": "true" }, h("i", { style: "width:" + Math.round(100 * key.reads / Math.max(1, hot.sampled)) + "%" })), " " + percent(Math.min(1, key.reads / Math.max(1, hot.sampled)))]],
    ["at least", key => percent(line(key)), { kind: "n" }],
    ["about", key => (reads === null ? none(null) : short(reads * key.reads / Math.max(1, hot.sampled)) + " /s"), { kind: "n" }],
  ], hot.keys, { rowKey: ({ key }) => key, empty: "no reads lately" }) : null);
}
function stonesPanel(cache) {
  const stones = cache.tombstones, here = page.cluster.nodes[0].node;
  const counts = ["deleted", "expired", "evicted", "void"].filter(name => stones[name]).map(name => whole(stones[name]) + " " + name).join(", ");
  return h("section", { key: "stones" }, h("h2", {}, "Oldest tombstones on " + here), h("p", { class: "dim" }, whole(stones.total) + " of at most " + whole(stones.cap) + (counts ? ": " + counts : "") + "."),
    table("oldest tombstones", [
      ["key", ({ key }) => keyLink(key), { kind: "key" }], ["cause", ({ state }) => state], ["age", ({ age_ms }) => span(age_ms), { kind: "n" }],
      ["what holds it", ({ blocked_by }) => (blocked_by.length ? blocked_by.map(held).join("; ") : "nothing: it goes with the next collection"), { kind: "wrap" }],
    ], lists.stones ?? [], { rowKey: ({ key }) => key, empty: lists.stones ? "none" : "loading" }));
}
function keysPanel() {
  const now = page.cluster.nodes[0].process.at_ms, left = text => (text === null ? "never" : Date.parse(text) > now ? "in " + span(Date.parse(text) - now) : span(now - Date.parse(text)) + " ago");
  const done = lists.asked && !lists.next && !lists.busy;
  return h("section", { key: "keys" }, h("h2", {}, "Keys on " + page.cluster.nodes[0].node),
    h("form", { id: "search" }, h("label", { for: "prefix" }, "begins with"), h("input", { id: "prefix", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" }), h("button", { class: "b" }, "list")),
    lists.error ? h("p", { class: "bad" }, lists.error) : null,
    table("keys", [
      ["key", ({ key }) => keyLink(key), { kind: "key", by: ({ key }) => key }], ["state", ({ state }) => state, { by: ({ state }) => state }], ["size", ({ size: bytes }) => size(bytes), { kind: "n", by: line => line.size }],
      ["expires", line => (line.state === "live" ? left(line.expires) : ""), { kind: "n", by: line => (line.expires ? Date.parse(line.expires) : Infinity) }], ["written", ({ stamp }) => moment(stamp), { by: ({ stamp }) => stamp }],
    ], lists.keys, { sort: { name: "keys", state: sorts.keys }, rowKey: ({ key }) => key, empty: lists.asked ? "no key begins with this" : "loading" }),
    h("div", { class: "tools" }, h("button", { class: "b", type: "button", "data-do": "more", disabled: !lists.next || lists.busy }, "50 more"), h("span", { class: "dim" }, lists.keys.length + " listed, " + whole(lists.examined) + " examined" + (done ? ", that is all" : lists.busy ? ", searching" : ", in no particular order"))));
}
function cacheView() {
  const node = page.cluster.nodes.find(node => node.node === (page.node || page.cluster.nodes[0].node)), cache = cacheOf(node), here = cacheOf(page.cluster.nodes[0]);
  if (!cache || !here) return h("section", { key: "none" }, h("h2", {}, "Cache"), h("p", {}, page.cache ? "The cache " + page.cache + " is not open on " + (node?.node ?? page.node) + ", or that node does not answer." : "No cache is open."));
  startLists();
  const facts = [["entries", whole(cache.entries)], ["weight", whole(cache.weight) + (cache.max_capacity ? " of " + whole(cache.max_capacity) : ", no limit")], ["hit ratio now", none(ratioOf(node) === null || Number.isNaN(ratioOf(node)) ? null : percent(ratioOf(node)))], ["hit ratio since opened", cache.hits + cache.misses ? percent(cache.hits / (cache.hits + cache.misses)) : "no reads"], ["memory, estimated", size(cache.memory_estimate)], ["log entries", whole(cache.log_entries)], ["deferred", whole(cache.deferred)], ["fills running", whole(cache.fills_running)], ["fills failed", whole(failedFills(cache))]];
  return [
    h("section", { key: "facts" }, h("h2", {}, "Cache " + page.cache + " on " + node.node), h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", { key: name }, h("dt", {}, name), h("dd", {}, value)))), h("p", { id: "evicts" }, evictionSentence(node, cache))),
    h("div", { key: "why", class: "columns" }, h("section", {}, h("h2", {}, "Misses by reason"), shares("reason", cache.misses_by_reason, REASONS, name => rateOf(node, each => each.misses_by_reason[name] ?? 0))), h("section", {}, h("h2", {}, "Removals by cause"), shares("cause", cache.removals, CAUSES, name => rateOf(node, each => each.removals[name] ?? 0))), hotPanel(node)),
    pastPanel(["Reads", "Hit ratio", "Changes", "Removals", "Fills", "Fills running", "Entries", "Delay"]),
    h("div", { key: "held", class: "columns" }, stonesPanel(here), keysPanel()),
  ];
}
