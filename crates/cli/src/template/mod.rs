//! Go's `text/template` over JSON, for `--format`: what Docker's users write in scripts works here, with Docker's
//! functions and Go's error texts. The data is JSON in Docker's shapes; [`value`] knows what Go's types say beyond it.
//! Where templates come from and what rows they get is the business of `format` and the commands.

mod ast;
mod eval;
mod functions;
mod lexer;
mod parser;
pub(crate) mod printf;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use serde_json::Value;

/// What is wrong with a template, or with running it: one line, as Go says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {text}")]
pub(crate) struct Error {
    text: String,
    /// Whether it cannot be understood, as opposed to: cannot be run over the data.
    pub(crate) parsing: bool,
}

impl Error {
    fn parse(source: &str, at: usize, message: impl std::fmt::Display) -> Self {
        Error { text: format!(":{}: {message}", line(source, at)), parsing: true }
    }

    fn run(source: &str, at: usize, template: &str, context: &str, message: impl std::fmt::Display) -> Self {
        let column = at - source[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let text = format!(":{}:{column}: executing {template:?} at <{context}>: {message}", line(source, at));
        Error { text, parsing: false }
    }
}

fn line(source: &str, at: usize) -> usize {
    1 + source[..at].bytes().filter(|&byte| byte == b'\n').count()
}

/// A method with one string argument (`.Label "name"`): takes the method's name and the argument.
pub(crate) type Methods<'a> = &'a dyn Fn(&str, &str) -> Option<String>;

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    source: String,
    tree: parser::Tree,
}

/// What a template runs over.
#[derive(Clone, Copy)]
pub(crate) struct Data<'a> {
    /// The root object, `$` and the first dot.
    pub(crate) root: &'a Value,
    /// Name of the root's type in error texts; absent: an untyped document (`inspect`).
    pub(crate) type_name: Option<&'a str>,
    /// Methods of the root object.
    pub(crate) methods: Option<Methods<'a>>,
    /// Whether this is a table's head: the functions that change a value leave it alone.
    pub(crate) header: bool,
}

impl<'a> Data<'a> {
    /// An untyped document.
    pub(crate) fn document(root: &'a Value) -> Self {
        Data { root, type_name: None, methods: None, header: false }
    }

    /// A document of a Go type, which error texts name.
    pub(crate) fn typed(root: &'a Value, type_name: &'a str) -> Self {
        Data { type_name: Some(type_name), ..Data::document(root) }
    }
}

impl Template {
    /// Parses `source`.
    pub(crate) fn parse(source: &str) -> Result<Self, Error> {
        Ok(Template { tree: parser::parse(source)?, source: source.to_owned() })
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Runs the template; its output.
    pub(crate) fn execute(&self, data: Data<'_>) -> Result<String, Error> {
        eval::run(&self.source, &self.tree, data)
    }
}
