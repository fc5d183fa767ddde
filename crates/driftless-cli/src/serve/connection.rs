//! One connection: bytes in, bytes out.
//!
//! A connection reads while it writes, so that a client may send any number of requests before it reads a reply. What
//! it holds is bounded. Above 64 KiB of replies no further request runs; requests are then read ahead, up to
//! `max_input_bytes`; and only when those are full, requests run on up to half of `max_output_bytes` of replies. A client that
//! needs more, or that takes nothing for `write_timeout`, is disconnected and counted.

use super::{
    clients::Client,
    commands,
    reply::{Output, Protocol},
    request::{Framer, Front, Limits, MAX_ARGUMENTS, ProtocolError, line_arguments},
    session::{Session, Shared, Stats, Wait},
};
use bytes::{Buf, BytesMut};
use driftless::Members;
use smallvec::SmallVec;
use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::{Instant, sleep_until, timeout},
};

/// Bytes reserved for a read of a quiet connection, and of one whose last read was full.
const CHUNKS: [usize; 2] = [16 * 1024, 256 * 1024];
/// The size of pending replies, in bytes, above which no further request runs while the client may still send.
const PENDING: usize = 64 * 1024;
/// The bytes of replies that are added at a time beyond that.
const PORTION: usize = 1024 * 1024;
/// The largest buffer, in bytes, that a connection keeps between requests.
const KEEP: usize = 256 * 1024;
/// The change of a connection's buffers, in bytes, from which on it is added to the sum of all connections.
const STEP: usize = 32 * 1024;

/// The reason for which a connection ends.
#[derive(Debug, PartialEq)]
enum End {
    /// The client has left, or was killed.
    Left,
    /// The last reply is still to be read: the write half is shut down first.
    Linger,
    /// The client does not read its replies.
    Slow,
}

/// Serves a client until it leaves.
pub async fn serve(mut stream: TcpStream, shared: &Shared, client: Arc<Client>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut work = Work::new(shared, client);
    let (mut reader, mut writer) = stream.split();
    let end = work.run(&mut reader, &mut writer).await;
    work.note_buffers(true);
    match end? {
        End::Left => Ok(()),
        End::Slow => {
            shared.stats.slow_clients.add(1);
            tracing::warn!(
                client = %work.session.client.address, pending = work.output.bytes.len(),
                "a client does not read its replies: disconnected"
            );
            Ok(())
        }
        End::Linger => linger(stream).await,
    }
}

/// Shuts down the write half and drains the input. Closing with unread input would reset the connection, and the client
/// could lose the last reply.
async fn linger(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut scrap = vec![0; 16 * 1024];
    let drain = async { while stream.read(&mut scrap).await.is_ok_and(|read| read > 0) {} };
    let _ = timeout(Duration::from_secs(1), drain).await;
    Ok(())
}

/// One connection without its socket.
struct Work<'a> {
    session: Session<'a>,
    framer: Framer,
    input: BytesMut,
    /// The bytes of `input` that belong to requests that have run.
    done: usize,
    output: Output,
    /// True if the next request is incomplete.
    is_starved: bool,
    /// True if the last read filled the space that was reserved for it.
    was_full: bool,
    /// True once the client has shut down its write half.
    at_end: bool,
    /// The part of the buffers that is in the sum of all connections.
    counted: usize,
}

impl<'a> Work<'a> {
    fn new(shared: &'a Shared, client: Arc<Client>) -> Self {
        Self {
            session: Session::new(shared, client),
            framer: Framer::new(Limits { bytes: 0, arguments: MAX_ARGUMENTS }),
            input: BytesMut::new(),
            done: 0,
            output: Output::default(),
            is_starved: true,
            was_full: false,
            at_end: false,
            counted: 0,
        }
    }

    async fn run(&mut self, reader: &mut ReadHalf<'_>, writer: &mut WriteHalf<'_>) -> io::Result<End> {
        // The time at which the client last took a reply or sent a request, while replies wait for it.
        let mut moved: Option<Instant> = None;
        loop {
            self.execute();
            self.append_pushes();
            if self.output.bytes.len() > self.session.shared.settings.max_output_bytes {
                return Ok(End::Slow);
            }
            self.flush(writer)?;
            if self.output.bytes.is_empty() {
                moved = None;
                if self.session.closing {
                    return Ok(End::Linger);
                }
                if let Some(wait) = self.session.waiting.take() {
                    self.wait_for_members(wait, reader).await?;
                    continue;
                }
                if let Some(member) = self.session.forgetting.take() {
                    let is_known = self.session.shared.node.forget(&member).await;
                    self.output.integer(i64::from(is_known));
                    continue;
                }
                // `execute` stopped early to send what it had. Other connections of this thread go first.
                if !self.is_starved {
                    tokio::task::yield_now().await;
                    continue;
                }
                if self.at_end || self.session.shared.is_stopping.load(Relaxed) {
                    return Ok(End::Left);
                }
                self.trim();
            }
            self.note_buffers(false);
            if moved.is_none() && !self.output.bytes.is_empty() {
                moved = Some(Instant::now());
            }
            match self.exchange(reader, writer, moved).await? {
                Moved::Some => moved = None,
                Moved::None => {}
                Moved::End(end) => return Ok(end),
            }
        }
    }

