//! The guard in front of the handlers: admits or refuses each request, and bounds the effects of a handler that panics
//! or takes too long.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{App, HttpConfig, answer};

/// The time after which a handler is cancelled.
const DEADLINE: Duration = Duration::from_secs(25);
/// The maximum length of path and query in bytes.
const MAX_URI: usize = 16 << 10;

pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    if let Err((status, why)) = admit(&app.config, &request) {
        return refuse(status, why);
    }
    // A task of its own contains a panic of the handler: only this request fails. Dropping the set cancels the task.
    let mut handler = JoinSet::new();
    handler.spawn(next.run(request));
    match timeout(DEADLINE, handler.join_next()).await {
        Ok(Some(Ok(response))) => response,
        Ok(_) => {
            tracing::error!("a handler of the debug interface panicked");
            answer::refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error, which is a bug: see the log of this node",
            )
        }
        Err(_) => answer::refuse(StatusCode::GATEWAY_TIMEOUT, "the request exceeded its time limit: request less"),
    }
}

/// Returns the response to a request that is not admitted, with the header that HTTP requires for its status.
fn refuse(status: StatusCode, why: &str) -> Response {
    let mut response = answer::refuse(status, why);
    let header = match status {
        StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "GET, HEAD")),
        StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer realm=\"driftless\"")),
        _ => None,
    };
    response.headers_mut().extend(header.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

type Refused = (StatusCode, &'static str);

fn admit(config: &HttpConfig, request: &Request) -> Result<(), Refused> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed: use GET or HEAD"));
    }
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > MAX_URI {
        return Err((StatusCode::URI_TOO_LONG, "the path and query exceed 16 KiB: shorten them"));
    }
    // The answer reveals one bit and changes nothing. Probes may use HTTP/1.0 without `Host`, or a name of their own.
    if is_health(uri.path()) {
        return Ok(());
    }
    let host = check_host(config, request.headers())?;
    if !is_link(uri.path(), request.headers()) {
        check_origin(host, request.headers())?;
    }
    if needs_token(uri.path()) { check_token(config, request.headers()) } else { Ok(()) }
}

/// Returns true for the paths of health checks. Orchestrators send them without a token.
pub(super) fn is_health(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready")
}

/// Returns true if a request for this path must carry the token. The page contains no data.
fn needs_token(path: &str) -> bool {
    path != "/"
}

/// Checks that `Host` is an IP address, `localhost` or a configured name. This stops DNS rebinding, in which a foreign
/// name resolves to this machine: such a name is refused. An IP address needs no check, because it is not resolved.
fn check_host<'a>(config: &HttpConfig, headers: &'a HeaderMap) -> Result<&'a str, Refused> {
    let mut given = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (given.next().and_then(|host| host.to_str().ok()), given.next()) else {
        return Err((StatusCode::BAD_REQUEST, "the request must have exactly one Host header"));
    };
    let name = without_port(host);
    let known = name.eq_ignore_ascii_case("localhost")
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
        || config.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name));
    if known {
        Ok(host)
    } else {
        Err((
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header is not an address of this server: use its IP address or localhost, or set \
             HttpConfig::host",
        ))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns true if a browser opens the page in a tab, for instance from a link in a chat or on another page. The page
/// itself has no data, and the other page cannot read it: it is not in a frame, and its requests are checked as all are.
fn is_link(path: &str, headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    path == "/" && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

/// Refuses requests that a browser sends on behalf of a page of another origin. Browsers leave `Origin` out of some GET
/// requests, so `Sec-Fetch-Site` is checked as well.
fn check_origin(host: &str, headers: &HeaderMap) -> Result<(), Refused> {
    let foreign = (StatusCode::FORBIDDEN, "cross-site requests are refused: open the page directly");
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site") {
        return Err(foreign);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let ours = |origin: &str| ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host));
    if origin.to_str().is_ok_and(ours) { Ok(()) } else { Err(foreign) }
}

fn check_token(config: &HttpConfig, headers: &HeaderMap) -> Result<(), Refused> {
    let Some(token) = &config.token else { return Ok(()) };
    let given = headers.get(header::AUTHORIZATION).and_then(|given| bearer(given.as_bytes()));
    let right = given.is_some_and(|given| equal(given, token.as_bytes()));
    if right {
        Ok(())
    } else {
        Err((StatusCode::UNAUTHORIZED, "the token is missing or wrong: send `Authorization: Bearer TOKEN`"))
    }
}

/// Returns the credentials of the scheme `Bearer`, whose name is not case-sensitive (RFC 9110, section 11.1).
fn bearer(given: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = given.split_at_checked(b"Bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && rest.starts_with(b" ");
    is_bearer.then(|| rest.trim_ascii())
}

/// Compares in a time that does not depend on the position of the first difference.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
