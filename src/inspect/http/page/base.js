// The base: elements that change in place, formats, requests, and the address of each view.
const byId = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "path", "line", "text", "circle", "rect", "g", "polyline", "title"]);

// Describes an element. `patch` makes the page equal to a description and keeps elements that are there already, so that
// focus, selection and scroll positions survive an update.
function h(tag, props, ...kids) {
  return { tag, props: props ?? {}, kids: kids.flat(Infinity).filter(kid => kid !== null && kid !== undefined && kid !== false) };
}
function patch(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.childNodes) if (child.specKey !== undefined) keyed.set(child.specKey, child);
  let at = parent.firstChild;
  for (const spec of [wanted].flat(Infinity).filter(kid => kid !== null && kid !== undefined && kid !== false)) {
    if (typeof spec !== "object") {
      const text = String(spec);
      if (at?.nodeType === 3) { if (at.data !== text) at.data = text; at = at.nextSibling; }
      else parent.insertBefore(document.createTextNode(text), at);
      continue;
    }
    const key = spec.props.key;
    let node = key !== undefined ? keyed.get(key) : at;
    if (!node || node.nodeType !== 1 || node.localName !== spec.tag || node.specKey !== key) {
      node = DRAWN.has(spec.tag) ? document.createElementNS(SVG, spec.tag) : document.createElement(spec.tag);
      // Not `key`: a form has its field of that id under that name.
      if (key !== undefined) node.specKey = key;
    }
    if (node !== at) parent.insertBefore(node, at); else at = at.nextSibling;
    dress(node, spec);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}
function dress(node, { props, kids }) {
  const before = node.dressed ?? {};
  for (const name of Object.keys(before)) if (!(name in props)) node.removeAttribute(name);
  for (const [name, value] of Object.entries(props)) {
    if (name === "key" || before[name] === value) continue;
    if (value === false || value === null || value === undefined) node.removeAttribute(name); else node.setAttribute(name, value === true ? "" : value);
    // The property, too: the attribute is only the initial value of a field.
    if (name === "value" && node.localName !== "option") node.value = value;
  }
  node.dressed = { ...props };
  // Text that the reader types stays.
  if (node.localName !== "input") patch(node, kids);
}

function span(ms) {
  if (ms < 1000) return Math.round(ms) + " ms";
  if (ms < 60000) return (ms / 1000).toFixed(1) + " s";
  if (ms < 7200000) return Math.round(ms / 60000) + " min";
  return ms < 172800000 ? Math.round(ms / 3600000) + " h" : Math.round(ms / 86400000) + " days";
}
function size(bytes) { const units = ["B", "KiB", "MiB", "GiB", "TiB"]; let at = 0; while (bytes >= 1024 && at < 4) { bytes /= 1024; at++; } return (at ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[at]; }
function short(number) {
  if (number >= 1e9) return (number / 1e9).toFixed(1) + " G";
  if (number >= 1e6) return (number / 1e6).toFixed(1) + " M";
  if (number >= 1e4) return (number / 1e3).toFixed(1) + " k";
  return number >= 100 || Number.isInteger(number) ? Math.round(number).toLocaleString("en") : number.toFixed(number < 10 ? 2 : 1);
}
const whole = number => number.toLocaleString("en");
const percent = part => (100 * part).toFixed(part > 0.9995 || part === 0 ? 0 : 1) + " %";
function clock(ms) { return new Date(ms).toLocaleTimeString("en-GB"); }
// A time of the library, such as 2026-11-25T14:39:32.123456789Z, on the reader's clock, to milliseconds.
function moment(text) {
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? text : new Date(ms).toLocaleDateString("en-CA") + " " + clock(ms) + "." + String(new Date(ms).getMilliseconds()).padStart(3, "0");
}
const code = text => h("code", {}, text);
const SHAPES = { good: "●", warn: "▲", bad: "✖", none: "○" };
// A state as a shape and a word: never by colour alone.
const badge = (kind, text) => h("span", { class: kind }, SHAPES[kind] + " " + text);

const VIEWS = [["overview", "Overview"], ["cache", "Cache"], ["key", "Key"], ["compare", "Compare"], ["events", "Warnings and events"]];
const page = { cluster: null, reports: [], view: "overview", cache: "", node: "", key: null, prefix: "", member: "", paused: false, token: null, problem: null };

// The address of a view: #view=key&cache=NAME&key=KEY. It works as a link from anywhere. A token comes with #token=TOKEN,
// is kept for this tab, and is taken out of the address, so that a copied link does not contain it.
function address(change) {
  const to = { view: page.view, cache: page.cache, node: page.node, key: page.view === "key" ? page.key : null, prefix: page.view === "cache" ? page.prefix : "", member: page.view === "compare" ? page.member : "", ...change };
  const parts = Object.entries(to).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return "#" + new URLSearchParams(parts);
}
function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("token")) {
    page.token = asked.get("token");
    try { sessionStorage.setItem("driftless-token", page.token); } catch { /* without storage the token lasts until the page is loaded again */ }
    asked.delete("token");
    history.replaceState(null, "", "#" + asked);
  }
  const view = asked.get("view") ?? (asked.has("key") ? "key" : "overview");
  page.view = VIEWS.some(([name]) => name === view) ? view : "overview";
  if (asked.has("cache")) page.cache = asked.get("cache");
  if (asked.has("node")) page.node = asked.get("node");
  if (asked.has("key") || page.view === "key") page.key = asked.get("key");
  page.prefix = asked.get("prefix") ?? "";
  page.member = asked.get("member") ?? "";
}
const keyLink = key => h("a", { href: address({ view: "key", key, prefix: "", member: "" }) }, key);
// A node that holds nothing for a key does not know whether it ever was.
const stateWord = state => (state === "unknown" ? "nothing held" : state);

