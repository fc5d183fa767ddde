//! The seeds that a simulation runs: those that its builder names, or those that the environment asks for instead. A
//! run of no seeds would be reported as a run without a fault, so it is an error.

use std::ops::{Range, RangeInclusive};

/// The environment variable that runs one seed and reports all events of its shrunk script.
pub(super) const SEED: &str = "DRIFTLESS_SEED";
/// The environment variable that sets the number of seeds.
pub(super) const SEEDS: &str = "DRIFTLESS_SEEDS";

/// The seeds that the builder of a simulation names.
#[derive(Clone, Debug)]
pub(super) enum Seeds {
    Range(Range<u64>),
    One(u64),
}

/// The seeds that are run in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) seeds: RangeInclusive<u64>,
    /// True if the environment asks for this one seed: all its events are reported.
    pub(super) alone: bool,
}

impl Seeds {
    /// Returns the seeds to run, after the environment was read.
    pub(super) fn choose(&self) -> Result<Chosen, String> {
        let text = |name| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
        self.choose_with(text(SEED).as_deref(), text(SEEDS).as_deref())
    }

    fn choose_with(&self, seed: Option<&str>, seeds: Option<&str>) -> Result<Chosen, String> {
        let (seed, count) = (number(SEED, seed)?, number(SEEDS, seeds)?);
        if let Some(seed) = seed {
            return Ok(Chosen { seeds: seed..=seed, alone: true });
        }
        let seeds = match (count, self) {
            (Some(0), _) => {
                return Err(format!(
                    "{SEEDS}=0 runs nothing: set it to the number of seeds to run, at least 1, or unset it"
                ));
            }
            (Some(count), _) => self.first()..=self.first().saturating_add(count - 1),
            (None, Self::One(seed)) => *seed..=*seed,
            (None, Self::Range(Range { start, end })) if start < end => *start..=end - 1,
            (None, Self::Range(range)) => {
                return Err(format!("seeds({range:?}) is empty and runs nothing: the end of the range must be larger"));
            }
        };
        Ok(Chosen { seeds, alone: false })
    }

    fn first(&self) -> u64 {
        match self {
            Self::Range(range) => range.start,
            Self::One(seed) => *seed,
        }
    }
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, String> {
    let Some(text) = text else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|error| {
        format!("{name}={text} is not a seed or a number of seeds: {error}. Set it to decimal digits only, or unset it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(seeds: Seeds, seed: Option<&str>, count: Option<&str>) -> Result<(RangeInclusive<u64>, bool), String> {
        seeds.choose_with(seed, count).map(|chosen| (chosen.seeds, chosen.alone))
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        for text in ["abc", "-1", "0x11", "", " ", "1e3", "1_000", "18446744073709551616"] {
            let seed = chosen(Seeds::Range(0..64), Some(text), None).unwrap_err();
            assert!(seed.starts_with(&format!("DRIFTLESS_SEED={text} ")) && seed.contains("unset it"), "{seed}");
            let count = chosen(Seeds::Range(0..64), Some("3"), Some(text)).unwrap_err();
            assert!(count.starts_with(&format!("DRIFTLESS_SEEDS={text} ")), "{count}");
        }
        assert!(chosen(Seeds::Range(0..64), None, Some("0")).unwrap_err().contains("at least 1"));
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges)]
    fn no_seed_at_all_is_refused() {
        for range in [5..5, 10..5, u64::MAX..u64::MAX, 0..0] {
            let error = chosen(Seeds::Range(range.clone()), None, None).unwrap_err();
            assert!(error.contains(&format!("seeds({range:?}) is empty")), "{error}");
        }
    }

    #[test]
    fn every_seed_runs_as_itself() {
        let last = u64::MAX;
        assert_eq!(chosen(Seeds::One(last), None, None), Ok((last..=last, false)));
        assert_eq!(chosen(Seeds::Range(0..64), Some(" 18446744073709551615\n"), None), Ok((last..=last, true)));
        assert_eq!(chosen(Seeds::Range(3..64), None, None), Ok((3..=63, false)));
        assert_eq!(chosen(Seeds::Range(3..64), None, Some("10")), Ok((3..=12, false)));
        assert_eq!(chosen(Seeds::One(last), None, Some("10")), Ok((last..=last, false)));
        assert_eq!(chosen(Seeds::Range(3..64), Some("17"), Some("10")), Ok((17..=17, true)));
    }
}
