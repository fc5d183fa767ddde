//! A driver for Debian's `chromium` over its debugging pipe: it needs no port and no other package.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The time limit for the page to show something.
const PATIENCE: Duration = Duration::from_secs(40);

/// A window: its name in the file names of screenshots, its width and its height.
pub type Window = (&'static str, u32, u32);
pub const PHONE: Window = ("phone", 390, 844);
pub const TABLET: Window = ("tablet", 900, 1100);
pub const DESKTOP: Window = ("desktop", 1440, 900);

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    sent: u64,
    /// The exceptions that the page has thrown.
    thrown: Vec<String>,
    _profile: tempfile::TempDir,
}

/// Returns the folder that cargo builds into.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp").to_owned()
}

/// Returns the text of axe-core, or prints why it is not run.
pub fn axe() -> Option<String> {
    let path = target().join("axe/node_modules/axe-core/axe.min.js");
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        println!(
            "axe-core was not run: `npm install --prefix {} axe-core@4` installs it",
            target().join("axe").display()
        );
    }
    text
}

impl Browser {
    /// Starts the browser. It reads and writes the pipe at descriptors 3 and 4, which a shell opens. Returns `None` if
    /// there is no browser on this machine.
    pub fn start() -> Option<Self> {
        if !Command::new("sh").args(["-c", "command -v chromium"]).stdout(Stdio::null()).status().unwrap().success() {
            println!("the page was not tested in a browser: `apt-get install chromium` installs it");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                     --disable-component-update --disable-sync --hide-scrollbars --disable-dev-shm-usage \
                     --remote-debugging-pipe";
        let script = format!("exec chromium {flags} --user-data-dir=\"$0\" 3<&0 4>&1 </dev/null >/dev/null 2>&1");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, to, from, session: None, sent: 0, thrown: Vec::new(), _profile: profile })
    }

    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "chromium ended");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["method"] == "Runtime.exceptionThrown" {
                self.thrown.push(answer["params"]["exceptionDetails"].to_string());
            }
            if answer["id"] == self.sent {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Opens a page in a new tab.
    pub fn open(&mut self, url: &str, window: Window) {
        self.session = None;
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        self.call("Runtime.enable", json!({}));
        self.resize(window);
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        self.call("Page.navigate", json!({ "url": url }));
    }

    pub fn resize(&mut self, (_, width, height): Window) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Sets the theme: `light` or `dark`.
    pub fn theme(&mut self, theme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.call("Runtime.evaluate", params)["result"]["value"].clone()
    }

    pub fn text(&mut self, expression: &str) -> String {
        self.evaluate(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of an expression contains `wanted`, and returns it.
    #[track_caller]
    pub fn eventually(&mut self, expression: &str, wanted: &str) -> String {
        let start = Instant::now();
        loop {
            let seen = self.text(expression);
            if seen.contains(wanted) {
                return seen;
            }
            let seen: String = seen.chars().take(500).collect();
            let health = self.text("document.getElementById('health')?.textContent");
            assert!(start.elapsed() < PATIENCE, "{expression}: {seen:?}, not {wanted:?}; the page says {health:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shows a view of the page that is open.
    pub fn go(&mut self, address: &str) {
        self.evaluate(&format!("location.hash = {}", json!(address)));
    }

    pub fn press(&mut self, key: &str, code: u32, text: &str) {
        let event = |kind: &str| json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
        let mut down = event("keyDown");
        if !text.is_empty() {
            down["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", event("keyUp"));
    }

    pub fn tab(&mut self) -> String {
        self.press("Tab", 9, "");
        let focused = "document.activeElement.id || document.activeElement.getAttribute('aria-label') || \
                       document.activeElement.textContent";
        self.text(focused)
    }

    /// Writes a picture of the whole page into `target/page-screenshots`.
    pub fn picture(&mut self, name: &str) {
        let folder = target().join("page-screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let bytes = decode(shot["data"].as_str().expect("a picture"));
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// Asserts that nothing is wider than the window, and that axe-core finds nothing.
    #[track_caller]
    pub fn inspect(&mut self, axe: Option<&str>, what: &str) {
        let wide = self.evaluate("document.documentElement.scrollWidth - innerWidth").as_i64().unwrap_or(1);
        assert!(wide <= 0, "{what}: {wide} px stick out");
        if let Some(axe) = axe {
            if self.evaluate("typeof axe") != "object" {
                self.evaluate(axe);
            }
            let found = self.text(
                "axe.run().then(found => JSON.stringify(found.violations.map(one => [one.id, one.help, \
                 one.nodes.slice(0, 3).map(node => node.html + ' ' + node.failureSummary)])))",
            );
            assert_eq!(found, "[]", "{what}: axe-core");
        }
        assert_eq!(self.thrown, Vec::<String>::new(), "{what}: the page threw");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Decodes Base64.
fn decode(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<_> = text.bytes().filter(|byte| *byte != b'=').collect();
    let group = |four: &[u8]| {
        let bits = four.iter().fold(0, |bits, byte| bits << 6 | value(*byte)) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}

#[test]
fn pictures_are_decoded() {
    assert_eq!(decode("aGVsbG8="), b"hello");
    assert_eq!(decode("aGVsbG8h"), b"hello!");
    assert_eq!(decode("iVBORw=="), b"\x89PNG");
}
