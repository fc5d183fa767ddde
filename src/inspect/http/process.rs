//! The metrics of the process, under the names that client libraries of Prometheus use. Only Linux has them here.

use crate::report::vocabulary::Family;

#[cfg(not(target_os = "linux"))]
pub(super) fn metrics() -> Vec<Family> {
    Vec::new()
}

#[cfg(target_os = "linux")]
pub(super) fn metrics() -> Vec<Family> {
    linux::read().unwrap_or_default()
}

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::{LimitValue, Process};
    use procfs::{ProcResult, WithCurrentSystemInfo, boot_time_secs, ticks_per_second};

    use crate::report::vocabulary::{Family, Metric, MetricKind, Reading, Series};

    fn one(name: &'static str, help: &'static str, value: f64) -> Family {
        let kind = if name.ends_with("_total") { MetricKind::Counter } else { MetricKind::Gauge };
        let series = vec![Series { labels: Vec::new(), reading: Reading::Value(value) }];
        Family { metric: Metric { name, help, kind }, series }
    }

    pub(super) fn read() -> ProcResult<Vec<Family>> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = ticks_per_second() as f64;
        let started = boot_time_secs()? as f64 + stat.starttime as f64 / ticks;
        let cpu = (stat.utime + stat.stime) as f64 / ticks;
        let mut found = vec![
            one("process_cpu_seconds_total", "Processor time of the process.", cpu),
            one("process_resident_memory_bytes", "Resident memory of the process.", stat.rss_bytes().get() as f64),
            one("process_virtual_memory_bytes", "Virtual memory of the process.", stat.vsize as f64),
            one("process_start_time_seconds", "Start of the process, in seconds since 1970.", started),
            one("process_open_fds", "Open file descriptors of the process.", process.fd_count()? as f64),
            one("process_threads", "Threads of the process.", stat.num_threads as f64),
        ];
        if let LimitValue::Value(limit) = process.limits()?.max_open_files.soft_limit {
            found.push(one("process_max_fds", "The most file descriptors that the process may open.", limit as f64));
        }
        Ok(found)
    }
}
