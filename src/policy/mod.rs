//! What policies say of a plan.
//!
//! A pure room: a plan, the policies and what is known of the fleet go in; violations come out ([`judge`]). A freeze is
//! asked for before there is a plan ([`Judges::frozen`]), because nothing of what it holds may be counted on.
//!
//! A document has two judges: the policies of its own tree, and those of the tree that it was written against, its
//! *base*. So a tighter rule counts at once and a looser one only for what is changed later: a change cannot loosen the
//! rule that judges it. Which commit is the base is for `prepare` to find.

mod document;
mod judge;
mod judges;

pub use document::PolicedDocument;
pub use judge::{Facts, SetTag, Violation, judge};
pub use judges::{Frozen, Judges, Origin, SourcedPolicy, Unreadable};
