//! Tokens to a tree: a Pratt parser that resumes at AND and OR after an error.
//!
//! Both the nesting and the height of what it builds are bounded by `limits::QUERY_DEPTH_MAX`; chains of AND and OR are
//! one node each, whatever their length.

mod mistake;

use super::ast::{Arithmetic, Comparison, Expr, ExprKind, Literal, Membership, Number};
use super::error::{QueryError, QueryErrorKind};
use super::lex::{QueryToken, Symbol, TokenKind, tokens};
use super::names::{Resolve, resolve_function, resolve_path};
use crate::model::limits::QUERY_DEPTH_MAX;

/// Returns the tree of a text and its errors; the tree has `undefined` at each error.
pub(super) fn parse(text: &str) -> (Expr, Vec<QueryError>) {
    parse_with(text, resolve_path)
}

/// Returns the tree of a text about something else than devices, whose names are those that `resolve` knows.
pub(super) fn parse_with(text: &str, resolve: Resolve) -> (Expr, Vec<QueryError>) {
    let tokens = tokens(text);
    let mut parser = Parser { text, tokens, at: 0, depth: 0, is_aborted: false, errors: Vec::new(), resolve };
    (parser.whole(), parser.errors)
}

/// How tightly an operator binds; a larger number binds tighter.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const ADD: u8 = 5;
const MULTIPLY: u8 = 6;
const NEGATE: u8 = 7;

/// The height of the tree: the deepest nesting, and the nodes in it (AND, a comparison, a function, a property).
const HEIGHT_MAX: usize = QUERY_DEPTH_MAX + 4;

/// The parse of this operand failed and the error is recorded.
struct Failed;

/// A tree with the number of nodes on its longest path.
struct Tree {
    expr: Expr,
    height: usize,
}

impl Tree {
    fn leaf(kind: ExprKind, start: usize, end: usize) -> Tree {
        Tree { expr: Expr { kind, start, end }, height: 1 }
    }
}

/// What stands between two operands.
enum Infix {
    Or,
    And,
    Compare(Comparison),
    Arithmetic(Arithmetic),
    Member(Membership),
}