    /// Waits for the socket: reads or writes what is possible.
    async fn exchange(
        &mut self,
        reader: &mut ReadHalf<'_>,
        writer: &mut WriteHalf<'_>,
        moved: Option<Instant>,
    ) -> io::Result<Moved> {
        let (may_read, is_pending) = (self.may_read(), !self.output.bytes.is_empty());
        if may_read {
            self.input.reserve(CHUNKS[usize::from(self.was_full)]);
        }
        let room = self.input.capacity() - self.input.len();
        let Self { session, input, output, .. } = self;
        let Session { shared, client, .. } = session;
        tokio::select! {
            read = reader.read_buf(input), if may_read => {
                let read = read?;
                shared.stats.input.add(read as u64);
                self.was_full = read == room;
                self.at_end = read == 0;
                // Without more input no reply will follow that the client could still wait for.
                Ok(if read == 0 && self.output.bytes.is_empty() && self.is_starved { Moved::End(End::Left) } else { Moved::Some })
            }
            written = writer.write(&output.bytes), if is_pending => {
                let written = written?;
                shared.stats.output.add(written as u64);
                output.bytes.advance(written);
                Ok(Moved::Some)
            }
            () = client.signal.notified() => Ok(if client.is_killed() { Moved::End(End::Left) } else { Moved::None }),
            () = sleep_until(moved.unwrap_or_else(Instant::now) + shared.settings.write_timeout), if is_pending => Ok(Moved::End(End::Slow)),
        }
    }

