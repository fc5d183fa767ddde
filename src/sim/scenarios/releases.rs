//! Tests with processes of two releases in one cluster.

use super::stage::Stage;
use crate::sim::action::Action;

/// Checks that writes return unchanged through a process of another release, which cannot decode some of the keys and
/// values.
#[test]
fn what_a_process_cannot_read_passes_through_it_whole() {
    let mut stage = Stage::new(|settings| settings.other_types = true);
    let written: Vec<_> = (0..20).map(|key| stage.write(0, key)).collect();
    stage.wait(2_000);
    let items = |stage: &Stage, node: usize| -> Vec<_> {
        let opening = stage.cluster.processes[node].open[0].expect("open");
        (0..20).filter_map(|key| stage.cluster.held(opening, key)).map(|held| held.item).collect()
    };
    let unread = items(&stage, 1);
    let keys = unread.iter().filter(|item| item.key.known().is_none()).count();
    let values = unread.iter().filter(|item| item.value().is_none()).count();
    assert!(keys >= 3 && values >= 3 && keys < 17 && values < 17, "{keys} keys and {values} values are unread");
    assert!(items(&stage, 2).iter().all(|item| item.key.known().is_some() && item.value().is_some()));
    stage.agree();

    // All processes that could read them crash, and new ones join. Only the second process still holds the writes.
    stage.isolate(1);
    [0, 2].into_iter().for_each(|node| stage.crash(node));
    stage.wait(30_000);
    [0, 0].into_iter().for_each(|_| stage.act(Action::Join));
    stage.heal();
    stage.wait(20_000);
    let readers: Vec<_> = stage.nodes().into_iter().filter(|node| node % 2 == 0).collect();
    assert!(!readers.is_empty());
    for (key, value) in (0..20).zip(&written) {
        readers.iter().for_each(|&node| assert_eq!(stage.get(node, key), Some(*value), "key {key} on n{node}"));
    }
}
