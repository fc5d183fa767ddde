//! Our half of memberlist's stream connections: a reader that waits for more bytes instead of repeating the
//! same short answer, one deadline for the whole connection, and nothing read beyond the announced frame.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use memberlist::{
    proto::{ProtoReader, ProtoWriter},
    transport::Connection,
};
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    counters::Counters,
    frame::{MAX_HEADER, Policy},
};

/// One read brings a small message whole; a large one goes straight to its destination.
const CHUNK: usize = 4096;

/// What both halves of a connection share; the socket closes when both are gone.
struct Link {
    socket: TcpStream,
    deadline: Instant,
    counters: Arc<Counters>,
    /// Our place among the open inbound connections, given back on close.
    _permit: Option<OwnedSemaphorePermit>,
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

    async fn read_some(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.readable().await?;
            match self.socket.try_read(buf) {
                Ok(n) => {
                    self.counters.stream_bytes_in.add(n);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    async fn write_some(&self, buf: &[u8]) -> io::Result<usize> {
        loop {
            self.socket.writable().await?;
            match self.socket.try_write(buf) {
                Ok(n) => {
                    self.counters.stream_bytes_out.add(n);
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
    pub(super) fn new(
        socket: TcpStream,
        lifetime: Duration,
        counters: Arc<Counters>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        // Small frames must not wait for an acknowledgement of the previous one; an error only costs latency.
        let _ = socket.set_nodelay(true);
        let link = Arc::new(Link { socket, deadline: Instant::now() + lifetime, counters, _permit: permit });
        Self {
            reader: Reader { link: link.clone(), buf: BytesMut::new(), shown: 0, left: None, eof: false },
            writer: Writer { link },
        }
    }

    /// Waits for a whole frame header and judges it, so that memberlist only ever sees bounded frames of this cluster.
    pub(super) async fn screen(&mut self, policy: &Policy) -> io::Result<()> {
        self.reader.screen(policy).await
    }
}

/// The reading half.
pub(super) struct Reader {
    link: Arc<Link>,
    buf: BytesMut,
    /// What the last peek showed; the next one waits for more than that.
    shown: usize,
    /// Bytes of the announced frame not yet consumed; `None` before the header is known.
    left: Option<usize>,
    eof: bool,
}

impl Reader {
    pub(super) async fn screen(&mut self, policy: &Policy) -> io::Result<()> {
        loop {
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

    /// Appends at least one byte to the buffer or fails.
    async fn fill(&mut self) -> io::Result<()> {
        let old = self.buf.len();
        self.buf.resize(old + CHUNK, 0);
        let result = self.link.within(self.link.read_some(&mut self.buf[old..])).await;
        self.buf.truncate(old + result.as_ref().copied().unwrap_or(0));
        match result? {
            0 => Err(self.end()),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> io::Error {
        if !self.eof {
            self.eof = true;
            self.link.counters.broken_streams.one();
        }
        io::ErrorKind::UnexpectedEof.into()
    }

    /// Makes at least `n` bytes visible, `n` within the frame.
    async fn need(&mut self, n: usize) -> io::Result<()> {
        if self.left.is_some_and(|left| n > left) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while self.buf.len() < n {
            self.fill().await?;
        }
        Ok(())
    }

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

    /// memberlist's header loop peeks again when the answer was too short. Answering the same again would spin, so
    /// wait for more than was shown last time, and fail at the end of the stream or frame.
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
        while !bytes.is_empty() {
            match self.link.within(self.link.write_some(bytes)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The socket closes when memberlist drops both halves, which it does right after.
    async fn close(&mut self) -> io::Result<()> {
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
