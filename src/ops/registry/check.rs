//! Holds registries against the results branch, and against one another. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::{Environment, OpsError, Workspace};
use super::copy::told;
use super::findings::{Finding, Rule, of_flaw};
use super::shards;
use crate::ledger::{Claim, LEASE_PATH, RunRecord};
use crate::model::digest::Digest;
use crate::model::fleet::Fleet;
use crate::model::outcome::{Counts, DeviceStatus, Reason};
use crate::model::text::sanitize_line;
use crate::prepare::{Files, OnError, OwnRegistry, TreeChoice};
use crate::registry::{Contents, Moved, Registry, RegistryIdentity, RememberedRun};
use crate::repo::{BlobId, FLEET_JSON, Repo, ResultsBranch, Witness};

/// What was found of a registry.
#[derive(Debug)]
pub struct Checked {
    pub fleet: String,
    /// Where it is, for people.
    pub place: String,
    pub identity: RegistryIdentity,
    /// The results branch names it.
    pub works_on_fleet: bool,
    /// A process that works with it now, empty when its name is not known: what that writes meanwhile may look as if it
    /// did not hold.
    pub at_work: Option<String>,
    pub contents: Contents,
    pub findings: Vec<Finding>,
}

/// Checks registries, each as an argument names it; that of the fleet when there is none.
///
/// # Errors
/// A registry is not there, or something cannot be read.
pub fn check(environment: &Environment, named: &[String]) -> Result<Vec<Checked>, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let fleet = &files.usable()?.fleet;
    let branch = workspace.repo.results(&fleet.results.branch);
    let places = match named {
        [] => vec![workspace.own_registry(fleet)?],
        named => named.iter().map(|text| workspace.named_registry(text, fleet)).collect::<Result<_, _>>()?,
    };
    let published = Published { entries: branch.entries(|_| true)?, repo: &workspace.repo, branch: &branch, fleet };
    let mut checked: Vec<Checked> = Vec::new();
    for place in &places {
        let mut one = published.check(place, places.len() > 1)?;
        for other in &checked {
            compare(&mut one, other);
        }
        checked.push(one);
    }
    Ok(checked)
}

/// Compares a registry with another one.
fn compare(one: &mut Checked, other: &Checked) {
    if one.identity.id == other.identity.id && one.place != other.place {
        one.findings.push(Rule::SameIdentity.finding(format!("it has the identity of {}", other.place)));
    }
    let differences = one.contents.differences(&other.contents);
    if !differences.is_empty() {
        let what = format!("it differs from {} in {}", other.place, told(&differences));
        one.findings.push(Rule::OtherRows.finding(what));
    }
}

/// The results branch that registries are held against.
struct Published<'a> {
    /// The files of the branch by their path.
    entries: BTreeMap<String, BlobId>,
    repo: &'a Repo,
    branch: &'a ResultsBranch<'a>,
    fleet: &'a Fleet,
}

