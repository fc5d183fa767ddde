//! The connections: accept, read, run every complete request, answer in one write.

use crate::serve::{
    commands,
    request::{Framer, Front, ProtocolError, array_arguments, line_arguments},
    session::{Session, Shared},
};
use bytes::{Buf, BytesMut};
use redis_protocol::resp2::{encode::extend_encode, types::BytesFrame};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Bytes reserved for each read, and the size at which pending replies are sent.
const CHUNK: usize = 64 * 1024;
/// The largest buffer, in bytes, that a connection keeps between requests.
const KEEP: usize = 4 * CHUNK;
/// The time limit for open connections when the process ends.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `stop` changes, then lets every connection finish its current requests, for at most `GRACE`.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &shared, &stop, &mut connections).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn admit(
    mut stream: TcpStream,
    shared: &Arc<Shared>,
    stop: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        shared.stats.rejected.add(1);
        let _ = timeout(Duration::from_millis(100), stream.write_all(b"-ERR max number of clients reached\r\n")).await;
        return;
    };
    let (shared, stop) = (Arc::clone(shared), stop.clone());
    connections.spawn(async move {
        if let Err(error) = connection(stream, &shared, stop).await {
            tracing::debug!(%error, "connection lost");
        }
        drop(place);
    });
}

async fn connection(mut stream: TcpStream, shared: &Shared, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut work = Work::new(shared);
    loop {
        match work.run() {
            Progress::Answered => {
                stream.write_all(&work.output).await?;
                work.output.clear();
            }
            Progress::Closing => {
                stream.write_all(&work.output).await?;
                return linger(stream).await;
            }
            Progress::NeedsInput => {
                work.trim();
                tokio::select! {
                    read = stream.read_buf(&mut work.input) => if read? == 0 { return Ok(()) },
                    _ = stop.changed() => return Ok(()),
                }
            }
        }
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

/// The next action that [`Work::run`] needs from its caller.
enum Progress {
    /// Send the output, then call again.
    Answered,
    /// Read more input: nothing to send, and no complete request.
    NeedsInput,
    /// Send the output, then close the connection.
    Closing,
}

/// One connection without its socket: bytes in, bytes out.
struct Work<'a> {
    session: Session<'a>,
    framer: Framer,
    input: BytesMut,
    output: BytesMut,
}

impl<'a> Work<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            session: Session::new(shared),
            framer: Framer::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
        }
    }

    /// Runs requests until the output reaches `CHUNK` bytes or no complete request is left.
    fn run(&mut self) -> Progress {
        while self.output.len() < CHUNK {
            match self.step() {
                Ok(true) if self.session.closing => return Progress::Closing,
                Ok(true) => {}
                Ok(false) if self.output.is_empty() => return Progress::NeedsInput,
                Ok(false) => break,
                Err(error) => {
                    self.session.shared.stats.malformed.add(1);
                    self.answer(&commands::error_frame(&error));
                    return Progress::Closing;
                }
            }
        }
        Progress::Answered
    }

    /// Runs the first request and returns true, or returns false if it is incomplete.
    fn step(&mut self) -> Result<bool, ProtocolError> {
        let (length, answer) = match self.framer.front(&self.input)? {
            Front::Part => return Ok(false),
            Front::Array(length) => {
                let arguments = array_arguments(&self.input[..length])?;
                (length, run(&mut self.session, &arguments))
            }
            Front::Line(length) => {
                let words = line_arguments(&self.input[..length])?;
                let arguments: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                refuse_http(&mut self.session, &arguments);
                (length, run(&mut self.session, &arguments))
            }
        };
        self.input.advance(length);
        if let Some(answer) = answer {
            self.answer(&answer);
        }
        Ok(true)
    }

    fn answer(&mut self, frame: &BytesFrame) {
        // The codec grows the buffer itself, so this cannot fail for lack of space.
        if let Err(error) = extend_encode(&mut self.output, frame, false) {
            tracing::error!(%error, "an answer that can not be encoded");
            self.session.closing = true;
        }
    }

    /// Reserves space for the next read, and frees the memory that one large request or reply took.
    fn trim(&mut self) {
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
        if self.output.capacity() > KEEP {
            self.output = BytesMut::new();
        }
        self.input.reserve(CHUNK);
    }
}

fn run(session: &mut Session, arguments: &[&[u8]]) -> Option<BytesFrame> {
    (!arguments.is_empty()).then(|| commands::run(session, arguments))
}

/// Closes the connection after a line of an HTTP request. A web page can make a browser send HTTP to this port, with
/// commands as its body. Redis refuses the same two words.
fn refuse_http(session: &mut Session, arguments: &[&[u8]]) {
    if arguments.first().is_some_and(|word| word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")) {
        session.closing = true;
    }
}
