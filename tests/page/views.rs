//! The page in a browser: every view at three sizes and in both themes, with nodes that are paused and killed.

use std::time::Duration;

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};
use serde_json::json;

use super::browser::{Browser, DESKTOP, PHONE, TABLET, axe};
use super::process::{Process, cluster};
use super::{http, simulated};

const HEALTH: &str = "byId('health').textContent";
const MAIN: &str = "byId('main').textContent";

/// The views, each with a text that is there once its data has arrived.
const VIEWS: [(&str, &str, &str); 5] = [
    ("overview", "view=overview&cache=prices", "node-started"),
    ("cache", "view=cache&cache=prices", "evicted here to stay within max_capacity"),
    ("key", "view=key&cache=prices&key=item-0042", "has the greatest stamp and wins everywhere"),
    ("compare", "view=compare&cache=prices&member=n2", "Compares n1 with a member"),
    ("events", "view=events&cache=prices", "this node was started"),
];

fn every_view(browser: &mut Browser, axe: Option<&str>) {
    for theme in ["light", "dark"] {
        browser.theme(theme);
        for window in [DESKTOP, TABLET, PHONE] {
            browser.resize(window);
            for (name, address, text) in VIEWS {
                browser.go(address);
                browser.eventually(MAIN, text);
                browser.eventually("byId('main').dataset.view", name);
                browser.picture(&format!("{name}-{}-{theme}", window.0));
                // The markup is the same in both themes and the colours at all sizes: three of six combinations show all.
                let axe = axe.filter(|_| window == DESKTOP || (window == PHONE && theme == "light"));
                browser.inspect(axe, &format!("{name}, {}, {theme}", window.0));
            }
        }
    }
    browser.theme("light");
    browser.resize(DESKTOP);
}

/// Finds the reason for evictions, the hot key, and the values of each node for a key, as text on the page.
fn finds(browser: &mut Browser) {
    browser.go("view=cache&cache=prices");
    browser.eventually("byId('evicts').textContent", "because it is full (weight 900 of 900)");
    let hottest = "document.querySelector('[aria-label=\"hot keys\"] tbody tr')?.textContent";
    browser.eventually(hottest, "item-0042");
    browser.picture("find-what-evicts-and-which-key-is-hot");
    browser.go("view=cache&cache=prices&prefix=item-004");
    browser.eventually(MAIN, "that is all");
    let keys = "[...document.querySelectorAll('[aria-label=\"keys\"] tbody a')].map(a => a.textContent)";
    assert_eq!(browser.evaluate(&format!("{keys}.every(key => key.startsWith('item-004'))")), true);
    assert!(browser.evaluate(&format!("{keys}.length")).as_u64().is_some_and(|keys| keys > 5), "keys are listed");
    browser.go("view=compare&cache=prices&member=n2");
    browser.eventually("document.querySelector('[data-do=audit]')?.textContent", "audit");
    browser.evaluate("document.querySelector('[data-do=audit]').click()");
    browser.eventually("byId('said').textContent", "the comparison has ended: 0 differences without a reason");
    let compared = browser.text(MAIN);
    assert!(["n2", "n3", "n4", "n5"].iter().all(|name| compared.contains(&format!("n1 and {name}"))), "{compared}");
    assert!(compared.contains("evicted") && compared.contains("done, "), "{compared}");
    browser.picture("find-which-keys-differ");
    differing_key(browser);
}

/// Follows the links of the comparison until a key still differs: the load may have filled it again.
fn differing_key(browser: &mut Browser) {
    let links = "[...document.querySelectorAll('main section table a')].map(a => a.getAttribute('href')).join(' ')";
    let links = browser.text(links);
    for link in links.split(' ').take(20) {
        browser.go(link);
        let key = link.rsplit("key=").next().unwrap();
        browser.eventually("document.querySelector('#explanation h2 code')?.textContent", key);
        if browser.text("byId('verdict').textContent").contains("The nodes differ, for a known reason") {
            let marked = browser.text("document.querySelector('#explanation mark').textContent");
            assert!(marked.contains("≠"), "{marked}");
            let why = browser.text("byId('explanation').textContent");
            assert!(
                ["evicted its value to stay", "evicted or dropped values"].iter().any(|it| why.contains(it)),
                "{why}"
            );
            browser.picture("find-why-a-key-differs");
            return;
        }
    }
    panic!("none of the keys that differed differs any more: {links}");
}

