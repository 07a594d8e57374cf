//! The example with a database, by its own page.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::fresh_database;
use crate::mqtt::example::{blocks, shell};
use crate::servers::{Process, wait_until};
use crate::world::{Ran, folder};

#[test]
fn the_page_of_the_example_works_in_order() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/postgres");
    let (folder, url) = (folder(), fresh_database());
    let fleet = folder.path().join("fleet");
    Ran::of(Command::new("cp").arg("-r").arg(&source).arg(&fleet)).expect(0);
    let blocks = blocks(&std::fs::read_to_string(fleet.join("README.md")).unwrap());
    // The first one makes a database, which is here already.
    assert!(blocks[0].starts_with("createdb ") && blocks[0].contains("export DATABASE_URL="), "{}", blocks[0]);
    let ran = |script: &str| Ran::of(shell(script, 1883, &fleet).env("DATABASE_URL", &url)).expect(0);
    let planned = ran(&blocks[1]).stdout;
    assert!(planned.contains("20 new") && planned.contains("job/blink run 1"), "{planned}");
    let applied = ran(&blocks[2]);
    assert!(applied.stderr.contains("job blink run 1: completed, 20 completed"), "{applied:?}");
    let shown = ran(&blocks[3]).stdout;
    for expected in ["blink", "dim-north", "lamp-0020", "all holds", "{\"light\": {\"level\": 30}}"] {
        assert!(shown.contains(expected), "no {expected} in {shown}");
    }
    // Two daemons, and a job: one works, and when it is killed, the other one ends the job.
    let log = |name: &str| folder.path().join(name);
    let daemon = |script: &str, name: &str| {
        let mut command = shell(script, 1883, &fleet);
        let file = File::create(log(name)).unwrap();
        Process::start(command.env("DATABASE_URL", &url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file))
    };
    let says = |name: &str, what: &str| std::fs::read_to_string(log(name)).unwrap().contains(what);
    let mut daemons = [daemon(&blocks[4], "first"), daemon(&blocks[5], "second")];
    let names = ["first", "second"];
    wait_until("both follow", || names.iter().all(|name| says(name, "reconciled")));
    ran(&blocks[6]);
    // The one in the clone sees the commit at once; the other one may be asking its remote just then.
    wait_until("one works", || names.iter().any(|name| says(name, "batch 2 of 20 done")));
    let works = usize::from(says("second", "batch 2 of 20 done"));
    let other = names[1 - works];
    wait_until("the other one stands by", || says(other, "standing by: another fleetform is applying"));
    daemons[works].kill();
    wait_until("the other one ends the job", || says(other, "job again run 1: completed, "));
    let again = ran("fleetform job show again --devices --json");
    let rows = again.json();
    let of = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert!(of("completed") >= 19, "{rows:#?}");
    assert_eq!(blocks.len(), 7);
}
