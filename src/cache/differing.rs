//! The settings that differ: those of later openings of the cache on this node, and those of other nodes.
//!
//! Nodes exchange their settings as text, a line `name=value` for each setting that should be the same on all of them. A
//! line with a name that is unknown here is of a newer release, and is skipped.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::report::SettingsDiffer;
use crate::sync::Mutex;

/// The most nodes and the most bytes of a value that are remembered.
const MOST_NODES: usize = 64;
const MOST_SHOWN: usize = 40;

/// The settings that differ from those of this cache, by the process that has them. `None` stands for this process.
#[derive(Debug, Default)]
pub(super) struct Differing(Mutex<BTreeMap<Option<Uuid>, SettingsDiffer>>);

impl Differing {
    /// Records the differences of a later opening on this node.
    pub(super) fn note_opening(&self, differences: Vec<String>) {
        self.0.lock().insert(None, SettingsDiffer::of(None, differences));
    }

    /// Compares the settings of another node with those of this cache, and records the differences. Returns those that
    /// were not known before.
    pub(super) fn compare(&self, (node, name): (Uuid, &str), ours: &[Setting], theirs: &str) -> Vec<String> {
        let differences: Vec<_> = differing(ours, &parse(theirs))
            .map(|(setting, here, there)| format!("{setting} is {here} here and {there} there"))
            .collect();
        let mut all = self.0.lock();
        if differences.is_empty() {
            all.remove(&Some(node));
            return differences;
        }
        let new = SettingsDiffer::of(Some(name.to_owned()), differences.clone());
        if all.get(&Some(node)) == Some(&new) || (all.len() >= MOST_NODES && !all.contains_key(&Some(node))) {
            return Vec::new();
        }
        all.insert(Some(node), new);
        differences
    }

    /// Forgets a process that has departed.
    pub(super) fn forget(&self, node: Uuid) {
        self.0.lock().remove(&Some(node));
    }

    /// Returns all differences, this node's openings first.
    pub(super) fn all(&self) -> Vec<SettingsDiffer> {
        self.0.lock().values().cloned().collect()
    }
}

/// The name of a setting and its value as text.
pub(crate) type Setting = (String, String);

/// Returns the settings that both lists have with different values: the name, the first value, the second.
pub(super) fn differing<'a>(
    ours: &'a [Setting],
    theirs: &'a [Setting],
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    ours.iter().filter_map(|(name, here)| {
        let (_, there) = theirs.iter().find(|(other, _)| other == name)?;
        (here != there).then_some((name.as_str(), here.as_str(), there.as_str()))
    })
}

/// Writes settings as they are sent to other nodes.
pub(in crate::cache) fn to_text(settings: &[Setting]) -> String {
    settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Reads what another node has sent. Its values are shown to people, so they are shortened and have no control
/// characters.
fn parse(text: &str) -> Vec<Setting> {
    let shown = |value: &str| value.chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect::<String>();
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), shown(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn differences_are_told_once_and_forgotten_with_their_node() {
        let (differing, node) = (Differing::default(), Uuid::from_u128(1));
        let ours = settings(&[("max_key_bytes", "10"), ("replication.max_drift", "1s")]);
        let compare = |theirs: &str| differing.compare((node, "b"), &ours, theirs);
        assert!(compare(&to_text(&ours)).is_empty() && differing.all().is_empty());
        let theirs = "max_key_bytes=20\nreplication.max_drift=1s\nof_a_newer_release=1\nnonsense";
        assert_eq!(compare(theirs), ["max_key_bytes is 10 here and 20 there"]);
        assert!(compare(theirs).is_empty(), "told once");
        differing.note_opening(vec!["time_to_live is none, not 1s".into()]);
        let names: Vec<_> = differing.all().into_iter().map(|it| it.node).collect();
        assert_eq!(names, [None, Some("b".to_owned())]);
        assert!(compare(&to_text(&ours)).is_empty());
        assert_eq!(differing.all().len(), 1, "the node has the same settings now");
        compare(theirs);
        differing.forget(node);
        assert_eq!(differing.all().len(), 1);
    }

    #[test]
    fn what_another_node_sends_is_bounded() {
        let differing = Differing::default();
        let ours = settings(&[("a", "1")]);
        let long = format!("a=\u{1b}[31m{}", "x".repeat(10_000));
        for node in 0..1_000 {
            differing.compare((Uuid::from_u128(node), "n"), &ours, &long);
        }
        let all = differing.all();
        assert_eq!(all.len(), MOST_NODES);
        assert!(all.iter().flat_map(|it| &it.differences).all(|text| text.len() < 100 && !text.contains('\u{1b}')));
    }
}
