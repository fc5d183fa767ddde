//! A driver for Debian's `chromium` over its debugging pipe: it needs no port and no other package.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};
use serde_json::{Value, json};

/// The time limit for the page to show something.
const PATIENCE: Duration = Duration::from_secs(60);

struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    sent: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts the browser. It reads and writes the pipe at descriptors 3 and 4, which a shell opens.
    fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                     --disable-component-update --disable-sync --remote-debugging-pipe";
        let script = format!("exec chromium {flags} --user-data-dir=\"$0\" 3<&0 4>&1 </dev/null >/dev/null 2>&1");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from, session: None, sent: 0, _profile: profile }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "chromium ended: is it installed? `apt-get install chromium`");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.sent {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Opens a page in a window as large as a telephone's.
    fn open(&mut self, url: &str) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        let size = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        self.call("Page.navigate", json!({ "url": url }));
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }))["result"]["value"]
            .clone()
    }

    fn eventually(&mut self, expression: &str, wanted: &str) {
        let start = Instant::now();
        loop {
            let seen = self.evaluate(expression);
            if seen.as_str().is_some_and(|seen| seen.contains(wanted)) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{expression}: {seen}, not {wanted}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn press(&mut self, key: &str, code: u32, text: &str) {
        let event = |kind: &str| json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
        let mut down = event("keyDown");
        if !text.is_empty() {
            down["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", event("keyUp"));
    }

    fn tab(&mut self) -> String {
        self.press("Tab", 9, "");
        let focused = "document.activeElement.id || document.activeElement.getAttribute('aria-label') || \
                       document.activeElement.textContent";
        self.evaluate(focused).as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drive(at: SocketAddr) {
    let mut browser = Browser::start();
    browser.open(&format!("http://{at}/"));
    browser.eventually("byId('state').textContent", "all green");
    let order: Vec<_> = (0..6).map(|_| browser.tab()).collect();
    assert_eq!(order, ["cache", "pause", "key", "explain", "nodes", "members as each node sees them"]);
    let outlined = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outlined, "solid", "what has the focus is seen");
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true, "nothing sticks out");
    browser.evaluate("byId('cache').focus()");
    browser.tab();
    browser.press("Enter", 13, "\r");
    browser.eventually("byId('state').textContent", "updates are paused");
    browser.press(" ", 32, " ");
    browser.eventually("byId('state').textContent", "all green");
    browser.tab();
    browser.call("Input.insertText", json!({ "text": "apple" }));
    browser.press("Enter", 13, "\r");
    browser.eventually("byId('verdict').textContent", "agree: the write by");
    assert_eq!(browser.evaluate("byId('explanation').textContent.includes('crimson')"), false, "values are hidden");
}

/// Runs by hand: `cargo test --features inspect-http --test page -- --ignored`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Debian's chromium"]
async fn the_page_works_in_a_browser_with_the_keyboard_alone() {
    let node = Node::builder().cluster("page").name("only").start().await.unwrap();
    let cache: Cache<String, String> = node.cache("fruit").open().unwrap();
    cache.insert("apple".into(), "crimson".into()).unwrap();
    let config = HttpConfig::new(([127, 0, 0, 1], 0).into());
    let server = HttpServer::start(Inspector::new(&node), config).await.unwrap();
    let at = server.local_addr();
    tokio::task::spawn_blocking(move || drive(at)).await.unwrap();
    node.shutdown().await;
}
