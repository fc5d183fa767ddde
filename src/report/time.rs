//! Times in a form for human readers.

use crate::hlc::HlcTime;

/// Formats a time as RFC 3339 in UTC, with nanoseconds: stamps differ by nanoseconds. Zero is `never`.
pub(crate) fn readable(time: HlcTime) -> String {
    if time == 0 {
        return NEVER.into();
    }
    let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Formats a time as [`readable`] does, but to hundredths of a second.
pub(crate) fn readable_to_hundredths(time: HlcTime) -> String {
    let mut text = readable(time);
    if let Some(at) = text.find('.') {
        text.replace_range(at + 3.., "Z");
    }
    text
}

/// The text of an unknown time. No stamp has the time zero.
pub(super) const NEVER: &str = "never";

/// Formats a span of milliseconds in a unit that suits its length.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Returns the date of a day, counted from 1970-01-01.
///
/// Source: Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let told = [0, 999, 1_000, 11_420, 59_999, 60_000, 7_199_999, 7_200_000].map(span);
        assert_eq!(told, ["0 ms", "999 ms", "1.0 s", "11.4 s", "59.9 s", "1 min", "119 min", "2 h"]);
    }

    #[test]
    fn known_dates() {
        assert_eq!(readable(0), "never");
        assert_eq!(readable(1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(readable(951_782_400 * 1_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(readable(1_767_225_599_000_000_000), "2025-12-31T23:59:59.000000000Z");
    }
}
