//! Two instances of a service that PostgreSQL notifies of each changed row, with `LISTEN` and `NOTIFY`.
//!
//! ```sh
//! apt-get install postgresql   # the programs only: this example starts a server of its own, and removes it
//! cargo run --example postgres_feed
//! ```
//!
//! Other programs change rows, and do not know of the cache. A trigger reports key and version of each change on
//! commit. `Feed` listens and invalidates the key; the next reader fills it again. Both are the parts to copy, with
//! `SCHEMA`.
//!
//! - The feed never inserts what it was notified of: the database orders by commit, the cache by stamp. A fill is
//!   stamped before it reads the row, so a fill that read the old row loses against the invalidation.
//! - It invalidates also if the cached copy has the reported version already. A fill that read the older row may still
//!   run on any node, with a greater stamp than that copy.
//! - Notifications of a lost connection are lost: PostgreSQL does not repeat them. So the feed listens again, and then
//!   invalidates everything. In the opposite order a change between the two would be missed.
//! - While the connection is lost, reads return what was cached. The time to live bounds for how long.
//! - Each instance listens, although invalidations replicate: an instance that is cut off from its peers may still
//!   reach the database.
//!
//! The program prints a transcript and asserts it. It loses a notification twice: the first time with a feed that
//! omits the invalidation. The exit code is 2 if PostgreSQL is missing.

#[path = "postgres_feed/server.rs"]
mod server;

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use driftless::{Cache, FillError, Members, Node};
use serde::{Deserialize, Serialize};
use server::{Server, ServerError, connect};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

type Failure = Box<dyn Error>;

/// The time limit for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause before the feed connects again.
const RETRY: Duration = Duration::from_millis(50);
/// The bound of a product's age, whatever goes wrong with the notifications.
const TIME_TO_LIVE: Duration = Duration::from_secs(600);
/// The exit code if PostgreSQL is not installed.
const MISSING: u8 = 2;

/// The table, its versions, and the notifications. A payload is `key version`, or `*` for all rows. PostgreSQL delivers
/// notifications on commit, in the order of commits, and those of a rolled back transaction never.
const SCHEMA: &str = "
CREATE TABLE product (id integer PRIMARY KEY, cents integer NOT NULL, version bigint NOT NULL DEFAULT 1);

CREATE FUNCTION raise_version() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.version := OLD.version + 1;
  RETURN NEW;
END $$;
CREATE TRIGGER version BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION raise_version();

CREATE FUNCTION report_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  -- An update of the key changes two rows. Equal payloads of one transaction are delivered once.
  IF TG_OP <> 'INSERT' THEN PERFORM pg_notify('product', format('%s %s', OLD.id, OLD.version + 1)); END IF;
  IF TG_OP <> 'DELETE' THEN PERFORM pg_notify('product', format('%s %s', NEW.id, NEW.version)); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER report AFTER INSERT OR UPDATE OR DELETE ON product FOR EACH ROW EXECUTE FUNCTION report_row();

CREATE FUNCTION report_table() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_notify('product', '*');
  RETURN NULL;
END $$;
CREATE TRIGGER report_all AFTER TRUNCATE ON product FOR EACH STATEMENT EXECUTE FUNCTION report_table();

CREATE ROLE feed LOGIN;
INSERT INTO product VALUES (7, 100), (8, 100);
";

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    cents: i32,
    version: i64,
}

/// Products by id, and `None` for a row that does not exist.
type Products = Cache<i32, Option<Product>>;

/// One instance of the service: a node, its cache, a connection for reads, and the feed.
struct Instance {
    node: Node,
    products: Products,
    rows: Arc<Client>,
    fills: Arc<AtomicU32>,
    feed: JoinHandle<()>,
    progress: watch::Receiver<Progress>,
}

impl Instance {
    async fn start(server: &Server, seed: Option<String>, after_loss: AfterLoss) -> Result<Self, Failure> {
        let node = Node::builder().cluster("postgres_feed").seeds(seed).start().await?;
        let products: Products = node.cache("products").time_to_live(TIME_TO_LIVE).open()?;
        let (reports, mut progress) = watch::channel(Progress::default());
        let feed = Feed { config: server.config("feed"), products: products.clone(), after_loss, progress: reports };
        let feed = tokio::spawn(feed.follow());
        progress.wait_for(|progress| progress.is_listening).await?;
        let rows = Arc::new(connect(&server.config("postgres")).await?);
        Ok(Self { node, products, rows, fills: Arc::default(), feed, progress })
    }

