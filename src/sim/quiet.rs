//! The capture of panics. A panic of a run is a violation and is reported once, so its own report is kept from the
//! terminal. That applies only to the thread that simulates.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

std::thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// The source location of the last panic of this thread.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Returns the result of a call. If the call panics, returns the message of the panic and its source location.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(wrap_the_hook);
    let before = QUIET.replace(true);
    PLACE.take();
    let outcome = catch_unwind(AssertUnwindSafe(call));
    QUIET.set(before);
    outcome.map_err(|panic| match PLACE.take() {
        place if place.is_empty() => text_of(&*panic),
        place => format!("{} ({place})", text_of(&*panic)),
    })
}

fn wrap_the_hook() {
    let loud = take_hook();
    set_hook(Box::new(move |panic| {
        if !QUIET.try_with(Cell::get).unwrap_or(false) {
            return loud(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = PLACE.try_with(|last| last.replace(place));
    }));
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_reported_with_its_place() {
        let told = caught(|| panic!("boom")).unwrap_err();
        assert!(told.starts_with("boom (") && told.contains("quiet.rs:"), "{told}");
        let nested = caught(|| caught(|| panic!("inside")).is_err() && QUIET.get());
        assert_eq!((nested, QUIET.get()), (Ok(true), false));
    }

    #[test]
    #[ignore = "run by the test below, in a process of its own"]
    fn panics_here_and_elsewhere() {
        let _ = caught(|| panic!("on the simulating thread"));
        let _ = std::thread::spawn(|| panic!("on another thread")).join();
        let _ = std::panic::catch_unwind(|| panic!("on this thread, later"));
    }

    #[test]
    fn only_panics_of_a_run_are_kept_from_the_terminal() {
        let program = std::env::current_exe().unwrap();
        let arguments = ["sim::quiet::tests::panics_here_and_elsewhere", "--exact", "--ignored", "--nocapture"];
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("on another thread") && printed.contains("on this thread, later"), "{printed}");
        assert!(!printed.contains("on the simulating thread"), "{printed}");
    }
}
