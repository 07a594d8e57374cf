//! What serves the pages: the way to what they read, and what stands around them.

use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use serde_json::Value;

use super::access::{Access, Gate};
use super::asked::Asked;
use super::copies::Copies;
use super::fault::Fault;
use super::pool::Pool;
use super::resumed::Events;
use super::said::Said;
use super::sessions::random;
use super::table::Downloads;
use crate::listen::{Bell, EventLog, StatusHandle};
use crate::model::text::sanitize_line;
use crate::ops::job::Why;
use crate::ops::sight::Sights;
use crate::ops::{Environment, Findings, Kept, OpsError};

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
    /// What tells that something has changed; `None` where nothing does.
    pub events: Option<EventLog>,
    pub access: Access,
    /// Connections are encrypted.
    pub is_encrypted: bool,
    /// Jobs can be stopped and devices be blocked.
    pub has_actions: bool,
    /// Tells the daemon of this process to look at its files at once; `None` where there is none.
    pub bell: Option<Bell>,
}

/// The pages of a fleet. Clones are the same ones.
#[derive(Clone)]
pub struct Site(Arc<Inner>);

struct Inner {
    voice: Voice,
    pool: Pool,
    downloads: Downloads,
    copies: Copies,
    live: Option<StatusHandle>,
    events: Option<Events>,
    gate: Gate,
    is_encrypted: bool,
    has_actions: bool,
    bell: Option<Bell>,
    said: Said,
    /// The name of the fleet, as the last page had it.
    fleet: Mutex<String>,
    /// Who may look at what, as of the last page.
    sights: Mutex<Option<Arc<Sights>>>,
}

impl Site {
    /// Starts the threads that read.
    ///
    /// # Errors
    /// The system gives no threads, or no randomness.
    pub fn start(options: SiteOptions) -> std::io::Result<Site> {
        let SiteOptions { environment, voice, fleet, live, events, access, is_encrypted, has_actions, bell } = options;
        let environment = Environment { kept: Kept::something(), ..environment };
        let random = || random().map_err(|error| std::io::Error::other(error.to_string()));
        let process: String = random()?.chars().take(8).collect();
        Ok(Site(Arc::new(Inner {
            voice,
            pool: Pool::start(&environment)?,
            downloads: Downloads::new(environment),
            copies: Copies::default(),
            live,
            events: events.map(|log| Events::of(log, process)),
            gate: Gate::new(access, random()?),
            is_encrypted,
            has_actions,
            bell,
            said: Said::default(),
            fleet: Mutex::new(fleet),
            sights: Mutex::default(),
        })))
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

    pub(super) fn copies(&self) -> &Copies {
        &self.0.copies
    }

    pub(super) fn events(&self) -> Option<&Events> {
        self.0.events.as_ref()
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.0.is_encrypted
    }

    pub(super) fn has_actions(&self) -> bool {
        self.0.has_actions
    }

    /// Tells the daemon that there is something new.
    pub(super) fn ring(&self) {
        self.0.bell.iter().for_each(|bell| bell());
    }

    pub(super) fn said(&self) -> &Said {
        &self.0.said
    }

    pub(super) fn live(&self) -> Option<&StatusHandle> {
        self.0.live.as_ref()
    }

    /// Returns who may look at what now.
    ///
    /// # Errors
    /// The fleet or its history cannot be read.
    pub(super) fn sights(&self, environment: &Environment) -> Result<Arc<Sights>, OpsError> {
        let known = self.known_sights();
        let sights = Sights::read(environment, known)?;
        *self.0.sights.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&sights));
        Ok(sights)
    }

    /// Returns who may look at what, as of the last page.
    pub(super) fn known_sights(&self) -> Option<Arc<Sights>> {
        self.0.sights.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the environment in which only that is shown which the grants of who asks are over. Where nobody has to
    /// say who it is, that is everything.
    ///
    /// # Errors
    /// Nothing is shown to who asks; or the fleet cannot be read.
    pub(super) fn as_seen_by(&self, environment: &Environment, asked: &Asked) -> Result<Environment, Fault> {
        let name = &asked.visitor.name;
        match (&self.gate().access, name.is_empty()) {
            (Access::Open, _) => return Ok(environment.clone()),
            (Access::Named { .. }, false) => {}
            // The guard lets nobody this far.
            (Access::Named { .. }, true) => {
                let help = "Log in at /login.";
                return Err(Fault::of(asked.form, StatusCode::UNAUTHORIZED, "it is not known who asks", help));
            }
        }
        let sight = self.sights(environment)?.sight_of(name);
        if sight.is_empty() {
            let help = format!(
                "Ask an administrator of the fleet for a grant to `{}` in its Access document; `who` has to be exactly \
                 that name.",
                sanitize_line(name)
            );
            let what = "no grant lets you see anything of this fleet";
            return Err(Fault::of(asked.form, StatusCode::FORBIDDEN, what, &help));
        }
        Ok(Environment { sight, ..environment.clone() })
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
