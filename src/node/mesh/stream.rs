//! The stream connections of the mesh, as memberlist reads and writes them. A peek waits for more bytes instead of
//! showing the same bytes again. One deadline covers the whole connection, and nothing is read beyond the announced
//! frame.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BytesMut};
use memberlist::{
    proto::{ProtoReader, ProtoWriter},
    transport::Connection,
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    counters::Counters,
    frame::{MAX_HEADER, Policy, Refusal, refused_there},
    shares::{Place, Seat},
};
use crate::sync::Mutex;

/// Size of one read, in bytes: a small message arrives in one.
const CHUNK: usize = 4096;
/// Maximum size of one read of a large frame, in bytes: memory is held for bytes that have arrived, whatever was
/// announced.
const LARGE_CHUNK: usize = 256 << 10;

/// The most reads of a frame that is refused, and the time for them.
const REFUSED_READS: usize = 64;
const REFUSED_TIME: Duration = Duration::from_millis(300);

/// The state that both halves of a connection share. When both halves are dropped, the socket closes or is used again.
///
/// memberlist opens a connection per message, which would leave ports in TIME_WAIT until none is left. So a connection
/// that memberlist closes at the end of a frame is handed out again when memberlist opens the next one, which
/// memberlist does not notice.
struct Link {
    /// The socket; `Some` until dropped.
    socket: Option<TcpStream>,
    deadline: Instant,
    counters: Arc<Counters>,
    /// The destination of the socket if both directions are at the end of a frame.
    recycle: Option<Recycle>,
    /// True if a write began and did not complete: the receiver would misread whatever follows.
    torn: AtomicBool,
    /// True if a read ended in the middle of a frame, or an answer never came.
    unread: AtomicBool,
    /// True once memberlist has written and read all that it wanted.
    closed: AtomicBool,
    /// The bytes after the announced frame, once that was read to its end.
    rest: Mutex<Option<BytesMut>>,
    /// The frame's place among those that are being read, until both halves are dropped.
    held: Mutex<Option<Place>>,
}

/// The destination of a socket that can be used again, and of the bytes read past the frame.
pub(super) enum Recycle {
    /// This member dialled it: it is kept for the next message to its address.
    Dialled(Box<dyn Fn(TcpStream) + Send + Sync>),
    /// This member accepted it: the next frame may come, in the same seat.
    Accepted(mpsc::UnboundedSender<Returned>, Arc<Seat>),
}

/// An accepted connection between two frames.
pub(super) struct Returned {
    pub(super) socket: TcpStream,
    pub(super) rest: BytesMut,
    pub(super) seat: Arc<Seat>,
    /// True if it carried a frame before, so the next frame may take its time.
    pub(super) used: bool,
}

