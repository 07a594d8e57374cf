//! What to do next when something was written that is to be carried out.

use super::{Output, folder_option};
use crate::model::text::sanitize_line;
use crate::ops::Environment;
use crate::ops::status::is_followed_here;

/// Who carries out what is committed, as far as that is known here.
pub struct Doers {
    /// The git remote that the fleet's results are pushed to.
    remote: Option<String>,
    /// Devices are connected to the fleet's gateway: an apply reaches none of them.
    has_gateway: bool,
    /// A daemon or gateway of this folder lives, and follows the branch that is checked out.
    is_followed_here: bool,
}

impl Doers {
    /// Returns who carries out what is committed here to a fleet that says so.
    pub fn of(environment: &Environment, remote: Option<String>, has_gateway: bool) -> Doers {
        Doers { remote, has_gateway, is_followed_here: is_followed_here(environment) }
    }
}

/// Prints who carries out what was written, and what to do for that.
pub fn tell_next_step(environment: &Environment, is_committed: bool, doers: &Doers, output: &Output) {
    let apply = format!("{}{} apply", output.program, folder_option(environment));
    output.say(&format!("\n{}", next_step(is_committed, doers, &apply)));
}

fn next_step(is_committed: bool, doers: &Doers, apply: &str) -> String {
    let Doers { remote, has_gateway, is_followed_here } = doers;
    let remote = remote.as_deref().map(sanitize_line);
    let here =
        if *has_gateway { "the gateway that works here does it." } else { "the daemon that works here does it." };
    match (is_committed, is_followed_here, has_gateway, remote) {
        (true, true, _, _) => format!("T{}", &here[1..]),
        (false, true, _, _) => format!("Look at it, and commit it: {here}"),
        (false, false, true, _) => "Look at it, and commit it: the fleet's gateway does it.".to_string(),
        (false, false, false, _) => format!("Look at it, and commit it; then:\n\n    {apply}"),
        (true, false, true, Some(remote)) => {
            format!("To make it so where the fleet's gateway follows {remote}:\n\n    git push")
        }
        (true, false, true, None) => {
            "The fleet's gateway does it. Where none runs, start it with `fleetform gateway`.".to_string()
        }
        (true, false, false, Some(remote)) => {
            format!("To make it so where a daemon follows {remote}:\n\n    git push\n\nWithout one:\n\n    {apply}")
        }
        (true, false, false, None) => format!("To make it so:\n\n    {apply}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_apply_what_only_a_gateway_can_do() {
        let said = |is_committed: bool, has_gateway: bool, is_followed_here: bool, remote: Option<&str>| {
            let doers = Doers { remote: remote.map(str::to_string), has_gateway, is_followed_here };
            next_step(is_committed, &doers, "fleetform apply")
        };
        for is_committed in [true, false] {
            for remote in [None, Some("origin")] {
                assert!(!said(is_committed, true, false, remote).contains("apply"));
                assert!(said(is_committed, true, true, remote).contains("gateway that works here"));
                assert!(said(is_committed, false, true, remote).contains("daemon that works here"));
                assert!(said(is_committed, false, false, remote).contains("fleetform apply"));
            }
        }
        assert_eq!(said(true, false, true, None), "The daemon that works here does it.");
        assert!(said(true, true, false, Some("origin")).contains("git push"));
    }
}