/// A paused node is named, with the time since when; once it goes on, the page says that all is well.
fn paused(browser: &mut Browser, nodes: &mut [Process]) {
    browser.go("view=overview&cache=prices");
    browser.eventually(HEALTH, "All 5 nodes answer");
    nodes[2].signal("STOP");
    // First it does not answer; a second later it is found dead. Either way the page says since when.
    let told = browser.eventually(HEALTH, "n3 ");
    assert!(told.contains(" since "), "{told}");
    browser.eventually("byId('warnings').textContent", "n3");
    let command = browser.text("document.querySelector('#warnings [data-do=copy]').dataset.text");
    assert!(command.starts_with("ps -o pid,stat") && command.contains(&nodes[2].addr.port().to_string()), "{command}");
    browser.picture("find-which-node-is-paused");
    browser.eventually(HEALTH, "n3 is dead since");
    browser.eventually("byId('nodes').textContent", "✖ dead");
    // Long enough for the node to notice its pause afterwards.
    std::thread::sleep(Duration::from_secs(4));
    nodes[2].signal("CONT");
    browser.eventually(HEALTH, "All 5 nodes answer, and no warning is active");
    browser.go("view=events&cache=prices&node=n3");
    browser.eventually(MAIN, "made no turn for");
    browser.go("view=events&cache=prices&node=");
}

/// A killed node that restarts under its name replaces its predecessor: nothing about the predecessor is left.
fn killed(browser: &mut Browser, nodes: &mut [Process]) {
    browser.go("view=overview&cache=prices&node=");
    nodes[3].signal("KILL");
    browser.eventually(HEALTH, "n4 is dead since");
    browser.picture("killed");
    nodes[3] = Process::start("n4", "127.0.0.1:0", Some(nodes[0].addr), "local");
    browser.eventually(HEALTH, "All 5 nodes answer, and no warning is active");
    let row = "[...document.querySelectorAll('#nodes tbody tr')].map(row => row.textContent).filter(text => \
               text.startsWith('n4')).join('|')";
    let row = browser.eventually(row, "● ok");
    assert!(!row.contains('|'), "one row for n4: {row}");
    browser.go("view=events&cache=prices");
    browser.eventually("byId('events').textContent", "member-restarted");
    browser.eventually("document.querySelector('[aria-label=warnings]').textContent", "n4");
    browser.picture("find-what-happened");
    // The cursor is a slider: the arrow keys move it, and it says what happened there.
    browser.evaluate("byId('cursor').focus()");
    browser.press("ArrowLeft", 37, "");
    browser.eventually("byId('cursor').getAttribute('aria-valuetext')", "1.0 s ago");
}

/// Finds an event of ten minutes ago, on a page that is opened afterwards, with the failure detection of production.
/// Runs by hand, for twelve minutes: `cargo test --features inspect-http --test page ten_minutes -- --ignored`.
#[test]
#[ignore = "takes twelve minutes"]
fn ten_minutes_ago_a_node_was_killed() {
    let mut nodes = cluster(5, "lan");
    let wait = |seconds| std::thread::sleep(Duration::from_secs(seconds));
    wait(40);
    nodes[3].signal("KILL");
    wait(40);
    nodes[3] = Process::start("n4", "127.0.0.1:0", Some(nodes[0].addr), "lan");
    wait(600);
    nodes[2].signal("STOP");
    wait(20);
    let mut browser = Browser::start().expect("a browser");
    browser.open(&format!("http://{}/#view=overview&cache=prices", nodes[0].http), DESKTOP);
    browser.eventually(HEALTH, "n3");
    wait(5);
    browser.picture("demo-paused");
    browser.evaluate("byId('cursor').value = 272; byId('cursor').dispatchEvent(new Event('input', { bubbles: true }))");
    browser.eventually("byId('nearby').textContent", "member-restarted n4");
    browser.picture("demo-ten-minutes-ago");
    for (name, address, _) in VIEWS {
        browser.go(address);
        wait(3);
        browser.picture(&format!("demo-{name}"));
    }
}

