//! The routes. Each handler takes plain data from the inspector, and serialises it after all locks are released.

use std::num::NonZero;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::answer::{self, failed, ok, refuse};
use super::{App, metrics as text, page};
use crate::inspect::InspectError;

const OPENAPI: &str = include_str!("openapi.json");
/// The time limit for the answers of other nodes.
const PATIENCE: Duration = Duration::from_millis(700);
/// The maximum number of keys in one page.
const MAX_PAGE: usize = 1_000;
/// The maximum number of keys compared in one request.
const MAX_DIFF: usize = 8_192;

#[derive(Deserialize)]
pub(super) struct OfKey {
    key: String,
}

#[derive(Deserialize)]
pub(super) struct OfList {
    limit: Option<NonZero<u32>>,
}

#[derive(Deserialize)]
pub(super) struct OfMember {
    member: String,
    cursor: Option<String>,
    limit: Option<NonZero<u32>>,
}

#[derive(Deserialize)]
pub(super) struct OfCluster {
    brief: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct OfKeys {
    prefix: Option<String>,
    cursor: Option<String>,
    limit: Option<NonZero<u32>>,
}

/// The parameters of a question about the past of a node, or about its hot keys.
#[derive(Deserialize)]
pub(super) struct OfPast {
    member: Option<String>,
    after_ms: Option<u64>,
    from_event: Option<u64>,
    limit: Option<NonZero<u32>>,
}

/// Returns the limit of a request, or `default` if it has none.
fn limit_or(limit: Option<NonZero<u32>>, default: usize) -> usize {
    limit.map_or(default, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX))
}

type Cache = Result<Path<String>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

/// Returns the name of the cache and the query, or the response to a malformed request.
fn both<T>(cache: Cache, asked: Asked<T>) -> Result<(String, T), Box<Response>> {
    let Path(cache) = name(cache)?;
    let Query(asked) = asked.map_err(|rejection| Box::new(refuse(StatusCode::BAD_REQUEST, &rejection.body_text())))?;
    Ok((cache, asked))
}

fn name(cache: Cache) -> Result<Path<String>, Box<Response>> {
    cache.map_err(|rejection| Box::new(refuse(StatusCode::BAD_REQUEST, &rejection.body_text())))
}

fn respond<T: Serialize>(result: Result<T, InspectError>) -> Response {
    result.map_or_else(|error| failed(&error), |body| ok(&body))
}

pub(super) async fn page() -> Response {
    answer::typed(StatusCode::OK, "text/html; charset=utf-8", page::PAGE)
}

pub(super) async fn openapi() -> Response {
    answer::typed(StatusCode::OK, "application/json", OPENAPI)
}

pub(super) async fn nothing() -> Response {
    refuse(StatusCode::NOT_FOUND, "no such path: see /v1/openapi.json")
}

/// Answers the liveness probe: not ok if the node was shut down or its driver task has died or is stuck.
pub(super) async fn live(State(app): State<App>) -> Response {
    let node = app.inspector.summary();
    let sick = node.down || node.warnings.iter().any(|warning| warning.name == "task-died");
    health(!sick)
}

/// Answers the readiness probe: ok if the node is up, its driver task is alive, and every open cache has caught up.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let node = app.inspector.summary();
    health(!node.down && node.driver_alive && app.inspector.is_ready().await)
}

