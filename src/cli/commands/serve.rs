//! `serve`: the pages of a fleet, read-only, without a daemon.

use serde_json::json;
use tokio::sync::oneshot;

use super::{CommandResult, Output};
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::listen::bind;
use crate::cli::pages::{ServeArgs, ServeCommand, VOICE};
use crate::cli::signals::on_signals;
use crate::cli::view::log::LISTEN;
use crate::listen::{Bounds, EventLog, Places, serve};
use crate::model::text::sanitize_line;
use crate::ops::Environment;
use crate::ops::status::{Changes, status};
use crate::web::{Access, Site, SiteOptions, new_token};

/// How often the fleet is looked at for what has changed.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// `serve [--listen ADDR:PORT]`
pub fn run(environment: &Environment, arguments: &ServeArgs, output: &Output) -> CommandResult {
    if let Some(ServeCommand::Token { name }) = &arguments.command {
        return token(name, output);
    }
    arguments.log.start(output)?;
    // What is no fleet is said at once, and not on each page.
    let fleet = status(environment)?.fleet?.name;
    let tls = arguments.pages.acceptor()?;
    let listener = bind(&arguments.listen)?;
    let address = listener.local_addr()?;
    let Some(access) = arguments.pages.access(address)? else {
        return Err(CommandError::Usage {
            what: format!("whoever reaches {address} could look at the fleet"),
            help: "Add --auth FILE, --oidc-issuer or --trust-header, or serve on a loopback address such as 127.0.0.1:8080."
                .to_string(),
        });
    };
    if tls.is_none() && !address.ip().is_loopback() {
        tracing::warn!(target: LISTEN, "connections are not encrypted, and tokens go over them: add --tls-cert and \
            --tls-key, unless a proxy before it encrypts them");
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let is_open = matches!(access, Access::Open);
    let places = Places::of(&Bounds::with_pages(access.proxies()));
    let events = EventLog::default();
    let site = Site::start(SiteOptions {
        environment: environment.clone(),
        voice: VOICE,
        fleet: fleet.clone(),
        live: None,
        events: Some(events.clone()),
        access,
        is_encrypted: tls.is_some(),
        has_actions: arguments.pages.actions,
        bell: None,
    })?;
    follow(environment.clone(), events)?;
    if output.is_json {
        output.json_line(&json!({"fleet": fleet, "address": format!("{scheme}://{address}/")}))?;
    } else {
        let who = if is_open { "this machine" } else { "those who may look" };
        let fleet = sanitize_line(&fleet);
        output.say(&format!("Serving the pages of {fleet} to {who} on {scheme}://{address}/"));
    }
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    on_signals(move || match stop.take() {
        Some(stop) => drop(stop.send(())),
        // The second one ends at once.
        None => std::process::exit(i32::from(exit::INTERRUPTED)),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = async { drop(stopped.await) };
    runtime.block_on(serve(listener, site.router(), (places, tls), end))?;
    runtime.shutdown_background();
    Ok(exit::OK)
}

/// Tells open pages when something of the fleet has changed, whoever changed it: on a thread of its own.
fn follow(environment: Environment, events: EventLog) -> std::io::Result<()> {
    let look = move || {
        let mut changes = Changes::of(environment);
        loop {
            if changes.look() {
                events.add(None);
            }
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new().name("changes".to_string()).spawn(look).map(drop)
}

/// `serve token NAME`
fn token(name: &str, output: &Output) -> CommandResult {
    let (token, line) = new_token(name).map_err(|what| CommandError::Usage {
        what,
        help: "Name the person or the program that gets it.".to_string(),
    })?;
    if output.is_json {
        output.json_line(&json!({"name": name, "token": token, "line": line}))?;
        return Ok(exit::OK);
    }
    output.say("The token, which is shown only now, and the line for the file of --auth:\n");
    output.result(&format!("{token}\n{line}\n"))?;
    Ok(exit::OK)
}
