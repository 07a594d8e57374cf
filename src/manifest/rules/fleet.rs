//! A fleet has exactly one Fleet document, and at most one Access document.

use super::Set;
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::model::kind::Kind;

/// Reports a missing Fleet document, and every one but the first; and every Access document but the first.
pub fn check(set: &Set) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let mut accesses = set.docs.iter().filter(|doc| doc.kind == Kind::Access);
    if let Some(first) = accesses.next() {
        for other in accesses {
            let detail = "This fleet has another Access document, and only one can count.";
            let diagnostic = Diagnostic::new(code::ACCESS_RULE, other.span("/kind"), detail);
            diagnostics.push(diagnostic.with_label(first.span("/kind"), "the first one"));
        }
    }
    let mut fleets = set.docs.iter().filter(|doc| doc.kind == Kind::Fleet);
    let Some(first) = fleets.next() else {
        // It may be in a file that could not be read.
        if set.unread.is_empty() {
            let detail = "No document in this folder has the kind Fleet, so there is no fleet to work on.";
            let help = "Run `fleetform init` here, or choose the folder of the fleet with `-C`, and in a followed \
                repository with \
                        `--path` and `--branch`.";
            diagnostics.push(Diagnostic::new(code::FLEET_MISSING, None, detail).with_help(help));
        }
        return diagnostics;
    };
    for other in fleets {
        let detail = "This fleet has another Fleet document, and only one can count. A second fleet lives in a \
                      folder of its own, with its own `fleetform.yaml`.";
        let diagnostic = Diagnostic::new(code::FLEET_SECOND, other.span("/kind"), detail);
        diagnostics.push(diagnostic.with_label(first.span("/kind"), "the first one"));
    }
    diagnostics
}