impl Published<'_> {
    fn check(&self, place: &OwnRegistry, is_beside_others: bool) -> Result<Checked, OpsError> {
        if !place.is_there()? {
            return Err(OpsError::NotFound {
                what: format!("there is no registry at {}", place.location()),
                help: "Name one with an argument, or with --registry.".to_string(),
            });
        }
        let at_work = place.holder();
        let registry = Registry::new(place.open_for_reading()?);
        let (identity, mut findings) = (registry.identity()?, Vec::new());
        let named = self.branch.owner()?;
        let works_on_fleet = named.as_ref().is_some_and(|named| named.registry == identity.id);
        self.check_identity((&identity, place), (works_on_fleet, is_beside_others), &mut findings)?;
        findings.extend(registry.flaws()?.iter().map(of_flaw));
        let journaled = self.check_runs(&registry, &mut findings)?;
        self.check_files(&registry, &journaled, &mut findings)?;
        let contents = Contents::of(&registry, &mut |_| Ok(()))?;
        let (fleet, place) = (self.fleet.name.to_string(), place.location());
        Ok(Checked { fleet, place, identity, works_on_fleet, at_work, contents, findings })
    }

    fn check_identity(
        &self,
        (identity, place): (&RegistryIdentity, &OwnRegistry),
        (works_on_fleet, is_beside_others): (bool, bool),
        findings: &mut Vec<Finding>,
    ) -> Result<(), OpsError> {
        match (&identity.moved, self.branch.owner()?) {
            (Some(Moved::CopyOf(_)), _) if !works_on_fleet => {
                findings.push(Rule::UnfinishedCopy.finding("it is a copy that is not finished"));
            }
            // The other one is among those that are checked.
            (Some(Moved::GaveUp { .. }), _) if !works_on_fleet && is_beside_others => {}
            (Some(Moved::GaveUp { to, .. }), _) if !works_on_fleet => {
                findings.push(Rule::GivenUp.finding(format!("it was copied to {to}, and gave the fleet up")));
            }
            (_, Some(named)) if !works_on_fleet => {
                let id: String = named.registry.chars().take(8).collect();
                let (id, host) = (sanitize_line(&id), sanitize_line(&named.host));
                let what = format!("the branch {} names the registry {id} on {host}", self.branch.name());
                findings.push(Rule::OtherRegistry.finding(what));
            }
            (_, None) => {
                let what = format!("the branch {} names no registry", self.branch.name());
                findings.push(Rule::OtherRegistry.finding(what));
            }
            (_, Some(_)) => {}
        }
        let paths = [Witness::path(self.repo, self.branch)].into_iter().chain(place.witness_path());
        let known = paths.filter_map(|path| Witness::read(&path)).filter(|one| one.registry == identity.id);
        let witnessed = known.map(|one| one.sends).max().unwrap_or_default();
        if identity.may_lack {
            findings.push(Rule::PutBack.finding("its server is another than before, and commits may be missing"));
        }
        if witnessed > identity.sends {
            let what = format!("it has sent {} times, and was seen to send {witnessed} times", identity.sends);
            findings.push(Rule::PutBack.finding(what));
        }
        Ok(())
    }

    /// Checks the runs of the journal, and returns the paths of their claims.
    fn check_runs(&self, registry: &Registry, findings: &mut Vec<Finding>) -> Result<BTreeSet<String>, OpsError> {
        let confirmed = registry.journal().claim_documents()?;
        let open: BTreeSet<i64> = registry.journal().unclosed()?.iter().map(|run| run.run_id).collect();
        let mut journaled = BTreeSet::new();
        for run in registry.branch_copy().runs()? {
            let path = run.claim_path();
            let address = format!("job {} run {}", run.job, run.run);
            match self.entries.get(&path) {
                Some(blob) if *blob != BlobId::of_bytes(run.claim.as_bytes()) => {
                    findings.push(Rule::ClaimDiffers.finding(format!("{address}: its claim on the branch is another")));
                }
                Some(_) => {}
                None if confirmed.contains_key(&path) => {
                    findings.push(Rule::ClaimNotOnBranch.finding(format!("{address}: its claim is not on the branch")));
                }
                // A process died before it claimed the run.
                None => {}
            }
            self.check_target(registry, &run, &address, findings)?;
            self.check_record(registry, &run, (&address, open.contains(&run.run_id)), findings)?;
            journaled.insert(path);
        }
        Ok(journaled)
    }

    fn check_target(
        &self,
        registry: &Registry,
        run: &RememberedRun,
        address: &str,
        findings: &mut Vec<Finding>,
    ) -> Result<(), OpsError> {
        let claim = serde_json::from_str::<Value>(&run.claim).map_err(|error| error.to_string());
        let claim = match claim.and_then(|document| Claim::from_json(&document)) {
            Ok(claim) => claim,
            Err(what) => {
                findings.push(Rule::ClaimDiffers.finding(format!("{address}: its claim in the journal: {what}")));
                return Ok(());
            }
        };
        let ids = registry.journal().targets(run.run_id)?;
        if ids.len() as u64 != claim.total || Digest::of_texts(ids.iter()) != claim.targets_digest {
            let what =
                format!("{address}: its target has {} devices, and {} others were claimed", ids.len(), claim.total);
            findings.push(Rule::TargetDiffers.finding(what));
        }
        Ok(())
    }

    /// Checks `run.json` and the shards of a run.
    fn check_record(
        &self,
        registry: &Registry,
        run: &RememberedRun,
        (address, is_open): (&str, bool),
        findings: &mut Vec<Finding>,
    ) -> Result<(), OpsError> {
        let path = format!("{}/run.json", run.results_folder());
        let there = match self.entries.get(&path) {
            Some(blob) => match record_of(&self.branch.read_document(*blob)?) {
                Ok(record) => Some(record),
                Err(what) => {
                    findings.push(Rule::RowsDiffer.finding(format!("{address}: {path} on the branch: {what}")));
                    return Ok(());
                }
            },
            None => None,
        };
        let lacks = || format!("{address}: the branch does not have its last results");
        let is_ahead = |there: &RunRecord, here: Option<&RunRecord>| {
            here.is_none_or(|here| {
                there.published.devices > here.published.devices || there.status.is_final() && !here.status.is_final()
            })
        };
        let Some(there) = there else {
            if run.record.is_some() {
                findings.push(Rule::RecordNotOnBranch.finding(lacks()));
            }
            return Ok(());
        };
        if is_ahead(&there, run.record.as_ref()) {
            let what = format!("{address}: the branch has results that the journal does not know");
            findings.push(Rule::RecordUnknown.finding(what));
            return Ok(());
        }
        if run.record.as_ref().is_some_and(|here| !is_same(here, &there)) {
            findings.push(Rule::RecordNotOnBranch.finding(lacks()));
        } else if is_open && there.status.is_final() {
            let what = format!("{address}: its end is on the branch, and the journal goes on with it");
            findings.push(Rule::EndUnknown.finding(what));
        }
        if there.status.is_final() {
            check_counts(registry, run, (&there, address), findings)?;
        }
        let as_published = RememberedRun { record: Some(there), ..run.clone() };
        let rows = shards::compare(registry, &as_published, (self.branch, &self.entries))?;
        if rows.count + rows.extra > 0 {
            let what = format!(
                "{address}: {} published rows are not those of the journal, and {} it does not have, first {}",
                rows.count,
                rows.extra,
                sanitize_line(&rows.first)
            );
            findings.push(Rule::RowsDiffer.finding(what));
        }
        Ok(())
    }

    /// Checks the files of the branch that the registry keeps, and names what it does not know.
    fn check_files(
        &self,
        registry: &Registry,
        journaled: &BTreeSet<String>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), OpsError> {
        let mut kept = registry.branch_copy().file_ids()?;
        let uncompared: BTreeSet<String> =
            kept.iter().filter(|(_, id)| id.is_none()).map(|(path, _)| path.clone()).collect();
        registry.each_kept_file::<OpsError>(
            |path| uncompared.contains(path),
            |path, content| {
                kept.insert(path.to_string(), Some(BlobId::of_bytes(content).to_string()));
                Ok(())
            },
        )?;
        let is_of_journal = |path: &str| {
            journaled.contains(path)
                || crate::ledger::claim_path_of(path).is_some_and(|claim| journaled.contains(&claim))
        };
        let differs = |(path, id): &(&String, &Option<String>)| {
            !is_of_journal(path) && self.entries.get(*path).map(BlobId::to_string) != **id
        };
        let others: Vec<&String> = kept.iter().filter(differs).map(|(path, _)| path).collect();
        if let Some(first) = others.first() {
            let what = format!(
                "{} files that it keeps of the branch are others there, or gone, such as {}",
                others.len(),
                sanitize_line(first)
            );
            findings.push(Rule::FilesDiffer.finding(what));
        }
        let is_own = |path: &&String| [FLEET_JSON, LEASE_PATH].contains(&path.as_str()) || is_of_journal(path);
        let unknown = self.entries.keys().filter(|path| !is_own(path) && !kept.contains_key(*path));
        let (claims, files): (Vec<&String>, Vec<&String>) = unknown.partition(|path| path.starts_with("claims/"));
        for (noun, paths) in [("claims", claims), ("files", files)] {
            if let Some(first) = paths.first() {
                let what = format!(
                    "the branch has {} {noun} that it does not know, such as {}",
                    paths.len(),
                    sanitize_line(first)
                );
                findings.push(Rule::ClaimUnknown.finding(what));
            }
        }
        Ok(())
    }
}

