//! Converts the JSON of Azure IoT Central and IoT Hub, and writes what came of it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::OpsError;
use crate::convert::{Conversion, Input, Options, Source, convert};
use crate::model::limits;
use crate::prepare::with_schema_line;

const HELP: &str = "Name files with the JSON of IoT Central or IoT Hub, folders of such files, or `-` for stdin.";

/// What to convert, and where it goes.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// JSON files, and folders of `.json` files; `-` is stdin.
    pub files: Vec<PathBuf>,
    /// The folder of a fleet that gets the files; nothing is written when `None`.
    pub folder: Option<PathBuf>,
    /// What the files hold; by its shape when `None`.
    pub source: Option<Source>,
    /// The keys of devices are written as well.
    pub has_keys: bool,
    pub now: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Converted {
    pub conversion: Conversion,
    /// The files that were written, in the order of the documents; empty without a folder.
    pub written: Vec<PathBuf>,
}

/// Converts files, all together.
///
/// # Errors
/// A file cannot be read or written, or one that is to be written is there: then none is. What cannot be converted is
/// no error; it is in the conversion.
pub fn convert_files(options: &ConvertOptions) -> Result<Converted, OpsError> {
    let mut files = Vec::new();
    for path in &options.files {
        collect(path, &mut files)?;
    }
    let inputs = files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let conversion = convert(&inputs, Options { source: options.source, has_keys: options.has_keys, now: options.now });
    let mut written = Vec::new();
    if let Some(folder) = &options.folder {
        let documents = conversion.documents.iter();
        let files: Vec<(PathBuf, String)> = documents
            .flat_map(|document| {
                let beside = document.files.iter().map(|file| (folder.join(&file.path), file.text.clone()));
                let text = with_schema_line(folder, &document.path, document.text.clone());
                std::iter::once((folder.join(&document.path), text)).chain(beside)
            })
            .collect();
        if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
            return Err(OpsError::Usage {
                what: format!("{} exists already", path.display()),
                help: "Nothing was written. Name another folder with -o, or move that file away.".to_string(),
            });
        }
        for (path, text) in files {
            write(&path, &text)?;
            written.push(path);
        }
    }
    Ok(Converted { conversion, written })
}

/// Adds a file, or the `.json` files of a folder and of those below it, sorted.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), OpsError> {
    if path == Path::new("-") || !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let before = files.len();
    collect_below(path, files).map_err(|error| OpsError::NotFound {
        what: format!("{} cannot be read: {error}", path.display()),
        help: HELP.to_string(),
    })?;
    if files.len() == before {
        let what = format!("there is no `.json` file in {}", path.display());
        return Err(OpsError::NotFound { what, help: HELP.to_string() });
    }
    Ok(())
}

/// Adds the files of a folder. A link is not followed: it may lead back, or to a file that is not of the application.
fn collect_below(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.is_symlink() {
            collect_below(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "json")
            && path.symlink_metadata().is_ok_and(|found| found.is_file())
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Reads a file up to one byte more than is converted, so that a longer one is seen to be.
fn read(path: &Path) -> Result<Input, OpsError> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "stdin".to_string() } else { path.display().to_string() };
    let max = limits::CONVERT_FILE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let result = if is_stdin {
        std::io::stdin().lock().take(max).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(max).read_to_end(&mut bytes))
    };
    match result {
        Ok(_) => Ok(Input { name, bytes }),
        Err(error) => {
            Err(OpsError::NotFound { what: format!("{name} cannot be read: {error}"), help: HELP.to_string() })
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), OpsError> {
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)
}