    /// Sends what the socket takes at once.
    fn flush(&mut self, writer: &mut WriteHalf<'_>) -> io::Result<()> {
        while !self.output.bytes.is_empty() {
            match writer.try_write(&self.output.bytes) {
                Ok(written) => {
                    self.session.shared.stats.output.add(written as u64);
                    self.output.bytes.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns true if the connection may hold more input.
    fn may_read(&self) -> bool {
        let Shared { settings, stats, .. } = self.session.shared;
        if self.at_end || self.session.closing {
            return false;
        }
        if self.output.bytes.is_empty() {
            return true; // The input is one incomplete request, whose size is bounded.
        }
        self.input.len() < settings.max_input_bytes && within(stats.buffered.load(Relaxed), settings.max_buffer_bytes)
    }

    /// Returns the size of pending replies up to which requests run.
    fn most_pending(&self) -> usize {
        let Shared { settings, stats, .. } = self.session.shared;
        let is_full = self.input.len() >= settings.max_input_bytes;
        if is_full && within(stats.buffered.load(Relaxed), settings.max_buffer_bytes) {
            // In portions, between which the client gets what its socket takes. The other half is for one large reply.
            (settings.max_output_bytes / 2).min(self.output.bytes.len() + PORTION)
        } else {
            PENDING
        }
    }

    /// Runs complete requests until none is left, or enough replies are pending.
    fn execute(&mut self) {
        let most = self.most_pending();
        let (mut ran, mut last) = (0, None);
        self.is_starved = false;
        while self.output.bytes.len() < most && !self.session.closing && self.session.is_idle() {
            match self.step() {
                Ok(Step::Ran(number)) => {
                    ran += u64::from(number.is_some());
                    last = number.or(last);
                }
                Ok(Step::Starved) => {
                    self.is_starved = true;
                    break;
                }
                Err(error) => {
                    self.session.shared.stats.malformed.add(1);
                    self.output.error(&error.to_string());
                    self.session.closing = true;
                }
            }
        }
        if self.done > 0 {
            self.input.advance(self.done);
            self.done = 0;
        }
        if ran > 0 {
            self.session.shared.stats.commands.add(ran);
            if let Some(number) = last {
                self.session.client.note_command(number);
            }
        }
    }

    /// Runs the first request.
    #[inline]
    fn step(&mut self) -> Result<Step, ProtocolError> {
        self.framer.limits = self.session.limits();
        let input = &self.input[self.done..];
        let length = match self.framer.front(input)? {
            Front::Part => return Ok(Step::Starved),
            Front::Array(length) => {
                let words: SmallVec<[&[u8]; 8]> =
                    self.framer.ranges().iter().map(|range| &input[range.clone()]).collect();
                self.done += length;
                return Ok(Step::Ran(run(&mut self.session, &words, &mut self.output)));
            }
            Front::Line(length) => length,
        };
        let words = line_arguments(&input[..length])?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.done += length;
        refuse_http(&mut self.session, &words);
        Ok(Step::Ran(run(&mut self.session, &words, &mut self.output)))
    }

    /// Answers `WAIT`, unless the client leaves meanwhile.
    async fn wait_for_members(&mut self, wait: Wait, reader: &mut ReadHalf<'_>) -> io::Result<()> {
        let (cache, Shared { stats, settings, .. }) = (self.session.cache(), self.session.shared);
        let Some(written) = cache.last_written() else {
            self.output.count(0usize);
            return Ok(());
        };
        let timeout = if wait.members == 0 { Duration::ZERO } else { wait.timeout };
        // For no member at all the wait would be over at once, without a look at who has the write.
        let members = Members::Count(if wait.members == 0 { usize::MAX } else { wait.members });
        let client = Arc::clone(&self.session.client);
        let mut replicated = pin!(cache.wait_replicated(written, members, timeout));
        let _counted = Waiting::new(stats);
        let seen = loop {
            let may_read = self.input.len() < settings.max_request_bytes && !self.at_end;
            tokio::select! {
                result = &mut replicated => break match result {
                    Ok(replicated) => replicated.seen.len(),
                    Err(missing) => missing.seen.len(),
                },
                read = reader.read_buf(&mut self.input), if may_read => self.at_end = read? == 0,
                () = client.signal.notified() => {}
            }
            if self.at_end || client.is_killed() {
                self.session.closing = true;
                break 0;
            }
        };
        self.output.count(seen);
        Ok(())
    }

    /// Appends the invalidations that wait for this client. They follow the replies that were computed before.
    fn append_pushes(&mut self) {
        let (session, output) = (&self.session, &mut self.output);
        if !session.client.pushes.is_waiting() {
            return;
        }
        if output.protocol == Protocol::Two && !session.is_subscribed {
            session.client.pushes.clear(); // There is no form in which this client could receive them.
        } else if output.bytes.len() < PENDING {
            session.client.pushes.take(output);
        }
    }

    /// Frees the memory that one large request or reply took.
    fn trim(&mut self) {
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
        if self.output.bytes.capacity() > KEEP {
            self.output.bytes = BytesMut::new();
        }
        self.framer.trim();
    }

    /// Adds the size of the buffers to the sum of all connections, once it has changed enough.
    fn note_buffers(&mut self, last: bool) {
        let held = if last { 0 } else { self.input.len() + self.output.bytes.len() };
        if last || held.abs_diff(self.counted) >= STEP {
            let change = held as i64 - self.counted as i64;
            self.session.shared.stats.buffered.fetch_add(change, Relaxed);
            self.session.client.buffered.store(held, Relaxed);
            self.counted = held;
        }
    }
}

/// Counts a client that waits in `WAIT`.
struct Waiting<'a>(&'a Stats);

impl<'a> Waiting<'a> {
    fn new(stats: &'a Stats) -> Self {
        stats.waiting.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// The outcome of a wait for the socket.
enum Moved {
    /// Bytes were read or written.
    Some,
    /// There is something else to do.
    None,
    End(End),
}

/// The outcome of a look for the next request.
enum Step {
    /// A request ran, of the command with this number; `None` if it was empty.
    Ran(Option<usize>),
    /// The next request is incomplete.
    Starved,
}

fn within(buffered: i64, most: u64) -> bool {
    u64::try_from(buffered).unwrap_or(0) < most
}

#[inline]
fn run(session: &mut Session, words: &[&[u8]], output: &mut Output) -> Option<usize> {
    if words.is_empty() {
        return None;
    }
    Some(commands::run(session, words, output))
}

/// Closes the connection after a line of an HTTP request. A web page can make a browser send HTTP to this port, with
/// commands as its body. Redis refuses the same two words.
fn refuse_http(session: &mut Session, words: &[&[u8]]) {
    if words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")) {
        session.closing = true;
    }
}
