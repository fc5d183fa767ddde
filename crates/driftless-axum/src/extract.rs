//! The extractors: a handler that writes, and what a handler may know of the wait before it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use driftless::NotSeen;
use http::StatusCode;
use http::request::Parts;

/// Extracted by a handler that writes although its method is GET or HEAD. The response then carries a token as one to a
/// POST does.
#[derive(Clone, Copy, Debug)]
pub struct Writes(());

/// The mark that a request writes. The layer puts it into the request's extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteMark(Arc<AtomicBool>);

impl WriteMark {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The result of the wait before a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// The request brought no token, so there was nothing to wait for.
    NoToken,
    /// This node has every write that the request's tokens name.
    OwnWritesSeen,
    /// This node may not have some of these writes. The handler may read older values.
    Unknown(Arc<[NotSeen]>),
}

/// The rejection of an extractor: the layer is missing. The response has the status 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLayer;

impl std::fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "the extractor needs the layer driftless_axum::ReadYourWrites: add it to the router of this handler",
        )
    }
}

impl std::error::Error for MissingLayer {}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Writes {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        parts.extensions.get::<WriteMark>().ok_or(MissingLayer)?.set();
        Ok(Self(()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Freshness {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        parts.extensions.get::<Self>().cloned().ok_or(MissingLayer)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Freshness {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
