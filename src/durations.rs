//! The format of times in configuration: `"500ms"`, `"30s"`, `"15m"`, `"2h"`, `"7d"`.
//!
//! Formats that are not human-readable contain seconds and nanoseconds, in the form that `serde` defines.

use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The units with their nanoseconds, the largest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

fn write(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let unit = UNITS.iter().find(|(_, size)| nanos.is_multiple_of(*size));
    unit.map_or_else(|| format!("{nanos}ns"), |(name, size)| format!("{}{name}", nanos / size))
}

fn read(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    let nanos = number.parse::<u128>().ok()?.checked_mul(*size)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
}

/// Writes a time, for `#[serde(with = "..")]`.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() { write(*duration).serialize(serializer) } else { duration.serialize(serializer) }
}

/// Reads a time, for `#[serde(with = "..")]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    if !deserializer.is_human_readable() {
        return Duration::deserialize(deserializer);
    }
    deserializer.deserialize_any(Time)
}

/// Reads a time from text. Refuses a bare number with the text to write instead: it would not say which unit it means.
struct Time;

impl Visitor<'_> for Time {
    type Value = Duration;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a time with its unit, such as \"500ms\" or \"600s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        read(text).ok_or_else(|| match text.trim().parse::<u64>() {
            Ok(number) => without_unit(number),
            Err(_) => E::custom(format!(
                "`{text}` is not a time: write a whole number and ns, us, ms, s, m, h or d, such as \"500ms\""
            )),
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
        Err(without_unit(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
        Err(without_unit(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Duration, E> {
        Err(E::custom(format!("{number} is not a time: write a whole number with its unit, such as \"1500ms\"")))
    }
}

fn without_unit<E: Error>(number: impl std::fmt::Display) -> E {
    E::custom(format!("{number} is not a time: write it with its unit, such as \"{number}s\" or \"{number}ms\""))
}

/// The same format for optional times.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Shown(#[serde(with = "super")] Duration);

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(Shown).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Shown>::deserialize(deserializer)?.map(|Shown(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for nanos in [0, 1, 999, 1_000, 1_500_000, 30_000_000_000, 90_000_000_000, 86_400_000_000_000, u64::MAX] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(read(&write(duration)), Some(duration), "{}", write(duration));
        }
        assert_eq!(write(Duration::from_secs(90)), "90s");
        assert_eq!(read(" 15 m "), Some(Duration::from_secs(900)));
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_what_to_write() {
        #[derive(Debug, Deserialize)]
        struct Settings {
            #[serde(with = "option", default)]
            time_to_live: Option<Duration>,
            #[serde(with = "super", default)]
            every: Duration,
        }
        let read = serde_json::from_str::<Settings>;
        let error = |text| read(text).unwrap_err().to_string();
        let said = error(r#"{ "time_to_live": 600 }"#);
        assert!(said.starts_with(r#"600 is not a time: write it with its unit, such as "600s" or "600ms""#), "{said}");
        for (text, fix) in [
            (r#"{ "every": 30 }"#, r#""30s""#),
            (r#"{ "every": "30" }"#, r#""30s""#),
            (r#"{ "every": 1.5 }"#, r#""1500ms""#),
            (r#"{ "every": -1 }"#, "-1 is not a time"),
            (r#"{ "every": true }"#, r#"expected a time with its unit, such as "500ms" or "600s""#),
            (r#"{ "every": "soon" }"#, "`soon` is not a time"),
        ] {
            assert!(error(text).contains(fix), "{text}: {}", error(text));
        }
        let read = read(r#"{ "time_to_live": "10m", "every": "1s" }"#).unwrap();
        assert_eq!((read.time_to_live, read.every), (Some(Duration::from_secs(600)), Duration::from_secs(1)));
        assert_eq!(serde_json::from_str::<Settings>(r#"{ "time_to_live": null }"#).unwrap().time_to_live, None);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "s", "10", "-1s", "1.5s", "1 year", "99999999999999999999999999999999999999999d"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