/// A link on a page of another site opens the view, and scripts of that page still read nothing.
fn linked(browser: &mut Browser, at: std::net::SocketAddr) {
    let page = format!("<a id=l href='http://{at}/#view=key&cache=prices&key=item-0042'>key</a>");
    let url = format!("data:text/html,{}", page.replace('#', "%23").replace('&', "%26"));
    browser.open(&url, DESKTOP);
    browser.eventually("document.getElementById('l')?.textContent", "key");
    let read = browser.text(&format!("fetch('http://{at}/v1/cluster').then(() => 'read', () => 'refused')"));
    assert_eq!(read, "refused");
    browser.evaluate("document.getElementById('l').click()");
    browser.eventually("document.getElementById('verdict')?.textContent", "has the greatest stamp");
    assert_eq!(browser.text("byId('key').value"), "item-0042");
}

#[test]
fn five_nodes_under_load_are_read_from_the_page() {
    let Some(mut browser) = Browser::start() else { return };
    let (mut nodes, axe) = (cluster(5, "local"), axe());
    browser.open(&format!("http://{}/", nodes[0].http), DESKTOP);
    browser.eventually(HEALTH, "All 5 nodes answer");
    every_view(&mut browser, axe.as_deref());
    finds(&mut browser);
    paused(&mut browser, &mut nodes);
    killed(&mut browser, &mut nodes);
    browser.inspect(axe.as_deref(), "after a restart");
    linked(&mut browser, nodes[0].http);
    browser.inspect(axe.as_deref(), "a link");
    // The node of the page itself: what is shown is marked as old.
    nodes[0].signal("STOP");
    browser.eventually(HEALTH, "Cannot query this node: the node does not answer");
    browser.picture("own-node-paused");
    nodes[0].signal("CONT");
    browser.eventually(HEALTH, "All 5 nodes answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_nodes_are_readable() {
    let names = ["first", "second"].map(str::to_owned);
    let first = Node::builder().cluster("sixty").name(&names[0]).local_timing().start().await.unwrap();
    let seed = [first.local_addr().to_string()];
    let second = Node::builder().cluster("sixty").name(&names[1]).local_timing().seeds(seed).start().await.unwrap();
    let caches: Vec<Cache<String, String>> =
        [&first, &second].map(|node| node.cache("prices").open().unwrap()).into_iter().collect();
    assert!(caches[1].ready(Duration::from_secs(20)).await.is_ready());
    let inspector = Inspector::new(&second);
    let server = HttpServer::start(inspector.clone(), HttpConfig::new(([127, 0, 0, 1], 0).into())).await.unwrap();
    let (status, page) = http::get(server.local_addr(), "/").await;
    assert_eq!(status, 200);
    let template = json!(inspector.node());
    assert_eq!(template["caches"][0]["peers"].as_array().unwrap().len(), 1);
    let at = simulated::serve(template, page).await;
    tokio::task::spawn_blocking(move || drive_sixty(at)).await.unwrap();
    first.shutdown().await;
    second.shutdown().await;
}

fn drive_sixty(at: std::net::SocketAddr) {
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&format!("http://{at}/"), DESKTOP);
    browser.eventually(HEALTH, "eu-07 does not answer since");
    browser.eventually(HEALTH, "lagging-peer (us-13)");
    let shown = "document.querySelectorAll('#nodes tbody tr').length + ' rows'";
    browser.eventually(shown, "60 rows");
    browser.eventually("document.querySelector('#nodes tbody')?.textContent", "99.9 %");
    let groups = browser.text("[...document.querySelectorAll('main h3')].map(title => title.textContent).join('; ')");
    assert!(groups.contains("asia 20 nodes") && groups.contains("eu 20 nodes, ▲ 1 with a problem"), "{groups}");
    // Sorted by state, what is wrong comes first; a filter leaves what it matches.
    browser.evaluate("document.querySelectorAll('#nodes th button')[1].click()");
    let first = "document.querySelector('#nodes tbody tr').textContent";
    browser.eventually(first, "eu-07");
    browser
        .evaluate("byId('filter').value = 'asia'; byId('filter').dispatchEvent(new Event('input', { bubbles: true }))");
    browser.eventually(shown, "20 rows");
    browser.evaluate("byId('filter').value = ''; byId('filter').dispatchEvent(new Event('input', { bubbles: true }))");
    browser.evaluate("byId('onlybad').click()");
    browser.eventually(shown, "2 rows");
    browser.evaluate("byId('onlybad').click()");
    // Ten minutes ago: the cursor shows the flood, and the events near it.
    let back = "byId('cursor').value = 900 - Math.round((past.now - past.events[1].at_ms) / 1000); \
                byId('cursor').dispatchEvent(new Event('input', { bubbles: true }))";
    browser.evaluate(back);
    browser.eventually("byId('nearby').textContent", "member-restarted asia-04");
    assert!(browser.text("byId('main').textContent").contains("10 min ago"), "the time under the cursor");
    let axe = axe();
    for window in [DESKTOP, PHONE] {
        browser.resize(window);
        browser.picture(&format!("sixty-{}", window.0));
        browser.inspect(axe.as_deref(), &format!("sixty nodes, {}", window.0));
    }
}

