//! Outcomes as bytes to commit: `run.json`, shards of devices, import reports and commit messages. Same input, same
//! bytes.

mod direct;
mod message;
mod shard;

pub use direct::{DIRECT_HEADER, DirectRow};
pub use message::{Trailers, claim_subject, import_subject, run_subject, with_trailers};
pub use shard::{ImportErrors, Row, SHARD_HEADER, Shard, defuse, first_id, read_failed, read_shard, read_shard_from};

use serde_json::Value;

/// Returns a JSON document as it is committed: indented by two, keys sorted, a line feed at its end.
pub fn document(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}");
    text.push('\n');
    text.into_bytes()
}

/// Returns the path of a shard; `number` counts from 1.
pub fn shard_path(folder: &str, number: u32) -> String {
    format!("{folder}/devices-{number:05}.csv")
}
