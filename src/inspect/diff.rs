//! Comparison of two nodes key by key, in pages, without values.
//!
//! First the keys that are live on this node are looked up on the member. Then the keys that are live on the member are
//! looked up on this node. The two sides are not read at one instant, so a difference without a reason is compared
//! again after a delay.

use std::sync::Arc;
use std::time::Duration;

use super::{InspectError, Inspector};
use crate::cache::port::Port;
use crate::node::inquiry::MAX_KEYS;
use crate::node::mesh::Peer;
use crate::node::questions::{Ask, Reply};
use crate::report::{DiffPage, Difference, DifferenceKind, Mark, Marks, State, explain_difference};

/// The delay before a second comparison, in which writes in transit can arrive.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// The number of differences at which a page ends. The step that reaches it is completed, so a page may have more.
const MAX_DIFFERENCES: usize = 1_000;

/// The position of a comparison.
#[derive(Clone, Copy)]
enum Cursor {
    /// A walk over the keys of this node.
    Here(u64),
    /// A walk over the keys of the member.
    There(u64),
}

impl Cursor {
    const START: Self = Self::Here(0);

    fn write(self) -> String {
        match self {
            Self::Here(at) => format!("h{at}"),
            Self::There(at) => format!("t{at}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let at = text.get(1..)?.parse().ok()?;
        match text.get(..1)? {
            "h" => Some(Self::Here(at)),
            "t" => Some(Self::There(at)),
            _ => None,
        }
    }
}

/// A comparison of this node with a member.
struct Comparison<'a> {
    inspector: &'a Inspector,
    port: Arc<dyn Port>,
    peer: Peer,
    page: DiffPage,
}

pub(super) async fn diff(
    inspector: &Inspector,
    cache: &str,
    member: &str,
    cursor: Option<&str>,
    limit: usize,
) -> Result<DiffPage, InspectError> {
    let port = inspector.port(cache)?;
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    let mut at = Some(cursor.map_or(Some(Cursor::START), Cursor::read).ok_or(InspectError::BadCursor)?);
    let peer = inspector.peer(member)?;
    let page = DiffPage { peer: peer.name.to_string(), ..DiffPage::default() };
    let mut comparison = Comparison { inspector, port, peer, page };
    while let Some(from) = at.filter(|_| comparison.page_has_room(limit)) {
        at = comparison.step(from).await?;
    }
    comparison.page.next = at.map(Cursor::write);
    comparison.compare_again().await?;
    Ok(comparison.page)
}

impl Comparison<'_> {
    fn page_has_room(&self, limit: usize) -> bool {
        self.page.examined < limit as u64 && self.page.differences.len() < MAX_DIFFERENCES
    }

    /// Compares one page of keys. Returns the next position, or `None` at the end.
    async fn step(&mut self, from: Cursor) -> Result<Option<Cursor>, InspectError> {
        match from {
            Cursor::Here(at) => {
                let (ours, next) = self.port.marks_page(at, MAX_KEYS);
                let keys = live_keys(&ours);
                self.page.examined += ours.marks.len() as u64;
                if !keys.is_empty() {
                    let theirs = self.ask_marks(keys.clone()).await?;
                    let ours = only(&ours, &keys);
                    self.page.replica = theirs.replica;
                    self.page.differences.extend(compare(&ours, &theirs));
                }
                Ok(Some(next.map_or(Cursor::There(0), Cursor::Here)))
            }
            Cursor::There(at) => {
                let (theirs, next) = self.ask_page(at).await?;
                self.page.examined += theirs.marks.len() as u64;
                let keys = live_keys(&theirs);
                let theirs = only(&theirs, &keys);
                // Keys that are live on both sides were compared in the first walk.
                let ours = self.port.marks(&keys, false);
                let new = compare(&ours, &theirs);
                self.page.differences.extend(new.filter(|found| found.kind == DifferenceKind::OnlyThere));
                Ok(next.map(Cursor::There))
            }
        }
    }

    async fn ask_marks(&self, keys: Vec<Vec<u8>>) -> Result<Marks, InspectError> {
        let count = keys.len();
        let question = Ask::Marks { cache: self.port.name().to_string(), keys, hash: false };
        match self.inspector.ask_one(&self.peer, question).await? {
            Reply::Marks(marks) if marks.marks.len() == count => Ok(marks),
            _ => Err(InspectError::NoAnswer(self.peer.name.to_string())),
        }
    }

    async fn ask_page(&self, cursor: u64) -> Result<(Marks, Option<u64>), InspectError> {
        let question = Ask::Page { cache: self.port.name().to_string(), cursor, limit: MAX_KEYS };
        match self.inspector.ask_one(&self.peer, question).await? {
            Reply::Page(marks, next) => Ok((marks, next)),
            _ => Err(InspectError::NoAnswer(self.peer.name.to_string())),
        }
    }

    /// Compares the differences without a reason a second time. Most of them were writes in transit.
    async fn compare_again(&mut self) -> Result<(), InspectError> {
        let (kept, doubtful): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.page.differences).into_iter().partition(|found| found.reason.is_some());
        self.page.differences = kept;
        if doubtful.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(SECOND_LOOK).await;
        for part in doubtful.chunks(MAX_KEYS) {
            let keys: Vec<_> = part.iter().map(|found| found.raw.clone()).collect();
            let ours = self.port.marks(&keys, false);
            let theirs = self.ask_marks(keys).await?;
            self.page.differences.extend(compare(&ours, &theirs));
        }
        Ok(())
    }
}

fn live(marks: &Marks) -> impl Iterator<Item = &Mark> {
    marks.marks.iter().flatten().filter(|mark| marks.state(Some(mark)) == State::Live)
}

fn live_keys(marks: &Marks) -> Vec<Vec<u8>> {
    live(marks).map(|mark| mark.key.clone()).collect()
}

/// Returns the live marks only, in the order of `keys`.
fn only(marks: &Marks, keys: &[Vec<u8>]) -> Marks {
    let kept: Vec<_> = live(marks).cloned().map(Some).collect();
    debug_assert_eq!(kept.len(), keys.len());
    Marks { marks: kept, ..marks.clone() }
}

fn compare<'a>(ours: &'a Marks, theirs: &'a Marks) -> impl Iterator<Item = Difference> + 'a {
    let pairs = ours.marks.iter().zip(&theirs.marks);
    pairs.filter_map(move |(one, other)| explain_difference((ours, one.as_ref()), (theirs, other.as_ref())))
}
