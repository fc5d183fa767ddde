//! The audit of a whole key space, member by member.
//!
//! This module finds differences by comparing marks. Differences without a reason go to the protocol, whose own audit
//! compares both registers at one instant and assigns a new dot to the winner.

use super::{InspectError, Inspector};
use crate::report::{AuditReport, AuditedMember, DiffPage};

/// The maximum number of differences listed for each member.
const SAMPLES: usize = 20;
/// The number of keys requested from each call of `diff`.
const STEP: usize = 8_192;

/// The treatment of differences without a reason.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    /// The protocol compares them, and repairs conflicts.
    Yes,
    /// They are reported only.
    No,
}

pub(super) async fn audit(inspector: &Inspector, cache: &str, mend: Mend) -> Result<AuditReport, InspectError> {
    inspector.port(cache)?;
    let mut report = AuditReport { cache: cache.to_owned(), members: Vec::new(), clean: true };
    for peer in inspector.peers() {
        let audited = audit_member(inspector, cache, &peer.name, mend).await;
        report.clean &= audited.error.is_none() && audited.unexplained == 0;
        report.members.push(audited);
    }
    Ok(report)
}

async fn audit_member(inspector: &Inspector, cache: &str, member: &str, mend: Mend) -> AuditedMember {
    let mut audited = AuditedMember { node: member.to_owned(), ..AuditedMember::default() };
    let mut cursor = None;
    loop {
        match inspector.diff(cache, member, cursor.as_deref(), STEP).await {
            Ok(page) => {
                note(&mut audited, &page);
                if mend == Mend::Yes {
                    audited.handed_over += hand_over(inspector, cache, &page);
                }
                cursor = page.next;
            }
            Err(error) => {
                audited.error = Some(error.to_string());
                return audited;
            }
        }
        if cursor.is_none() {
            return audited;
        }
    }
}

/// Passes differences without a reason to the protocol. Returns the number of keys that the protocol will compare.
fn hand_over(inspector: &Inspector, cache: &str, page: &DiffPage) -> u64 {
    let suspects: Vec<_> =
        page.differences.iter().filter(|found| found.reason.is_none()).map(|found| found.raw.clone()).collect();
    match (inspector.port(cache), page.replica) {
        (Ok(port), Some(with)) if !suspects.is_empty() => port.audit_keys(with, &suspects) as u64,
        _ => 0,
    }
}

fn note(audited: &mut AuditedMember, page: &DiffPage) {
    audited.examined += page.examined;
    for found in &page.differences {
        if found.reason.is_some() {
            audited.explained += 1;
        } else {
            audited.unexplained += 1;
        }
        if audited.samples.len() < SAMPLES {
            audited.samples.push(found.clone());
        }
    }
}
