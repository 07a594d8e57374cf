//! Who may change what: the Access document.

use std::collections::{BTreeMap, BTreeSet};

use super::id::Name;
use super::kind::Kind;
use super::text::matches_wildcard;

/// The one Access document of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub name: Name,
    /// The path of a file in git's format of allowed signers, from the fleet's folder.
    pub allowed_signers: Option<String>,
    /// The path of a file of OpenPGP public keys, from the fleet's folder.
    pub openpgp_keys: Option<String>,
    /// Roles beside those that are built in.
    pub roles: BTreeMap<String, Role>,
    pub grants: Vec<Grant>,
}

/// What somebody may change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    pub kinds: BTreeSet<Kind>,
    /// Words of the manifest, such as `command`; empty: any.
    pub actions: BTreeSet<String>,
    /// Patterns of names of commands; empty: any.
    pub commands: Vec<String>,
    /// May merge what others have signed.
    pub merges: bool,
}

/// A role for some people, within an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Patterns of the names that keys have.
    pub who: Vec<String>,
    pub role: String,
    /// A path; `None`: the whole fleet.
    pub organization: Option<String>,
}

/// What somebody may look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sight {
    /// Everything: nobody restricts it.
    #[default]
    Whole,
    /// What is of one of these organizations, as paths, or of one below; nothing when there are none.
    Within(BTreeSet<String>),
}

/// The roles that are built in, the strongest first.
pub const ROLES: [&str; 5] = ["administrator", "builder", "operator", "viewer", "merger"];
/// The role that may change everything.
pub const ADMINISTRATOR: &str = "administrator";
/// The kinds that only an administrator may change: they decide about the others.
pub const GOVERNING_KINDS: [Kind; 4] = [Kind::Fleet, Kind::Organization, Kind::Policy, Kind::Access];

impl Role {
    /// Returns a role that is built in, after those of IoT Central; `None` for any other name.
    pub fn built_in(name: &str) -> Option<Role> {
        let work = [Kind::Job, Kind::Schedule, Kind::DeviceImport];
        let made = [Kind::DeviceTemplate, Kind::DeviceGroup, Kind::EdgeManifest];
        let of = |kinds: BTreeSet<Kind>, merges: bool| Some(Role { kinds, merges, ..Role::default() });
        match name {
            ADMINISTRATOR => of(Kind::ALL.into(), true),
            "builder" => of(work.into_iter().chain(made).collect(), false),
            "operator" => of(work.into(), false),
            "viewer" => of(BTreeSet::new(), false),
            "merger" => of(BTreeSet::new(), true),
            _ => None,
        }
    }
}

impl Sight {
    /// Returns true for what is of an organization, by its path; `None` is what may be about any device.
    pub fn has(&self, organization: Option<&str>) -> bool {
        match (self, organization) {
            (Sight::Whole, _) => true,
            (Sight::Within(_), None) => false,
            (Sight::Within(paths), Some(path)) => paths.iter().any(|own| is_within(path, own)),
        }
    }

    /// Returns true when nothing is left out.
    pub fn is_whole(&self) -> bool {
        *self == Sight::Whole
    }

    /// Returns true when there is nothing to see.
    pub fn is_empty(&self) -> bool {
        matches!(self, Sight::Within(paths) if paths.is_empty())
    }

    /// Returns the sight of some grants.
    fn of<'a>(grants: impl Iterator<Item = &'a Grant>) -> Sight {
        let paths: Option<BTreeSet<String>> = grants.map(|grant| grant.organization.clone()).collect();
        // One of the whole fleet has all others.
        paths.map_or(Sight::Whole, Sight::Within)
    }
}

/// Returns true for the path of an organization, and of one below it.
pub fn is_within(path: &str, own: &str) -> bool {
    path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Access {
    /// Returns the grants of a signer with their roles.
    pub fn grants_of<'a>(&'a self, signer: &'a str) -> impl Iterator<Item = (&'a Grant, Role)> {
        let is_meant = move |grant: &&Grant| grant.who.iter().any(|pattern| matches_wildcard(pattern, signer));
        self.grants.iter().filter(is_meant).filter_map(|grant| {
            let own = self.roles.get(&grant.role).cloned();
            own.or_else(|| Role::built_in(&grant.role)).map(|role| (grant, role))
        })
    }

    /// Returns true when a signer may change everything.
    pub fn is_administrator(&self, signer: &str) -> bool {
        self.grants_of(signer).any(|(grant, _)| grant.role == ADMINISTRATOR && grant.organization.is_none())
    }

    /// Returns what somebody may look at: what any grant is over, whatever its role.
    pub fn sight_of(&self, who: &str) -> Sight {
        Sight::of(self.grants_of(who).map(|(grant, _)| grant))
    }

    /// Returns where somebody may stop jobs and block devices: where a grant is over jobs.
    pub fn reach_of(&self, who: &str) -> Sight {
        Sight::of(self.grants_of(who).filter(|(_, role)| role.kinds.contains(&Kind::Job)).map(|(grant, _)| grant))
    }

    /// Returns true when a signer may merge what others have signed.
    pub fn may_merge(&self, signer: &str) -> bool {
        self.grants_of(signer).any(|(_, role)| role.merges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(grants: &[(&str, &str, Option<&str>)]) -> Access {
        let grant = |(who, role, organization): &(&str, &str, Option<&str>)| Grant {
            who: vec![(*who).to_string()],
            role: (*role).to_string(),
            organization: organization.map(str::to_string),
        };
        Access {
            name: Name::parse("team").unwrap(),
            allowed_signers: None,
            openpgp_keys: None,
            roles: BTreeMap::new(),
            grants: grants.iter().map(grant).collect(),
        }
    }

    #[test]
    fn a_grant_is_seen_with_all_below_it_and_none_sees_nothing() {
        let access = access(&[
            ("eu@example.com", "operator", Some("acme/eu")),
            ("*@example.org", "viewer", None),
            ("two@example.org", "operator", Some("acme/us")),
            ("none@example.com", "nothing", None),
        ]);
        let eu = access.sight_of("eu@example.com");
        for (path, is_seen) in [
            (Some("acme/eu"), true),
            (Some("acme/eu/nl"), true),
            (Some("acme/europe"), false),
            (Some("acme"), false),
            (None, false),
        ] {
            assert_eq!(eu.has(path), is_seen, "{path:?}");
        }
        assert_eq!(access.sight_of("two@example.org"), Sight::Whole);
        assert!(!access.reach_of("two@example.org").has(Some("acme/eu")));
        assert!(access.reach_of("two@example.org").has(Some("acme/us/ny")));
        for nobody in ["EU@example.com", "eu@example.com.evil", "", "none@example.com"] {
            assert!(access.sight_of(nobody).is_empty(), "{nobody}");
        }
    }
}
