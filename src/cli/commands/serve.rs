//! `serve`: the pages of a fleet, read-only, without a daemon.

use serde_json::json;
use tokio::sync::oneshot;

use super::{CommandResult, Output};
use crate::cli::exit;
use crate::cli::listen::bind;
use crate::cli::pages::{ServeArgs, VOICE};
use crate::cli::signals::on_signals;
use crate::listen::{Bounds, Places, serve};
use crate::model::text::sanitize_line;
use crate::ops::Environment;
use crate::ops::status::status;
use crate::web::{Site, SiteOptions};

/// `serve [--listen ADDR:PORT]`
pub fn run(environment: &Environment, arguments: &ServeArgs, output: &Output) -> CommandResult {
    arguments.log.start(output)?;
    // What is no fleet is said at once, and not on each page.
    let fleet = status(environment)?.fleet?.name;
    let listener = bind(&arguments.listen)?;
    let address = listener.local_addr()?;
    let site =
        Site::start(SiteOptions { environment: environment.clone(), voice: VOICE, fleet: fleet.clone(), live: None })?;
    if output.is_json {
        output.json_line(&json!({"fleet": fleet, "address": format!("http://{address}/")}))?;
    } else {
        output.say(&format!("Serving the pages of {} on http://{address}/", sanitize_line(&fleet)));
    }
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    on_signals(move || match stop.take() {
        Some(stop) => drop(stop.send(())),
        // The second one ends at once.
        None => std::process::exit(i32::from(exit::INTERRUPTED)),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let places = Places::of(&Bounds::with_pages());
    let end = async { drop(stopped.await) };
    runtime.block_on(serve(listener, site.router(), (places, None), end))?;
    runtime.shutdown_background();
    Ok(exit::OK)
}
