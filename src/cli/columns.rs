//! The columns of the device grid that a person chose last, in the user's configuration:
//! `$XDG_CONFIG_HOME/fleetform/columns.yaml`, else `~/.config/fleetform/columns.yaml` (`%APPDATA%` on Windows).
//!
//! A convenience: no failure here ever fails a command. The crate `etcetera` finds the folder; to leave it, read two
//! environment variables and the home directory here.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use serde::Deserialize;

use super::output::{Output, Tone};
use crate::model::text::sanitize_line;

/// Bytes of the file that are read; all columns take a hundred bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the file holds. Other keys are left to later versions.
#[derive(Deserialize)]
struct Remembered {
    columns: Vec<String>,
}

/// Returns the columns that were chosen last; `None` when there is no choice, or, with a warning, no valid one.
pub(super) fn remembered(output: &Output, is_known: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    // A user without a home directory has chosen nothing.
    let path = file().ok()?;
    match read(&path) {
        Ok(None) => None,
        Ok(Some(columns)) => {
            let unknown = columns.iter().find(|column| !is_known(column));
            let what = match unknown {
                None if !columns.is_empty() => return Some(columns),
                None => "it names no column".to_string(),
                Some(unknown) => format!("there is no column `{}`", crate::diag::shown(unknown)),
            };
            warn(output, &format!("{} is not used: {what}", path.display()));
            None
        }
        Err(what) => {
            warn(output, &format!("{} is not used: {what}", path.display()));
            None
        }
    }
}

/// Remembers a choice and says so, unless it is the one that is remembered.
pub(super) fn remember(output: &Output, columns: &[String]) {
    let kept = file().and_then(|path| {
        if read(&path).is_ok_and(|known| known.as_deref() == Some(columns)) {
            return Ok(None);
        }
        write(&path, columns).map(|()| Some(path)).map_err(|error| error.to_string())
    });
    match kept {
        Ok(None) => {}
        Ok(Some(path)) => {
            let path = path.display().to_string();
            output.say(&format!(
                "These columns are remembered in {}; --columns default forgets them.",
                sanitize_line(&path)
            ));
        }
        Err(what) => warn(output, &format!("the columns are not remembered: {what}")),
    }
}

/// Forgets the choice.
pub(super) fn forget(output: &Output) {
    let removed = file().and_then(|path| match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.to_string()),
    });
    match removed {
        Ok(true) => output.say("The remembered columns are forgotten."),
        Ok(false) => {}
        Err(what) => warn(output, &format!("the remembered columns are not forgotten: {what}")),
    }
}

fn file() -> Result<PathBuf, String> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| error.to_string())?;
    Ok(strategy.config_dir().join("fleetform").join("columns.yaml"))
}

/// The error is a phrase.
fn read(path: &Path) -> Result<Option<Vec<String>>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match serde_yaml::from_str::<Remembered>(&text) {
        Ok(remembered) => Ok(Some(remembered.columns)),
        Err(_) => Err("it is not `columns: [id, status, …]`".to_string()),
    }
}

/// Writes beside the file and renames: a reader sees the old choice or the new one.
fn write(path: &Path, columns: &[String]) -> std::io::Result<()> {
    let text = format!(
        "# The columns of `fleetform job show --devices`; `--columns default` forgets them.\ncolumns: [{}]\n",
        columns.join(", ")
    );
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The partial file is of no use, and a failure to remove it changes nothing.
        drop(fs::remove_file(&partial));
    }
    written
}

fn warn(output: &Output, what: &str) {
    let word = output.talk_painter().paint(Tone::Careful, "warning");
    output.say(&format!("{word}: {}.", sanitize_line(what)));
}
