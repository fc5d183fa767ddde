//! The checks that tower-sessions makes of its own stores, and both kinds of expiry, on real nodes.

mod common;

use std::time::Duration;

use common::{SOON, eventually, nodes, record, stores};
use driftless_tower_sessions::DriftlessStore;
use time::OffsetDateTime;
use tower_sessions::session::Id;
use tower_sessions::{CachingSessionStore, Expiry, Session, SessionStore};

#[tokio::test]
async fn a_created_session_is_loaded_on_every_node() {
    let nodes = nodes(2).await;
    let stores = stores(&nodes).await;
    let mut record = record(Duration::from_secs(1_800));
    record.data.insert("user".into(), "ann".into());
    record
        .data
        .insert("cart".into(), serde_json::json!({ "items": [1, 2.5, null, u64::MAX, i64::MIN], "ä": "\u{1F9FA}" }));
    stores[0].create(&mut record).await.unwrap();
    for store in &stores {
        eventually(async || store.load(&record.id).await.unwrap().as_ref() == Some(&record)).await;
    }
}

#[tokio::test]
async fn create_draws_a_new_id_instead_of_overwriting_a_session_or_a_revocation() {
    let nodes = nodes(1).await;
    let store = &stores(&nodes).await[0];
    let mut first = record(SOON);
    first.data.insert("user".into(), "ann".into());
    store.create(&mut first).await.unwrap();
    let mut second = record(SOON);
    second.id = first.id;
    store.create(&mut second).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(store.load(&first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.load(&second.id).await.unwrap(), Some(second));
    store.delete(&first.id).await.unwrap();
    let mut third = record(SOON);
    third.id = first.id;
    store.create(&mut third).await.unwrap();
    assert_ne!(first.id, third.id, "an id that was logged out is not used again");
    assert_eq!(store.session_count(), 2);
}

#[tokio::test]
async fn a_session_is_saved_and_deleted_everywhere() {
    let nodes = nodes(2).await;
    let stores = stores(&nodes).await;
    let mut record = record(SOON);
    stores[0].save(&record).await.unwrap(); // without `create`, as `CachingSessionStore` does
    eventually(async || stores[1].load(&record.id).await.unwrap().is_some()).await;
    record.data.insert("visits".into(), 2.into());
    stores[1].save(&record).await.unwrap();
    eventually(async || stores[0].load(&record.id).await.unwrap().as_ref() == Some(&record)).await;
    stores[1].delete(&record.id).await.unwrap();
    // The deletion has waited for the first node.
    for store in &stores {
        assert_eq!(store.load(&record.id).await.unwrap(), None);
    }
    assert_eq!(stores[0].load(&Id::default()).await.unwrap(), None);
}

/// Checks that a save by a request that loaded the session before its logout stores nothing, on any node.
#[tokio::test]
async fn a_save_after_a_deletion_brings_nothing_back() {
    let nodes = nodes(2).await;
    let stores = stores(&nodes).await;
    let mut record = record(SOON);
    stores[0].create(&mut record).await.unwrap();
    stores[1].delete(&record.id).await.unwrap();
    for store in &stores {
        store.save(&record).await.unwrap();
        assert_eq!(store.load(&record.id).await.unwrap(), None);
        eventually(async || store.session_count() == 0).await;
    }
    stores[0].delete(&record.id).await.unwrap();
    let (known, unknown) = stores[0].revocation_count();
    assert_eq!(known + unknown, 1, "a second deletion adds nothing");
}

#[tokio::test]
async fn revocations_of_made_up_ids_are_bounded() {
    let nodes = nodes(1).await;
    let store = DriftlessStore::builder(&nodes[0]).max_unknown_ids(100).open().unwrap();
    for id in 0..1_000 {
        store.delete(&Id(id)).await.unwrap();
    }
    let (known, unknown) = store.revocation_count();
    assert!(known == 0 && unknown <= 100, "{known}, {unknown}");
    let mut record = record(SOON);
    store.create(&mut record).await.unwrap();
    store.delete(&record.id).await.unwrap();
    assert_eq!(store.revocation_count().0, 1, "a session that was here is no unknown id");
}

#[tokio::test]
async fn sessions_expire_at_their_date_on_every_node() {
    let nodes = nodes(2).await;
    let stores = stores(&nodes).await;
    let mut short = record(Duration::from_millis(400));
    let mut past = record(SOON);
    past.expiry_date = OffsetDateTime::now_utc() - time::Duration::SECOND;
    stores[0].create(&mut short).await.unwrap();
    stores[0].create(&mut past).await.unwrap();
    assert_eq!(stores[0].load(&past.id).await.unwrap(), None);
    eventually(async || {
        stores[1].load(&short.id).await.unwrap().is_some() || short.expiry_date < OffsetDateTime::now_utc()
    })
    .await;
    for store in &stores {
        eventually(async || store.load(&short.id).await.unwrap().is_none()).await;
        assert!(OffsetDateTime::now_utc() >= short.expiry_date - time::Duration::SECOND);
    }
    // A session that is given an expiry in the past is ended.
    let mut ended = record(SOON);
    stores[0].create(&mut ended).await.unwrap();
    stores[1].save(&past).await.unwrap();
    ended.expiry_date = past.expiry_date;
    stores[1].save(&ended).await.unwrap();
    assert_eq!(stores[0].load(&ended.id).await.unwrap(), None);
}

/// Checks both kinds of expiry through tower-sessions: inactivity is counted from the last save, a date is not.
#[tokio::test]
async fn inactivity_is_extended_by_a_save_and_a_date_is_not() {
    let nodes = nodes(2).await;
    let stores = stores(&nodes).await;
    let [here, there] = [&stores[0], &stores[1]].map(|store| std::sync::Arc::new(store.clone()));
    let idle = Expiry::OnInactivity(time::Duration::minutes(30));
    let date = OffsetDateTime::now_utc() + time::Duration::minutes(30);
    for (expiry, moves) in [(idle, true), (Expiry::AtDateTime(date), false)] {
        let session = Session::new(None, here.clone(), Some(expiry));
        session.insert("user", "ann").await.unwrap();
        session.save().await.unwrap();
        let id = session.id().unwrap();
        eventually(async || there.load(&id).await.unwrap().is_some()).await;
        let before = there.load(&id).await.unwrap().unwrap().expiry_date;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let again = Session::new(Some(id), there.clone(), Some(expiry));
        assert_eq!(again.get::<String>("user").await.unwrap().as_deref(), Some("ann"));
        again.save().await.unwrap();
        let after = there.load(&id).await.unwrap().unwrap().expiry_date;
        assert_eq!(after > before, moves, "{expiry:?}");
        assert!(moves || after == date);
    }
}

/// Checks the store as the front of a slower one: a miss is loaded from there and saved here, except after a logout.
#[tokio::test]
async fn it_works_in_front_of_a_store_and_a_late_hydration_brings_nothing_back() {
    let nodes = nodes(2).await;
    let stores = stores(&nodes).await;
    let behind = common::Naive::open(&nodes[0]);
    let fronts = [0, 1].map(|n| CachingSessionStore::new(stores[n].clone(), behind.clone()));
    let mut record = record(SOON);
    behind.create(&mut record).await.unwrap();
    assert_eq!(fronts[1].load(&record.id).await.unwrap(), Some(record.clone()));
    assert_eq!(stores[1].load(&record.id).await.unwrap(), Some(record.clone()), "the cache was filled");
    fronts[0].delete(&record.id).await.unwrap();
    stores[1].save(&record).await.unwrap(); // a node that had read the row before the logout
    for store in &stores {
        assert_eq!(store.load(&record.id).await.unwrap(), None);
    }
}
