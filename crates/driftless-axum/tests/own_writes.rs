//! Two web services on two real nodes, and a user who goes from one to the other.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode, header};
use axum::routing::get;
use driftless::{Cache, Node, NotSeen};
use driftless_axum::{Freshness, ReadYourWrites, Writes};
use http_body_util::BodyExt;
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(60);

type Names = Cache<u64, String>;

async fn show(State(names): State<Names>, Path(id): Path<u64>, freshness: Option<Freshness>) -> String {
    let freshness = match freshness {
        None => "no layer".to_owned(),
        Some(Freshness::Unknown(missing)) => format!("unknown: {}", missing[0]),
        Some(known) => format!("{known:?}"),
    };
    format!("{} ({freshness})", names.get(&id).unwrap_or_default())
}

async fn rename(State(names): State<Names>, Path(id): Path<u64>, name: String) {
    names.insert(id, name).unwrap();
}

async fn remove(State(names): State<Names>, Path(id): Path<u64>) {
    names.invalidate(&id);
}

/// Writes although its method is GET.
async fn visit(_: Writes, State(names): State<Names>, Path(id): Path<u64>) {
    names.insert(id, "visited".into()).unwrap();
}

async fn two() -> [Node; 2] {
    let first = Node::builder().cluster("web").start().await.unwrap();
    let second = Node::builder().cluster("web").seeds([first.local_addr().to_string()]).start().await.unwrap();
    for node in [&first, &second] {
        node.wait_for_members(1, PATIENCE).await.unwrap();
    }
    [first, second]
}

async fn names(nodes: &[Node; 2]) -> [Names; 2] {
    let names = [0, 1].map(|n| nodes[n].cache("names").open().unwrap());
    for cache in &names {
        let ready = Names::ready(cache, PATIENCE).await;
        assert!(ready.is_ready(), "{ready}");
    }
    names
}

fn service(names: &Names, layer: Option<ReadYourWrites>) -> Router {
    let routes = Router::new().route("/{id}", get(show).put(rename).delete(remove)).route("/visit/{id}", get(visit));
    let routes = match layer {
        Some(layer) => routes.layer(layer.cache(names)),
        None => routes,
    };
    routes.with_state(names.clone())
}

/// A user with a cookie, as a browser keeps it.
#[derive(Default)]
struct User {
    cookie: Option<String>,
}

impl User {
    async fn send(&mut self, to: &Router, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let response = to.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        if let Some(set) = response.headers().get(header::SET_COOKIE) {
            let set = set.to_str().unwrap();
            assert!(set.contains("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"), "{set}");
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn tokens(&self) -> usize {
        self.cookie.as_ref().map_or(0, |cookie| cookie.split('.').count())
    }
}

/// Writes on one node and reads on the second one at once, a thousand times. Returns the number of reads that missed
/// the user's own write.
async fn missed(services: &[Router; 2]) -> usize {
    let mut user = User::default();
    let mut missed = 0;
    for round in 0..1_000 {
        let (here, there) = (&services[round % 2], &services[(round + 1) % 2]);
        let name = format!("name {round}");
        user.send(here, "PUT", "/1", &name).await;
        let (_, read) = user.send(there, "GET", "/1", "").await;
        missed += usize::from(!read.starts_with(&format!("{name} (")));
    }
    missed
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_own_writes_each_is_read_on_the_second_node() {
    let nodes = two().await;
    let names = names(&nodes).await;
    let patient = || Some(ReadYourWrites::new().wait(PATIENCE));
    let with = missed(&[service(&names[0], patient()), service(&names[1], patient())]).await;
    let without = missed(&[service(&names[0], None), service(&names[1], None)]).await;
    println!("own writes missed of 1,000: {with} with the layer, {without} without");
    assert_eq!(with, 0);
    assert!(without > 0, "the reads are too slow to miss anything");
}

#[tokio::test]
async fn a_token_is_set_by_a_write_alone_and_one_is_kept_for_each_node() {
    let nodes = two().await;
    let names = names(&nodes).await;
    let [here, there] = [0, 1].map(|n| service(&names[n], Some(ReadYourWrites::new().wait(PATIENCE))));
    let mut user = User::default();
    assert_eq!(user.send(&here, "GET", "/1", "").await.1, " (NoToken)");
    user.send(&here, "PUT", "/9999999999999999999999", "no number").await;
    assert_eq!(user.cookie, None, "nothing was written");
    user.send(&here, "PUT", "/1", "ann").await;
    let first = user.cookie.clone().unwrap();
    assert!(first.starts_with("driftless-names=") && user.tokens() == 1, "{first}");
    assert_eq!(user.send(&there, "GET", "/1", "").await.1, "ann (OwnWritesSeen)");
    assert_eq!(user.cookie.as_ref(), Some(&first), "a read sets no cookie");
    user.send(&there, "GET", "/visit/2", "").await;
    assert_eq!(user.tokens(), 2);
    user.send(&there, "DELETE", "/1", "").await;
    assert_eq!(user.tokens(), 2, "the later write of a node stands for the earlier one");
    assert_eq!(user.send(&here, "GET", "/1", "").await.1, " (OwnWritesSeen)");
    assert_eq!(user.send(&here, "GET", "/2", "").await.1, "visited (OwnWritesSeen)");
}

/// Checks the bound of the wait, and the answer of a node that cannot know.
#[tokio::test]
async fn a_request_continues_when_the_write_does_not_arrive() {
    let nodes = two().await;
    let names = names(&nodes).await;
    let wait = Duration::from_millis(50);
    let [here, there] = [0, 1].map(|n| service(&names[n], Some(ReadYourWrites::new().wait(wait))));
    let mut user = User::default();
    user.send(&here, "PUT", "/1", "ann").await;
    // The first character is the top of the time: now it is centuries ahead.
    let cookie = user.cookie.as_mut().unwrap();
    let first = "driftless-names=".len();
    cookie.replace_range(first..=first, "_");
    let start = Instant::now();
    let (status, body) = user.send(&there, "GET", "/2", "").await;
    assert!(status == StatusCode::OK && start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
    assert!(body.contains("unknown: "), "{body}");

    // A token of a replica that no node knows costs no wait.
    let stranger = Node::builder().cluster("stranger").start().await.unwrap();
    let strange: Names = stranger.cache("names").open().unwrap();
    let token = strange.insert(1, "x".into()).unwrap().token();
    let error = names[1].wait_seen(&token, PATIENCE).await.unwrap_err();
    assert_eq!(error, NotSeen::Unknown { token });
    user.cookie = Some(format!("driftless-names={token}"));
    let (status, body) = user.send(&there, "GET", "/2", "").await;
    assert!(status == StatusCode::OK && body.contains("wait for `ready`"), "{body}");
    user.cookie = Some("driftless-names=<script>.%00; driftless-names".into());
    assert_eq!(user.send(&there, "GET", "/2", "").await.1, " (NoToken)");
}

#[tokio::test]
async fn an_extractor_without_the_layer_is_an_error_that_names_it() {
    let nodes = two().await;
    let names = names(&nodes).await;
    let (status, body) = User::default().send(&service(&names[0], None), "GET", "/visit/1", "").await;
    assert!(status == StatusCode::INTERNAL_SERVER_ERROR && body.contains("ReadYourWrites"), "{body}");
    assert_eq!(names[0].get(&1), None);
    assert_eq!(User::default().send(&service(&names[0], None), "GET", "/1", "").await.1, " (no layer)");
}
