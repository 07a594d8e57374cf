//! Ids of IoT Hub's jobs, and the names of their documents. Both ways are functions of what is declared.
//!
//! An id that is a legal name is its name. Any other one is made legal and gets the first 8 hex digits of its SHA-256;
//! 16 where a document of another id has that name. The label [`JOB_LABEL`] of a document says whose it is.

use sha2::{Digest as _, Sha256};

use crate::model::encoding::hex;
use crate::model::fleet::Declared;
pub use crate::model::hub::JOB_LABEL;
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::limits;
use crate::model::schedule::Schedule;
use crate::repo::FLEET_FILE;

/// The label with the policy of the back end that made it.
pub const POLICY_LABEL: &str = "iothub/policy";
/// The label with the digest of the request: the same request again is no second job.
pub const REQUEST_LABEL: &str = "iothub/request";
/// The label with the time of the request.
pub const CREATED_LABEL: &str = "iothub/created";

/// The characters of an id of IoT Hub's jobs; `.`, `_` and `:` are taken beside IoT Hub's own.
const ID_CHARS_MAX: usize = 64;

/// What declares a job of a back end.
#[derive(Debug, Clone, Copy)]
pub enum HubWork<'a> {
    Job(&'a Job),
    Schedule(&'a Schedule),
}

impl<'a> HubWork<'a> {
    pub fn name(&self) -> &'a Name {
        match self {
            HubWork::Job(job) => &job.name,
            HubWork::Schedule(schedule) => &schedule.name,
        }
    }

    pub fn label(&self, label: &str) -> Option<&'a str> {
        let labels = match self {
            HubWork::Job(job) => &job.labels,
            HubWork::Schedule(schedule) => &schedule.labels,
        };
        labels.get(label).map(String::as_str)
    }

    /// Returns the id that back ends know it by: that of its label, or its name.
    pub fn id(&self) -> &'a str {
        self.label(JOB_LABEL).unwrap_or(self.name().as_str())
    }

    pub fn file(&self) -> &'a str {
        match self {
            HubWork::Job(job) => &job.file,
            HubWork::Schedule(schedule) => &schedule.file,
        }
    }
}

/// Returns true for a legal id of a job.
pub fn is_job_id(id: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    !id.is_empty() && id.len() <= ID_CHARS_MAX && id.chars().all(is_legal)
}

/// Returns the names that the document of an id may have, the first that is free wins.
pub fn names_of(id: &str) -> Vec<Name> {
    // A file of that name makes a fleet of its folder.
    let is_free = |name: &Name| format!("{name}.yaml") != FLEET_FILE;
    let mut names: Vec<Name> = Name::parse(id).into_iter().filter(is_free).collect();
    let digest = hex(&Sha256::digest(id.as_bytes()));
    let digits: &[usize] = if names.is_empty() { &[8, 16] } else { &[16] };
    names.extend(digits.iter().filter_map(|digits| Name::parse(&with_digits(id, &digest[..*digits])).ok()));
    names
}

fn with_digits(id: &str, digits: &str) -> String {
    let mut slug = String::new();
    for c in id.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(limits::NAME_CHARS_MAX - 1 - digits.len());
    match slug.trim_end_matches('-') {
        "" => format!("job-{digits}"),
        slug => format!("{slug}-{digits}"),
    }
}

/// Returns what declares the job of an id; `None` when nothing does.
pub fn find<'a>(declared: &'a Declared, id: &str) -> Option<HubWork<'a>> {
    names_of(id).iter().filter_map(|name| named(declared, name)).find(|work| work.id() == id)
}

/// Returns all jobs and schedules. An occurrence that is under way is a job of its schedule's name, and no other one.
pub fn all(declared: &Declared) -> impl Iterator<Item = HubWork<'_>> {
    let jobs = declared.jobs.values().filter(|job| !declared.schedules.contains_key(&job.name));
    jobs.map(|job| HubWork::Job(job)).chain(declared.schedules.values().map(HubWork::Schedule))
}

/// Returns the job or schedule of a name.
pub fn named<'a>(declared: &'a Declared, name: &Name) -> Option<HubWork<'a>> {
    let job = declared.jobs.get(name).map(|job| HubWork::Job(job));
    job.or_else(|| declared.schedules.get(name).map(HubWork::Schedule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_have_names_that_differ() {
        let first = |id: &str| names_of(id)[0].to_string();
        assert_eq!(first("job1"), "job1");
        assert!(first("fleetform").starts_with("fleetform-"), "its file would be that of a fleet");
        let long = "x".repeat(64);
        let guid = "0D9E7F30-6D3A-4C0E-9C1A-3F5D6A1B2C3D";
        let ids =
            ["Job1", "job1", "JOB1", &long, &"x".repeat(63), guid, "a.b", "a_b", "a:b", "a-b", "---", "...", "-a"];
        let names: std::collections::BTreeSet<String> = ids.iter().map(|id| first(id)).collect();
        assert_eq!(names.len(), ids.len(), "{names:?}");
        for id in ids {
            assert!(is_job_id(id), "{id}");
            assert!(names_of(id).iter().all(|name| name.as_str().len() <= 63), "{id}");
        }
        assert!(first("Job1").starts_with("job1-") && first("Job1").len() == "job1-".len() + 8);
        assert!(first("---").starts_with("job-"));
        for id in ["", "a b", "ü", "a/b", "a;b", &"x".repeat(65)] {
            assert!(!is_job_id(id), "{id}");
        }
    }
}
