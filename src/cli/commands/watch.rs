//! `watch`: the daemon, its log, its pages and its place with the service manager.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::shown::Shown;
use super::{CommandResult, Output};
use crate::cli::alerts::Alarm;
use crate::cli::args::{GatewayArgs, WatchArgs};
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::forge::{Teller, variable};
use crate::cli::listen::Listening;
use crate::cli::pages::VOICE;
use crate::cli::signals::on_signals;
use crate::cli::view::log::{LISTEN, WATCH, log};
use crate::cli::view::progress::event_json;
use crate::execute::{Clock as _, Inbox, Ports, SystemClock, Waker, Wakeup};
use crate::forge::LOG_TARGET;
use crate::listen::{Bell, Bounds, LISTENS, Server, ServiceManager, StatusHandle, lower_priority};
use crate::model::status::Snapshot;
use crate::model::text::sanitize_line;
use crate::ops::hub::Followed;
use crate::ops::snapshot::take;
use crate::ops::status::DaemonLock;
use crate::ops::watch::{GatewayOptions, Note, RemoteSource, Switchboard, WatchOptions, watch};
use crate::ops::{Environment, OpsError, Trust, Workspace};
use crate::repo::{Pulse, check_signing_key, without_secrets};
use crate::rest::{Office, RestServer};
use crate::web::{Site, SiteOptions};

/// The shortest interval: more frequent requests would overload a server.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// `gateway --certificate FILE --key FILE [--mqtt ADDR]`, and the options of `watch`
pub fn gateway(environment: &Environment, arguments: &GatewayArgs, output: &Output) -> CommandResult {
    let GatewayArgs { command, mqtt, https, certificate, key, trusted_proxies, watch } = arguments;
    if let Some(command) = command {
        return super::gateway::run(environment, command, output);
    }
    let absolute = |path: &Option<PathBuf>| std::path::absolute(path.as_deref().unwrap_or(Path::new("")));
    let (certificate, key) = (absolute(certificate)?, absolute(key)?);
    let [given_mqtt, given_https] = super::gateway::sockets()?;
    let (https, https_listener) = given_https.map_or((*https, None), |(at, given)| (Some(at), Some(given)));
    let rest = https.map(|at| super::gateway::bind(at, https_listener, (&certificate, &key))).transpose()?;
    let proxies = trusted_proxies.clone();
    let (mqtt, listener) = given_mqtt.map_or((*mqtt, None), |(at, given)| (at, Some(given)));
    let gateway = GatewayOptions { mqtt, listener, certificate, key, proxies, switchboard: Switchboard::default() };
    // Later a file that cannot be used leaves the one before in use. At the start there is none.
    gateway.check().map_err(|error| super::gateway::unusable(&error))?;
    run(environment, watch, Some((gateway, rest)), output)
}

