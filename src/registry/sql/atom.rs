//! The atoms of conditions: what a dialect is asked to say.

use super::Sense;
use crate::query;
use crate::query::ast::{Comparison, Expr, ExprKind, Function, Literal, Membership, Number, PathRef, Root};

/// A comparison, a membership, a call or a property by itself, and the sense in which it is wanted: true exactly where
/// the condition is true, or where it is false.
#[derive(Debug)]
pub enum Atom<'a> {
    /// An operand compared with a constant.
    Constant(&'a Expr, Comparison, &'a Literal),
    /// Two operands compared.
    Operands(&'a Expr, Comparison, &'a Expr),
    /// An item and a list of constants.
    Member(&'a Expr, Membership, ByType<'a>),
    /// `startswith`, `endswith` or `contains` of an operand and a constant.
    Text(Function, &'a Expr, &'a str, Sense),
    /// `is_…`, which is never undefined.
    Type(Function, &'a Expr, Sense),
}

impl<'a> Atom<'a> {
    /// Returns the atom that an expression is; `None` when it is none, and for texts that are searched for and items of
    /// lists that are not constant: rare, and long in SQL.
    pub(super) fn of(expr: &'a Expr, sense: Sense) -> Option<Atom<'a>> {
        match &expr.kind {
            ExprKind::Compare(operator, left, right) => {
                let operator = sense.of(*operator);
                Some(match (&left.kind, &right.kind) {
                    (_, ExprKind::Literal(literal)) => Atom::Constant(left, operator, literal),
                    (ExprKind::Literal(literal), _) => Atom::Constant(right, operator.mirrored(), literal),
                    (_, _) => Atom::Operands(left, operator, right),
                })
            }
            ExprKind::Member(membership, item, elements) => {
                let is_in = (*membership == Membership::In) == (sense == Sense::Is);
                let membership = if is_in { Membership::In } else { Membership::NotIn };
                let literals = elements.iter().map(literal).collect::<Option<Vec<_>>>()?;
                Some(Atom::Member(item, membership, ByType::sort(&literals)))
            }
            ExprKind::Call(function, arguments) => {
                let operand = arguments.first()?;
                match function {
                    Function::StartsWith | Function::EndsWith | Function::Contains => match literal(arguments.get(1)?)?
                    {
                        Literal::String(part) => Some(Atom::Text(*function, operand, part, sense)),
                        Literal::Undefined | Literal::Null | Literal::Bool(_) | Literal::Number(_) => None,
                    },
                    Function::IsDefined
                    | Function::IsNull
                    | Function::IsString
                    | Function::IsNumber
                    | Function::IsBool
                    | Function::IsObject
                    | Function::IsArray
                    | Function::IsPrimitive => Some(Atom::Type(*function, operand, sense)),
                    Function::Lower | Function::Upper | Function::Length => None,
                }
            }
            ExprKind::Path(_) => {
                let is_wanted = if sense == Sense::Is { &Literal::Bool(true) } else { &Literal::Bool(false) };
                Some(Atom::Constant(expr, Comparison::Equal, is_wanted))
            }
            ExprKind::All
            | ExprKind::Literal(_)
            | ExprKind::Array(_)
            | ExprKind::Negate(_)
            | ExprKind::Arithmetic(_, _, _)
            | ExprKind::And(_)
            | ExprKind::Or(_)
            | ExprKind::Not(_) => None,
        }
    }
}

fn literal(element: &Expr) -> Option<&Literal> {
    match &element.kind {
        ExprKind::Literal(literal) => Some(literal),
        _ => None,
    }
}

/// The elements of an array by type; undefined ones are comparable with nothing and left out.
#[derive(Debug, Default)]
pub struct ByType<'a> {
    pub strings: Vec<&'a str>,
    pub numbers: Vec<Number>,
    pub bools: Vec<bool>,
    pub has_null: bool,
}

impl<'a> ByType<'a> {
    fn sort(literals: &[&'a Literal]) -> ByType<'a> {
        let mut sorted = ByType::default();
        for literal in literals {
            match literal {
                Literal::Undefined => {}
                Literal::Null => sorted.has_null = true,
                Literal::Bool(value) => sorted.bools.push(*value),
                Literal::Number(number) => sorted.numbers.push(*number),
                Literal::String(text) => sorted.strings.push(text),
            }
        }
        sorted
    }
}

/// Returns whether a comparison of `status` with a text is true for a device that is not blocked, and for one that is;
/// `None` when the operand is another one.
pub(super) fn status_holds(operand: &Expr, operator: Comparison, text: &str) -> Option<(bool, bool)> {
    let holds = |is_blocked: bool| operator.holds(query::status(is_blocked).cmp(text));
    match &operand.kind {
        ExprKind::Path(PathRef { root: Root::Status, .. }) => Some((holds(false), holds(true))),
        _ => None,
    }
}

/// Returns the least string above all strings with the prefix; `None` when there is none.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = match last {
            char::MAX => continue,
            '\u{d7ff}' => '\u{e000}',
            last => char::from_u32(u32::from(last) + 1)?,
        };
        chars.push(next);
        return Some(chars.into_iter().collect());
    }
    None
}
