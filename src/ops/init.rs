//! Makes a fleet repository, or a fleet in a repository that exists, and its results branch.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Environment, OpsError, Workspace};
use crate::execute::fleet_file;
use crate::manifest::{SCHEMA_PATH, schema_of_all_text, with_schema_line};
use crate::model::id::Name;
use crate::model::limits;
use crate::prepare::{Files, OnError, TreeChoice};
use crate::repo::{FLEET_FILE, Repo, UpstreamError};
use crate::results::{Trailers, with_trailers};

/// The files of the example fleet, by path; embedded so that the first run needs nothing but the binary.
const EXAMPLE: &[(&str, &str)] = &[
    ("fleetform.yaml", include_str!("../../examples/quickstart/fleetform.yaml")),
    ("templates/lamp.yaml", include_str!("../../examples/quickstart/templates/lamp.yaml")),
    ("templates/lamp.dtdl.json", include_str!("../../examples/quickstart/templates/lamp.dtdl.json")),
    ("templates/lamp-v2.dtdl.json", include_str!("../../examples/quickstart/templates/lamp-v2.dtdl.json")),
    ("groups/halls.yaml", include_str!("../../examples/quickstart/groups/halls.yaml")),
    ("imports/lamps.yaml", include_str!("../../examples/quickstart/imports/lamps.yaml")),
    ("imports/lamps.csv", include_str!("../../examples/quickstart/imports/lamps.csv")),
    ("jobs/assign-owner.yaml", include_str!("../../examples/quickstart/jobs/assign-owner.yaml")),
    ("jobs/canary-template.yaml", include_str!("../../examples/quickstart/jobs/canary-template.yaml")),
    ("jobs/dim-hall-a.yaml", include_str!("../../examples/quickstart/jobs/dim-hall-a.yaml")),
    ("jobs/mark-tested.yaml", include_str!("../../examples/quickstart/jobs/mark-tested.yaml")),
    ("jobs/reboot-hall-c.yaml", include_str!("../../examples/quickstart/jobs/reboot-hall-c.yaml")),
];

/// The branch that the example names; another is put in its place when the fleet is not at the root of its repository.
const DEFAULT_BRANCH: &str = "fleetform/results";

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initialised {
    pub fleet: Name,
    pub branch: String,
    /// Empty when the fleet was there and got a results branch only.
    pub files: Vec<String>,
    /// False when there was one.
    pub made_branch: bool,
}

/// What to make.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// The name of the fleet; `None` for that of the folder.
    pub name: Option<String>,
    /// Fill it with the fleet of the quickstart.
    pub with_example: bool,
    /// Make a repository of its own, also inside of another one: a first try must not commit to whatever is around it.
    pub is_apart: bool,
    /// Where the registry of a fleet that is declared already may be; its folder counts for nothing.
    pub environment: Environment,
}