impl Infix {
    fn power(&self) -> u8 {
        match self {
            Infix::Or => OR,
            Infix::And => AND,
            Infix::Compare(_) | Infix::Member(_) => COMPARE,
            Infix::Arithmetic(Arithmetic::Add | Arithmetic::Subtract) => ADD,
            Infix::Arithmetic(Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder) => MULTIPLY,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<QueryToken>,
    at: usize,
    depth: usize,
    /// Set when the text is too deep: nothing after that can be trusted.
    is_aborted: bool,
    errors: Vec<QueryError>,
    resolve: Resolve,
}

impl Parser<'_> {
    fn whole(&mut self) -> Expr {
        let everywhere = |kind| Expr { kind, start: 0, end: self.text.len() };
        let nothing = everywhere(ExprKind::Literal(Literal::Undefined));
        if self.peek() == &TokenKind::End {
            self.errors.push(QueryError { kind: QueryErrorKind::Empty, start: 0, end: self.text.len() });
            return nothing;
        }
        if self.peek() == &TokenKind::Symbol(Symbol::Star) && self.tokens[1].kind == TokenKind::End {
            return everywhere(ExprKind::All);
        }
        if let Some((kind, end)) = self.full_query() {
            self.errors.push(QueryError { kind, start: self.token().start, end });
            return nothing;
        }
        let tree = self.expression(OR);
        while !self.is_aborted && self.peek() != &TokenKind::End {
            if self.bracket_closes() {
                self.unexpected_after_operand();
                self.at += 1;
            }
            self.resume();
        }
        tree.map_or(nothing, |tree| tree.expr)
    }

    fn token(&self) -> &QueryToken {
        &self.tokens[self.at]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn word_is(&self, at: usize, keyword: &str) -> bool {
        match &self.tokens[at].kind {
            TokenKind::Word(word) => word.eq_ignore_ascii_case(keyword),
            TokenKind::Escaped(_)
            | TokenKind::String(_)
            | TokenKind::Number(_)
            | TokenKind::Symbol(_)
            | TokenKind::Bad(_)
            | TokenKind::End => false,
        }
    }

    fn take_symbol(&mut self, symbol: Symbol) -> bool {
        let is_it = self.peek() == &TokenKind::Symbol(symbol);
        self.at += usize::from(is_it);
        is_it
    }

    fn bracket_closes(&self) -> bool {
        matches!(self.peek(), TokenKind::Symbol(Symbol::ParenClose | Symbol::BracketClose))
    }

    /// Returns the end of the last token that was taken.
    fn end(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].end
    }

    /// Records an error at the current token, or the token's own error when it is a bad one.
    fn fail<T>(&mut self, kind: QueryErrorKind) -> Result<T, Failed> {
        let token = self.token();
        let (start, end) = (token.start, token.end);
        let kind = match &token.kind {
            TokenKind::Bad(own) => own.clone(),
            TokenKind::Word(_)
            | TokenKind::Escaped(_)
            | TokenKind::String(_)
            | TokenKind::Number(_)
            | TokenKind::Symbol(_)
            | TokenKind::End => kind,
        };
        // The expression before a bad token often fails because of it too.
        if self.errors.last().is_none_or(|last| last.start != start) {
            self.errors.push(QueryError { kind, start, end });
        }
        Err(Failed)
    }

    fn abort<T>(&mut self) -> Result<T, Failed> {
        let token = self.token();
        self.errors.push(QueryError { kind: QueryErrorKind::Deep, start: token.start, end: token.end });
        self.is_aborted = true;
        self.at = self.tokens.len() - 1;
        Err(Failed)
    }

    /// Parses what follows a misplaced token for its errors only, up to the bracket that closes this nesting or to the
    /// end.
    fn resume(&mut self) {
        while !self.is_aborted && self.peek() != &TokenKind::End && !self.bracket_closes() {
            if self.joins() {
                self.at += 1;
                let _ = self.expression(OR);
            } else {
                self.unexpected_after_operand();
                self.recover();
            }
        }
    }

    fn joins(&self) -> bool {
        self.word_is(self.at, "AND") || self.word_is(self.at, "OR")
    }

    /// Moves to the next AND or OR of this nesting, to the bracket that closes it or to the end.
    fn recover(&mut self) {
        let mut open = 0_usize;
        while self.peek() != &TokenKind::End {
            let closes = self.bracket_closes();
            if open == 0 && (closes || self.joins()) {
                return;
            }
            let opens = matches!(self.peek(), TokenKind::Symbol(Symbol::ParenOpen | Symbol::BracketOpen));
            open = open + usize::from(opens) - usize::from(closes);
            self.at += 1;
        }
    }

    /// Parses an expression one level deeper, in brackets or after a prefix operator.
    fn nested(&mut self, least: u8) -> Result<Tree, Failed> {
        if self.depth >= QUERY_DEPTH_MAX {
            return self.abort();
        }
        self.depth += 1;
        let tree = self.expression(least);
        self.depth -= 1;
        tree
    }

    /// Parses operators that bind at least as tightly as `least`; where AND and OR may follow, an error costs only the
    /// operand that it is in.
    fn expression(&mut self, least: u8) -> Result<Tree, Failed> {
        let start = self.token().start;
        let first = self.operand();
        let mut left = self.or_recover(least, first)?;
        while let Some(infix) = self.infix() {
            let power = infix.power();
            if power < least {
                break;
            }
            self.at += 1;
            let joined = match infix {
                Infix::Member(membership) => self.membership(membership, left, start),
                Infix::Or | Infix::And | Infix::Compare(_) | Infix::Arithmetic(_) => {
                    self.right_operand(power).and_then(|right| self.join(infix, left, right, start))
                }
            };
            left = self.or_recover(least, joined)?;
        }
        Ok(left)
    }

    fn right_operand(&mut self, power: u8) -> Result<Tree, Failed> {
        let right = self.expression(power + 1);
        self.or_recover(power, right)
    }

    /// Turns a failure into `undefined` up to the next AND or OR, when this is a place where those may follow.
    fn or_recover(&mut self, least: u8, result: Result<Tree, Failed>) -> Result<Tree, Failed> {
        match result {
            Err(Failed) if least <= AND && !self.is_aborted => Ok(self.recovered()),
            result => result,
        }
    }

    fn recovered(&mut self) -> Tree {
        let start = self.token().start;
        self.recover();
        Tree::leaf(ExprKind::Literal(Literal::Undefined), start, self.token().start)
    }

    /// Returns the operator at the current token; `None` when there is none.
    fn infix(&self) -> Option<Infix> {
        match self.peek() {
            TokenKind::Word(word) => match word.to_ascii_uppercase().as_str() {
                "OR" => Some(Infix::Or),
                "AND" => Some(Infix::And),
                "IN" => Some(Infix::Member(Membership::In)),
                "NIN" => Some(Infix::Member(Membership::NotIn)),
                _ => None,
            },
            TokenKind::Symbol(symbol) => symbol_infix(*symbol),
            TokenKind::Escaped(_)
            | TokenKind::String(_)
            | TokenKind::Number(_)
            | TokenKind::Bad(_)
            | TokenKind::End => None,
        }
    }

    fn join(&mut self, infix: Infix, left: Tree, right: Tree, start: usize) -> Result<Tree, Failed> {
        let (kind, height) = match infix {
            Infix::Or => match left.expr.kind {
                ExprKind::Or(mut operands) => {
                    operands.push(right.expr);
                    (ExprKind::Or(operands), left.height.max(right.height + 1))
                }
                kind => (ExprKind::Or(vec![Expr { kind, ..left.expr }, right.expr]), taller(left.height, right.height)),
            },
            Infix::And => match left.expr.kind {
                ExprKind::And(mut operands) => {
                    operands.push(right.expr);
                    (ExprKind::And(operands), left.height.max(right.height + 1))
                }
                kind => {
                    (ExprKind::And(vec![Expr { kind, ..left.expr }, right.expr]), taller(left.height, right.height))
                }
            },
            Infix::Compare(operator) => (
                ExprKind::Compare(operator, Box::new(left.expr), Box::new(right.expr)),
                taller(left.height, right.height),
            ),
            Infix::Arithmetic(operator) => (
                ExprKind::Arithmetic(operator, Box::new(left.expr), Box::new(right.expr)),
                taller(left.height, right.height),
            ),
            Infix::Member(_) => unreachable!("memberships are parsed before their array"),
        };
        self.node(kind, height, start)
    }

    fn node(&mut self, kind: ExprKind, height: usize, start: usize) -> Result<Tree, Failed> {
        if height > HEIGHT_MAX {
            return self.abort();
        }
        Ok(Tree { expr: Expr { kind, start, end: self.end() }, height })
    }

    fn membership(&mut self, membership: Membership, item: Tree, start: usize) -> Result<Tree, Failed> {
        if !self.take_symbol(Symbol::BracketOpen) {
            return self.fail(QueryErrorKind::NeedsArray { operator: membership.as_str() });
        }
        let (elements, height) = self.list(Symbol::BracketClose)?;
        self.node(ExprKind::Member(membership, Box::new(item.expr), elements), taller(item.height, height), start)
    }

    /// Parses what stands before an infix operator: a prefix operator with its operand, or a value.
    fn operand(&mut self) -> Result<Tree, Failed> {
        let QueryToken { kind, start, end } = self.token().clone();
        match kind {
            TokenKind::String(text) => self.leaf(ExprKind::Literal(Literal::String(text))),
            TokenKind::Number(number) => self.leaf(ExprKind::Literal(Literal::Number(number))),
            TokenKind::Symbol(Symbol::Minus) => self.minus(start),
            TokenKind::Symbol(Symbol::ParenOpen) => self.parenthesized(),
            TokenKind::Symbol(Symbol::BracketOpen) => {
                self.at += 1;
                let (elements, height) = self.list(Symbol::BracketClose)?;
                self.node(ExprKind::Array(elements), height + 1, start)
            }
            TokenKind::Symbol(Symbol::Star) => self.fail(QueryErrorKind::StarNotAlone),
            TokenKind::Word(word) => self.word(&word, start, end),
            TokenKind::Escaped(_) | TokenKind::Symbol(_) | TokenKind::Bad(_) | TokenKind::End => {
                let found = self.found();
                self.fail(QueryErrorKind::ExpectedValue { found })
            }
        }
    }

    fn leaf(&mut self, kind: ExprKind) -> Result<Tree, Failed> {
        let token = self.token();
        let tree = Tree::leaf(kind, token.start, token.end);
        self.at += 1;
        Ok(tree)
    }

    fn minus(&mut self, start: usize) -> Result<Tree, Failed> {
        self.at += 1;
        let operand = self.nested(NEGATE)?;
        let negated = match operand.expr.kind {
            ExprKind::Literal(Literal::Number(Number::Integer(integer))) => integer.checked_neg().map(Number::Integer),
            ExprKind::Literal(Literal::Number(Number::Real(real))) => Some(Number::Real(-real)),
            _ => None,
        };
        match negated {
            Some(number) => Ok(Tree::leaf(ExprKind::Literal(Literal::Number(number)), start, self.end())),
            None => self.node(ExprKind::Negate(Box::new(operand.expr)), operand.height + 1, start),
        }
    }

    fn parenthesized(&mut self) -> Result<Tree, Failed> {
        self.at += 1;
        let inner = self.nested(OR)?;
        if self.take_symbol(Symbol::ParenClose) {
            return Ok(inner);
        }
        self.missing_close(')')
    }

    /// Fails where a bracket should close: with the missing bracket at the end, else with the missing operator.
    fn missing_close<T>(&mut self, bracket: char) -> Result<T, Failed> {
        let found = self.found();
        if self.peek() == &TokenKind::End || self.bracket_closes() {
            return self.fail(QueryErrorKind::ExpectedClosing { bracket, found });
        }
        self.resume();
        self.at += usize::from(self.bracket_closes());
        Err(Failed)
    }

    /// Parses expressions with commas between them up to `close`; returns them with the height of the highest.
    fn list(&mut self, close: Symbol) -> Result<(Vec<Expr>, usize), Failed> {
        let bracket = if close == Symbol::BracketClose { ']' } else { ')' };
        let mut elements = Vec::new();
        let mut height = 0;
        if self.take_symbol(close) {
            return Ok((elements, height));
        }
        loop {
            let element = self.nested(OR)?;
            height = height.max(element.height);
            elements.push(element.expr);
            if self.take_symbol(close) {
                return Ok((elements, height));
            }
            if !self.take_symbol(Symbol::Comma) {
                return self.missing_close(bracket);
            }
        }
    }

    fn word(&mut self, word: &str, start: usize, end: usize) -> Result<Tree, Failed> {
        let upper = word.to_ascii_uppercase();
        let next = &self.tokens[self.at + 1].kind;
        let is_path = next == &TokenKind::Symbol(Symbol::Dot);
        let is_call = next == &TokenKind::Symbol(Symbol::ParenOpen);
        match upper.as_str() {
            _ if is_path => self.path(),
            "NOT" => {
                self.at += 1;
                let operand = self.nested(NOT)?;
                self.node(ExprKind::Not(Box::new(operand.expr)), operand.height + 1, start)
            }
            "TRUE" => self.leaf(ExprKind::Literal(Literal::Bool(true))),
            "FALSE" => self.leaf(ExprKind::Literal(Literal::Bool(false))),
            "NULL" => self.leaf(ExprKind::Literal(Literal::Null)),
            "UNDEFINED" => self.leaf(ExprKind::Literal(Literal::Undefined)),
            "AND" | "OR" | "IN" | "NIN" => {
                let found = self.found();
                self.fail(QueryErrorKind::ExpectedValue { found })
            }
            _ if is_call => self.call(word, start, end),
            _ => self.path(),
        }
    }

    fn call(&mut self, name: &str, start: usize, end: usize) -> Result<Tree, Failed> {
        let function = resolve_function(name);
        self.at += 2;
        let (arguments, height) = self.list(Symbol::ParenClose)?;
        match function {
            Ok(function) => self.node(ExprKind::Call(function, arguments), height + 1, start),
            Err(kind) => {
                self.errors.push(QueryError { kind, start, end });
                Ok(Tree::leaf(ExprKind::Literal(Literal::Undefined), start, self.end()))
            }
        }
    }

    fn path(&mut self) -> Result<Tree, Failed> {
        let start = self.token().start;
        let mut segments = Vec::new();
        loop {
            match self.peek() {
                TokenKind::Word(name) | TokenKind::Escaped(name) => segments.push(name.clone()),
                TokenKind::String(_)
                | TokenKind::Number(_)
                | TokenKind::Symbol(_)
                | TokenKind::Bad(_)
                | TokenKind::End => return self.fail(QueryErrorKind::ExpectedName),
            }
            self.at += 1;
            if !self.take_symbol(Symbol::Dot) {
                break;
            }
        }
        let end = self.end();
        match (self.resolve)(&segments) {
            Ok(path) => Ok(Tree::leaf(ExprKind::Path(path), start, end)),
            Err(kind) => {
                let kind = self.dashed_name(start, end).unwrap_or(kind);
                self.errors.push(QueryError { kind, start, end });
                Ok(Tree::leaf(ExprKind::Literal(Literal::Undefined), start, end))
            }
        }
    }
}

fn taller(left: usize, right: usize) -> usize {
    left.max(right) + 1
}

fn symbol_infix(symbol: Symbol) -> Option<Infix> {
    Some(match symbol {
        Symbol::Equal => Infix::Compare(Comparison::Equal),
        Symbol::NotEqual => Infix::Compare(Comparison::NotEqual),
        Symbol::Less => Infix::Compare(Comparison::Less),
        Symbol::LessOrEqual => Infix::Compare(Comparison::LessOrEqual),
        Symbol::Greater => Infix::Compare(Comparison::Greater),
        Symbol::GreaterOrEqual => Infix::Compare(Comparison::GreaterOrEqual),
        Symbol::Plus => Infix::Arithmetic(Arithmetic::Add),
        Symbol::Minus => Infix::Arithmetic(Arithmetic::Subtract),
        Symbol::Star => Infix::Arithmetic(Arithmetic::Multiply),
        Symbol::Slash => Infix::Arithmetic(Arithmetic::Divide),
        Symbol::Percent => Infix::Arithmetic(Arithmetic::Remainder),
        Symbol::Dot
        | Symbol::Comma
        | Symbol::ParenOpen
        | Symbol::ParenClose
        | Symbol::BracketOpen
        | Symbol::BracketClose => return None,
    })
}
