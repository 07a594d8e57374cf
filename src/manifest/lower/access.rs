//! The Access document.

use super::{Draft, FileFormat, Lowering};
use crate::diag::{Diagnostic, code, nearest, shown};
use crate::manifest::node::pointer;
use crate::manifest::structure::list;
use crate::manifest::v1;
use crate::model::access::{ADMINISTRATOR, Access, Grant, ROLES, Role};
use crate::model::id::Name;
use crate::model::kind::Kind;

impl Lowering<'_> {
    pub(super) fn access(&mut self, name: Name, spec: v1::AccessSpec) -> Draft {
        let v1::AccessSpec { allowed_signers, openpgp_keys, roles, grants } = spec;
        if allowed_signers.is_none() && openpgp_keys.is_none() {
            let detail = "Without keys nobody can sign: name a file in `allowedSigners`, or in `openpgpKeys`.";
            self.report(code::ACCESS_RULE, "/spec", detail);
        }
        for (path, field) in [(&allowed_signers, "allowedSigners"), (&openpgp_keys, "openpgpKeys")] {
            if let Some(path) = path {
                self.file(&path.0, &format!("/spec/{field}"), FileFormat::Keys);
            }
        }
        for name in roles.keys().filter(|name| ROLES.contains(&name.as_str())) {
            let detail = format!("The role `{name}` is built in. Give yours another name.");
            self.report(code::ACCESS_RULE, &pointer(["spec", "roles", name]), detail);
        }
        let roles = roles.into_iter().map(|(name, role)| (name, lowered(role))).collect();
        let mut access = Access {
            name,
            allowed_signers: allowed_signers.map(|path| path.0),
            openpgp_keys: openpgp_keys.map(|path| path.0),
            roles,
            grants: Vec::new(),
        };
        for (at, grant) in grants.into_iter().enumerate() {
            self.grant(at, grant, &mut access);
        }
        let has_administrator =
            access.grants.iter().any(|grant| grant.role == ADMINISTRATOR && grant.organization.is_none());
        if !has_administrator {
            let detail = "Nobody is administrator of the whole fleet, so nobody could change this document any more.";
            self.report(code::ACCESS_RULE, "/spec/grants", detail);
        }
        Draft::Access(Box::new(access))
    }

    fn grant(&mut self, at: usize, grant: v1::Grant, access: &mut Access) {
        let v1::Grant { who, role, organization } = grant;
        if who.is_empty() || who.iter().any(|who| who.trim().is_empty()) {
            let detail = "An empty name is that of no key.";
            self.report(code::ACCESS_RULE, &format!("/spec/grants/{at}/who"), detail);
        }
        if !access.roles.contains_key(&role) && Role::built_in(&role).is_none() {
            let place = format!("/spec/grants/{at}/role");
            let names = || ROLES.into_iter().chain(access.roles.keys().map(String::as_str));
            let help = match nearest(&role, names()) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!("The roles are {}.", list(names())),
            };
            let detail = format!("There is no role `{}`.", shown(&role));
            let diagnostic = Diagnostic::new(code::ACCESS_RULE, super::span(self.root, &place), detail);
            self.diagnostics.push(diagnostic.with_help(help));
        }
        if organization.is_some() && role == "merger" {
            let detail =
                "A merge is of the whole fleet: what it brings in is judged by itself. Remove the organization.";
            self.report(code::ACCESS_RULE, &format!("/spec/grants/{at}/organization"), detail);
        }
        let organization = organization.map(|text| {
            self.reference(Kind::Organization, &text.0, format!("/spec/grants/{at}/organization"));
            text.0
        });
        access.grants.push(Grant { who, role, organization });
    }
}

fn lowered(role: v1::Role) -> Role {
    let v1::Role { kinds, actions, commands } = role;
    let kinds = kinds.into_iter().map(|kind| match kind {
        v1::GrantedKind::DeviceTemplate => Kind::DeviceTemplate,
        v1::GrantedKind::DeviceGroup => Kind::DeviceGroup,
        v1::GrantedKind::EdgeManifest => Kind::EdgeManifest,
        v1::GrantedKind::DeviceImport => Kind::DeviceImport,
        v1::GrantedKind::Job => Kind::Job,
        v1::GrantedKind::Schedule => Kind::Schedule,
    });
    let actions = actions.unwrap_or_default().into_iter();
    Role {
        kinds: kinds.collect(),
        actions: actions.map(|word| super::policy::action_word(word).to_string()).collect(),
        commands: commands.unwrap_or_default(),
        merges: false,
    }
}
