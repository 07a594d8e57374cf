//! Copies a registry to another place, which then works on the fleet.

use std::rc::Rc;

use super::super::{Environment, OpsError, Workspace};
use crate::execute::Ports;
use crate::model::id::Name;
use crate::prepare::{Files, OnError, OwnRegistry, TreeChoice, owner};
use crate::reconcile::{Handover, Stage, Unfit, is_unsettled};
use crate::registry::sqlite::SqlitePlace;
use crate::registry::{Contents, ExclusionFailure, Exclusive, Registry, RegistryError, Table};
use crate::repo::ResultsBranch;

/// What to copy, and where to: each `sqlite:PATH`, `postgres://…` or `env:NAME`.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    pub from: String,
    pub to: String,
    pub ports: Ports,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyProgress {
    /// A row was copied; so many of its table were.
    Copied { table: &'static str, rows: u64 },
    /// A row of the copy was read back; so many of its table were.
    Compared { table: &'static str, rows: u64 },
}

/// A copy that works on the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub fleet: Name,
    /// Where the original is, and where the copy is, for people.
    pub from: String,
    pub to: String,
    /// The identity that the copy has now.
    pub identity: String,
    /// What the copy has.
    pub contents: Contents,
    /// A copy from before was gone on with; or was done, and nothing was changed.
    pub has_resumed: bool,
    pub was_done: bool,
}

/// Copies the registry of a fleet to a place that has none, compares it row by row, and lets the copy work on the fleet
/// in the place of the original. Goes on where a copy that died has ended.
///
/// # Errors
/// [`OpsError::Held`] when a process works with one of them, or the registry is not the one that works on the fleet;
/// [`RegistryError::Occupied`] when there is a registry already; [`RegistryError::Different`] when the copy is not what
/// it was made of. The original works on the fleet as before then.
pub fn copy(
    environment: &Environment,
    options: &CopyOptions,
    watch: &mut dyn FnMut(CopyProgress),
) -> Result<Copied, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let fleet = &files.usable()?.fleet;
    let branch = workspace.repo.results(&fleet.results.branch);
    let from = workspace.named_registry(&options.from, fleet)?;
    let to = workspace.named_registry(&options.to, fleet)?;
    refuse_one(&from, &to)?;
    if !from.is_there()? {
        return Err(OpsError::NotFound {
            what: format!("there is no registry at {}", from.location()),
            help: "Name the one that works on the fleet first, and the new place second.".to_string(),
        });
    }
    let process = owner();
    let _rights = (exclude(&from, &process)?, exclude(&to, &process)?);
    let mut original = options.ports.registry(from.open_for_writing()?);
    let mut copy = options.ports.registry(to.open_for_writing()?);
    let named = branch.owner()?.map(|named| named.registry);
    let stage = Stage::of(&original.identity()?, &copy.identity()?, named.as_deref());
    let stage = stage.map_err(|unfit| refusal(unfit, &branch, (&from, &to)))?;
    let has_resumed = matches!(stage, Stage::Compare | Stage::GivenUp { .. });
    if matches!(stage, Stage::Rows | Stage::Compare) && is_unsettled((&from, &original), (&workspace.repo, &branch))? {
        return Err(OpsError::Held {
            what: format!("the registry {} may lack what was sent: it was put back from a backup", from.location()),
            help: "Run `fleetform apply` once with it, which settles that, and copy then.".to_string(),
        });
    }
    let was_done = stage == Stage::Done;
    let before = match &stage {
        Stage::Rows => Some(become_copy(&original, &mut copy, watch)?),
        Stage::Compare => Some(read_back(&original, watch)?),
        Stage::GivenUp { .. } | Stage::Done => None,
    };
    let contents = read_back(&copy, watch)?;
    match (&before, &stage) {
        (Some(before), Stage::Rows) => refuse_different(before, &contents, (&from, &to))?,
        (Some(before), _) => refuse_stale(before, &contents, (&from, &to))?,
        (None, _) => {}
    }
    if !was_done {
        let (crash, process) = (&options.ports.crash, process.as_str());
        let handover = Handover { from: (&from, &mut original), to: (&to, &mut copy), process, crash };
        let given_up = if let Stage::GivenUp { identity } = stage { Some(identity) } else { None };
        handover.finish(given_up, (&workspace.repo, &branch))?;
    }
    Ok(Copied {
        fleet: fleet.name.clone(),
        from: from.location(),
        to: to.location(),
        identity: copy.identity()?.id,
        contents,
        has_resumed,
        was_done,
    })
}

/// Copies all rows, and returns what they were.
fn become_copy(
    original: &Registry,
    copy: &mut Registry,
    watch: &mut dyn FnMut(CopyProgress),
) -> Result<Contents, RegistryError> {
    let mut count = Count::default();
    copy.become_copy_of(original, &mut |table| {
        watch(CopyProgress::Copied { table: table.name, rows: count.next(table) });
        Ok(())
    })
}

fn read_back(registry: &Registry, watch: &mut dyn FnMut(CopyProgress)) -> Result<Contents, RegistryError> {
    let mut count = Count::default();
    Contents::of(registry, &mut |table| {
        watch(CopyProgress::Compared { table: table.name, rows: count.next(table) });
        Ok(())
    })
}

