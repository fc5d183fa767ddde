//! The counters of a mesh: every fault and every byte.

use crate::counters::counters;

counters! {
    /// Totals since the mesh started.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MeshStats of Counters {
        /// Messages dropped because the consumer was behind, or because their address had its share.
        inbox_dropped,
        /// Messages dropped although there was room, because their address had its share.
        inbox_over_share,
        /// Membership datagrams and connections dropped because memberlist was behind.
        membership_dropped,
        /// Messages with an unknown or unexpected trailer.
        malformed_messages,
        /// Inbound connections refused because no place was free and no other connection could yield.
        refused_connections,
        /// Inbound connections without a header, closed to make room.
        shed_connections,
        /// Connections of an address that had its share: refused, or admitted in place of an older connection of it.
        crowded_connections,
        /// Frames not read because their address had its share of the bytes being read, or because no bytes were left.
        crowded_frames,
        /// Inbound connections closed because no complete header came in time.
        header_timeouts,
        /// Connections closed because they outlived their deadline.
        deadline_kills,
        /// Inbound connections that ended or failed in the middle of a frame.
        broken_streams,
        /// Frames or datagrams of another cluster.
        foreign_label,
        /// Unencrypted frames or datagrams while a key is set.
        refused_plaintext,
        /// Datagrams and frames that no current key decrypts.
        undecipherable,
        /// Frames or datagrams that violate the wire format.
        malformed_frames,
        /// Frames above the limit, refused before anything was allocated.
        oversize_frames,
        /// Members refused because of foreign metadata, or because there were too many.
        refused_members,
        /// Reports of two processes under one name.
        name_conflicts,
        /// Accept or receive calls that failed.
        socket_errors,
        /// Rebuilds of membership in place.
        rebuilds,
        /// Rebuilds that failed and will be tried again.
        rebuild_failures,
        /// Background tasks that died and were restarted.
        task_restarts,
        /// Attempts to join an unreachable seed, a lost member, or after a rebuild a live one.
        join_attempts,
        /// Attempts to join that failed.
        join_failures,
        /// Seeds whose name did not resolve.
        resolve_failures,
        /// Sends that failed or passed their deadline.
        send_failures,
        /// Datagrams handed to the kernel, membership traffic included.
        datagrams_out,
        /// Bytes of the datagrams handed to the kernel.
        datagram_bytes_out,
        /// Datagrams received, membership traffic included.
        datagrams_in,
        /// Bytes of the datagrams received.
        datagram_bytes_in,
        /// Connections opened.
        streams_out,
        /// Bytes written to connections.
        stream_bytes_out,
        /// Connections accepted.
        streams_in,
        /// Bytes read from connections.
        stream_bytes_in,
        /// Messages delivered to the consumer's inbox.
        messages_in,
        /// Membership changes seen.
        member_changes,
    }
}
