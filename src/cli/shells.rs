//! The shells whose completions ask this program.

use clap_complete::env::{CompleteEnv, Shells};

/// The variable that a shell sets to ask for completions.
const VARIABLE: &str = "FLEETFORM_COMPLETE";

/// Answers a shell that asks for completions of a command line, and ends the process; returns for any other.
pub fn answer(command: fn() -> clap::Command) {
    CompleteEnv::with_factory(command).var(VARIABLE).bin("fleetform").complete();
}

/// Returns the script that makes a shell ask; `None` for a shell that is not known.
pub fn script(shell: &str) -> Option<String> {
    let shells = Shells::builtins();
    let mut script = Vec::new();
    shells.completer(shell)?.write_registration(VARIABLE, "fleetform", "fleetform", "fleetform", &mut script).ok()?;
    String::from_utf8(script).ok()
}
