//! `snapshot`

use std::path::Path;

use serde_json::json;

use super::{CommandResult, Output};
use crate::cli::exit;
use crate::cli::view::counted;
use crate::execute::{Clock as _, SystemClock};
use crate::ops::Environment;
use crate::ops::snapshot::take;

/// `snapshot --out F`
pub fn run(environment: &Environment, path: &Path, output: &Output) -> CommandResult {
    let head = take(environment, path, SystemClock.now())?;
    if output.is_json {
        output.json_line(&json!({"fleet": head.fleet, "taken_at": head.taken_at.to_string(),
                                 "devices": head.devices, "file": path.display().to_string()}))?;
        return Ok(exit::OK);
    }
    output.say(&format!("Wrote {} without keys to {}.", counted(head.devices, "device"), path.display()));
    output.say(&format!("\nTo plan with it:\n\n    {} plan --snapshot {}", output.program, path.display()));
    Ok(exit::OK)
}
