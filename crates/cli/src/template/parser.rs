//! Builds the syntax tree of a template from its tokens, by the grammar of Go's `text/template/parse`: control
//! structures, pipelines, operands; and checks what Go checks before it runs anything: known functions, declared
//! variables, `break` inside loops. Errors carry Go's texts.

use std::collections::BTreeMap;

use super::ast::{Branch, BranchKind, Command, List, Node, Operand, Pipe, Term};
use super::lexer::{self, Kind, Token};
use super::{Error, functions};

/// How deep blocks and parentheses may nest: the parser and the evaluator recurse.
const MAX_DEPTH: usize = 100;

/// A parsed template: its own nodes, and the templates that it defines, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// The nodes of the main template.
    pub(crate) main: List,
    /// `{{define}}` and `{{block}}` templates.
    pub(crate) defined: BTreeMap<String, List>,
}

/// Parses a template.
pub(crate) fn parse(source: &str) -> Result<Tree, Error> {
    let mut parser = Parser {
        source,
        tokens: lexer::tokens(source)?,
        next: 0,
        variables: vec!["$".to_owned()],
        defined: BTreeMap::new(),
        loops: 0,
        depth: 0,
    };
    let (main, end) = parser.list(true)?;
    match end {
        Stop::EndOfText => Ok(Tree { main, defined: parser.defined }),
        Stop::End => parser.error("unexpected {{end}}"),
        Stop::Else => parser.error("unexpected {{else}}"),
    }
}