/// The page is operated with the keyboard alone, on a window as small as a telephone's.
fn drive_by_keyboard(at: std::net::SocketAddr) {
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&format!("http://{at}/"), PHONE);
    browser.eventually(HEALTH, "The only node answers, and no warning is active");
    let order: Vec<_> = (0..9).map(|_| browser.tab()).collect();
    let views = ["Overview", "Cache", "Key", "Compare", "Warnings and events"];
    assert_eq!(order[..4], ["skip to the content", "cache", "node", "pause"]);
    assert_eq!(order[4..9], views);
    let outlined = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outlined, "solid", "what has the focus is seen");
    browser.evaluate("byId('node').focus()");
    browser.tab();
    browser.press("Enter", 13, "\r");
    browser.eventually(HEALTH, "Updates are paused");
    browser.press(" ", 32, " ");
    browser.eventually(HEALTH, "The only node answers");
    (0..3).for_each(|_| drop(browser.tab()));
    browser.press("Enter", 13, "\r");
    browser.eventually("byId('main').dataset.view", "key");
    browser.evaluate("byId('pause').focus()");
    let order: Vec<_> = (0..6).map(|_| browser.tab()).collect();
    assert_eq!(order, [&views[..], &["key"]].concat());
    browser.call("Input.insertText", json!({ "text": "apple" }));
    // An update leaves the text that is typed.
    std::thread::sleep(Duration::from_millis(1_500));
    browser.press("Enter", 13, "\r");
    browser.eventually("byId('verdict').textContent", "the write by only");
    assert_eq!(browser.evaluate("byId('explanation').textContent.includes('crimson')"), false, "values are hidden");
    // An update leaves the focus where it is.
    browser.evaluate("document.querySelector('#explanation [tabindex]').focus()");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(browser.text("document.activeElement.getAttribute('aria-label')"), "the key on all nodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_with_the_keyboard_alone() {
    let node = Node::builder().cluster("page").name("only").start().await.unwrap();
    let cache: Cache<String, String> = node.cache("fruit").open().unwrap();
    cache.insert("apple".into(), "crimson".into()).unwrap();
    let config = HttpConfig::new(([127, 0, 0, 1], 0).into());
    let server = HttpServer::start(Inspector::new(&node), config).await.unwrap();
    let at = server.local_addr();
    tokio::task::spawn_blocking(move || drive_by_keyboard(at)).await.unwrap();
    node.shutdown().await;
}