/// `watch [--remote URL] [--branch B] [--interval 30s] [--listen ADDR]`
pub fn run(
    environment: &Environment,
    arguments: &WatchArgs,
    gateway: Option<(GatewayOptions, Option<RestServer>)>,
    output: &Output,
) -> CommandResult {
    arguments.log.start(output)?;
    let mut environment = arguments.secrets.give_to(environment)?;
    environment.signing_key = arguments.sign.as_deref().map(signing_key).transpose()?;
    let environment = &environment;
    // A variable that is set and empty is how unit and compose files leave one out.
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (remote, branch) = (given(&arguments.remote).map(from_here), given(&arguments.branch));
    check_interval(arguments.interval)?;
    let listening = arguments.listen.open()?;
    let mut teller = teller(environment, arguments, remote.as_deref())?;
    let mut alarm = Alarm::new(arguments.alerts.open()?);
    check_folder(environment, remote.as_deref())?;
    let (gateway, rest) = gateway.unzip();
    let switchboard = gateway.as_ref().map(|gateway| (gateway.switchboard.clone(), gateway.proxies.clone()));
    let handle = StatusHandle::new(first_snapshot(environment, remote.as_deref()));
    let options = WatchOptions {
        trust: Trust { introduction: arguments.introduction.clone(), remembers: true },
        remote: remote.as_ref().map(|address| RemoteSource {
            address: address.clone(),
            path: arguments.path.clone().unwrap_or_default(),
            time_max: arguments.git_timeout,
        }),
        branch,
        interval: arguments.interval,
        grace: Duration::from_secs(arguments.grace),
        lease_time: arguments.lease_time,
        pulse: Some(pulse(handle.clone())),
        accepts_rewind: arguments.accept_rewind,
        has_events: true,
        gateway,
        ports: Ports::REAL,
    };
    let inbox = Inbox::new();
    let mut shown = Shown::new(DaemonLock::take(environment)?, handle.clone());
    let mut tell = |note: &Note<'_>| {
        log(note);
        if output.is_json
            && let Note::Progress(progress) = note
            && let Some(event) = event_json(progress)
        {
            // A reader that is gone does not stop the work.
            drop(output.json_line(&event));
        }
        shown.note(note);
        teller.iter_mut().for_each(|teller| teller.note(note, environment));
        alarm.note(note, environment, SystemClock.now());
    };
    stand_by(environment, listening, handle, inbox.waker())?;
    if let Some(switchboard) = switchboard {
        let followed = Followed::of(environment, remote.as_deref(), options.branch.as_deref())?;
        serve_back_ends(environment, &followed, switchboard, rest.flatten(), inbox.waker())?;
    }
    if let Some(path) = arguments.snapshot_to.clone() {
        keep_snapshot(environment.clone(), path, arguments.snapshot_every)?;
    }
    let watched = watch(environment, &options, &SystemClock, &inbox, &mut tell);
    alarm.end();
    watched?;
    shown.end();
    teller.and_then(Teller::end).inspect(|error| tracing::warn!(target: LOG_TARGET, "the last status: {error}"));
    tracing::info!(target: WATCH, "stopped");
    Ok(exit::OK)
}

/// Registers new devices, and answers back ends where they are served.
fn serve_back_ends(
    environment: &Environment,
    followed: &Followed,
    switchboard: (Switchboard, Vec<IpAddr>),
    rest: Option<RestServer>,
    waker: Waker,
) -> Result<(), CommandError> {
    let wake = Arc::new(move |wakeup| waker.wake(wakeup));
    let office = Office::open(environment, followed, switchboard, wake)?;
    rest.map(|rest| rest.start(&office)).transpose()?;
    Ok(())
}

/// Makes the folder of a mirror. Nothing is made in a folder that is not a fleet's.
fn check_folder(environment: &Environment, remote: Option<&str>) -> Result<(), CommandError> {
    match remote {
        Some(_) => std::fs::create_dir_all(&environment.folder)?,
        None => drop(Workspace::open(environment).map_err(OpsError::from)?),
    }
    Ok(())
}

fn check_interval(interval: Duration) -> Result<(), CommandError> {
    if interval >= INTERVAL_MIN {
        return Ok(());
    }
    Err(CommandError::Usage {
        what: "--interval is less than 100ms".to_string(),
        help: "A local branch is seen at once, and a webhook makes the daemon look at a remote one at once."
            .to_string(),
    })
}

/// Returns what tells a forge of the commits; `None` without a token.
fn teller(
    environment: &Environment,
    arguments: &WatchArgs,
    remote: Option<&str>,
) -> Result<Option<Teller>, CommandError> {
    let own = || Workspace::open(environment).ok()?.repo.remote_address("origin");
    let address = remote.map(str::to_string).or_else(own);
    let forge = arguments.forge.open(address.as_deref(), None, &variable)?;
    Ok(forge.map(|forge| Teller::start(forge, arguments.forge.link())).transpose()?)
}

/// Returns the heartbeat to give while git keeps the daemon waiting: each call of git has a time limit.
fn pulse(handle: StatusHandle) -> Pulse {
    let manager = ServiceManager::from_environment();
    Pulse::new(move || {
        handle.beat();
        if manager.watchdog_interval().is_some() {
            manager.alive();
        }
    })
}

/// Returns the absolute path of a key that can sign.
fn signing_key(key: &Path) -> Result<PathBuf, CommandError> {
    let key = std::path::absolute(key)?;
    check_signing_key(&key).map_err(|what| CommandError::Usage {
        what,
        help: "Name the file of an SSH key without a passphrase, or one that an agent has.".to_string(),
    })?;
    Ok(key)
}

