//! The syntax tree of a template, and how its nodes are written back as source (error messages quote them). Building
//! it is the parser's business, running it the evaluator's.

use std::fmt;

/// A sequence of nodes: a template, or the inside of a block.
pub(crate) type List = Vec<Node>;

/// One piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// Literal text.
    Text(String),
    /// `{{pipeline}}`.
    Action(Pipe),
    /// `{{if}}`, `{{with}}` or `{{range}}`.
    Branch(Branch),
    /// `{{break}}`.
    Break,
    /// `{{continue}}`.
    Continue,
    /// `{{template "name" pipeline}}`.
    Template {
        /// Byte offset of the name.
        at: usize,
        /// The template's name.
        name: String,
        /// Its dot.
        pipe: Option<Pipe>,
    },
}

/// Which control structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BranchKind {
    /// Runs the body if the pipeline is true.
    If,
    /// `if` that also sets dot.
    With,
    /// Runs the body for every element.
    Range,
}

/// A control structure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Branch {
    /// Which one.
    pub(crate) kind: BranchKind,
    /// Condition or collection.
    pub(crate) pipe: Pipe,
    /// What runs when it is true or not empty.
    pub(crate) body: List,
    /// What runs otherwise.
    pub(crate) otherwise: List,
}

/// A pipeline: `$a, $b := command | command`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pipe {
    /// Byte offset.
    pub(crate) at: usize,
    /// Variables that get the value, with their dollar sign.
    pub(crate) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(crate) assign: bool,
    /// At least one command.
    pub(crate) commands: Vec<Command>,
}

/// An operand and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    /// Byte offset.
    pub(crate) at: usize,
    /// Never empty.
    pub(crate) operands: Vec<Operand>,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operand {
    /// Byte offset.
    pub(crate) at: usize,
    /// What it is.
    pub(crate) term: Term,
}

/// What a word of a command is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true` or `false`
    Bool(bool),
    /// An integer, with its source text.
    Int(i64, String),
    /// A floating-point number, with its source text.
    Float(f64, String),
    /// A string, with its quoted source text.
    Text(String, String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`: the variable with its dollar sign, then fields.
    Variable(String, Vec<String>),
    /// A function's name.
    Function(String),
    /// `(pipeline)`
    Pipe(Box<Pipe>),
    /// `(pipeline).A.B`
    Chain(Box<Operand>, Vec<String>),
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assign { "=" } else { ":=" })?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if index == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, operand) in self.operands.iter().enumerate() {
            write!(f, "{}{operand}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.term {
            Term::Dot => f.write_str("."),
            Term::Nil => f.write_str("nil"),
            Term::Bool(value) => write!(f, "{value}"),
            Term::Int(_, source) | Term::Float(_, source) | Term::Text(_, source) => f.write_str(source),
            Term::Field(names) => write_fields(f, names),
            Term::Variable(name, names) => f.write_str(name).and_then(|()| write_fields(f, names)),
            Term::Function(name) => f.write_str(name),
            Term::Pipe(pipe) => write!(f, "({pipe})"),
            Term::Chain(operand, names) => write!(f, "{operand}").and_then(|()| write_fields(f, names)),
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, names: &[String]) -> fmt::Result {
    names.iter().try_for_each(|name| write!(f, ".{name}"))
}
