//! The scripted sessions of `fixtures/scripts`, each with its transcript beside it. `fleetform::sim` runs them;
//! `src/sim/script.rs` describes the language.
//!
//! `INSTA_UPDATE=always cargo test --test it scripts` writes the transcripts anew; review them as prose.

use std::fs;
use std::path::Path;

use fleetform::sim::run_script;

use crate::world::{folder, without_children};

#[test]
fn every_script_says_what_its_transcript_has() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scripts");
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(&scripts).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("txt") => names.push(name),
            // Insta writes this file beside a transcript that has changed.
            Some("new") => {}
            _ => assert!(path.with_extension("txt").exists(), "{} has no script", path.display()),
        }
    }
    names.sort();
    assert!(names.len() >= 14, "the walk finds the scripts");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&scripts);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for name in names {
            let file = format!("fixtures/scripts/{name}.txt");
            let text = fs::read_to_string(scripts.join(format!("{name}.txt"))).unwrap();
            let folder = folder();
            match without_children(|| run_script(&file, &text, folder.path())) {
                Ok(transcript) => insta::assert_snapshot!(name.as_str(), transcript),
                Err(error) => panic!("{error}"),
            }
        }
    });
}
