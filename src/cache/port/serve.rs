//! Implements the calls of a node to an open cache.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::{CacheStatus, NodeEvent, Pace, Parcel, Port, incoming, outgoing};
use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue, differing, tick};
use crate::hlc::{HlcTime, Now};
use crate::message::Still;
use crate::replica::{Replica, stills};
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

impl<K: CacheKey, V: CacheValue> Port for Shared<K, V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn id(&self) -> ReplicaId {
        self.services.id()
    }

    fn deliver(&self, bytes: Bytes) -> bool {
        incoming::deliver(self, bytes)
    }

    fn poll(&self) -> Option<Parcel> {
        outgoing::poll(self)
    }

    fn sent(&self, to: ReplicaId, ok: bool) {
        let now = self.services.time.now();
        self.writer.change(now, |engine| engine.replica.handle_sent(now, to, ok));
    }

    fn tick(&self) -> u64 {
        tick::tick(self)
    }

    fn digest_interval(&self) -> Duration {
        self.settings.replication.digest_interval
    }

    fn state_stills(&self, now: Now, to: &[ReplicaId]) -> Vec<Option<HlcTime>> {
        if to.is_empty() {
            Vec::new()
        } else {
            self.writer.change(now, |engine| stills::state(&mut engine.replica, now, to))
        }
    }

    fn repeatable(&self, from: ReplicaId) -> Option<HlcTime> {
        let now = self.services.time.now();
        self.writer.change(now, |engine| stills::repeatable(&mut engine.replica, now, from))
    }

    fn handle_still(&self, from: ReplicaId, still: Still) -> bool {
        let now = self.services.time.now();
        self.writer.change(now, |engine| stills::handle(&mut engine.replica, now, from, still))
    }

    fn note_still_accepted(&self, by: ReplicaId, since: HlcTime) {
        let now = self.services.time.now();
        self.writer.change(now, |engine| stills::note_accepted(&mut engine.replica, now, by, since));
    }

    fn next_visit(&self) -> u64 {
        let now = self.services.time.now();
        let next = self.writer.look(|engine| {
            let replica = &engine.replica;
            if replica.may_transmit() { now.mono } else { replica.poll_timeout(now) }
        });
        if self.writer.must_evict() { now.mono } else { next }
    }

    fn pace(&self) -> &Pace {
        &self.services.pace
    }

    fn request_visit(&self) {
        (self.services.wake)();
    }

    fn has_listener(&self) -> bool {
        self.writer.listeners.is_listening()
    }

    fn greeting(&self) -> Option<Bytes> {
        outgoing::greeting(self)
    }

    fn handle_event(&self, event: NodeEvent) {
        match event {
            NodeEvent::MemberDown(id) => change_members(self, |replica, now| replica.handle_member_down(now, id)),
            NodeEvent::MemberLeft(id) => change_members(self, |replica, now| replica.handle_member_left(now, id)),
            NodeEvent::Connected(connected) => self.connection.set_connected(connected),
            NodeEvent::AwaitsPeers(awaits) => self.writer.adjust(|engine| engine.replica.expect_peers(awaits)),
            NodeEvent::ExpectsMembers(expects) => {
                if self.connection.expect(expects) {
                    self.progress.notify(usize::MAX);
                }
            }
            NodeEvent::Stopped => {
                self.connection.detach();
                change_members(self, |replica, now| {
                    for member in replica.view().live_members() {
                        replica.handle_member_down(now, member);
                    }
                });
            }
        }
    }

    fn expects_members(&self) -> bool {
        self.connection.is_expecting()
    }

    fn has_unsent(&self) -> bool {
        !self.connection.is_detached() && self.writer.look(|engine| engine.replica.view().has_unsent())
    }

    fn count_unsent(&self) -> u64 {
        self.connection.note_unsent(self.writer.adjust(|engine| engine.replica.count_unsent()))
    }

    fn common_settings(&self) -> String {
        differing::to_text(&self.settings.common())
    }

    fn compare_settings(&self, node: (Uuid, &str), theirs: &str) -> Vec<String> {
        self.differing.compare(node, &self.settings.common(), theirs)
    }

    fn forget_settings(&self, node: Uuid) {
        self.differing.forget(node);
    }

    fn live_members(&self) -> Vec<ReplicaId> {
        self.writer.look(|engine| engine.replica.view().live_members())
    }

    fn status(&self) -> CacheStatus {
        self.writer.look(|engine| {
            let view = engine.replica.view();
            CacheStatus {
                caught_up: view.caught_up(),
                members: view.peers().map(|peer| peer.id).collect(),
                entries: view.live_len(),
            }
        })
    }
}

/// Changes the members that the replica knows, then notifies the callers that wait for members.
fn change_members<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, change: impl FnOnce(&mut Replica<K, V>, Now)) {
    let now = shared.services.time.now();
    shared.writer.change(now, |engine| change(&mut engine.replica, now));
    shared.progress.notify(usize::MAX);
}