/// The rows of the table that is read now.
#[derive(Default)]
struct Count {
    table: &'static str,
    rows: u64,
}

impl Count {
    fn next(&mut self, table: &'static Table) -> u64 {
        if self.table != table.name {
            *self = Count { table: table.name, rows: 0 };
        }
        self.rows += 1;
        self.rows
    }
}

/// Takes the right to work on a registry. Another address of one that this process has the right to is found out here.
fn exclude(place: &OwnRegistry, process: &str) -> Result<Rc<dyn Exclusive>, OpsError> {
    match place.lock(process) {
        Ok(right) => Ok(right),
        Err(ExclusionFailure::Held(Some(holder))) if holder == process => Err(same(place)),
        Err(ExclusionFailure::Held(holder)) => {
            let holder = holder.filter(|name| !name.is_empty()).map_or(String::new(), |name| format!(": {name}"));
            Err(OpsError::Held {
                what: format!("another fleetform works with the registry {}{holder}", place.location()),
                help: "Wait until it is done, stop a daemon that works with it, and copy then.".to_string(),
            })
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Refuses one registry under two names, and two files that would have one lock.
fn refuse_one(from: &OwnRegistry, to: &OwnRegistry) -> Result<(), OpsError> {
    if from.is(to) {
        return Err(same(to));
    }
    let lock = |place: &OwnRegistry| place.file().map(|file| SqlitePlace::lock_path(&file));
    match (lock(from), lock(to)) {
        (Some(one), Some(two)) if one == two => Err(OpsError::Usage {
            what: format!("{} and {} have one lock, {}", from.location(), to.location(), one.display()),
            help: "Give the new file another name, not only another ending, or put it into another folder.".to_string(),
        }),
        _ => Ok(()),
    }
}

fn same(place: &OwnRegistry) -> OpsError {
    OpsError::Usage {
        what: format!("both places are one registry, {}", place.location()),
        help: "Name the registry first, and a place that has none second.".to_string(),
    }
}

fn refusal(unfit: Unfit, branch: &ResultsBranch<'_>, (from, to): (&OwnRegistry, &OwnRegistry)) -> OpsError {
    let (from, to) = (from.location(), to.location());
    let (what, help) = match unfit {
        Unfit::IsUnfinished => (
            format!("the registry {from} is itself a copy that is not finished"),
            "Copy the original; or run the copy that made it once more, which goes on.".to_string(),
        ),
        Unfit::WasCopied { to: place } => (
            format!("the registry {from} was copied to {place}, and does not work on the fleet any more"),
            "Copy the one that does; `fleetform registry check` of a registry says whether it does.".to_string(),
        ),
        Unfit::IsNotTheFleets { named: Some(named) } => {
            let named: String = named.chars().take(8).collect();
            let named = crate::model::text::sanitize_line(&named).into_owned();
            (
                format!(
                    "the registry {from} does not work on this fleet: the branch {} names the registry {named}",
                    branch.name()
                ),
                "Copy that one. Where it is lost, `fleetform apply --take-over --registry` makes another one the \
                 fleet's."
                    .to_string(),
            )
        }
        Unfit::IsNotTheFleets { named: None } => (
            format!("the branch {} does not say which registry works on the fleet", branch.name()),
            "Run `fleetform apply` once with the registry: it takes the fleet, or publishes a branch that is gone \
             again."
                .to_string(),
        ),
        Unfit::IsThere => (
            format!("{to} has the identity of {from}: it is the same registry, or a copy that was made in another way"),
            "Copy to a place that has no registry. Remove a copy that was made in another way.".to_string(),
        ),
    };
    OpsError::Held { what, help }
}

/// Refuses a copy that is not what was copied into it.
fn refuse_different(
    taken: &Contents,
    found: &Contents,
    (from, to): (&OwnRegistry, &OwnRegistry),
) -> Result<(), OpsError> {
    let differences = taken.differences(found);
    if differences.is_empty() {
        return Ok(());
    }
    Err(RegistryError::Different { location: to.location(), other: from.location(), what: told(&differences) }.into())
}

/// Refuses to go on with a copy of what the registry was once.
fn refuse_stale(now: &Contents, then: &Contents, (from, to): (&OwnRegistry, &OwnRegistry)) -> Result<(), OpsError> {
    let differences = now.differences(then);
    if differences.is_empty() {
        return Ok(());
    }
    Err(OpsError::Held {
        what: format!(
            "{} has a copy of {} that was not finished, and they differ: {}",
            to.location(),
            from.location(),
            told(&differences)
        ),
        help: format!("Remove {}, and copy again. The other one works on the fleet as before.", removable(to)),
    })
}

/// Returns what to remove of a registry.
fn removable(place: &OwnRegistry) -> String {
    match place.file() {
        Some(file) => format!("{} and the files beside it that begin so", file.display()),
        None => format!("the schema `fleetform` of {}", place.location()),
    }
}

/// Returns tables that are not the same, in words.
pub(super) fn told(differences: &[(&'static str, u64, u64)]) -> String {
    let one = |(table, here, there): &(&str, u64, u64)| match here == there {
        true => format!("rows of {table}"),
        false => format!("{table} ({here} rows, and {there})"),
    };
    differences.iter().map(one).collect::<Vec<_>>().join(", ")
}