/// Returns a path relative to the current folder as an absolute one: git would resolve it from the mirror.
fn from_here(address: String) -> String {
    let path = std::path::Path::new(&address);
    let whole = if path.is_relative() { path.canonicalize().ok() } else { None };
    whole.and_then(|whole| whole.to_str().map(str::to_string)).unwrap_or(address)
}

fn first_snapshot(environment: &Environment, remote: Option<&str>) -> Snapshot {
    let mut snapshot = Snapshot::new(env!("CARGO_PKG_VERSION"), "", SystemClock.now());
    let folder = || environment.folder.canonicalize().unwrap_or(environment.folder.clone()).display().to_string();
    snapshot.source.address = remote.map_or_else(folder, |address| without_secrets(address).into_owned());
    snapshot
}

/// Listens for signals, and serves the pages on a thread of its own: git may block the daemon, but must not block the
/// pages.
fn stand_by(
    environment: &Environment,
    listening: Option<Listening>,
    handle: StatusHandle,
    waker: Waker,
) -> std::io::Result<()> {
    let interrupts = waker.clone();
    on_signals(move || stop(&interrupts))?;
    let Some(listening) = listening else { return Ok(()) };
    let Listening { listener, secrets, access, tls, has_actions } = listening;
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let acting = waker.clone();
    let bell: Bell = Arc::new(move || waker.wake(Wakeup::Doorbell));
    // A stop is a commit to be fetched, and a block is something to be published.
    let acted: Bell = Arc::new(move || {
        acting.wake(Wakeup::Doorbell);
        acting.wake(Wakeup::Noted);
    });
    let bounds = access.as_ref().map_or_else(Bounds::default, |access| Bounds::with_pages(access.proxies()));
    let site = access.map(|access| {
        if tls.is_none() && !is_loopback {
            tracing::warn!(target: LISTEN, "connections are not encrypted, and tokens go over them: add --tls-cert and \
                --tls-key, unless a proxy before it encrypts them");
        }
        Site::start(SiteOptions {
            environment: environment.clone(),
            voice: VOICE,
            fleet: String::new(),
            live: Some(handle.clone()),
            events: Some(handle.events().clone()),
            access,
            is_encrypted: tls.is_some(),
            has_actions,
            bell: Some(acted),
        })
    });
    let site = site.transpose()?;
    let (pages, operators) = (site.as_ref().map(Site::router), site.as_ref().and_then(Site::operators));
    let server = Server { handle, bell, secrets, bounds, pages, operators, tls };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        lower_priority(LISTENS);
        runtime.block_on(serve(server, listener));
    };
    std::thread::Builder::new().name("pages".to_string()).spawn(serve).map(drop)
}

/// Takes a snapshot of the registry again and again, on a thread of its own. It reads only; what fails is tried again
/// at the next time.
fn keep_snapshot(environment: Environment, path: PathBuf, every: Duration) -> std::io::Result<()> {
    let keep = move || loop {
        match take(&environment, &path, SystemClock.now()) {
            Ok(head) => tracing::debug!(target: WATCH, devices = head.devices, "a snapshot was taken"),
            Err(error) => {
                let error = sanitize_line(&error.to_string()).into_owned();
                tracing::warn!(target: WATCH, %error, "the snapshot cannot be taken: it is tried again");
            }
        }
        std::thread::sleep(every);
    };
    std::thread::Builder::new().name("snapshots".to_string()).spawn(keep).map(drop)
}

/// The first signal asks to end, the second ends at once.
fn stop(waker: &Waker) {
    if waker.is_interrupted() {
        std::process::exit(i32::from(exit::INTERRUPTED));
    }
    tracing::info!(target: WATCH, "stopping: no new device starts, those in flight are awaited; once more ends at \
        once");
    ServiceManager::from_environment().stopping();
    waker.interrupt();
}

async fn serve(server: Server, listener: std::net::TcpListener) {
    if let Ok(address) = listener.local_addr() {
        let pages = if server.pages.is_some() { "on" } else { "off" };
        tracing::info!(target: LISTEN, %address, pages, "listening");
    }
    if let Err(error) = server.serve(listener, std::future::pending()).await {
        tracing::error!(target: LISTEN, error = %sanitize_line(&error.to_string()), "the pages are gone; the daemon \
            goes on without them");
    }
}
