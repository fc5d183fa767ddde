//! Every fault and every byte, counted.

use crate::counters::counters;

counters! {
    /// Totals since the mesh started.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MeshStats of Counters {
        /// Messages dropped because the consumer was behind.
        inbox_dropped,
        /// Those of them for which there was room, but not for more from that address.
        inbox_over_share,
        /// Membership datagrams and connections dropped because memberlist was behind.
        membership_dropped,
        /// Messages whose trailer was not ours.
        malformed_messages,
        /// Inbound connections refused because the table was full of busy ones.
        refused_connections,
        /// Inbound connections without a header, closed to make room.
        shed_connections,
        /// Connections of an address that had its share, refused, or let in in place of another of its own.
        crowded_connections,
        /// Frames not read because their address had its share of what is being read.
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
        /// Datagrams that none of our keys opens.
        undecipherable,
        /// Frames or datagrams that are not the protocol.
        malformed_frames,
        /// Frames above the limit, refused before anything was allocated.
        oversize_frames,
        /// Members whose metadata is not ours.
        refused_members,
        /// Two processes under one name.
        name_conflicts,
        /// Accept or receive calls that failed.
        socket_errors,
        /// Membership rebuilt in place.
        rebuilds,
        /// Rebuilds that failed and will be tried again.
        rebuild_failures,
        /// Background tasks that died and were restarted.
        task_restarts,
        /// Attempts to join an absent seed or a lost member.
        join_attempts,
        /// Those that failed.
        join_failures,
        /// Seeds whose name did not resolve.
        resolve_failures,
        /// Sends that failed or passed their deadline.
        send_failures,
        /// Datagrams handed to the kernel, membership traffic included.
        datagrams_out,
        /// Their bytes.
        datagram_bytes_out,
        /// Datagrams received, membership traffic included.
        datagrams_in,
        /// Their bytes.
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
