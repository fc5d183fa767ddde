//! The process of `driftless serve`: one node, its Redis server and its debug interface, from start to signal.

mod reload;
mod signals;

use crate::{
    config::{Config, ConfigError, Database, RedisConfig, Timing, Weight, flags::Given, secrets::Secrets, template},
    debug::{self, DebugPage, DebugSettings},
    logs::Log,
    serve::{server, session::Shared, settings::Settings},
};
use bytes::Bytes;
use driftless::{Cache, Node, OpenError};
use reload::Reloader;
use signals::Signals;
use std::{
    error::Error,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicI64},
    time::Instant,
};
use tokio::{net::TcpListener, sync::watch};

/// One node of a replicated cache, for clients that speak the Redis protocol
#[derive(clap::Args, Clone)]
pub struct Arguments {
    /// Read settings from this TOML file. Flags and variables win over it
    #[arg(long, value_name = "PATH", env = "DRIFTLESS_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Print the settings in force, and end. Fails if one is not valid
    #[arg(long)]
    check: bool,
    /// Print a file with every setting, its help and its default, and end
    #[arg(long)]
    default_config: bool,
    /// Accept the command DRILL, which sets the offset of this node's clock: for `examples/chaos`
    #[arg(long, hide = true)]
    drill: bool,
    #[command(flatten)]
    given: Given,
}

impl Arguments {
    /// Reads the settings, and the secrets of their files.
    fn load(&self) -> Result<(Config, Secrets), ConfigError> {
        // A variable without a value counts as none.
        let file = self.config.as_deref().filter(|path| !path.as_os_str().is_empty());
        let config = Config::load(file, &self.given)?;
        let secrets = Secrets::load(&config)?;
        Ok((config, secrets))
    }
}

