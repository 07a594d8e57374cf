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

    /// Returns true when a signer may merge what others have signed.
    pub fn may_merge(&self, signer: &str) -> bool {
        self.grants_of(signer).any(|(_, role)| role.merges)
    }
}
