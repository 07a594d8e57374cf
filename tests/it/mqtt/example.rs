//! The example with a broker, by its own page.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::servers::{PLAIN_GIT, Process, answers, free_port, wait_until};
use crate::world::{Ran, fleetform, folder};

/// Returns the blocks of shell commands of a page.
pub fn blocks(page: &str) -> Vec<String> {
    let parts = page.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().trim().to_string()).collect()
}

/// Returns a shell in a folder in which `fleetform` is the one that is tested.
pub fn shell(script: &str, port: u16, folder: &Path) -> Command {
    let script = script.replace("1883", &port.to_string());
    let program = fleetform().get_program().to_os_string();
    let bin = Path::new(&program).parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.arg("-ec").arg(script).current_dir(folder).env("PATH", format!("{bin}:{path}:/usr/sbin"));
    command.envs(PLAIN_GIT.iter().copied()).env("NO_COLOR", "1");
    for (name, value) in [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@example.com")] {
        command.env(name, value).env(name.replace("AUTHOR", "COMMITTER"), value);
    }
    command
}

#[test]
fn the_page_of_the_example_works_in_order() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mqtt");
    let folder = folder();
    let fleet = folder.path().join("fleet");
    Ran::of(Command::new("cp").arg("-r").arg(&source).arg(&fleet)).expect(0);
    let page = std::fs::read_to_string(fleet.join("README.md")).unwrap();
    let blocks = blocks(&page);
    let port = free_port();
    let declared = std::fs::read_to_string(fleet.join("fleetform.yaml")).unwrap();
    std::fs::write(fleet.join("fleetform.yaml"), declared.replace("1883", &port.to_string())).unwrap();

    let beside = |script: &str| {
        let mut command = shell(&format!("exec {script}"), port, &fleet);
        Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
    };
    let _broker = beside(&blocks[0]);
    wait_until("the broker answers", || answers(port));
    let _lamps = beside(&blocks[1]);
    let ran = |script: &str| Ran::of(&mut shell(script, port, &fleet)).expect(0);
    let planned = ran(&blocks[2]).stdout;
    assert!(planned.contains("2 to run on 30 devices") || planned.contains("job/blink run 1"), "{planned}");
    let applied = ran(&blocks[3]);
    assert!(applied.stderr.contains("job blink run 1: completed, 20 completed"), "{applied:?}");
    let shown = ran(&blocks[4]).stdout;
    for expected in ["blink", "dim-north", "acknowledged", "lamp-0010", "\"ac\": 200"] {
        assert!(shown.contains(expected), "no {expected} in {shown}");
    }
    let ran = Ran::of(fleetform().arg("-C").arg(&fleet).args(["job", "list", "--json"])).expect(0);
    assert!(ran.json().iter().all(|job| job["status"] == "completed" && job["failed"] == 0), "{}", ran.stdout);
    assert!(blocks[5].contains("device.py"), "{}", blocks[5]);
}