    /// Returns a product: from memory, or else from its row, which is then cached on all instances.
    async fn product(&self, id: i32) -> Result<Option<Product>, FillError<tokio_postgres::Error>> {
        let (rows, fills) = (Arc::clone(&self.rows), Arc::clone(&self.fills));
        let fill = move || async move {
            fills.fetch_add(1, Ordering::Relaxed);
            let row = rows.query_opt("SELECT cents, version FROM product WHERE id = $1", &[&id]).await?;
            row.map(|row| Ok(Product { cents: row.try_get(0)?, version: row.try_get(1)? })).transpose()
        };
        self.products.try_get_with(id, fill).await
    }

    /// Returns a product that is at least as new as `version`, which the caller got from its own write. It does not
    /// have to wait for the notification.
    async fn product_since(&self, id: i32, version: i64) -> Result<Option<Product>, FillError<tokio_postgres::Error>> {
        let product = self.product(id).await?;
        if product.is_some_and(|product| product.version >= version) {
            return Ok(product);
        }
        self.products.invalidate(&id);
        self.product(id).await
    }

    /// Waits until the feed has made progress of this kind.
    async fn until(&mut self, done: impl FnMut(&Progress) -> bool) -> Result<Progress, Failure> {
        Ok(*tokio::time::timeout(PATIENCE, self.progress.wait_for(done)).await??)
    }

    async fn stop(self) {
        self.feed.abort();
        self.node.shutdown().await;
    }
}

/// The action of a feed after it has lost its connection and listens again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AfterLoss {
    InvalidateAll,
    /// The mistake that this example shows.
    Nothing,
}

/// The progress of a feed, for code that waits for it.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    is_listening: bool,
    /// Number of connections that have listened.
    connections: u32,
    /// Number of notifications received.
    notifications: u32,
    /// Key and version of the last notification, if it was of one row.
    last: Option<(i32, i64)>,
}

/// A listener that invalidates each key of which it is notified, for as long as its instance runs.
struct Feed {
    config: Config,
    products: Products,
    after_loss: AfterLoss,
    progress: watch::Sender<Progress>,
}

