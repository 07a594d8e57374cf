//! Who may change what: what an Access document says of a commit.
//!
//! A pure room: the Access document that judges, the name of the key that signed, and the documents that a commit
//! touches go in; what is lacking comes out. Which commits there are, who signed them and what judges them is for
//! `prepare` to find.

use crate::model::access::{Access, GOVERNING_KINDS, Role};
use crate::model::kind::Kind;
use crate::model::text::matches_wildcard;

/// A document as a commit finds or leaves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched {
    pub kind: Kind,
    /// Empty for one without a legal name.
    pub name: String,
    pub reach: Reach,
    /// The action of a job or a schedule, in the word of the manifest.
    pub action: Option<&'static str>,
    /// The command of such an action, and its component.
    pub command: Option<(String, Option<String>)>,
    /// It can be read: what it says is known.
    pub is_known: bool,
}

/// The devices that a document may be about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Any of the fleet.
    Fleet,
    /// Those of the organization with this path, and of all below it.
    Within(String),
}

/// What a signer lacks to change a document: a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack(pub String);

/// Returns what a signer lacks to change a document; `None` when it is granted.
pub fn lack(access: &Access, signer: &str, touched: &Touched) -> Option<Lack> {
    if access.is_administrator(signer) {
        return None;
    }
    let who = || format!("{} `{}`", touched.kind.noun(), touched.name);
    if GOVERNING_KINDS.contains(&touched.kind) {
        return Some(Lack(format!("{} needs an administrator", who())));
    }
    if !touched.is_known {
        return Some(Lack(format!("{} cannot be read, so only an administrator may change it", who())));
    }
    let has = |wanted: &Touched| {
        access
            .grants_of(signer)
            .any(|(grant, role)| allows(&role, wanted) && is_within(&wanted.reach, grant.organization.as_deref()))
    };
    if !has(touched) {
        return Some(Lack(described(touched)));
    }
    // Who is in a group decides what the jobs on it do, whatever they do.
    let runs_any = access.grants_of(signer).any(|(grant, role)| {
        role.kinds.contains(&Kind::Job)
            && role.actions.is_empty()
            && role.commands.is_empty()
            && is_within(&touched.reach, grant.organization.as_deref())
    });
    (touched.kind == Kind::DeviceGroup && !runs_any)
        .then(|| Lack(format!("{} needs the right to run any job on its devices", who())))
}

fn allows(role: &Role, touched: &Touched) -> bool {
    let has_action = role.actions.is_empty() || touched.action.is_none_or(|action| role.actions.contains(action));
    let has_command = |name: &str, component: Option<&str>| {
        let full = component.map(|component| format!("{component}*{name}"));
        let is_it = |pattern: &String| {
            matches_wildcard(pattern, name) || full.as_deref().is_some_and(|full| matches_wildcard(pattern, full))
        };
        role.commands.is_empty() || role.commands.iter().any(is_it)
    };
    let command = touched.command.as_ref();
    role.kinds.contains(&touched.kind)
        && has_action
        && command.is_none_or(|(name, component)| has_command(name, component.as_deref()))
}

fn is_within(reach: &Reach, organization: Option<&str>) -> bool {
    match (organization, reach) {
        (None, _) => true,
        (Some(_), Reach::Fleet) => false,
        (Some(own), Reach::Within(path)) => {
            path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

/// Returns the grant that a document needs, as a phrase.
fn described(touched: &Touched) -> String {
    let Touched { kind, name, reach, action, command, .. } = touched;
    let does = match (action, command) {
        (_, Some((command, _))) => format!(" with the command `{command}`"),
        (Some(action), None) => format!(" with the action `{action}`"),
        (None, None) => String::new(),
    };
    let place = match reach {
        Reach::Fleet => "in the whole fleet".to_string(),
        Reach::Within(path) => format!("in `{path}`"),
    };
    format!("{} `{name}` needs a grant over {}{does} {place}", kind.noun(), kind.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::access::Grant;
    use crate::model::id::Name;

    fn access() -> Access {
        let grant = |who: &str, role: &str, organization: Option<&str>| Grant {
            who: vec![who.to_string()],
            role: role.to_string(),
            organization: organization.map(str::to_string),
        };
        let rebooter = Role {
            kinds: [Kind::Job].into(),
            actions: ["command".to_string()].into(),
            commands: vec!["reboot".to_string()],
            merges: false,
        };
        Access {
            name: Name::parse("team").unwrap(),
            allowed_signers: None,
            openpgp_keys: None,
            roles: BTreeMap::from([("rebooter".to_string(), rebooter)]),
            grants: vec![
                grant("*@example.com", "viewer", None),
                grant("ops@example.com", "operator", Some("acme/eu")),
                grant("night@example.com", "rebooter", None),
                grant("made@example.com", "builder", Some("acme/eu")),
                grant("lead@example.com", "administrator", None),
                grant("forge@example.com", "merger", None),
            ],
        }
    }

    fn job(action: &'static str, command: Option<&str>, reach: Reach) -> Touched {
        Touched {
            kind: Kind::Job,
            name: "one".to_string(),
            reach,
            action: Some(action),
            command: command.map(|name| (name.to_string(), None)),
            is_known: true,
        }
    }

    #[test]
    fn a_grant_is_over_kind_place_action_and_command() {
        let eu = || Reach::Within("acme/eu/nl".to_string());
        let check = |who: &str, touched: &Touched, is_granted: bool| {
            assert_eq!(lack(&access(), who, touched).is_none(), is_granted, "{who} {touched:?}");
        };
        check("ops@example.com", &job("tags", None, eu()), true);
        check("ops@example.com", &job("tags", None, Reach::Fleet), false);
        check("ops@example.com", &job("tags", None, Reach::Within("acme/europe".into())), false);
        check("night@example.com", &job("command", Some("reboot"), Reach::Fleet), true);
        check("night@example.com", &job("command", Some("factoryReset"), Reach::Fleet), false);
        check("night@example.com", &job("tags", None, Reach::Fleet), false);
        check("anna@example.com", &job("tags", None, eu()), false);
        check("stranger@elsewhere.com", &job("tags", None, eu()), false);
        check("lead@example.com", &job("tags", None, Reach::Fleet), true);
        let unknown = Touched { is_known: false, ..job("tags", None, eu()) };
        check("ops@example.com", &unknown, false);
        check("lead@example.com", &unknown, true);
    }

    #[test]
    fn groups_are_for_those_who_run_jobs_on_them_and_rules_for_administrators() {
        let group = |path: &str| Touched {
            kind: Kind::DeviceGroup,
            action: None,
            ..job("tags", None, Reach::Within(path.to_string()))
        };
        assert_eq!(lack(&access(), "made@example.com", &group("acme/eu")), None);
        assert!(lack(&access(), "made@example.com", &group("acme/us")).is_some());
        assert!(lack(&access(), "ops@example.com", &group("acme/eu")).is_some(), "an operator makes no groups");
        for kind in GOVERNING_KINDS {
            let rule = Touched { kind, action: None, ..job("tags", None, Reach::Fleet) };
            assert!(lack(&access(), "made@example.com", &rule).is_some());
            assert_eq!(lack(&access(), "lead@example.com", &rule), None);
        }
    }
}
