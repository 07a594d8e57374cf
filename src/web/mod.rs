//! Pages for people with a browser, each with a JSON twin under the same path: what runs, what is held, what failed.
//!
//! ```text
//!  browser ──> guard (who may look) ──> routes ──> a reader (pool) ──> pages: one value each, by way of ops
//!                                                                        ├─> html: a template
//!                                                                        ├─> json: the value itself, by openapi
//!                                                                        └─> table: CSV, whole and streamed
//! ```
//!
//! A page is a value ([`pages`]) that is read from the repository and the registry whenever it is asked for, never a
//! second truth that is kept here: what [`crate::ops::Kept`] has of them is kept by the ids of commits, trees and
//! blobs, and by the state of the registry's file. Reading is synchronous, so it has a few threads of its own
//! ([`limits`]), and what waits for them is bounded, as is what of the processor a visitor may take (`budget`): nothing
//! here holds the daemon up. A live page is told that something has changed (`events`) and asks for itself again.
//!
//! Everything that a page shows may be hostile: a value is sanitized once, before it is written, and templates escape
//! it. `axum` routes, `minijinja` renders; to leave it: `html`.
//!
//! [`limits`]: crate::model::limits

mod access;
mod actions;
mod answer;
mod asked;
mod assets;
mod budget;
mod certificate;
mod copies;
mod events;
mod fault;
mod form;
mod guard;
mod html;
mod oidc;
mod oidc_login;
mod openapi;
pub mod pages;
mod pool;
mod problem;
mod resumed;
mod routes;
mod said;
mod sessions;
mod site;
mod table;
mod tokens;

pub use access::{Access, TrustedProxy};
pub use certificate::certificate;
pub use oidc::{CLAIM, OidcOptions};
pub use site::{Site, SiteOptions, Voice};
pub use tokens::new_token;

/// The target of all lines that are logged here: a name for filters, which stays the same when code moves.
pub const LOG_TARGET: &str = "fleetform::web";
