//! The APIs of forges (GitHub, GitLab, Gitea and Forgejo): one comment on a pull request, and the statuses of commits.
//!
//! In: a [`Place`], a [`TokenSource`], and what is to be said. Out: requests over TLS, and [`ForgeError`]. The token is
//! in a header of requests to the API's own host and nowhere else: no redirect is followed, plain HTTP goes to loopback
//! alone, and nothing that is shown has it. What a forge answers is bounded in bytes and in time.
//!
//! No work waits for a forge: a [`Reporter`] sends statuses on a thread of its own.
//!
//! `ureq` speaks HTTP, `rustls` with `ring` TLS, and the system says which certificates are trusted. To leave them:
//! `http.rs`.

mod comment;
mod error;
mod http;
mod place;
mod report;
mod status;
mod token;

pub use comment::{Comment, marker};
pub use error::ForgeError;
pub use place::{Given, Kind, Place};
pub use report::{LOG_TARGET, Report, Reporter};
pub use status::{State, Status};
pub use token::{Token, TokenSource};

use std::time::Duration;

use crate::model::limits::FORGE_CALL_TIME_MAX;
use http::Http;

/// A project at a forge.
#[derive(Debug)]
pub struct Forge {
    place: Place,
    token: TokenSource,
    http: Http,
}

impl Forge {
    /// Returns a project at a forge. Nothing is asked yet.
    pub fn new(place: Place, token: TokenSource) -> Forge {
        let http = Http::new(&place, FORGE_CALL_TIME_MAX);
        Forge { place, token, http }
    }

    /// Gives each call so much time, in place of [`FORGE_CALL_TIME_MAX`].
    pub fn with_time_max(mut self, time_max: Duration) -> Forge {
        self.http = Http::new(&self.place, time_max);
        self
    }

    /// Returns where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }
}
