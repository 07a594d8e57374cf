//! Messages to people when something goes wrong: to a webhook, or to a command of the operator.
//!
//! ```text
//!  Alert ──tell──> Gathered ──batch, when it is time──> webhook (HTTPS, signed) or command (stdin)
//!                  pure      a thread for each receiver
//! ```
//!
//! Whatever happens, a receiver gets one message at a time, and not more often than the fleet says: a thousand failures
//! are one message with the first hundred of them and the number of the others. No work waits for it.
//!
//! `ureq` speaks HTTP, as in `forge`, `hmac` signs. To leave them: `webhook.rs`.

mod batch;
mod command;
mod receiver;
mod webhook;

pub use batch::{Batch, Gathered};
pub use command::Command;
pub use receiver::{Receiver, Way, end_all};
pub use webhook::{SIGNATURE, Webhook};

/// The target of all lines that are logged here: a name for filters, which stays the same when code moves.
pub const LOG_TARGET: &str = "fleetform::alert";
