//! The behaviour that tower-sessions checks of a web service with one of its own stores: cookies, data, new ids, expiry.

mod common;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::get;
use common::{nodes, stores};
use http_body_util::BodyExt;
use time::{Duration, OffsetDateTime};
use tower::ServiceExt;
use tower_sessions::cookie::{Cookie, SameSite};
use tower_sessions::{Expiry, Session, SessionManagerLayer};

const HOUR: Duration = Duration::HOUR;

/// A web service on a node of its own. Dropping it ends the node.
struct Service {
    app: Router,
    _node: Vec<driftless::Node>,
}

async fn service(inactivity: Option<Duration>, domain: Option<&str>) -> Service {
    let node = nodes(1).await;
    let store = stores(&node).await.remove(0);
    let mut layer = SessionManagerLayer::new(store);
    if let Some(inactivity) = inactivity {
        layer = layer.with_expiry(Expiry::OnInactivity(inactivity));
    }
    if let Some(domain) = domain {
        layer = layer.with_domain(domain.to_owned());
    }
    let app = Router::new()
        .route("/none", get(|_: Session| async { "no data" }))
        .route("/insert", get(|session: Session| async move { session.insert("answer", 42).await.unwrap() }))
        .route(
            "/get",
            get(|session: Session| async move { format!("{:?}", session.get::<u32>("answer").await.unwrap()) }),
        )
        .route("/remove", get(|session: Session| async move { drop(session.remove_value("answer").await.unwrap()) }))
        .route("/cycle", get(|session: Session| async move { session.cycle_id().await.unwrap() }))
        .route("/flush", get(|session: Session| async move { session.flush().await.unwrap() }))
        .route(
            "/date",
            get(|session: Session| async move {
                session.set_expiry(Some(Expiry::AtDateTime(OffsetDateTime::now_utc() + Duration::DAY)));
            }),
        )
        .route("/end", get(|session: Session| async move { session.set_expiry(Some(Expiry::OnSessionEnd)) }))
        .layer(layer);
    Service { app, _node: node }
}

struct Reply {
    cookie: Option<Cookie<'static>>,
    body: String,
}

impl Service {
    async fn get(&self, path: &str, cookie: Option<&Cookie<'static>>) -> Reply {
        let mut request = Request::builder().uri(path);
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, format!("{}={}", cookie.name(), cookie.value()));
        }
        let reply = self.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK, "{path}");
        let cookie = set_cookie(reply.headers());
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        Reply { cookie, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}

fn set_cookie(headers: &HeaderMap) -> Option<Cookie<'static>> {
    let text = headers.get(header::SET_COOKIE)?.to_str().unwrap().to_owned();
    Some(Cookie::parse(text).unwrap())
}

fn is_about(found: Option<Duration>, wanted: Duration) -> bool {
    found.is_some_and(|found| (wanted - found).abs() <= Duration::MINUTE)
}

#[tokio::test]
async fn a_session_begins_with_its_first_value_and_its_cookie_is_strict() {
    let service = service(Some(HOUR), None).await;
    assert!(service.get("/none", None).await.cookie.is_none());
    let cookie = service.get("/insert", None).await.cookie.unwrap();
    assert_eq!(
        (cookie.name(), cookie.path(), cookie.secure(), cookie.http_only()),
        ("id", Some("/"), Some(true), Some(true))
    );
    assert!(cookie.same_site() == Some(SameSite::Strict) && is_about(cookie.max_age(), HOUR));
    assert_eq!(service.get("/get", Some(&cookie)).await.body, "Some(42)");
    assert_eq!(service.get("/get", None).await.body, "None");
}

#[tokio::test]
async fn a_cookie_that_names_no_session_gets_a_new_id() {
    let service = service(Some(HOUR), None).await;
    for value in ["AAAAAAAAAAAAAAAAAAAAAA", "malformed", ""] {
        let made_up = Cookie::new("id", value);
        let given = service.get("/insert", Some(&made_up)).await.cookie.unwrap();
        assert_ne!(given.value(), value);
        assert_eq!(service.get("/get", Some(&given)).await.body, "Some(42)");
    }
}

#[tokio::test]
async fn a_value_is_removed_and_an_id_is_replaced() {
    let service = service(Some(HOUR), None).await;
    let first = service.get("/insert", None).await.cookie.unwrap();
    let second = service.get("/cycle", Some(&first)).await.cookie.unwrap();
    assert_ne!(first.value(), second.value());
    assert_eq!(service.get("/get", Some(&second)).await.body, "Some(42)");
    assert_eq!(service.get("/get", Some(&first)).await.body, "None", "the old id is dead");
    service.get("/remove", Some(&second)).await;
    assert_eq!(service.get("/get", Some(&second)).await.body, "None");
}

#[tokio::test]
async fn a_flush_ends_the_session_and_removes_the_cookie() {
    for domain in [None, Some("localhost")] {
        let service = service(Some(HOUR), domain).await;
        let cookie = service.get("/insert", None).await.cookie.unwrap();
        let removal = service.get("/flush", Some(&cookie)).await.cookie.unwrap();
        assert_eq!((removal.value(), removal.max_age(), removal.path()), ("", Some(Duration::ZERO), Some("/")));
        assert_eq!(removal.domain(), domain);
        assert_eq!(service.get("/get", Some(&cookie)).await.body, "None");
    }
}

#[tokio::test]
async fn the_kind_of_expiry_can_be_changed() {
    let idle = service(Some(HOUR), None).await;
    let cookie = idle.get("/insert", None).await.cookie.unwrap();
    let dated = idle.get("/date", Some(&cookie)).await.cookie.unwrap();
    assert!(is_about(dated.max_age(), Duration::DAY), "{dated}");
    let cookie = idle.get("/insert", None).await.cookie.unwrap();
    assert_eq!(idle.get("/end", Some(&cookie)).await.cookie.unwrap().max_age(), None);

    let until_the_end = service(None, None).await;
    let cookie = until_the_end.get("/insert", None).await.cookie.unwrap();
    assert_eq!(cookie.max_age(), None);
    let dated = until_the_end.get("/date", Some(&cookie)).await.cookie.unwrap();
    assert!(is_about(dated.max_age(), Duration::DAY), "{dated}");
    assert_eq!(until_the_end.get("/get", Some(&cookie)).await.body, "Some(42)");
}