// A paused process accepts connections and answers nothing. Without a time limit the page would go on showing old data.
async function ask(path, patience = 4000) {
  const signal = AbortSignal.timeout(patience), headers = page.token ? { Authorization: "Bearer " + page.token } : {};
  const late = error => { throw error.name === "TimeoutError" ? new Error("the node does not answer") : error; };
  const response = await fetch(path, { headers, signal, cache: "no-store" }).catch(late);
  const body = await response.json().catch(late);
  if (response.status === 401) throw new Error(body.error + "; open this page as " + location.origin + "/#token=THE-TOKEN");
  if (!response.ok) throw new Error(body.error || response.statusText);
  return body;
}
const ofCache = (name, what, params) => "/v1/caches/" + encodeURIComponent(name) + "/" + what + "?" + new URLSearchParams(params);
function say(text) { byId("said").textContent = text; }

// A table: columns are [title, cell of a row, options]. With `sort`, a click on a title sorts by `options.by`.
function table(caption, columns, rows, { sort, rowKey, empty = "none" } = {}) {
  const order = sort?.state;
  if (order?.column !== undefined && columns[order.column]) {
    const by = columns[order.column][2]?.by ?? columns[order.column][1], sign = order.down ? -1 : 1;
    const value = row => { const found = by(row); return found === null || found === undefined ? -Infinity : found; };
    rows = [...rows].sort((a, b) => { const x = value(a), y = value(b); return sign * (typeof x === "string" || typeof y === "string" ? String(x).localeCompare(String(y), "en", { numeric: true }) : x - y); });
  }
  const head = columns.map(([title, , options], at) => {
    const sorted = order?.column === at;
    const arrow = sorted ? (order.down ? " ▼" : " ▲") : "";
    return h("th", { scope: "col", class: options?.kind ?? "", "aria-sort": sorted ? (order.down ? "descending" : "ascending") : false, title: options?.title ?? false },
      sort ? h("button", { type: "button", "data-do": "sort", "data-table": sort.name, "data-column": at }, title + arrow) : title);
  });
  const body = rows.map((row, number) => h("tr", { key: "row " + (rowKey ? rowKey(row) : number) }, columns.map(([, cell, options], at) =>
    h(at === 0 && options?.head !== false ? "th" : "td", at === 0 && options?.head !== false ? { scope: "row" } : { class: options?.kind ?? "" }, cell(row) ?? ""))));
  if (!rows.length) body.push(h("tr", { key: "empty" }, h("td", { colspan: columns.length, class: "dim" }, empty)));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", {}, h("caption", { class: "quiet" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}
