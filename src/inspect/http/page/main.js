// The loop: asks the node once a second, and draws the view of the address.
function chooser(id, names, chosen, first) {
  patch(byId(id), [...(first ? [h("option", { key: "", value: "" }, first)] : []), ...names.map(name => h("option", { key: name, value: name }, name))]);
  byId(id).value = chosen;
}
let drawing = false;
function render() {
  if (!page.cluster || drawing) return;
  drawing = true;
  const { cluster } = page, here = cluster.nodes[0];
  const names = [...new Set(cluster.nodes.flatMap(node => node.caches.map(cache => cache.cache)))].sort();
  if (!names.includes(page.cache)) page.cache = page.cache && page.asked === page.cache ? page.cache : names[0] ?? "";
  chooser("cache", names.includes(page.cache) || !page.cache ? names : [page.cache, ...names], page.cache);
  chooser("node", cluster.nodes.slice(1).map(({ node }) => node), page.node, here.node);
  patch(byId("where"), "cluster " + here.cluster + ", seen from " + here.node + " at " + here.addr);
  patch(byId("nav"), VIEWS.map(([name, words]) => h("a", { key: name, href: address({ view: name }), "aria-current": name === page.view ? "page" : false }, words)));
  const health = page.problem ? { kind: "bad", text: page.problem } : page.paused ? { kind: "warn", text: "Updates are paused: what is shown is old." } : healthOf(cluster);
  const line = byId("health"), text = SHAPES[health.kind] + " " + health.text;
  // Unchanged text is not written again: a screen reader would repeat it.
  if (line.textContent !== text) line.textContent = text;
  line.className = health.kind;
  document.title = (health.kind === "good" ? "" : SHAPES[health.kind] + " ") + "driftless " + here.cluster;
  const main = byId("main"), views = { overview, cache: cacheView, key: keyView, compare: compareView, events: eventsView };
  if (main.dataset.view !== page.view) { main.replaceChildren(); main.dataset.view = page.view; }
  drawing = false;
  const drawn = views[page.view]();
  patch(main, drawn);
  // What the reader types stays until another key is shown.
  const field = byId("key"), key = page.key ?? "";
  if (field && field.dataset.shown !== key) { field.value = key; field.dataset.shown = key; }
  const prefix = byId("prefix");
  if (prefix && prefix.dataset.shown !== page.prefix) { prefix.value = page.prefix; prefix.dataset.shown = page.prefix; }
}

async function tick() {
  const cluster = await ask("/v1/cluster?brief=true", 3000);
  // The page was paused while the request was running.
  if (page.paused) return;
  remember(cluster);
  page.problem = null;
  if (!page.cache) render();
  await Promise.all([fetchPast(), page.view === "key" ? explain() : null, page.view === "cache" ? fetchLists() : null]);
}
let timer = 0, updating = false, again = false;
async function run() {
  if (updating) { again = true; return; }
  clearTimeout(timer);
  const began = performance.now();
  if (!page.paused && !document.hidden) {
    updating = true;
    try { await tick(); document.body.classList.remove("stale"); }
    catch (error) {
      page.problem = "Cannot query this node: " + error.message + ". What is shown below is old.";
      document.body.classList.add("stale");
      if (!page.cluster) { byId("health").textContent = SHAPES.bad + " " + page.problem; byId("health").className = "bad"; }
    }
    render();
    updating = false;
  }
  // Updates begin once a second. An update takes longer if a member does not answer, so its duration is subtracted.
  timer = setTimeout(run, again ? 0 : Math.max(200, began + 1000 - performance.now()));
  again = false;
}
function go(change) { location.hash = address(change); }

const ACTIONS = {
  pause(button) {
    page.paused = !page.paused;
    button.textContent = page.paused ? "resume updates" : "pause updates";
    render();
    run();
  },
  sort({ dataset }) {
    const order = sorts[dataset.table], column = Number(dataset.column);
    Object.assign(order, { down: order.column === column && !order.down, column });
    render();
  },
  async copy({ dataset }) {
    try { await navigator.clipboard.writeText(dataset.text); }
    catch {
      // Without TLS, browsers have no clipboard for pages beyond this machine.
      const field = Object.assign(document.createElement("textarea"), { value: dataset.text });
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    say("copied: " + dataset.text);
  },
  now() { past.cursor = null; render(); },
  zoom() { period = period === KEPT ? 180000 : KEPT; past.cursor = null; render(); },
  more() { moreKeys(); },
  diff() { compare([byId("member").value]); },
  audit() { compare(page.cluster.nodes.slice(1).map(({ node }) => node)); },
  stop() { comparing.stop = true; },
};
document.addEventListener("click", event => {
  const button = event.target.closest?.("button[data-do]");
  if (button) ACTIONS[button.dataset.do](button);
});
document.addEventListener("submit", event => {
  event.preventDefault();
  if (event.target.id === "explain") { const key = byId("key").value; if (key === page.key) run(); else go({ view: "key", key }); }
  if (event.target.id === "search") go({ view: "cache", prefix: byId("prefix").value });
});
document.addEventListener("input", event => {
  if (event.target.id === "filter") { filter = event.target.value; render(); }
  if (event.target.id === "onlybad") { onlyBad = event.target.checked; render(); }
  if (event.target.id === "cursor") { const back = period / 1000 - Number(event.target.value); past.cursor = back ? (past.now ?? Date.now()) - back * 1000 : null; render(); }
});
document.addEventListener("change", event => {
  if (event.target.id === "cache") go({ cache: event.target.value, key: null, prefix: "", member: "" });
  if (event.target.id === "node") go({ node: event.target.value });
  if (event.target.id === "member") go({ view: "compare", member: event.target.value });
  if (event.target.id === "kind") { kindShown = event.target.value; render(); }
});
document.addEventListener("pointermove", pointAt);
document.addEventListener("visibilitychange", () => run());
addEventListener("resize", () => render());
addEventListener("hashchange", () => {
  if (location.hash === "#main") return byId("main").focus();
  const before = page.cache + page.node;
  readAddress();
  page.asked = page.cache;
  if (before !== page.cache + page.node) page.reports.length = Math.min(1, page.reports.length);
  render();
  run();
});
try { page.token = sessionStorage.getItem("driftless-token"); } catch { /* no storage */ }
readAddress();
page.asked = page.cache;
run();
