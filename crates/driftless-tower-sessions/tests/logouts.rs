//! A thousand logouts while two further nodes save the same sessions as fast as they can.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Naive, SOON, eventually, nodes, record, stores};
use tower_sessions::SessionStore;
use tower_sessions::session::Id;

const LOGOUTS: usize = 1_000;
/// The sessions that are used at one time.
const AT_ONCE: usize = 20;

/// Logs sessions in on the first node and out on the third, while the first two load and save them. A node saves only
/// what it has loaded, as tower-sessions does. Returns the ids and the number of saves.
async fn log_out<S: SessionStore + Clone>(stores: &[S]) -> (Vec<Id>, usize) {
    let saves = Arc::new(AtomicUsize::new(0));
    let mut ids = Vec::new();
    for _ in 0..LOGOUTS / AT_ONCE {
        let mut batch = Vec::new();
        for _ in 0..AT_ONCE {
            let mut record = record(SOON);
            stores[0].create(&mut record).await.unwrap();
            batch.push(record.id);
        }
        for id in &batch {
            eventually(async || stores[2].load(id).await.unwrap().is_some()).await;
        }
        let ends = Arc::new(AtomicBool::new(false));
        let savers: Vec<_> = stores[..2]
            .iter()
            .map(|store| tokio::spawn(save_without_end(store.clone(), batch.clone(), ends.clone(), saves.clone())))
            .collect();
        let before = saves.load(Ordering::Relaxed);
        eventually(async || saves.load(Ordering::Relaxed) > before + AT_ONCE).await;
        for id in &batch {
            stores[2].delete(id).await.unwrap();
        }
        ends.store(true, Ordering::Relaxed);
        for saver in savers {
            saver.await.unwrap();
        }
        ids.extend(batch);
    }
    (ids, saves.load(Ordering::Relaxed))
}

async fn save_without_end<S: SessionStore>(store: S, ids: Vec<Id>, ends: Arc<AtomicBool>, saves: Arc<AtomicUsize>) {
    for round in 0_u64.. {
        for id in &ids {
            if let Some(mut record) = store.load(id).await.unwrap() {
                record.data.insert("round".into(), round.into());
                tokio::task::yield_now().await; // the handler of a request
                store.save(&record).await.unwrap();
                saves.fetch_add(1, Ordering::Relaxed);
            }
        }
        if ends.load(Ordering::Relaxed) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_logouts_under_load_no_session_comes_back() {
    let nodes = nodes(3).await;
    let stores = stores(&nodes).await;
    let (ids, saves) = log_out(&stores).await;
    assert_eq!(ids.len(), LOGOUTS);
    let mut alive = 0;
    for _ in 0..2 {
        for store in &stores {
            for id in &ids {
                alive += usize::from(store.load(id).await.unwrap().is_some());
                // A request that loaded the session before its logout, and ends after it.
                let mut late = record(SOON);
                late.id = *id;
                store.save(&late).await.unwrap();
                alive += usize::from(store.load(id).await.unwrap().is_some());
            }
        }
    }
    println!("{LOGOUTS} logouts, {saves} concurrent saves: {alive} sessions came back");
    assert_eq!(alive, 0);
    for store in &stores {
        eventually(async || store.session_count() == 0).await;
    }
}

/// Checks that the load of the test above brings sessions back if a logout is a delete only.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_delete_alone_sessions_come_back() {
    let nodes = nodes(3).await;
    let stores: Vec<_> = nodes.iter().map(Naive::open).collect();
    for store in &stores {
        store.ready().await;
    }
    let (ids, saves) = log_out(&stores).await;
    let mut alive = 0;
    for id in &ids {
        alive += usize::from(stores[2].load(id).await.unwrap().is_some());
    }
    println!("{LOGOUTS} logouts, {saves} concurrent saves, no revocations: {alive} sessions came back");
    assert!(alive > 0, "the load saves no session at the moment of its logout");
}
