// One key on all nodes, differences marked; and the comparison of whole key spaces, with progress.
const explained = { id: "", answer: null, error: null, busy: false };
async function explain() {
  const { cache, key } = page, id = cache + "\n" + key;
  if (key === null || key === "" || explained.busy) return;
  if (explained.id !== id) Object.assign(explained, { id, answer: null, error: null });
  explained.busy = true;
  try { const answer = await ask(ofCache(cache, "explain", { key }), 6000); if (explained.id === id) Object.assign(explained, { answer, error: null }); }
  // A node that does not answer for a while leaves the last answer on the page.
  catch (error) { if (explained.id === id) explained.error = error.message; }
  explained.busy = false;
}
// The node whose register wins: the one with the greatest stamp.
// The paths by which a register arrives.
const PATHS = { written: "written here", filled: "filled here", push: "by a push", relay: "by a relay", digest: "after a digest", reconcile: "by a reconcile", waited: "held back until its time" };
const winnerOf = nodes => nodes.reduce((best, node) => (node.stamp_nanos && (!best?.stamp_nanos || BigInt(node.stamp_nanos) > BigInt(best.stamp_nanos)) ? node : best), null);
function keyTable(answer) {
  const winner = winnerOf(answer.nodes);
  const cell = (field, show = value => value) => node => {
    const value = node[field], text = value === null || value === undefined || value === "" ? "—" : show(value);
    const differs = winner && (value ?? null) !== (winner[field] ?? null);
    return differs ? h("mark", {}, "≠ ", h("span", { class: "quiet" }, "differs: "), text) : text;
  };
  const writer = node => node.writer_node ?? node.writer ?? null;
  return table("the key on all nodes", [
    ["node", ({ node }) => node], ["state", cell("state", stateWord)], ["written", cell("stamp", moment)],
    ["by", node => cell("writer")({ ...node, writer: writer(node) }) && (winner && writer(node) !== writer(winner) ? h("mark", {}, "≠ ", h("span", { class: "quiet" }, "differs: "), writer(node) ?? "—") : writer(node) ?? "—")],
    ["value hash", cell("value_hash", code)], ["size", cell("size", size), { kind: "n" }], ["expires", cell("expires", moment)],
    ["arrived", ({ arrival, provenance }) => (arrival ? moment(arrival).slice(11, -1) + (provenance ? ", " + (PATHS[provenance] ?? provenance) : "") : "—")], ["why", ({ why }) => why, { kind: "wrap" }],
  ], answer.nodes, { rowKey: ({ node }) => node });
}
function keyView() {
  const { answer, error } = explained, silent = answer?.silent ?? [];
  const missing = silent.some(text => !text.endsWith("does not have the cache open"));
  const kinds = { agree: missing ? "warn" : "good", explained: "warn", disagree: "bad" };
  const words = { agree: "The nodes that answered agree", explained: "The nodes differ, for a known reason", disagree: "The nodes differ, and no reason is known" };
  return [
    h("section", { key: "ask" }, h("h2", {}, "Explain a key of " + (page.cache || "a cache")), h("form", { id: "explain" }, h("label", { for: "key" }, "key"), h("input", { id: "key", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", placeholder: "a string, a number, or cbor:hex", required: true }), h("button", { class: "b" }, "explain")),
      h("p", { id: "verdict", role: "status" }, error ? h("span", { class: "bad" }, SHAPES.bad + " " + error + (answer ? ". What is shown below is old." : "")) : answer ? [badge(kinds[answer.agreement], words[answer.agreement]), ": " + answer.verdict + "."] : page.key ? "asking all nodes" : "Shows what every node holds for a key, and why.")),
    answer ? h("section", { key: "answer", id: "explanation" }, h("h2", {}, "What each node holds for ", code(answer.key)), keyTable(answer),
      h("p", { class: "dim" }, "≠ marks what differs from the register that wins."),
      answer.value !== null ? h("p", {}, "value here: ", code(answer.value)) : null,
      silent.length ? [h("h3", {}, "Without an answer"), h("ul", { class: "plain" }, silent.map(text => h("li", { key: text }, badge(text.endsWith("does not have the cache open") ? "none" : "bad", text))))] : null) : null,
  ];
}

// A comparison goes page by page from here, so that it shows progress and can be stopped.
const comparing = { running: false, stop: false, results: [], id: "" };
async function compare(names) {
  if (comparing.running) return;
  const cache = page.cache, entries = cacheOf(page.cluster.nodes[0])?.entries ?? 0;
  Object.assign(comparing, { running: true, stop: false, id: cache, results: names.map(name => ({ name, examined: 0, about: entries + (cacheOf(page.cluster.nodes.find(node => node.node === name))?.entries ?? entries), differences: [], known: 0, unknown: 0, state: "waiting" })) });
  for (const result of comparing.results) {
    let cursor = null;
    result.state = "running";
    try {
      do {
        const found = await ask(ofCache(cache, "diff", { member: result.name, limit: 4096, ...(cursor ? { cursor } : {}) }), 30000);
        result.examined += found.examined;
        for (const difference of found.differences) {
          if (difference.reason === null) result.unknown++; else result.known++;
          // Those without a reason come first.
          if (difference.reason === null) result.differences.unshift(difference); else if (result.differences.length < 200) result.differences.push(difference);
        }
        result.differences.length = Math.min(result.differences.length, 200);
        cursor = found.next;
        render();
      } while (cursor && !comparing.stop);
      result.state = cursor ? "stopped" : "done";
    } catch (error) { result.state = "failed"; result.error = error.message; }
    if (comparing.stop) break;
  }
  comparing.running = false;
  const unknown = sum(comparing.results.map(({ unknown }) => unknown));
  say("the comparison has ended: " + unknown + " differences without a reason");
  render();
}
function resultSection(result) {
  const { name, examined, about, known, unknown, state, error, differences } = result, here = page.cluster.nodes[0].node;
  const kind = state === "failed" || unknown ? "bad" : known ? "warn" : state === "done" ? "good" : "none";
  const outcome = state === "failed" ? "not compared to the end: " + error : whole(unknown) + " without a reason, " + whole(known) + " with one";
  return h("section", { key: "result " + name }, h("h2", {}, here + " and " + name), h("p", {}, h("progress", { max: Math.max(1, about), value: state === "done" ? Math.max(1, about) : examined, "aria-label": "comparison with " + name }), " " + state + ", " + whole(examined) + " of about " + whole(about) + " keys of both sides examined"), h("p", {}, badge(kind, "differences: " + outcome)),
    differences.length ? table("differences with " + name, [
      ["key", ({ key }) => keyLink(key), { kind: "key" }], ["kind", ({ kind }) => kind], ["here", ({ here }) => stateWord(here)], ["there", ({ there }) => stateWord(there)], ["reason", ({ reason }) => reason ?? h("span", { class: "bad" }, SHAPES.bad + " none is known"), { kind: "wrap" }],
    ], differences, { rowKey: ({ key, kind }) => kind + key }) : null);
}
function compareView() {
  const others = page.cluster.nodes.slice(1).map(({ node }) => node), silent = page.cluster.silent, here = page.cluster.nodes[0].node;
  return [
    h("section", { key: "start" }, h("h2", {}, "Compare the keys of " + (page.cache || "a cache") + " with other nodes"), h("p", { class: "dim" }, "Compares " + here + " with a member, key by key, without values. Differences are shown with their reason; nothing is changed. An audit compares with every member."),
      h("div", { class: "tools" }, h("label", { for: "member" }, "member"), h("select", { id: "member", "aria-label": "member to compare with" }, [...others, ...silent].map(name => h("option", { key: name, value: name, selected: name === page.member }, name))),
        h("button", { class: "b", type: "button", "data-do": "diff", disabled: comparing.running || !others.length }, "compare"), h("button", { class: "b", type: "button", "data-do": "audit", disabled: comparing.running || !others.length }, "audit: all members"), h("button", { class: "b", type: "button", "data-do": "stop", disabled: !comparing.running }, "stop")),
      others.length ? null : h("p", {}, "No other node answers.")),
    comparing.id === page.cache ? comparing.results.map(resultSection) : null,
  ];
}
