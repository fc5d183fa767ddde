//! A process that forks after it has started a node: the copy of the node in the child answers at once.
#![cfg(all(feature = "node", unix))]

use std::process::{Command, ExitCode, exit};
use std::time::{Duration, Instant};

use driftless::{Cache, Members, Node, Ready};
use fork::{Fork, fork};

/// The time limit of each wait in the child. The child must answer long before.
const LONG: Duration = Duration::from_secs(20);
/// The variable that makes this test program run [`parent`] in a process of its own.
const ROLE: &str = "DRIFTLESS_FORK_TEST";

/// Starts a node, forks, and returns the exit code of the child.
fn parent() -> i32 {
    let node = Node::builder().cluster("fork").start_blocking().expect("a node");
    let cache: Cache<String, u32> = node.cache("c").open().expect("a cache");
    let written = cache.insert("a".into(), 1).expect("a write");
    // The runtime of timers is started here: in the child its thread is missing.
    assert!(cache.ready_blocking(LONG).is_ready() && node.is_running());
    assert!(cache.wait_replicated_blocking(written, Members::All, LONG).is_ok());
    // The driver sleeps: it holds no lock during the fork.
    std::thread::sleep(Duration::from_millis(300));
    match fork().expect("a fork") {
        Fork::Child => {
            // Ends the child if one of the calls hangs.
            std::thread::spawn(|| {
                std::thread::sleep(LONG * 2);
                exit(99);
            });
            exit(child(&node, &cache, written));
        }
        Fork::Parent(child) => {
            let status = fork::waitpid(child).expect("the child ends");
            assert!(node.is_running() && cache.get("a") == Some(1), "the parent's node goes on");
            node.shutdown_blocking();
            if fork::WIFEXITED(status) { fork::WEXITSTATUS(status) } else { -1 }
        }
    }
}

/// Returns zero, or the number of the first check that fails. It does not panic, because a panic prints, and a thread that
/// does not exist here may hold the lock of the output.
fn child(node: &Node, cache: &Cache<String, u32>, written: driftless::Written) -> i32 {
    let start = Instant::now();
    let checks: [&dyn Fn() -> bool; 10] = [
        &|| !node.is_running(),
        &|| matches!(cache.ready_blocking(LONG), Ready::TimedOut { waiting_for, .. } if waiting_for[0].contains("forked")),
        &|| cache.wait_replicated_blocking(written, Members::All, LONG).is_err(),
        &|| cache.wait_replicated_blocking(written, Members::Count(1), LONG).is_err_and(|error| error.unmet),
        &|| matches!(cache.wait_seen_blocking(&written.token(), LONG), Err(driftless::NotSeen::ShutDown { .. })),
        &|| node.wait_for_members_blocking(1, LONG).is_err_and(|error| error.present == 0),
        &|| cache.get("a") == Some(1),
        &|| node.cache::<u32, u32>("new").open().is_err(),
        &|| node.shutdown_blocking().is_empty() && node.shutdown_blocking().is_empty(),
        // A node that is started here runs.
        &|| {
            Node::builder().cluster("forked").start_blocking().is_ok_and(|node| {
                let runs = node.is_running() && node.cache::<u32, u32>("c").open().is_ok();
                drop(node.shutdown_blocking());
                runs
            })
        },
    ];
    let failed = checks.iter().position(|check| !check());
    let late = start.elapsed() >= LONG;
    failed.map_or(if late { 50 } else { 0 }, |number| number as i32 + 1)
}

fn main() -> ExitCode {
    if std::env::var_os(ROLE).is_some() {
        exit(parent());
    }
    let this = std::env::current_exe().expect("this program");
    let mut run = Command::new(this).env(ROLE, "1").spawn().expect("a process");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = run.try_wait().expect("its status") {
            break status;
        }
        if start.elapsed() > LONG * 3 {
            run.kill().expect("a running process");
            eprintln!("the process that forks does not end");
            return ExitCode::FAILURE;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if status.success() {
        println!("test a_forked_process_is_answered_at_once ... ok");
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "a check in the forked process failed: its number is the exit code in {status}; 50 is late, 99 is a hang"
    );
    ExitCode::FAILURE
}
