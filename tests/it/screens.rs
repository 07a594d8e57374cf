//! What people see fits their terminal from 60 columns on: the terminal itself breaks no line.

use std::fs;

use crate::readme::newcomer;
use crate::world::{Ran, folder};

/// Runs a command of the shell in a folder, and returns the lines that a terminal of so many columns had to break.
fn broken(columns: u32, command: &str, folder: &std::path::Path) -> Vec<String> {
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/picture.py");
    let ran = Ran::of(newcomer("python3", folder).args([picture, "--broken", &columns.to_string(), command]));
    assert!(ran.stderr.is_empty() && [0, 1, 64, 65].contains(&ran.code), "{command}: {ran:?}");
    ran.stdout.lines().map(str::to_string).collect()
}

#[test]
fn every_screen_fits_60_columns() {
    let folder = folder();
    let fleet = folder.path().join("fleet");
    Ran::of(newcomer("fleetform", folder.path()).args(["-q", "quickstart", "fleet"])).expect(0);
    let condition = "tags.hall = 'a' AND tags.line IN ['1', '2'] AND properties.reported.firmware.version != '2.4.1'";
    let group = format!(
        "apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {{name: a-group-with-a-name-that-says-much}}\nspec: \
         {{query: \"{condition}\"}}\n"
    );
    fs::write(fleet.join("groups/long.yaml"), group).unwrap();
    let job = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: a-job-with-a-name-that-says-much}\nspec:\n  \
               target: {query: \"tags.nothing = 'x'\"}\n  action: {tags: {ring: b}}\n";
    fs::write(fleet.join("jobs/long.yaml"), job).unwrap();
    assert_eq!(broken(60, "printf '%070d' 0", &fleet).len(), 1, "what is broken is found");
    for columns in [60, 80] {
        for command in [
            "job list",
            "job list --device 'lamp-00*'",
            "job list --status nope",
            "job list --since never",
            "job show reboot-hall-c",
            "job show reboot-hall-c --why",
            "job show reboot-hall-c --devices --status failed",
            "job show nothing",
            "schedule list",
            "schedule next nightly-check",
            "import list",
            "import show lamps",
            "group list",
            "group show a-group-with-a-name-that-says-much",
            "device list --limit 5",
            "device show lamp-0001",
            "device set lamp-0001 brightness=far-too-bright",
            "simulate",
            "status",
            "validate",
            "plan",
            "plan -v",
            "plan --rev nothing",
            "registry check",
            "explain",
            "explain FF651",
            "explain lease",
            "explain nothing",
            "--help",
            "help job",
            "help apply",
            "help device run",
            "-C /nowhere plan",
        ] {
            let lines = broken(columns, &format!("fleetform {command}"), &fleet);
            assert!(lines.is_empty(), "`fleetform {command}` on {columns} columns: {lines:#?}");
        }
    }
}
