//! The audit of a whole key space, member by member.

use super::{InspectError, Inspector};
use crate::report::{AuditReport, AuditedMember, DiffPage};

/// Differences shown per member.
const SAMPLES: usize = 20;
/// Keys compared between two looks at the time.
const STEP: usize = 8_192;

pub(super) async fn audit(inspector: &Inspector, cache: &str) -> Result<AuditReport, InspectError> {
    inspector.port(cache)?;
    let mut report = AuditReport { cache: cache.to_owned(), members: Vec::new(), clean: true };
    for peer in inspector.peers() {
        let audited = audit_member(inspector, cache, &peer.name).await;
        report.clean &= audited.error.is_none() && audited.unexplained == 0;
        report.members.push(audited);
    }
    Ok(report)
}

async fn audit_member(inspector: &Inspector, cache: &str, member: &str) -> AuditedMember {
    let mut audited = AuditedMember { node: member.to_owned(), ..AuditedMember::default() };
    let mut cursor = None;
    loop {
        match inspector.diff(cache, member, cursor.as_deref(), STEP).await {
            Ok(page) => {
                note(&mut audited, &page);
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