/// What ended a list of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    EndOfText,
    /// `{{end}}`, taken.
    End,
    /// `{{else`, taken without what follows.
    Else,
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    next: usize,
    /// Declared variables, innermost last.
    variables: Vec<String>,
    defined: BTreeMap<String, List>,
    /// How many `range` blocks are open.
    loops: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // The last token is `End` and is never passed.
        &self.tokens[self.next]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token.kind != Kind::End {
            self.next += 1;
        }
        token
    }

    fn skip(&mut self, kind: &Kind) -> bool {
        let found = self.peek().kind == *kind;
        self.next += usize::from(found);
        found
    }

    /// An error at the line of the token that was taken last.
    fn error<T>(&self, message: impl std::fmt::Display) -> Result<T, Error> {
        let at = self.tokens[self.next.saturating_sub(1)].at;
        Err(Error::parse(self.source, at, message))
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, Error> {
        let message = match token.kind {
            Kind::End => format!("unexpected EOF in {context}"),
            ref kind => format!("unexpected {} in {context}", kind.describe()),
        };
        Err(Error::parse(self.source, token.at, message))
    }

    fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.error(format!("nested more than {MAX_DEPTH} deep")) } else { Ok(()) }
    }

    fn list(&mut self, top: bool) -> Result<(List, Stop), Error> {
        let mut nodes = List::new();
        loop {
            let token = self.take();
            match token.kind {
                Kind::End => return Ok((nodes, Stop::EndOfText)),
                Kind::Text(text) => nodes.push(Node::Text(text)),
                _ => match self.action(top)? {
                    Action::Node(node) => nodes.push(node),
                    Action::Nothing => {}
                    Action::Stop(stop) => return Ok((nodes, stop)),
                },
            }
        }
    }

    /// What follows `{{`.
    fn action(&mut self, top: bool) -> Result<Action, Error> {
        let Kind::Word(word) = self.peek().kind.clone() else { return self.pipeline_action() };
        let keyword = ["if", "with", "range", "end", "else", "break", "continue", "template", "define", "block"];
        if !keyword.contains(&word.as_str()) {
            return self.pipeline_action();
        }
        self.take();
        match word.as_str() {
            "if" => self.branch(BranchKind::If).map(Action::Node),
            "with" => self.branch(BranchKind::With).map(Action::Node),
            "range" => self.branch(BranchKind::Range).map(Action::Node),
            "end" => self.close("end").map(|()| Action::Stop(Stop::End)),
            "else" => Ok(Action::Stop(Stop::Else)),
            "break" | "continue" => self.jump(&word).map(Action::Node),
            "template" => self.template().map(Action::Node),
            "define" if top => self.define().map(|()| Action::Nothing),
            "define" => self.error("unexpected {{define}}"),
            _ => self.block().map(Action::Node),
        }
    }

    fn pipeline_action(&mut self) -> Result<Action, Error> {
        // A variable that an action declares lives until the end of its block.
        let pipe = self.pipeline("command", &Kind::Close)?;
        Ok(Action::Node(Node::Action(pipe)))
    }

    fn close(&mut self, context: &str) -> Result<(), Error> {
        let token = self.take();
        if token.kind == Kind::Close { Ok(()) } else { self.unexpected(&token, context) }
    }

    fn jump(&mut self, word: &str) -> Result<Node, Error> {
        self.close(word)?;
        if self.loops == 0 {
            return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(if word == "break" { Node::Break } else { Node::Continue })
    }

    /// What follows `{{if`, `{{with` or `{{range`, to the matching `{{end}}`.
    fn branch(&mut self, kind: BranchKind) -> Result<Node, Error> {
        self.deeper()?;
        let scope = self.variables.len();
        let (context, word) = match kind {
            BranchKind::If => ("if", "if"),
            BranchKind::With => ("with", "with"),
            BranchKind::Range => ("range", ""),
        };
        let pipe = self.pipeline(context, &Kind::Close)?;
        self.loops += usize::from(kind == BranchKind::Range);
        let (body, mut stop) = self.list(false)?;
        self.loops -= usize::from(kind == BranchKind::Range);
        let mut otherwise = List::new();
        if stop == Stop::Else {
            if !word.is_empty() && self.skip(&Kind::Word(word.to_owned())) {
                otherwise.push(self.branch(kind)?);
                stop = Stop::End;
            } else {
                self.close("else")?;
                (otherwise, stop) = self.list(false)?;
            }
        }
        self.variables.truncate(scope);
        self.depth -= 1;
        match stop {
            Stop::End => Ok(Node::Branch(Branch { kind, pipe, body, otherwise })),
            Stop::Else => self.error("expected end; found {{else}}"),
            Stop::EndOfText => self.error("unexpected EOF"),
        }
    }

    fn template_name(&mut self, context: &str) -> Result<(usize, String), Error> {
        let token = self.take();
        match token.kind {
            Kind::Str(ref name, _) => Ok((token.at, name.clone())),
            _ => self.unexpected(&token, context),
        }
    }

    fn template(&mut self) -> Result<Node, Error> {
        let (at, name) = self.template_name("template clause")?;
        let pipe = match self.skip(&Kind::Close) {
            true => None,
            false => Some(self.pipeline("template clause", &Kind::Close)?),
        };
        Ok(Node::Template { at, name, pipe })
    }

    /// The body of `define` or `block`: no outer variable and no outer loop is visible in it.
    fn body(&mut self, name: String, context: &str) -> Result<(), Error> {
        self.deeper()?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let (body, stop) = self.list(false)?;
        (self.variables, self.loops) = (variables, loops);
        self.depth -= 1;
        if stop != Stop::End {
            return self
                .error(format!("unexpected {} in {context}", if stop == Stop::Else { "{{else}}" } else { "EOF" }));
        }
        self.defined.insert(name, body);
        Ok(())
    }

    fn define(&mut self) -> Result<(), Error> {
        let (_, name) = self.template_name("define clause")?;
        self.close("define clause")?;
        self.body(name, "define clause")
    }

    fn block(&mut self) -> Result<Node, Error> {
        let (at, name) = self.template_name("block clause")?;
        let pipe = self.pipeline("block clause", &Kind::Close)?;
        self.body(name.clone(), "block clause")?;
        Ok(Node::Template { at, name, pipe: Some(pipe) })
    }

    /// `[$a [, $b] :=] command | command …` and the token that ends it.
    fn pipeline(&mut self, context: &str, end: &Kind) -> Result<Pipe, Error> {
        let mut pipe = Pipe { at: self.peek().at, ..Pipe::default() };
        let variables = self.declarations(&mut pipe, context)?;
        loop {
            let at = self.peek().at;
            let operands = self.operands()?;
            if operands.is_empty() {
                let token = self.take();
                return match &token.kind {
                    kind if kind == end => self.error(format!("missing value for {context}")),
                    _ => self.unexpected(&token, context),
                };
            }
            self.check_stage(&pipe, &operands)?;
            pipe.commands.push(Command { at, operands });
            let token = self.take();
            match token.kind {
                Kind::Pipe => {}
                ref kind if kind == end => break,
                _ => return self.unexpected(&token, context),
            }
        }
        self.variables.extend(variables);
        Ok(pipe)
    }

    /// Only functions, fields and the like can take the value of the command before.
    fn check_stage(&self, pipe: &Pipe, operands: &[Operand]) -> Result<(), Error> {
        let constant = matches!(
            operands[0].term,
            Term::Bool(_) | Term::Dot | Term::Nil | Term::Int(..) | Term::Float(..) | Term::Text(..)
        );
        if !pipe.commands.is_empty() && constant {
            return self.error(format!("non executable command in pipeline stage {}", pipe.commands.len() + 1));
        }
        Ok(())
    }

    /// The variables of a pipeline. New ones are returned, not yet declared: the pipeline itself does not see them.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<Vec<String>, Error> {
        let mut ahead = self.next;
        let mut names = Vec::new();
        while let Kind::Variable(name) = &self.tokens[ahead].kind {
            names.push(name.clone());
            match self.tokens[ahead + 1].kind {
                Kind::Comma if context == "range" && names.len() < 2 => ahead += 2,
                Kind::Comma => return self.error(format!("too many declarations in {context}")),
                Kind::Declare | Kind::Assign => {
                    self.next = ahead + 2;
                    pipe.assign = self.tokens[ahead + 1].kind == Kind::Assign;
                    pipe.variables.clone_from(&names);
                    if pipe.assign {
                        names.iter().try_for_each(|name| self.check_variable(name))?;
                        names.clear();
                    }
                    return Ok(names);
                }
                _ => break,
            }
        }
        Ok(Vec::new())
    }

    fn check_variable(&self, name: &String) -> Result<(), Error> {
        if self.variables.contains(name) { Ok(()) } else { self.error(format!("undefined variable {name:?}")) }
    }

    fn operands(&mut self) -> Result<Vec<Operand>, Error> {
        let mut operands = Vec::new();
        while let Some(operand) = self.operand()? {
            operands.push(operand);
            let next = self.peek();
            let ends = matches!(next.kind, Kind::Close | Kind::RightParen | Kind::Pipe | Kind::End);
            if !next.spaced && !ends {
                let token = self.take();
                return self.unexpected(&token, "operand");
            }
        }
        Ok(operands)
    }

    /// A term and the fields that follow it without white space.
    fn operand(&mut self) -> Result<Option<Operand>, Error> {
        let Some(operand) = self.term()? else { return Ok(None) };
        let at = self.peek().at;
        let mut names = Vec::new();
        while let Token { spaced: false, kind: Kind::Field(name), .. } = self.peek() {
            names.push(name.clone());
            self.next += 1;
        }
        if names.is_empty() {
            return Ok(Some(operand));
        }
        let term = match operand.term {
            Term::Field(mut fields) => {
                fields.append(&mut names);
                Term::Field(fields)
            }
            Term::Variable(name, _) => Term::Variable(name, names),
            Term::Dot | Term::Nil | Term::Bool(_) | Term::Int(..) | Term::Float(..) | Term::Text(..) => {
                return self.error(format!("unexpected . after term {:?}", operand.to_string()));
            }
            _ => Term::Chain(Box::new(operand), names),
        };
        Ok(Some(Operand { at, term }))
    }

    fn term(&mut self) -> Result<Option<Operand>, Error> {
        let at = self.peek().at;
        let term = match self.peek().kind.clone() {
            Kind::Dot => Term::Dot,
            Kind::Field(name) => Term::Field(vec![name]),
            Kind::Int(number, source) => Term::Int(number, source),
            Kind::Float(number, source) => Term::Float(number, source),
            Kind::Str(text, source) => Term::Text(text, source),
            Kind::Variable(name) => {
                self.next += 1;
                self.check_variable(&name)?;
                return Ok(Some(Operand { at, term: Term::Variable(name, Vec::new()) }));
            }
            Kind::Word(word) => {
                self.next += 1;
                return self.word(word).map(|term| Some(Operand { at, term }));
            }
            Kind::LeftParen => {
                self.next += 1;
                self.deeper()?;
                let pipe = self.pipeline("parenthesized pipeline", &Kind::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Operand { at, term: Term::Pipe(Box::new(pipe)) }));
            }
            _ => return Ok(None),
        };
        self.next += 1;
        Ok(Some(Operand { at, term }))
    }

    fn word(&self, word: String) -> Result<Term, Error> {
        match word.as_str() {
            "true" => Ok(Term::Bool(true)),
            "false" => Ok(Term::Bool(false)),
            "nil" => Ok(Term::Nil),
            name if functions::exists(name) => Ok(Term::Function(word)),
            name => self.error(format!("function {name:?} not defined")),
        }
    }
}

enum Action {
    Node(Node),
    Nothing,
    Stop(Stop),
}
