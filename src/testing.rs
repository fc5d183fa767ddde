//! Helpers for this crate's unit tests.

use proptest::test_runner::{Config, FileFailurePersistence};

/// Returns a configuration that stores the seeds of failures in the top-level `proptest-regressions/`.
pub(crate) fn proptest_config() -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/proptest-regressions/unit.txt"
        )))),
        ..Config::default()
    }
}
