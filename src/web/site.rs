//! What serves the pages: the way to what they read, and what stands around them.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use serde_json::Value;

use super::pool::Pool;
use super::routes;
use super::table::Downloads;
use crate::listen::StatusHandle;
use crate::ops::job::Why;
use crate::ops::{Environment, Findings};

/// How causes and findings are put: in the words of the command line.
#[derive(Clone, Copy)]
pub struct Voice {
    /// Lines.
    pub why: fn(&Why) -> String,
    /// The object of `job show --why --json`.
    pub causes: fn(&Why) -> Value,
    /// Lines with marks below the places.
    pub findings: fn(&Findings) -> String,
}

/// What the pages are of.
pub struct SiteOptions {
    pub environment: Environment,
    pub voice: Voice,
    /// The name of the fleet; empty where it is not known yet.
    pub fleet: String,
    /// What the daemon of this process says; `None` where there is none.
    pub live: Option<StatusHandle>,
}

/// The pages of a fleet. Clones are the same ones.
#[derive(Clone)]
pub struct Site(Arc<Inner>);

struct Inner {
    voice: Voice,
    pool: Pool,
    downloads: Downloads,
    live: Option<StatusHandle>,
    /// The name of the fleet, as the last page had it.
    fleet: Mutex<String>,
}

impl Site {
    /// Starts the threads that read.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(options: SiteOptions) -> std::io::Result<Site> {
        let SiteOptions { environment, voice, fleet, live } = options;
        let pool = Pool::start(&environment)?;
        let downloads = Downloads::new(environment);
        Ok(Site(Arc::new(Inner { voice, pool, downloads, live, fleet: Mutex::new(fleet) })))
    }

    /// Returns what answers the paths of the pages.
    pub fn router(&self) -> Router {
        routes::router(self.clone())
    }

    pub(super) fn voice(&self) -> Voice {
        self.0.voice
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(super) fn downloads(&self) -> &Downloads {
        &self.0.downloads
    }

    pub(super) fn live(&self) -> Option<&StatusHandle> {
        self.0.live.as_ref()
    }

    /// Returns the name of the fleet; empty while it is not known.
    pub(super) fn fleet(&self) -> String {
        let known = self.0.live.as_ref().map(|live| live.snapshot().fleet).filter(|name| !name.is_empty());
        known.unwrap_or_else(|| self.0.fleet.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Notes the name of the fleet.
    pub(super) fn is_of(&self, fleet: &str) {
        let mut known = self.0.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != fleet {
            *known = fleet.to_string();
        }
    }
}
