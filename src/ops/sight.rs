//! Who may look at what: the Access document of the newest commit, as far as its history is trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Environment, OpsError, Workspace};
use crate::model::access::{Access, Sight};
use crate::prepare::{Files, OnError, TreeChoice, Trust};

/// What the newest commit says of who may look at what.
#[derive(Debug)]
pub struct Sights {
    /// The commit.
    head: String,
    rule: Rule,
    /// The path of the organization of each declared job and schedule; `None` for one that may be about any device.
    organizations: BTreeMap<String, Option<String>>,
}

#[derive(Debug)]
enum Rule {
    /// There is no Access document.
    Open,
    Of(Access),
    /// There is one that is not trusted: nobody is known to have a grant.
    Distrusted,
}

impl Sights {
    /// Reads what the newest commit says; `known` when that is of this very commit.
    ///
    /// # Errors
    /// The fleet or its history cannot be read.
    pub fn read(environment: &Environment, known: Option<Arc<Sights>>) -> Result<Arc<Sights>, OpsError> {
        let workspace = Workspace::open(environment)?;
        let head = workspace.repo.head()?;
        if let Some(known) = known.filter(|known| known.head == head) {
            return Ok(known);
        }
        let files = Files::read(&workspace, TreeChoice::Revision(&head), OnError::Hold)?;
        let verified = files.verify(&workspace.repo, (&head, None), &Trust::default())?;
        let rule = match verified.access.clone().filter(|_| verified.distrust().is_none()) {
            Some(access) => Rule::Of(access),
            None if verified.is_governed => Rule::Distrusted,
            None => Rule::Open,
        };
        // What is declared is shown as of an older commit then, as pages do.
        let older = || Files::read(&workspace, TreeChoice::Newest, OnError::Hold).ok()?.declared;
        let declared = files.declared.clone().or_else(older);
        let mut organizations = BTreeMap::new();
        if let Some(declared) = declared {
            let jobs = declared.jobs.values().map(|job| (&job.name, &job.organization));
            let schedules = declared.schedules.values().map(|one| (&one.name, &one.job.organization));
            for (name, organization) in jobs.chain(schedules) {
                let path = declared.path_of(organization.as_ref()).map(str::to_string);
                organizations.insert(name.to_string(), path);
            }
        }
        Ok(Arc::new(Sights { head, rule, organizations }))
    }

    /// Returns what somebody may look at, by the name that a grant has in `who`.
    pub fn sight_of(&self, who: &str) -> Sight {
        self.of(|access| access.sight_of(who))
    }

    /// Returns where somebody may stop jobs and block devices.
    pub fn reach_of(&self, who: &str) -> Sight {
        self.of(|access| access.reach_of(who))
    }

    fn of(&self, find: impl Fn(&Access) -> Sight) -> Sight {
        match &self.rule {
            Rule::Open => Sight::Whole,
            Rule::Of(access) => find(access),
            Rule::Distrusted => Sight::Within(Default::default()),
        }
    }

    /// Returns true for a job or schedule that is declared and may be looked at. With everything in sight, that is any
    /// name.
    pub fn shows(&self, sight: &Sight, job: &str) -> bool {
        sight.is_whole() || self.organizations.get(job).is_some_and(|path| sight.has(path.as_deref()))
    }
}