impl Feed {
    async fn follow(self) {
        loop {
            // A service logs the reason here. While a database restarts, each attempt fails.
            let _ended = self.listen().await;
            self.progress.send_if_modified(|progress| std::mem::take(&mut progress.is_listening));
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Listens until the connection ends.
    async fn listen(&self) -> Result<(), tokio_postgres::Error> {
        let (client, mut connection) = self.config.connect(NoTls).await?;
        let mut listen = pin!(client.batch_execute("LISTEN product"));
        let mut is_listening = false;
        loop {
            // Nothing moves on the connection unless it is polled, so the answer to LISTEN needs both branches.
            tokio::select! {
                answer = &mut listen, if !is_listening => {
                    answer?;
                    is_listening = true;
                    self.listens();
                }
                message = poll_fn(|context| connection.poll_message(context)) => match message {
                    Some(message) => self.receive(message?),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Invalidates everything if notifications may have been lost. From here on none is.
    ///
    /// The first connection has lost none that its instance needs: entries of other members are covered by their feeds.
    fn listens(&self) {
        let is_first = self.progress.borrow().connections == 0;
        if !is_first && self.after_loss == AfterLoss::InvalidateAll {
            self.products.invalidate_all();
        }
        self.progress.send_modify(|progress| {
            progress.is_listening = true;
            progress.connections += 1;
        });
    }

    fn receive(&self, message: AsyncMessage) {
        let AsyncMessage::Notification(notification) = message else { return };
        let row = row(notification.payload());
        match row {
            Some((id, _)) => self.products.invalidate(&id),
            // All rows, or a payload of another release: a miss is safe.
            None => self.products.invalidate_all(),
        }
        self.progress.send_modify(|progress| {
            progress.notifications += 1;
            progress.last = row;
        });
    }
}

/// Returns key and version of a payload, if it names one row.
fn row(payload: &str) -> Option<(i32, i64)> {
    let (id, version) = payload.split_once(' ')?;
    Some((id.parse().ok()?, version.parse().ok()?))
}

/// Two instances, and the connection of a program that changes rows and does not know of them.
struct Stage {
    config: Config,
    instances: [Instance; 2],
    program: Client,
}

impl Stage {
    async fn start(server: &Server, after_loss: AfterLoss) -> Result<Self, Failure> {
        let one = Instance::start(server, None, after_loss).await?;
        let two = Instance::start(server, Some(one.node.local_addr().to_string()), after_loss).await?;
        assert!(two.products.ready(PATIENCE).await.is_ready());
        while one.products.members() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let config = server.config("postgres");
        Ok(Self { program: connect(&config).await?, config, instances: [one, two] })
    }

    /// Sets the price of a product, and returns its new version.
    async fn reprice(&self, id: i32, cents: i32) -> Result<i64, Failure> {
        let update = "UPDATE product SET cents = $2 WHERE id = $1 RETURNING version";
        Ok(self.program.query_one(update, &[&id, &cents]).await?.try_get(0)?)
    }

    /// Waits until both feeds have received the notification of this version. All earlier ones have arrived then.
    async fn notified(&mut self, id: i32, version: i64) -> Result<u32, Failure> {
        let mut notifications = 0;
        for instance in &mut self.instances {
            notifications = instance.until(|progress| progress.last == Some((id, version))).await?.notifications;
        }
        Ok(notifications)
    }

    /// Waits until each instance has everything that its peer has written: no invalidation is on its way any more.
    async fn settle(&self) -> Result<(), Failure> {
        for Instance { products, .. } in &self.instances {
            if let Some(written) = products.last_written() {
                products.wait_replicated(written, Members::All, PATIENCE).await?;
            }
        }
        Ok(())
    }

    /// Reads a product on both instances. Returns the version, which both must agree on, or 0 for no row.
    async fn read(&self, id: i32) -> Result<i64, Failure> {
        let [one, two] = [&self.instances[0], &self.instances[1]].map(|instance| instance.product(id));
        let (one, two) = (one.await?, two.await?);
        assert_eq!(one, two, "both instances return the same product");
        Ok(one.map_or(0, |product| product.version))
    }

    /// Reads a product until both instances hold a copy, and nothing is on its way. Returns its version.
    ///
    /// An instance voids a fill that comes close to an invalidation and may not have known of it. That is safe, for the
    /// next read fills again. But a copy that is missing cannot be stale.
    async fn hold(&self, id: i32) -> Result<i64, Failure> {
        loop {
            self.settle().await?;
            let version = self.read(id).await?;
            self.settle().await?;
            if self.instances.iter().all(|instance| instance.products.contains_key(&id)) {
                return Ok(version);
            }
        }
    }

    fn fills(&self) -> u32 {
        self.instances.iter().map(|instance| instance.fills.load(Ordering::Relaxed)).sum()
    }

    async fn stop(self) {
        let [one, two] = self.instances;
        two.stop().await;
        one.stop().await;
    }
}

/// Shows that a change is reported when it commits, and only then.
async fn commits(stage: &mut Stage) -> Result<(), Failure> {
    println!("\na change is reported when it commits");
    assert_eq!(stage.read(7).await?, 1);
    println!("  both return version 1 of product 7, after {} read(s) of the database", stage.fills());

    // Notifications arrive in the order of commits. So that of product 8 shows that there was none before it.
    let elsewhere = connect(&stage.config).await?;
    elsewhere.batch_execute("BEGIN; UPDATE product SET cents = 90 WHERE id = 7").await?;
    let version = stage.reprice(8, 110).await?;
    let before = stage.notified(8, version).await?;
    assert_eq!((stage.read(7).await?, before), (1, 1));
    println!("  a transaction changes product 7, and stays open: no notification, both return version 1");
    let start = Instant::now();
    elsewhere.batch_execute("COMMIT").await?;
    stage.notified(7, 2).await?;
    println!("  it commits: both are notified of version 2, {:.1} ms later", start.elapsed().as_secs_f64() * 1e3);
    assert_eq!(stage.read(7).await?, 2);
    println!("  both return version 2");

    elsewhere.batch_execute("BEGIN; UPDATE product SET cents = 1 WHERE id = 7; ROLLBACK").await?;
    let version = stage.reprice(8, 120).await?;
    assert_eq!(stage.notified(8, version).await?, before + 2, "that of the commit, and that of product 8");
    assert_eq!(stage.read(7).await?, 2);
    println!("  a transaction changes product 7, and rolls back: no notification, both return version 2");

    let version = stage.reprice(7, 80).await?;
    let found = stage.instances[1].product_since(7, version).await?;
    assert_eq!(found, Some(Product { cents: 80, version: 3 }));
    println!("  product 7 changes; a caller that knows of version 3 gets it without waiting for the notification");
    stage.notified(7, version).await?;
    Ok(())
}

/// Shows that rows that go and come again are reported, too.
async fn removals(stage: &mut Stage) -> Result<(), Failure> {
    println!("\nso are removals");
    stage.program.batch_execute("DELETE FROM product WHERE id = 7").await?;
    stage.notified(7, 4).await?;
    assert_eq!(stage.read(7).await?, 0);
    println!("  product 7 is deleted: both are notified, and return no product");
    stage.program.batch_execute("INSERT INTO product VALUES (7, 100)").await?;
    stage.notified(7, 1).await?;
    assert_eq!(stage.read(7).await?, 1);
    println!("  product 7 is inserted again: both return version 1, although it is lower");

    stage.program.batch_execute("TRUNCATE product").await?;
    for instance in &mut stage.instances {
        instance.until(|progress| progress.last.is_none()).await?;
    }
    assert_eq!((stage.read(7).await?, stage.read(8).await?), (0, 0));
    println!("  TRUNCATE removes all rows with one notification: both return no product");
    stage.program.batch_execute("INSERT INTO product VALUES (7, 100), (8, 100)").await?;
    stage.notified(8, 1).await?;
    Ok(())
}

/// Loses a notification: ends the connections of both feeds, and changes product 7 before they listen again. Returns
/// the newest version of product 7, and the version that both instances return afterwards.
async fn loses_a_notification(stage: &mut Stage) -> Result<(i64, i64), Failure> {
    let version = stage.reprice(7, 70).await?;
    stage.notified(7, version).await?;
    let before = tokio::time::timeout(PATIENCE, stage.hold(7)).await??;
    assert_eq!(before, version);
    println!("  both are notified of version {before} of product 7, and return it");

    stage.program.batch_execute("ALTER ROLE feed NOLOGIN").await?; // until the change below is committed
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'feed'";
    assert!(stage.program.query(end, &[]).await?.len() >= 2);
    for instance in &mut stage.instances {
        instance.until(|progress| !progress.is_listening).await?;
    }
    let lost = stage.reprice(7, 60).await?;
    assert_eq!(stage.read(7).await?, before, "nothing has reported the change");
    println!("  pg_terminate_backend ends both connections; product 7 changes to version {lost}");

    stage.program.batch_execute("ALTER ROLE feed LOGIN").await?;
    for instance in &mut stage.instances {
        instance.until(|progress| progress.is_listening && progress.connections == 2).await?;
    }
    let received = stage.instances.each_ref().map(|instance| instance.progress.borrow().notifications);
    let version = stage.reprice(8, 130).await?;
    stage.notified(8, version).await?;
    let since = stage.instances.each_ref().map(|instance| instance.progress.borrow().notifications);
    assert_eq!(since, received.map(|count| count + 1), "only that of product 8");
    println!("  both listen again, and are notified of a later change of product 8, but never of version {lost}");
    Ok((lost, stage.read(7).await?))
}

async fn show(server: &Server) -> Result<(), Failure> {
    let setup = connect(&server.config("postgres")).await?;
    setup.batch_execute(SCHEMA).await?;
    let version: String = setup.query_one("SHOW server_version", &[]).await?.try_get(0)?;
    println!("PostgreSQL {version} in {}", server.folder().display());
    println!("two instances share one cache; each has a node, and a feed that listens");

    let mut stage = Stage::start(server, AfterLoss::InvalidateAll).await?;
    commits(&mut stage).await?;
    removals(&mut stage).await?;
    println!("\na notification is lost; the feeds invalidate everything when they listen again");
    let (newest, returned) = loses_a_notification(&mut stage).await?;
    assert_eq!(returned, newest, "an invalidation after a lost connection makes the next read right");
    println!("  both return version {returned}: RIGHT");
    stage.stop().await;

    println!("\nthe same loss with the mistake: the feeds only listen again");
    let mut stage = Stage::start(server, AfterLoss::Nothing).await?;
    let (newest, returned) = loses_a_notification(&mut stage).await?;
    assert_eq!(returned, newest - 1, "nothing else corrects a lost notification");
    println!("  both return version {returned}: STALE, for up to {} s (the time to live)", TIME_TO_LIVE.as_secs());
    stage.stop().await;
    Ok(())
}

async fn run() -> Result<(), Failure> {
    let server = Server::start().await?;
    show(&server).await
}

#[tokio::main]
async fn main() -> ExitCode {
    // An interrupt drops the server, which stops it and removes its folder.
    let ended = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        ended = run() => ended,
    };
    let Err(error) = ended else { return ExitCode::SUCCESS };
    eprintln!("postgres_feed: {error}");
    let is_missing = matches!(error.downcast_ref(), Some(ServerError::Missing { .. }));
    if is_missing { MISSING.into() } else { ExitCode::FAILURE }
}
