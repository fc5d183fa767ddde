//! The responses: JSON or text, with headers that forbid a browser to sniff, cache or embed them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use crate::inspect::InspectError;

/// The content security policy: scripts and styles of the page itself, and requests to this server only.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn typed(status: StatusCode, kind: &'static str, body: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => typed(status, "application/json", bytes),
        Err(_) => typed(StatusCode::INTERNAL_SERVER_ERROR, "application/json", r#"{"error":"cannot be written"}"#),
    }
}

pub(super) fn ok<T: Serialize>(body: &T) -> Response {
    json(StatusCode::OK, body)
}

pub(super) fn refuse(status: StatusCode, why: &str) -> Response {
    #[derive(Serialize)]
    struct Refusal<'a> {
        error: &'a str,
    }
    json(status, &Refusal { error: why })
}

/// Returns the response to a question that failed. The error does not implement `IntoResponse`: that would make the
/// version of axum part of this crate's interface.
pub(super) fn failed(error: &InspectError) -> Response {
    let status = match error {
        InspectError::NoSuchCache(_) | InspectError::NoSuchMember(_) => StatusCode::NOT_FOUND,
        InspectError::NotAKey(_) | InspectError::BadCursor => StatusCode::BAD_REQUEST,
        InspectError::NoAnswer(_) => StatusCode::GATEWAY_TIMEOUT,
    };
    refuse(status, &error.to_string())
}
