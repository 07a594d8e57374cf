//! The REST API of Azure IoT Hub, for back ends that were written for it: HTTP/1.1 over TLS, beside the daemon.
//!
//! ```text
//!  back end ──HTTPS──> server ──> routes ──> handlers ──> a desk (ops::hub) ── repository, registry
//!                                               └──────> the switchboard (link) ── connected devices
//! ```
//!
//! Shapes, headers and codes are those of IoT Hub's REST API 2021-04-12, whatever version a client names. Use cases are
//! synchronous and wait for git and the registry, so they run on threads of their own (`desks`); nothing here holds
//! the daemon up. Each request is signed with the key of a policy (`access`); nothing is answered before that.
//!
//! `hyper` serves, as in `listen`; to leave it: `server`.

mod access;
mod aggregate;
mod answer;
mod asked;
mod desks;
mod identities;
mod jobs;
mod messages;
mod provisioning;
mod queries;
mod queue;
mod routes;
mod server;
mod throttle;
mod together;
mod tokens;
mod twins;

pub use server::{Office, RestOptions, RestServer};

/// The target of all lines that are logged here: a name for filters, which stays the same when code moves.
pub const LOG_TARGET: &str = "fleetform::rest";
