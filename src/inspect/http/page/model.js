// What the reports of the cluster mean: members, rates, warnings, and the health in one sentence.
const cacheOf = (node, name = page.cache) => node?.caches.find(cache => cache.cache === name);
const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);
const failedFills = cache => sum(["failed", "panicked", "timed_out", "abandoned"].map(name => cache.fills[name] ?? 0));

// Keeps the reports of the last ten seconds: rates are differences between the newest report and the oldest of these.
function remember(cluster) {
  const now = performance.now();
  page.cluster = cluster;
  page.reports.push({ now, nodes: new Map(cluster.nodes.map(node => [node.incarnation, node])) });
  while (page.reports.length > 2 && now - page.reports[1].now > 10000) page.reports.shift();
}
// Returns the rise of a count per second, or null while there is one report only.
function rate(node, count) {
  for (const { nodes } of page.reports) {
    const before = nodes.get(node.incarnation);
    if (!before || before === node) continue;
    const seconds = (node.process.at_ms - before.process.at_ms) / 1000, rise = count(node) - count(before);
    if (seconds > 0.2 && rise >= 0) return rise / seconds;
  }
  return null;
}
const rateOf = (node, count) => rate(node, each => { const cache = cacheOf(each); return cache ? count(cache) : 0; });

// The members as one list: those that answered, those that are live and silent, and those that are dead.
function membersOf(cluster) {
  const here = cluster.nodes[0], now = here.process.at_ms, answered = new Set(cluster.nodes.map(node => node.node)), others = new Map();
  for (const node of cluster.nodes) {
    for (const cache of node.caches) {
      for (const peer of cache.peers) {
        const name = peer.node ?? peer.replica;
        if (answered.has(name)) continue;
        const known = others.get(name) ?? { name, silent_ms: Infinity, live: false };
        known.silent_ms = Math.min(known.silent_ms, peer.silent_ms);
        known.live ||= peer.live;
        others.set(name, known);
      }
    }
  }
  for (const name of cluster.silent) if (!others.has(name)) others.set(name, { name, silent_ms: null, live: true });
  const silent = [...others.values()].map(other => ({
    name: other.name, node: null, kind: "bad", silent_ms: other.silent_ms,
    // A silent process that the failure detector has not found dead yet is most often paused.
    state: other.live || cluster.silent.includes(other.name) ? "no answer" : "dead",
    since: other.silent_ms === null ? null : now - other.silent_ms,
  }));
  const warned = warningsOf(cluster);
  const live = cluster.nodes.map(node => {
    const about = warned.filter(({ warning }) => warning.about === node.node || warning.about === node.addr);
    const state = node.down ? "shut down" : !node.driver_alive ? "driver dead" : about.length ? about[0].warning.name : "ok";
    return { name: node.node, node, state, kind: node.down || !node.driver_alive ? "bad" : about.length ? "warn" : "good" };
  });
  return [...live, ...silent];
}

// Merges warnings of several nodes about one subject: all nodes warn of a paused node, for instance.
function warningsOf(cluster) {
  const found = new Map();
  const note = (node, cache, warning) => {
    const id = [warning.name, warning.about, cache].join("\n"), known = found.get(id);
    if (known) known.seen.push(node); else found.set(id, { id, warning, cache, seen: [node] });
  };
  for (const node of cluster.nodes) {
    for (const warning of node.warnings) note(node.node, "", warning);
    for (const cache of node.caches) for (const warning of cache.warnings) note(node.node, cache.cache, warning);
  }
  return [...found.values()];
}

// The health in one sentence: what is wrong first, with its time; else what holds.
function healthOf(cluster) {
  const members = membersOf(cluster), warned = warningsOf(cluster), parts = [];
  const gone = members.filter(member => !member.node);
  for (const { name, state, since, silent_ms } of gone.slice(0, 3)) {
    const when = since === null ? "" : " since " + clock(since) + (silent_ms < 1000 ? "" : " (" + span(silent_ms) + ")");
    parts.push(state === "dead" ? name + " is dead since " + clock(since) + " (last message " + span(silent_ms) + " ago): its process has crashed or is paused, or it is cut off" : name + " does not answer" + when + ": it may be paused, starved or cut off");
  }
  if (gone.length > 3) parts.push(gone.length - 3 + " more members do not answer");
  const aboutGone = ({ warning }) => gone.some(({ name }) => name === warning.about);
  const names = [...new Set(warned.filter(one => !aboutGone(one)).map(({ warning }) => warning.name + (warning.about === page.cache ? "" : " (" + warning.about + ")")))];
  if (names.length) parts.push(names.length === 1 ? "one warning: " + names[0] : names.length + " warnings: " + names.slice(0, 4).join(", ") + (names.length > 4 ? " and more" : ""));
  if (parts.length) return { kind: gone.length ? "bad" : "warn", text: parts.join("; ") + "." };
  const count = cluster.nodes.length, bounds = cluster.nodes.flatMap(node => cacheOf(node)?.peers.filter(peer => peer.live).map(peer => peer.staleness_ms) ?? []);
  const stale = bounds.includes(null) ? "" : bounds.length ? " What any of them reads is at most " + span(Math.max(...bounds)) + " old." : "";
  return { kind: "good", text: (count === 1 ? "The only node answers" : "All " + count + " nodes answer") + ", and no warning is active." + stale };
}