fn health(good: bool) -> Response {
    if good {
        answer::typed(StatusCode::OK, "text/plain", "ok\n")
    } else {
        answer::typed(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ok\n")
    }
}

pub(super) async fn metrics(State(app): State<App>) -> Response {
    answer::typed(StatusCode::OK, "text/plain; version=0.0.4", text::write(&app.inspector.node()))
}

pub(super) async fn node(State(app): State<App>) -> Response {
    ok(&app.inspector.node())
}

pub(super) async fn cluster(State(app): State<App>, asked: Asked<OfCluster>) -> Response {
    match asked {
        Ok(Query(OfCluster { brief: Some(true) })) => ok(&app.inspector.cluster_in_brief(PATIENCE).await),
        Ok(_) => ok(&app.inspector.cluster(PATIENCE).await),
        Err(rejection) => refuse(StatusCode::BAD_REQUEST, &rejection.body_text()),
    }
}

pub(super) async fn caches(State(app): State<App>) -> Response {
    let names: Vec<_> = app.inspector.node().caches.into_iter().map(|cache| cache.cache).collect();
    ok(&names)
}

pub(super) async fn cache(State(app): State<App>, cache: Cache) -> Response {
    match name(cache) {
        Ok(Path(cache)) => respond(app.inspector.cache(&cache)),
        Err(response) => *response,
    }
}

pub(super) async fn staleness(State(app): State<App>, cache: Cache) -> Response {
    match name(cache) {
        Ok(Path(cache)) => respond(app.inspector.staleness(&cache)),
        Err(response) => *response,
    }
}

pub(super) async fn keys(State(app): State<App>, cache: Cache, asked: Asked<OfKeys>) -> Response {
    let (cache, OfKeys { prefix, cursor, limit }) = match both(cache, asked) {
        Ok(both) => both,
        Err(response) => return *response,
    };
    let limit = limit_or(limit, 100).min(MAX_PAGE);
    respond(match prefix.filter(|prefix| !prefix.is_empty()) {
        Some(prefix) => app.inspector.keys_with_prefix(&cache, &prefix, cursor.as_deref(), limit),
        None => app.inspector.keys(&cache, cursor.as_deref(), limit),
    })
}

pub(super) async fn past(State(app): State<App>, asked: Asked<OfPast>) -> Response {
    match asked {
        Ok(Query(OfPast { member, after_ms, from_event, .. })) => {
            respond(app.inspector.past(member.as_deref(), after_ms.unwrap_or(0), from_event.unwrap_or(0)).await)
        }
        Err(rejection) => refuse(StatusCode::BAD_REQUEST, &rejection.body_text()),
    }
}

pub(super) async fn cache_past(State(app): State<App>, cache: Cache, asked: Asked<OfPast>) -> Response {
    match both(cache, asked) {
        Ok((cache, OfPast { member, after_ms, .. })) => {
            respond(app.inspector.cache_past(&cache, member.as_deref(), after_ms.unwrap_or(0)).await)
        }
        Err(response) => *response,
    }
}

pub(super) async fn hot(State(app): State<App>, cache: Cache, asked: Asked<OfPast>) -> Response {
    match both(cache, asked) {
        Ok((cache, OfPast { member, limit, .. })) => {
            respond(app.inspector.hot_keys(&cache, member.as_deref(), limit_or(limit, 20)).await)
        }
        Err(response) => *response,
    }
}

pub(super) async fn tombstones(State(app): State<App>, cache: Cache, asked: Asked<OfList>) -> Response {
    match both(cache, asked) {
        Ok((cache, OfList { limit })) => respond(app.inspector.oldest_tombstones(&cache, limit_or(limit, 20))),
        Err(response) => *response,
    }
}

pub(super) async fn recent(State(app): State<App>, cache: Cache, asked: Asked<OfList>) -> Response {
    match both(cache, asked) {
        Ok((cache, OfList { limit })) => respond(app.inspector.recent_keys(&cache, limit_or(limit, 100).min(MAX_PAGE))),
        Err(response) => *response,
    }
}

pub(super) async fn explain(State(app): State<App>, cache: Cache, asked: Asked<OfKey>) -> Response {
    let (cache, OfKey { key }) = match both(cache, asked) {
        Ok(both) => both,
        Err(response) => return *response,
    };
    let mut explained = app.inspector.explain(&cache, &key, PATIENCE).await;
    if let (true, Ok(explained)) = (app.config.show_values, &mut explained) {
        explained.value = app.inspector.value(&cache, &key).ok().flatten();
    }
    respond(explained)
}

pub(super) async fn diff(State(app): State<App>, cache: Cache, asked: Asked<OfMember>) -> Response {
    let (cache, OfMember { member, cursor, limit }) = match both(cache, asked) {
        Ok(both) => both,
        Err(response) => return *response,
    };
    // A comparison walks whole key spaces, so only a few may run at one time.
    let Ok(_place) = app.heavy.try_acquire() else { return busy() };
    let limit = limit_or(limit, MAX_DIFF).min(MAX_DIFF);
    respond(app.inspector.diff(&cache, &member, cursor.as_deref(), limit).await)
}

pub(super) async fn audit(State(app): State<App>, cache: Cache) -> Response {
    let Path(cache) = match name(cache) {
        Ok(cache) => cache,
        Err(response) => return *response,
    };
    let Ok(_place) = app.heavy.try_acquire() else { return busy() };
    respond(app.inspector.compare_all(&cache).await)
}

fn busy() -> Response {
    refuse(StatusCode::TOO_MANY_REQUESTS, "too many comparisons are running: retry when they have ended")
}
