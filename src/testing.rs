//! What our own unit tests share.

use proptest::test_runner::{Config, FileFailurePersistence};

/// Keeps the seeds of failures in the top-level `proptest-regressions/`.
pub(crate) fn proptest_config() -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/proptest-regressions/unit.txt"
        )))),
        ..Config::default()
    }
}