fn record_of(bytes: &[u8]) -> Result<RunRecord, String> {
    let document: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    RunRecord::from_json(&document)
}

/// Returns true for records that say the same. Shards may be cut in another way when a branch is published again.
fn is_same(here: &RunRecord, there: &RunRecord) -> bool {
    let mut here = here.clone();
    here.published.shards = there.published.shards;
    here == *there
}

/// Checks the counts of a run that has ended.
fn check_counts(
    registry: &Registry,
    run: &RememberedRun,
    (record, address): (&RunRecord, &str),
    findings: &mut Vec<Finding>,
) -> Result<(), OpsError> {
    let mut counts = Counts { total: record.counts.total, ..Counts::default() };
    registry.journal().each_outcome(run.run_id, &mut |_, reason, _| match reason.status() {
        DeviceStatus::Completed => {
            counts.completed += 1;
            counts.unchanged += u64::from(reason == Reason::Unchanged);
        }
        DeviceStatus::Failed => counts.failed += 1,
        DeviceStatus::Pending => {}
    })?;
    let said = |counts: &Counts| {
        format!("{} completed, {} failed and {} unchanged", counts.completed, counts.failed, counts.unchanged)
    };
    if counts != record.counts {
        let what = format!("{address}: its record has {}, and the journal {}", said(&record.counts), said(&counts));
        findings.push(Rule::CountsDiffer.finding(what));
    }
    Ok(())
}
