//! The service: waits for the writes that a request's tokens name, then adds the token of what its handler wrote.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driftless::{NotSeen, Token, Written};
use http::{HeaderMap, Request, Response, header};
use tower_service::Service;

use crate::cookie;
use crate::extract::{Freshness, WriteMark};
use crate::layer::ReadYourWrites;

/// The service that [`ReadYourWrites`] makes of another service.
#[derive(Clone, Debug)]
pub struct ReadYourWritesService<S> {
    inner: S,
    layer: Arc<ReadYourWrites>,
}

impl<S> ReadYourWritesService<S> {
    pub(crate) fn new(inner: S, layer: ReadYourWrites) -> Self {
        Self { inner, layer: Arc::new(layer) }
    }
}

impl<S, B, R> Service<Request<B>> for ReadYourWritesService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that was polled to be ready is called. Its clone may not be ready.
        let unready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, unready);
        let layer = Arc::clone(&self.layer);
        Box::pin(async move {
            let tokens = tokens(&layer, request.headers());
            let freshness = wait(&layer, &tokens).await;
            let mark = WriteMark::default();
            if !request.method().is_safe() {
                mark.set();
            }
            request.extensions_mut().insert(freshness);
            request.extensions_mut().insert(mark.clone());
            let before = last_written(&layer);
            let mut response = inner.call(request).await?;
            if mark.is_set() {
                note_writes(&layer, &tokens, &before, response.headers_mut());
            }
            Ok(response)
        })
    }
}

/// Returns, for each cache of the layer, the tokens that a request brings.
fn tokens(layer: &ReadYourWrites, headers: &HeaderMap) -> Vec<Vec<Token>> {
    // A clock before 1970 makes no token too old.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let oldest = u64::try_from(now.saturating_sub(layer.max_age).as_nanos()).unwrap_or(u64::MAX);
    layer.watches.iter().map(|watch| cookie::tokens(headers, &watch.cookie, oldest)).collect()
}

/// Waits until this node has the writes of all tokens, for a limited time together.
async fn wait(layer: &ReadYourWrites, tokens: &[Vec<Token>]) -> Freshness {
    let start = Instant::now();
    let mut missing: Vec<NotSeen> = Vec::new();
    for (watch, tokens) in layer.watches.iter().zip(tokens) {
        for token in tokens {
            let left = layer.wait.saturating_sub(start.elapsed());
            missing.extend(watch.cache.wait_seen(token, left).await.err());
        }
    }
    match (missing.is_empty(), tokens.iter().all(Vec::is_empty)) {
        (true, true) => Freshness::NoToken,
        (true, false) => Freshness::OwnWritesSeen,
        (false, _) => Freshness::Unknown(missing.into()),
    }
}

fn last_written(layer: &ReadYourWrites) -> Vec<Option<Written>> {
    layer.watches.iter().map(|watch| watch.cache.last_written()).collect()
}

/// Adds a cookie for each cache in which this node has written since `before`. A write of a concurrent request counts as
/// well: it is later than that of this request, and a node that has the later write has both.
fn note_writes(layer: &ReadYourWrites, tokens: &[Vec<Token>], before: &[Option<Written>], headers: &mut HeaderMap) {
    for ((watch, tokens), before) in layer.watches.iter().zip(tokens).zip(before) {
        let now = watch.cache.last_written();
        let Some(written) = now.filter(|_| now != *before) else { continue };
        let tokens = cookie::with(written.token(), tokens);
        let age = layer.max_age.max(Duration::from_secs(1));
        headers.extend(cookie::set(&watch.cookie, &tokens, age, layer.secure).map(|set| (header::SET_COOKIE, set)));
    }
}