/// Makes a fleet in a folder: a repository when there is none around it, the files, a first commit, the results branch.
///
/// # Errors
/// The folder holds files that would be overwritten, a fleet is around it, or nothing can be written.
pub fn init(folder: &Path, options: InitOptions) -> Result<Initialised, OpsError> {
    let InitOptions { name, with_example, is_apart, environment } = options;
    let chosen = name.map(|name| chosen_name(&name)).transpose()?;
    let begun = Begun::at(folder);
    let repo = if is_apart { Repo::make(folder)? } else { Repo::open_or_init(folder)? };
    // A bare repository holds no files to write beside; what it may have is a fleet that was pushed.
    if repo.is_bare() || folder.join(FLEET_FILE).exists() {
        if with_example {
            return Err(OpsError::Usage {
                what: format!("{} holds a fleet already", folder.display()),
                help: "Name an empty folder, or run `fleetform apply` in this one.".to_string(),
            });
        }
        if let Some(name) = chosen {
            return Err(OpsError::Usage {
                what: format!("{} holds a fleet already, which has a name", folder.display()),
                help: format!("Leave out `--name {name}`."),
            });
        }
        return adopt(&Environment { folder: folder.to_path_buf(), ..environment });
    }
    if let Some(around) = repo.fleet_around()
        && has_documents(folder)
    {
        return Err(OpsError::Usage {
            what: format!("{} is inside the fleet at {}", folder.display(), around.display()),
            help: "A fleet inside another would hide files from it; name a folder beside it.".to_string(),
        });
    }
    let fleet = chosen.unwrap_or_else(|| fleet_name(repo.folder()));
    let branch = if repo.is_at_root() { DEFAULT_BRANCH.to_string() } else { format!("{DEFAULT_BRANCH}-{fleet}") };
    if repo.results(&branch).tip()?.is_some() {
        return Err(OpsError::Usage {
            what: format!("the branch {branch} exists: the results of a fleet of this name are on it"),
            help: "Choose another name with `--name`: a fleet is called after its folder.".to_string(),
        });
    }
    let is_within = |name: &String| branch.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/'));
    if let Some(other) = repo.head_branch().filter(is_within).or_else(|| repo.branch_in_the_way(&branch)) {
        return Err(OpsError::Usage {
            what: format!("the branch `{other}` is in the way of `{branch}`, to which the results go"),
            help: format!("Git keeps one or the other: rename it with `git branch -m {other} NAME`."),
        });
    }
    let files = files_of(&fleet, &branch, with_example);
    // The schema may have been written before the fleet.
    for (path, _) in files.iter().filter(|(path, _)| path != SCHEMA_PATH) {
        if folder.join(path).exists() {
            return Err(OpsError::Usage {
                what: format!("{} exists already", folder.join(path).display()),
                help: "Name an empty folder.".to_string(),
            });
        }
    }
    if let Err(error) = write_and_commit(&repo, (folder, &files), &format!("fleet {fleet}: first files")) {
        drop(repo);
        begun.take_back(folder);
        return Err(error);
    }
    let made_branch = make_branch(&repo, &fleet, &branch)?;
    Ok(Initialised { fleet, branch, files: files.into_iter().map(|(path, _)| path).collect(), made_branch })
}

/// Writes files and commits them. Without the commit the folder is as it was.
fn write_and_commit(repo: &Repo, (folder, files): (&Path, &[(String, String)]), message: &str) -> Result<(), OpsError> {
    let paths: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
    let before = Before::of(folder, &paths);
    let written = files.iter().try_for_each(|(path, text)| write_file(&folder.join(path), text));
    let committed = written.and_then(|()| Ok(repo.commit_files(&paths, message).map(drop)?));
    if committed.is_err() {
        before.restore();
    }
    committed
}

/// What was there of a folder before a fleet was begun in it.
struct Begun {
    had_folder: bool,
    had_repository: bool,
}

impl Begun {
    fn at(folder: &Path) -> Begun {
        Begun { had_folder: folder.exists(), had_repository: folder.join(".git").exists() }
    }

    /// Takes away the repository and the folder that were made; what cannot be taken away stays.
    fn take_back(&self, folder: &Path) {
        if !self.had_repository {
            drop(std::fs::remove_dir_all(folder.join(".git")));
        }
        if !self.had_folder {
            drop(std::fs::remove_dir(folder));
        }
    }
}

/// The files of a folder before a fleet was written into it.
struct Before {
    /// With their bytes; `None` for one that was not there.
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Those that were not there, the inner ones first.
    folders: Vec<PathBuf>,
}

impl Before {
    fn of(folder: &Path, paths: &[String]) -> Before {
        let files: Vec<_> = paths.iter().map(|path| folder.join(path)).map(|path| (read(&path), path)).collect();
        let around = |(_, path): &(Option<Vec<u8>>, PathBuf)| path.ancestors().skip(1).map(PathBuf::from).collect();
        let around = files.iter().flat_map(|file| -> Vec<PathBuf> { around(file) });
        let missing = around.filter(|one| one.starts_with(folder) && one != folder && !one.exists());
        let folders: BTreeSet<PathBuf> = missing.collect();
        Before {
            files: files.into_iter().map(|(bytes, path)| (path, bytes)).collect(),
            folders: folders.into_iter().rev().collect(),
        }
    }

