//! The use of the machine by this process, from the files of Linux under `/proc`. Other systems report nothing here.

/// The ticks of a second in `/proc/self/stat`: the same on every architecture that Rust supports.
const TICKS: u64 = 100;

/// The processor time of this process and its resident memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu_ms: Option<u64>,
    pub(super) rss_bytes: Option<u64>,
}

/// Reads the usage of this process.
pub(super) fn usage() -> Usage {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    Usage { cpu_ms: cpu_ms(&read("/proc/self/stat")), rss_bytes: rss_bytes(&read("/proc/self/status")) }
}

/// Returns the sum of user and system time. The name of the program comes before them, in parentheses, and may have
/// spaces.
fn cpu_ms(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * 1_000 / TICKS)
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 9 0 5 6 7";
        assert_eq!(cpu_ms(stat), Some(2_810));
        assert_eq!(rss_bytes("VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\nThreads:\t1\n"), Some(1_263_616));
        assert_eq!((cpu_ms("7 (a) S 1"), rss_bytes("VmRSS: many")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        assert!(usage().rss_bytes.is_some_and(|bytes| bytes > 100_000) && usage().cpu_ms.is_some());
    }
}
