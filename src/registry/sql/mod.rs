//! Lowers a condition of the query language to SQL: one lowering, told its [`Dialect`].
//!
//! In: a checked [`Query`]. Out: a boolean SQL expression over one table alias, and its parameters. `query::matches` is
//! the reference. The expression is true for each device that the reference selects, and for no other when the lowering
//! [is exact](Lowered::is_exact). A part that the dialect cannot express becomes true, so the devices of an inexact
//! expression must be checked again with `query::matches`. Where the expression is not true it may be false or NULL, so
//! the devices that it does *not* select are those where `(…) IS NOT TRUE`.
//!
//! NOT is pushed down to the atoms, which Kleene's logic allows, so that each of them only needs to tell true from the
//! rest, and an atom that is taken for true adds devices, never removes any.
//!
//! Columns: `device_id`, `device_name`, `template`, `organization`, `state`, `connection_state`, `last_activity`
//! (texts; `template`, `organization` and `last_activity` may be NULL, `last_activity` is written by
//! `Timestamp::to_string`), `blocked`, `simulated`, `iot_edge` (the truth values of the dialect), `desired_version`,
//! `reported_version` (integers), and `tags`, `cloud`, `desired`, `reported` (JSON objects).

mod atom;
mod column;
pub mod postgres;
pub mod sqlite;

pub use atom::{Atom, ByType};
use atom::{after_prefix, status_holds};
use column::{Column, Property};

use crate::query::ast::{Comparison, Expr, ExprKind};
use crate::query::{self, Answer, Query};

/// A value that is bound to a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    Text(String),
    Blob(Vec<u8>),
    Integer(i64),
    Real(f64),
    /// A list of texts; where a dialect has no lists, a text that is a list of JSON.
    Texts(Vec<String>),
}

/// A boolean SQL expression with the values of its parameters, in the order of their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// Refers to its parameters by number; safe to put in parentheses anywhere that a condition may stand.
    pub sql: String,
    /// The values of the parameter `first_param` and those after it, without gaps.
    pub params: Vec<Param>,
    /// False when devices for which it is true have to be checked again with `query::matches`.
    pub is_exact: bool,
}

/// A dialect of SQL, which lowers the atoms of a condition.
pub trait Dialect {
    /// Returns SQL that is true exactly where an atom is, in the sense in which it is wanted; `None` when the dialect
    /// cannot say it. Parameters that were added for an atom that cannot be said are forgotten.
    fn atom(&self, atom: &Atom<'_>, params: &mut Params<'_>) -> Option<AtomSql>;

    /// Returns true or false as a condition. No atom is said so that is not the same for every device.
    fn constant(&self, value: bool) -> &'static str;

    /// Returns how SQL refers to the parameter with a number, which is bound to a value.
    fn parameter(&self, number: usize, value: &Param) -> String;
}

/// The SQL of an atom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtomSql {
    /// True exactly where the atom is.
    Exactly(String),
    /// True where the atom is, and perhaps elsewhere.
    AtLeast(String),
}

/// Whether a node must be true or false for the device to be selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    Is,
    IsNot,
}

impl Sense {
    fn flipped(self) -> Sense {
        match self {
            Sense::Is => Sense::IsNot,
            Sense::IsNot => Sense::Is,
        }
    }

    /// Returns the comparison that is true where `operator` is true, or false.
    fn of(self, operator: Comparison) -> Comparison {
        match self {
            Sense::Is => operator,
            Sense::IsNot => operator.negated(),
        }
    }
}

/// The parameters of an expression under way, and the table that it is about.
pub struct Params<'a> {
    dialect: &'a dyn Dialect,
    alias: &'a str,
    first: usize,
    values: Vec<Param>,
}

impl Params<'_> {
    /// Returns a column of the table.
    fn column(&self, column: Column) -> String {
        format!("{}.{}", self.alias, column.as_str())
    }

    fn add(&mut self, value: Param) -> String {
        let parameter = self.dialect.parameter(self.first + self.values.len(), &value);
        self.values.push(value);
        parameter
    }
}

/// Returns the SQL of a condition over the table `alias`, whose parameters are numbered from `first_param`.
pub fn lower(query: &Query, alias: &str, first_param: usize, dialect: &dyn Dialect) -> Lowered {
    let params = Params { dialect, alias, first: first_param, values: Vec::new() };
    let mut lowering = Lowering { params, is_exact: true };
    let sql = lowering.condition(query.condition(), Sense::Is);
    Lowered { sql, params: lowering.params.values, is_exact: lowering.is_exact }
}

struct Lowering<'a> {
    params: Params<'a>,
    is_exact: bool,
}

impl Lowering<'_> {
    /// Returns SQL that is true where `expr` is true (`Is`) or false (`IsNot`).
    fn condition(&mut self, expr: &Expr, sense: Sense) -> String {
        match &expr.kind {
            ExprKind::Not(operand) => self.condition(operand, sense.flipped()),
            ExprKind::And(operands) => {
                self.junction(operands, if sense == Sense::Is { " AND " } else { " OR " }, sense)
            }
            ExprKind::Or(operands) => self.junction(operands, if sense == Sense::Is { " OR " } else { " AND " }, sense),
            ExprKind::Compare(_, _, _) | ExprKind::Member(_, _, _) | ExprKind::Call(_, _) | ExprKind::Path(_) => {
                self.atom(expr, sense)
            }
            ExprKind::All
            | ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::Negate(_)
            | ExprKind::Arithmetic(_, _, _) => self.left_over(expr, sense),
        }
    }

    fn junction(&mut self, operands: &[Expr], joint: &str, sense: Sense) -> String {
        let parts: Vec<String> = operands.iter().map(|operand| self.condition(operand, sense)).collect();
        balanced(&parts, joint)
    }

    fn atom(&mut self, expr: &Expr, sense: Sense) -> String {
        let before = self.params.values.len();
        let dialect = self.params.dialect;
        match Atom::of(expr, sense).and_then(|atom| dialect.atom(&atom, &mut self.params)) {
            Some(AtomSql::Exactly(sql)) => {
                if sql == dialect.constant(true) || sql == dialect.constant(false) {
                    // Drops the parameters of operands that are no longer needed.
                    self.params.values.truncate(before);
                }
                sql
            }
            Some(AtomSql::AtLeast(sql)) => {
                self.is_exact = false;
                sql
            }
            None => {
                self.params.values.truncate(before);
                self.left_over(expr, sense)
            }
        }
    }

    /// Evaluates an expression that reads no property, and takes any other for true: its devices are checked again.
    fn left_over(&mut self, expr: &Expr, sense: Sense) -> String {
        if column::reads_any(expr) {
            self.is_exact = false;
            return self.params.dialect.constant(true).to_string();
        }
        let answer = query::evaluate_with(expr, &|_| Answer::Undefined);
        self.params.dialect.constant(answer == Answer::Bool(sense == Sense::Is)).to_string()
    }
}

/// Joins parts, at least one, as a balanced tree: SQLite refuses expressions deeper than 1,000.
fn balanced(parts: &[String], joint: &str) -> String {
    match parts {
        [] => panic!("a junction has operands"),
        [part] => part.clone(),
        parts => {
            let (left, right) = parts.split_at(parts.len() / 2);
            format!("({}{joint}{})", balanced(left, joint), balanced(right, joint))
        }
    }
}