    /// Makes the folder what it was; what cannot be written stays as it is.
    fn restore(&self) {
        for (path, bytes) in &self.files {
            drop(match bytes {
                Some(bytes) => std::fs::write(path, bytes),
                None => std::fs::remove_file(path),
            });
        }
        self.folders.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

/// Returns true when a folder holds YAML files: those of the fleet around it, which a fleet of its own would hide from
/// it.
fn has_documents(folder: &Path) -> bool {
    let files =
        std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    let is_yaml = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    files.is_ok_and(|files| files.iter().any(is_yaml))
}

/// Gives a fleet that is declared already its results branch.
fn adopt(environment: &Environment) -> Result<Initialised, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::WorkTree, OnError::Refuse)?;
    let declared = files.usable()?;
    let (fleet, branch) = (declared.fleet.name.clone(), declared.fleet.results.branch.clone());
    if workspace.repo.results(&branch).tip()?.is_none()
        && workspace.open_for_reading(&declared.fleet)?.branch_copy().exists()?
    {
        return Err(OpsError::Usage {
            what: format!("the branch {branch} is gone, and the registry remembers what was on it"),
            help: "Run `fleetform apply`: it publishes the branch again.".to_string(),
        });
    }
    if workspace.repo.results(&branch).tip()?.is_none()
        && let Some(remote) = workspace.remote_with_results(&declared.fleet).map_err(UpstreamError::Remote)?
    {
        return Err(OpsError::Usage {
            what: format!("the remote {remote} has the branch {branch}: this fleet has results there"),
            help: format!("Fetch it: `git fetch {remote} {branch}:{branch}`."),
        });
    }
    let made_branch = make_branch(&workspace.repo, &fleet, &branch)?;
    Ok(Initialised { fleet, branch, files: Vec::new(), made_branch })
}

fn make_branch(repo: &Repo, fleet: &Name, branch: &str) -> Result<bool, OpsError> {
    let results = repo.results(branch);
    if results.tip()?.is_some() {
        return Ok(false);
    }
    let writer = crate::execute::writer();
    let trailers = Trailers { writer: &writer, ..Trailers::default() };
    results.create(&[fleet_file(fleet)], &with_trailers(&format!("fleet {fleet}: results"), &trailers))?;
    Ok(true)
}

fn files_of(fleet: &Name, branch: &str, with_example: bool) -> Vec<(String, String)> {
    let mut files = vec![(SCHEMA_PATH.to_string(), schema_of_all_text())];
    if with_example {
        for (path, text) in EXAMPLE {
            let text = text
                .replace("name: quickstart", &format!("name: {fleet}"))
                .replace(&format!("branch: {DEFAULT_BRANCH}"), &format!("branch: {branch}"));
            files.push(((*path).to_string(), text));
        }
    } else {
        let text = format!(
            "apiVersion: fleetform/v1\nkind: Fleet\nmetadata:\n  name: {fleet}\nspec:\n  \
             # Devices are simulated, and kept in .fleetform/fleet.db, until you say otherwise.\n  \
             results: {{branch: {branch}}}\n"
        );
        files.push((FLEET_FILE.to_string(), with_schema_line(FLEET_FILE, text)));
    }
    files
}

fn chosen_name(text: &str) -> Result<Name, OpsError> {
    Name::parse(text).map_err(|error| OpsError::Usage {
        what: format!("the name `{}` {error}", crate::diag::shown(text)),
        help: "Choose a name such as `street-lamps`.".to_string(),
    })
}

/// Makes a legal name of the folder's; `fleet` when nothing of it is legal.
fn fleet_name(folder: &Path) -> Name {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let legal: String =
        name.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let short: String = legal.trim_matches('-').chars().take(limits::NAME_CHARS_MAX).collect();
    let fallback = || Name::parse("fleet").expect("it is a legal name");
    Name::parse(short.trim_end_matches('-')).unwrap_or_else(|_| fallback())
}

fn write_file(path: &Path, text: &str) -> Result<(), OpsError> {
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    std::fs::write(path, text).map_err(fail)
}