// The pairs of nodes: for each, the greater lag of both directions.
function pairsOf(cluster) {
  const pairs = new Map();
  for (const node of cluster.nodes) {
    for (const peer of cacheOf(node)?.peers ?? []) {
      const to = peer.node ?? peer.replica, id = [node.node, to].sort().join("\n"), known = pairs.get(id);
      if (!known || peer.lag_ms > known.lag_ms || !peer.live) pairs.set(id, { id, from: node.node, to, lag_ms: peer.lag_ms, live: peer.live, silent_ms: peer.silent_ms });
    }
  }
  return [...pairs.values()];
}

// The command that helps with a warning, to be run in a shell.
function commandFor(name, about, cache) {
  const here = page.cluster.nodes[0], all = [...page.cluster.nodes, ...page.cluster.nodes.flatMap(node => node.members)];
  // A dead member is in no list of members: its last event has its address.
  const told = past.events.findLast(event => event.about === about && event.kind.startsWith("member-") && /:\d+/.test(event.text))?.text.match(/[\d.a-f:[\]]+:\d+/)?.[0];
  const known = all.find(node => node.node === about)?.addr ?? (/:\d+$/.test(about) ? about : told), addr = known ?? here.addr;
  const host = addr.replace(/:\d+$/, "").replace(/[[\]]/g, ""), port = addr.match(/\d+$/)?.[0] ?? "", on = ["127.0.0.1", "::1"].includes(host) ? (line => line) : (line => "ssh " + host + " '" + line + "'");
  const auth = page.token ? " -H \"Authorization: Bearer $DRIFTLESS_HTTP_TOKEN\"" : "", get = path => "curl -s" + auth + " \"" + location.origin + path + "\"";
  switch (name) {
    // STAT begins with T if the process is stopped: `kill -CONT` wakes it.
    case "silent": case "silent-member": case "member-down": case "lagging-peer": return known === undefined ? get("/v1/cluster") + " | jq '.nodes[] | {node, members}'" : on("ps -o pid,stat,etime,args -p $(ss -Hltnp sport = :" + port + " | grep -o pid=[0-9]* | cut -d= -f2)");
    case "seeds-unreachable": return (here.seeds ?? []).map(({ seed }) => "nc -zv " + seed.replace(/:(?=\d+$)/, " ")).join("; ") || get("/v1/node");
    case "wrong-key": case "wrong-cluster": return get("/v1/cluster") + " | jq '.nodes[] | {node, encrypted, cluster, incidents}'";
    case "split-suspected": return "nc -zv " + host + " " + port + "; nc -zuv " + host + " " + port;
    case "clock-ahead": case "clock-behind": case "clock-stepped": case "stamps-ahead": return on("timedatectl; chronyc tracking");
    case "collection-stalled": case "tombstones-near-cap": return get("/v1/caches/" + encodeURIComponent(cache) + "/tombstones?limit=20");
    case "settings-differ": return get("/v1/cluster") + " | jq '.nodes[].caches[] | select(.cache == \"" + cache + "\") | {node, settings_differ}'";
    case "unencrypted": return "openssl rand -hex 32";
    case "name-conflict": return get("/v1/cluster") + " | jq '.nodes[] | {node, addr, incarnation, members}'";
    case "inbox-overflow": case "source-over-share": case "task-restarted": return get("/v1/cluster") + " | jq '.nodes[] | {node, network}'";
    case "undecodable-entries": case "unreadable-entries": case "unencodable-entries": return get("/v1/cluster") + " | jq '.nodes[].caches[] | {node, cache, intake}'";
    default: return get("/v1/node");
  }
}
