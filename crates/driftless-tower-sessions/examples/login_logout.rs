//! A login on one node and a logout on a second one, with axum and tower-sessions.
//!
//! ```sh
//! cargo run -p driftless-tower-sessions --example login_logout
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use driftless::Node;
use driftless_tower_sessions::DriftlessStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_sessions::{Expiry, Session, SessionManagerLayer};

type AnyError = Box<dyn Error + Send + Sync>;

async fn login(session: Session, Path(user): Path<String>) -> Result<(), StatusCode> {
    session.cycle_id().await.map_err(failed)?; // an id from before the login is worth nothing after it
    session.insert("user", user).await.map_err(failed)
}

async fn me(session: Session) -> Result<String, StatusCode> {
    session.get("user").await.map_err(failed)?.ok_or(StatusCode::UNAUTHORIZED)
}

async fn logout(session: Session) -> Result<(), StatusCode> {
    session.flush().await.map_err(failed) // returns when the other node has it
}

fn failed(error: tower_sessions::session::Error) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Starts the web service of one node. Returns its address.
async fn serve(node: &Node) -> Result<SocketAddr, AnyError> {
    let store = DriftlessStore::open(node)?;
    println!("sessions: {}", store.ready(Duration::from_secs(10)).await);
    let layer = SessionManagerLayer::new(store)
        .with_secure(false) // the example has no TLS
        .with_expiry(Expiry::OnInactivity(time::Duration::minutes(30)));
    let app = Router::new()
        .route("/login/{user}", post(login))
        .route("/me", get(me))
        .route("/logout", post(logout))
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// Runs the example.
#[tokio::main]
pub async fn main() -> Result<(), AnyError> {
    let first = Node::builder().cluster("demo").start().await?;
    let second = Node::builder().cluster("demo").seeds([first.local_addr().to_string()]).start().await?;
    second.wait_for_members(1, Duration::from_secs(10)).await?;
    let at = [serve(&first).await?, serve(&second).await?];

    let (status, cookie, _) = request(at[0], "POST /login/ann", None).await?;
    assert_eq!(status, 200);
    let cookie = cookie.ok_or("a login sets a cookie")?;
    wait_for(at[1], &cookie, (200, "ann")).await?;
    println!("logged in on {}, known on {}", at[0], at[1]);

    let (status, ..) = request(at[1], "POST /logout", Some(&cookie)).await?;
    assert_eq!(status, 200);
    wait_for(at[0], &cookie, (401, "")).await?;
    println!("logged out on {}, unknown on {}", at[1], at[0]);
    second.shutdown().await;
    first.shutdown().await;
    Ok(())
}

/// Repeats a request until the reply is as expected: nodes agree within milliseconds, not at once.
async fn wait_for(at: SocketAddr, cookie: &str, wanted: (u16, &str)) -> Result<(), AnyError> {
    for _ in 0..2_000 {
        let (status, _, body) = request(at, "GET /me", Some(cookie)).await?;
        if (status, body.as_str()) == wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("{at} never answers {wanted:?}").into())
}

/// Sends one request on one connection. Returns status, cookie and body.
async fn request(at: SocketAddr, what: &str, cookie: Option<&str>) -> Result<(u16, Option<String>, String), AnyError> {
    let mut stream = TcpStream::connect(at).await?;
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    let head = format!("{what} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: 0\r\n{cookie}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut off")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next().map(str::to_owned));
    Ok((status, cookie, body.to_owned()))
}
