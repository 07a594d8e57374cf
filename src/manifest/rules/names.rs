//! No two documents of one kind have one name.

use super::Set;
use crate::diag::{Diagnostic, Diagnostics, code, shown};
use crate::model::kind::Kind;

/// Reports every document but the first of a kind and name. Fleets have a rule of their own.
pub fn check(set: &Set) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    for doc in set.repeated.iter().map(|at| &set.docs[*at]).filter(|doc| doc.kind != Kind::Fleet) {
        let Some(name) = &doc.written_name else { continue };
        let Some(first) = set.first(doc.kind, name) else { continue };
        let detail = format!("There is already a {} named `{}`.", doc.kind.noun(), shown(name));
        let diagnostic = Diagnostic::new(code::DUPLICATE_NAME, doc.span("/metadata/name"), detail);
        diagnostics.push(diagnostic.with_label(set.docs[first].span("/metadata/name"), "the first one"));
    }
    diagnostics
}