/// Runs until a signal, and returns the exit status.
pub fn main(arguments: &Arguments) -> ExitCode {
    let outcome = match arguments {
        Arguments { default_config: true, .. } => template::text().map(|text| print!("{text}")).map_err(Into::into),
        Arguments { check: true, .. } => check(arguments),
        _ => run(arguments),
    };
    outcome.map_or_else(
        |error| {
            eprintln!("driftless: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn check(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    print!("{}", arguments.load()?.0.shown()?);
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let (config, secrets) = arguments.load()?;
    let log = Arc::new(Log::start(&config.log)?);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.redis.threads > 0 {
        runtime.worker_threads(config.redis.threads);
    }
    let served = runtime.enable_all().build()?.block_on(serve(arguments, config, secrets, Arc::clone(&log)));
    if let Err(error) = served {
        log.fatal(&error);
        std::process::exit(1);
    }
    Ok(())
}

async fn serve(arguments: &Arguments, config: Config, secrets: Secrets, log: Arc<Log>) -> Result<(), Box<dyn Error>> {
    // Signal handlers first, so that a signal during the start is not lost.
    let mut signals = Signals::new()?;
    let redis = &config.redis.bind;
    let listener = TcpListener::bind(redis.to_string()).await.map_err(|error| format!("--redis {redis}: {error}"))?;
    let drill = arguments.drill.then(Arc::<AtomicI64>::default);
    let node = start_node(&config, &secrets, drill.clone()).await?;
    let debug = start_debug(&node, &config, &secrets).await?;
    let shared = Arc::new(share(&config, node.clone(), &listener, secrets.password.clone(), drill)?);
    let reloader = Reloader::new(arguments.clone(), config.clone(), secrets, node.clone(), Arc::clone(&log));
    let reloading = tokio::spawn(reloader.run(signals.hangups()?));
    tokio::select! {
        announced = announce(&shared, &config, debug.as_ref(), &log) => announced?,
        () = signals.next() => {
            node.shutdown().await;
            return Ok(());
        }
    }

    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server::serve(listener, shared, stopped));
    signals.next().await;
    reloading.abort();
    // Open connections finish their requests first. Then the node sends its peers the writes they lack. A second signal
    // ends the process at once.
    stop.send_replace(true);
    let ending = async {
        let _ = serving.await;
        node.shutdown().await;
    };
    tokio::select! {
        () = ending => {}
        () = signals.next() => {}
    }
    Ok(())
}

async fn start_node(config: &Config, secrets: &Secrets, drill: Option<Arc<AtomicI64>>) -> Result<Node, Box<dyn Error>> {
    let settings = &config.node;
    let mut builder = Node::builder()
        .cluster(&settings.cluster)
        .name(&settings.name)
        .bind_host(settings.bind.to_string())
        .seeds(settings.seeds.clone());
    if let Some(advertise) = &settings.advertise {
        builder = builder.advertise_host(advertise.to_string());
    }
    if settings.timing == Timing::Local {
        builder = builder.local_timing();
    }
    if let Some(offset) = drill {
        builder = builder.clock_offset(offset);
    }
    if !secrets.keys.is_empty() {
        builder = builder.encryption_keys(secrets.keys.clone());
    }
    Ok(builder.start().await?)
}

async fn start_debug(node: &Node, config: &Config, secrets: &Secrets) -> Result<Option<DebugPage>, Box<dyn Error>> {
    let Some(at) = &config.http.bind else { return Ok(None) };
    let settings = DebugSettings {
        at: at.to_string(),
        token: secrets.token.clone(),
        hosts: config.http.hosts.clone(),
        show_values: config.http.show_values,
    };
    debug::serve(node, settings).await.map(Some)
}

fn open(node: &Node, database: &Database) -> Result<Cache<Bytes, Bytes>, OpenError> {
    let builder = node.cache::<Bytes, Bytes>(&database.name).settings(database.settings.clone());
    match database.weigh_by {
        Weight::Entries => builder.open(),
        Weight::Bytes => builder
            .weigher(|key: &Bytes, value: &Bytes| u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX))
            .open(),
    }
}

fn settings(config: &RedisConfig, password: Option<String>) -> Settings {
    Settings {
        max_clients: config.max_clients,
        password,
        max_request_bytes: config.max_request_bytes,
        max_input_bytes: config.max_input_bytes,
        max_output_bytes: config.max_output_bytes,
        max_buffer_bytes: config.max_buffer_bytes,
        write_timeout: config.write_timeout,
        tracking_keys: config.tracking_keys,
    }
}

fn share(
    config: &Config,
    node: Node,
    listener: &TcpListener,
    password: Option<String>,
    drill: Option<Arc<AtomicI64>>,
) -> Result<Shared, Box<dyn Error>> {
    let open = |database: &Database| open(&node, database).map_err(|error| format!("cache {}: {error}", database.name));
    let caches = config.databases.iter().map(open).collect::<Result<_, _>>()?;
    let settings = settings(&config.redis, password);
    let shared = Shared::new(node, caches, config.node.cluster.clone(), listener.local_addr()?, settings);
    Ok(Shared { drill, ..shared })
}

/// Fetches the state of the cluster, for at most `redis.wait`, then prints the `ready` line. Clients may connect
/// earlier, but are served only afterwards.
async fn announce(shared: &Shared, config: &Config, debug: Option<&DebugPage>, log: &Log) -> std::io::Result<()> {
    let deadline = Instant::now() + config.redis.wait;
    let mut state = String::new();
    for database in &shared.databases {
        let ready = database.cache.ready(deadline.saturating_duration_since(Instant::now())).await;
        if state.is_empty() || !ready.is_ready() {
            state = ready.to_string();
        }
    }
    let mut parts = vec![
        ("redis", shared.redis.to_string()),
        ("gossip", shared.node.local_addr().to_string()),
        ("cluster", shared.cluster.clone()),
    ];
    parts.extend(debug.map(|page| ("debug", format!("http://{}/", page.addr))));
    parts.push(("state", state));
    log.ready(&parts)
}
