//! driftless