impl Returned {
    /// Waits for the first byte of the next frame. Returns `false` if the peer closed the connection instead, as it
    /// may.
    pub(super) async fn awake(&mut self, counters: &Counters) -> io::Result<bool> {
        while self.rest.is_empty() {
            self.socket.readable().await?;
            self.rest.resize(CHUNK, 0);
            let result = self.socket.try_read(&mut self.rest);
            self.rest.truncate(result.as_ref().copied().unwrap_or(0));
            match result {
                Ok(0) => return Ok(false),
                Ok(n) => counters.stream_bytes_in.add(n as u64),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let (Some(socket), Some(recycle)) = (self.socket.take(), self.recycle.take()) else { return };
        if *self.torn.get_mut() || *self.unread.get_mut() {
            return;
        }
        let rest = self.rest.get_mut().take();
        match recycle {
            // Without `close`, or with bytes after the answer, the state of a dialled connection is unknown: it is
            // dropped.
            Recycle::Dialled(keep) if *self.closed.get_mut() && rest.as_ref().is_none_or(|r| r.is_empty()) => {
                keep(socket)
            }
            Recycle::Accepted(back, seat) => {
                if let Some(rest) = rest {
                    drop(back.send(Returned { socket, rest, seat, used: true }));
                }
            }
            Recycle::Dialled(_) => {}
        }
    }
}

impl Link {
    /// Runs `io` until the connection's deadline.
    async fn within<T>(&self, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        match timeout_at(self.deadline, io).await {
            Ok(result) => result,
            Err(_) => {
                self.counters.deadline_kills.one();
                Err(io::Error::new(io::ErrorKind::TimedOut, "connection outlived its deadline"))
            }
        }
    }

    fn socket(&self) -> io::Result<&TcpStream> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn read_some(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_by(|socket| socket.try_read(buf)).await
    }

    /// Appends to the buffer, within its capacity.
    async fn read_into(&self, buf: &mut BytesMut) -> io::Result<usize> {
        self.read_by(|socket| socket.try_read_buf(buf)).await
    }

    async fn read_by(&self, mut read: impl FnMut(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        let socket = self.socket()?;
        loop {
            socket.readable().await?;
            match read(socket) {
                Ok(n) => {
                    self.counters.stream_bytes_in.add(n as u64);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    async fn write_some(&self, buf: &[u8]) -> io::Result<usize> {
        let socket = self.socket()?;
        loop {
            socket.writable().await?;
            match socket.try_write(buf) {
                Ok(n) => {
                    self.counters.stream_bytes_out.add(n as u64);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A connection before memberlist splits it.
pub(super) struct Conn {
    reader: Reader,
    writer: Writer,
}

impl Conn {
    /// Returns a connection of which `buf` was already read.
    pub(super) fn new(
        socket: TcpStream,
        buf: BytesMut,
        lifetime: Duration,
        counters: Arc<Counters>,
        recycle: Recycle,
    ) -> Self {
        let link = Arc::new(Link {
            socket: Some(socket),
            deadline: Instant::now() + lifetime,
            counters,
            recycle: Some(recycle),
            torn: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            rest: Mutex::new(None),
            held: Mutex::new(None),
        });
        Self {
            reader: Reader { link: link.clone(), buf, shown: 0, left: None, touched: false, eof: false },
            writer: Writer { link },
        }
    }

    /// Waits for a complete frame header and checks it, so that memberlist only receives bounded frames of this
    /// cluster.
    pub(super) async fn screen(&mut self, policy: &Policy) -> io::Result<()> {
        self.reader.screen(policy).await
    }

    /// Returns the length of the screened frame.
    pub(super) fn frame_len(&self) -> usize {
        self.reader.left.unwrap_or(0)
    }

    /// Keeps the frame's place until both halves are dropped.
    pub(super) fn hold(&self, place: Place) {
        *self.reader.link.held.lock() = Some(place);
    }

    /// Reads the screened frame to its end. It can be read again afterwards.
    pub(super) async fn frame(&mut self) -> io::Result<&[u8]> {
        let len = self.frame_len();
        self.reader.whole(len).await?;
        Ok(&self.reader.buf[..len])
    }

    /// Answers a frame that is refused, then reads what is left of it for a moment. A socket that is closed with unread
    /// bytes resets the connection, and the answer could be lost.
    pub(super) async fn refuse(mut self, refusal: Refusal) {
        let Some(answer) = refusal.answer() else { return };
        let farewell = async {
            self.writer.write_all(&answer).await?;
            let socket = self.reader.link.socket()?;
            let mut rest = [0; CHUNK];
            for _ in 0..REFUSED_READS {
                socket.readable().await?;
                match socket.try_read(&mut rest) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        };
        // An error means that the sender is gone.
        let _ = timeout(REFUSED_TIME, farewell).await;
    }

    /// Skips the screened frame, which needs no other reader. The connection is free for the next frame.
    pub(super) fn skip_frame(&mut self) {
        let len = self.frame_len();
        self.reader.buf.advance(len);
        self.reader.consumed(len);
    }
}

/// The reading half.
pub(super) struct Reader {
    link: Arc<Link>,
    buf: BytesMut,
    /// The number of bytes that the last peek showed. The next peek waits for more.
    shown: usize,
    /// Bytes of the announced frame not yet consumed; `None` before the header is known.
    left: Option<usize>,
    /// True once the reader has waited for bytes of the peer.
    touched: bool,
    eof: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        match self.left {
            // The few bytes after the frame are copied: an idle connection must not keep the memory of a large frame.
            Some(0) => *self.link.rest.lock() = Some(BytesMut::from(&self.buf[..])),
            None if !self.touched && self.buf.is_empty() => {}
            _ => self.link.unread.store(true, Ordering::Relaxed),
        }
    }
}

impl Reader {
    pub(super) async fn screen(&mut self, policy: &Policy) -> io::Result<()> {
        loop {
            match refused_there(&self.buf) {
                Some(Some(refused)) => return Err(io::Error::new(io::ErrorKind::InvalidData, refused)),
                Some(None) => {
                    self.fill().await?;
                    continue;
                }
                None => {}
            }
            match policy.frame_len(&self.buf) {
                Ok(Some(len)) => {
                    self.left = Some(len);
                    return Ok(());
                }
                Ok(None) if self.buf.len() < MAX_HEADER => self.fill().await?,
                Ok(None) => return Err(io::ErrorKind::InvalidData.into()),
                Err(refusal) => {
                    refusal.count(&self.link.counters);
                    return Err(refusal.into());
                }
            }
        }
    }

    /// Appends at least one byte to the buffer, or fails.
    async fn fill(&mut self) -> io::Result<()> {
        self.touched = true;
        let old = self.buf.len();
        self.buf.resize(old + CHUNK, 0);
        let result = self.link.within(self.link.read_some(&mut self.buf[old..])).await;
        self.buf.truncate(old + result.as_ref().copied().unwrap_or(0));
        match result? {
            0 => Err(self.end()),
            _ => Ok(()),
        }
    }

    /// Buffers at least `len` bytes.
    async fn whole(&mut self, len: usize) -> io::Result<()> {
        self.touched = true;
        while self.buf.len() < len {
            self.buf.reserve((len - self.buf.len()).min(LARGE_CHUNK));
            let Self { link, buf, .. } = self;
            if link.within(link.read_into(buf)).await? == 0 {
                return Err(self.end());
            }
        }
        Ok(())
    }

    fn end(&mut self) -> io::Error {
        if !self.eof {
            self.eof = true;
            self.link.counters.broken_streams.one();
        }
        io::ErrorKind::UnexpectedEof.into()
    }

    /// Buffers at least `n` bytes. Fails if fewer are left of the frame.
    async fn need(&mut self, n: usize) -> io::Result<()> {
        if self.left.is_some_and(|left| n > left) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while self.buf.len() < n {
            self.fill().await?;
        }
        Ok(())
    }

    /// Returns the number of buffered bytes that belong to the frame.
    fn visible(&self) -> usize {
        self.left.map_or(self.buf.len(), |left| left.min(self.buf.len()))
    }

    fn consumed(&mut self, n: usize) {
        self.shown = 0;
        self.left = self.left.map(|left| left.saturating_sub(n));
    }

    async fn read_whole(&mut self, out: &mut [u8]) -> io::Result<()> {
        if self.left.is_some_and(|left| out.len() > left) {
            self.link.counters.oversize_frames.one();
            return Err(io::Error::new(io::ErrorKind::InvalidData, "read beyond the announced frame"));
        }
        let mut done = out.len().min(self.buf.len());
        self.buf.copy_to_slice(&mut out[..done]);
        while done < out.len() {
            match self.link.within(self.link.read_some(&mut out[done..])).await? {
                0 => return Err(self.end()),
                n => done += n,
            }
        }
        self.consumed(done);
        Ok(())
    }
}

impl ProtoReader for Reader {
    async fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || self.left == Some(0) {
            return Ok(0);
        }
        if self.buf.is_empty() {
            self.fill().await?;
        }
        let n = out.len().min(self.visible());
        self.buf.copy_to_slice(&mut out[..n]);
        self.consumed(n);
        Ok(n)
    }

    async fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.read_whole(out).await
    }

    /// Shows the next bytes without consuming them. memberlist's header loop peeks again if the answer was too short,
    /// and the same answer again would make it spin. So each peek waits for more bytes than the last one showed, and
    /// fails at the end of the stream or frame.
    async fn peek(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.shown < out.len() {
            self.need(self.shown + 1).await?;
        }
        let n = out.len().min(self.visible());
        out[..n].copy_from_slice(&self.buf[..n]);
        self.shown = n;
        Ok(n)
    }

    async fn peek_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.need(out.len()).await?;
        out.copy_from_slice(&self.buf[..out.len()]);
        Ok(())
    }
}

/// The writing half.
pub(super) struct Writer {
    link: Arc<Link>,
}

impl ProtoWriter for Writer {
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        // Stays set if this write fails or is cancelled: part of a frame may have been sent.
        self.link.torn.store(true, Ordering::Relaxed);
        while !bytes.is_empty() {
            match self.link.within(self.link.write_some(bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        self.link.torn.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Marks the connection as closed. The socket closes or is kept when memberlist drops both halves, right after
    /// this.
    async fn close(&mut self) -> io::Result<()> {
        self.link.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Connection for Conn {
    type Reader = Reader;
    type Writer = Writer;

    fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }

    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buf).await
    }

    async fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(buf).await
    }

    async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.peek(buf).await
    }

    async fn peek_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.reader.peek_exact(buf).await
    }

    async fn write_all(&mut self, payload: &[u8]) -> io::Result<()> {
        self.writer.write_all(payload).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(())
    }
}
