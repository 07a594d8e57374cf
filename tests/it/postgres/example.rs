//! The example with a database, by its own page.

use std::path::Path;
use std::process::Command;

use crate::cluster::fresh_database;
use crate::mqtt::example::{blocks, shell};
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
    assert_eq!(blocks.len(), 4);
}
