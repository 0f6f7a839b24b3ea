//! Runs a parsed template over its data, by the rules of Go's `text/template/exec.go`: pipelines, field chains,
//! variables, control structures. What the functions do stands in `functions`.

use serde_json::Value;

use super::ast::{Branch, BranchKind, Command, List, Node, Operand, Pipe, Term};
use super::functions::{self, Function};
use super::parser::Tree;
use super::value::Datum;
use super::{Data, Error};

/// How deep templates may call each other.
const MAX_CALLS: usize = 100;
/// How much one template may print or loop over: a template is short, what it makes should be readable.
const MAX_OUTPUT: usize = 256 << 20;

/// Runs a template.
pub(super) fn run(source: &str, tree: &Tree, data: Data<'_>) -> Result<String, Error> {
    let root = Datum::borrowed(data.root);
    let mut run = Run {
        source,
        tree,
        data,
        template: "",
        variables: vec![("$", root.clone())],
        out: String::new(),
        calls: 0,
        steps: 0,
    };
    run.list(&root, &tree.main)?;
    Ok(run.out)
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'a> {
    source: &'a str,
    tree: &'a Tree,
    data: Data<'a>,
    /// Name of the template at work, for error texts.
    template: &'a str,
    variables: Vec<(&'a str, Datum<'a>)>,
    out: String,
    calls: usize,
    steps: usize,
}

impl<'a> Run<'a> {
    fn error<T>(
        &self,
        at: usize,
        context: impl std::fmt::Display,
        message: impl std::fmt::Display,
    ) -> Result<T, Error> {
        Err(Error::run(self.source, at, self.template, &context.to_string(), message))
    }

    fn list(&mut self, dot: &Datum<'a>, nodes: &'a List) -> Result<Flow, Error> {
        for node in nodes {
            let flow = self.node(dot, node)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, dot: &Datum<'a>, node: &'a Node) -> Result<Flow, Error> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.print());
                }
                self.count(pipe)?;
            }
            Node::Branch(branch) => return self.branch(dot, branch),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Template { at, name, pipe } => self.call(dot, *at, name, pipe.as_ref())?,
        }
        Ok(Flow::Next)
    }

    /// A template that loops or calls itself without end must fail, not fill the memory.
    fn count(&mut self, pipe: &Pipe) -> Result<(), Error> {
        self.steps += 1;
        if self.out.len() > MAX_OUTPUT || self.steps > 10_000_000 {
            return self.error(pipe.at, pipe, "the template makes too much output");
        }
        Ok(())
    }

    /// A variable that is declared inside a control structure ends with it.
    fn branch(&mut self, dot: &Datum<'a>, branch: &'a Branch) -> Result<Flow, Error> {
        let scope = self.variables.len();
        let flow = match branch.kind {
            BranchKind::Range => self.range(dot, branch),
            kind => {
                let value = self.pipeline(dot, &branch.pipe)?;
                match (value.is_true(), kind) {
                    (true, BranchKind::With) => self.list(&value, &branch.body),
                    (true, _) => self.list(dot, &branch.body),
                    (false, _) => self.list(dot, &branch.otherwise),
                }
            }
        };
        self.variables.truncate(scope);
        flow
    }

    fn range(&mut self, dot: &Datum<'a>, branch: &'a Branch) -> Result<Flow, Error> {
        let collection = self.commands(dot, &branch.pipe)?;
        let Some(elements) = self.elements(&collection) else {
            return self.error(
                branch.pipe.at,
                &branch.pipe,
                format!("range can't iterate over {}", collection.print()),
            );
        };
        let scope = self.variables.len();
        if elements.is_empty() {
            return self.list(dot, &branch.otherwise);
        }
        for (key, element) in elements {
            self.count(&branch.pipe)?;
            match branch.pipe.variables.as_slice() {
                [] => {}
                [one] => self.bind(&branch.pipe, one, element.clone()),
                [first, second, ..] => {
                    self.bind(&branch.pipe, first, key);
                    self.bind(&branch.pipe, second, element.clone());
                }
            }
            let flow = self.list(&element, &branch.body)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// What a `range` goes over: lists, maps, and the numbers below an integer.
    fn elements(&self, collection: &Datum<'a>) -> Option<Vec<(Datum<'a>, Datum<'a>)>> {
        match collection.json().as_i64() {
            Some(count) if count <= 1_000_000 => Some((0..count).map(|n| (Datum::new(n), Datum::new(n))).collect()),
            _ => collection.elements(),
        }
    }

    fn call(&mut self, dot: &Datum<'a>, at: usize, name: &'a str, pipe: Option<&'a Pipe>) -> Result<(), Error> {
        let tree = self.tree;
        let context =
            || format!("{{{{template {name:?}{}}}}}", pipe.map(|pipe| format!(" {pipe}")).unwrap_or_default());
        let Some(body) = tree.defined.get(name) else {
            return self.error(at, context(), format!("template {name:?} not defined"));
        };
        if self.calls == MAX_CALLS {
            return self.error(at, context(), format!("exceeded maximum template depth ({MAX_CALLS})"));
        }
        let dot = match pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => Datum::Missing,
        };
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let caller = std::mem::replace(&mut self.template, name);
        self.calls += 1;
        self.list(&dot, body)?;
        self.calls -= 1;
        self.template = caller;
        self.variables = variables;
        Ok(())
    }

    /// The value of a pipeline, bound to its variables.
    fn pipeline(&mut self, dot: &Datum<'a>, pipe: &'a Pipe) -> Result<Datum<'a>, Error> {
        let value = self.commands(dot, pipe)?;
        for name in &pipe.variables {
            self.bind(pipe, name, value.clone());
        }
        Ok(value)
    }

    fn commands(&mut self, dot: &Datum<'a>, pipe: &'a Pipe) -> Result<Datum<'a>, Error> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(dot, command, value)?);
        }
        Ok(value.unwrap_or(Datum::Missing))
    }

    fn bind(&mut self, pipe: &Pipe, name: &'a str, value: Datum<'a>) {
        let old = self.variables.iter_mut().rev().find(|(known, _)| *known == name);
        match old {
            Some(slot) if pipe.assign => slot.1 = value,
            _ => self.variables.push((name, value)),
        }
    }

    fn variable(&self, name: &str) -> Datum<'a> {
        // The parser has checked that it is declared; a body that never ran leaves it without a value.
        self.variables.iter().rev().find(|(known, _)| *known == name).map_or(Datum::Missing, |(_, value)| value.clone())
    }

    /// One command; `last` is the value of the command before, which becomes the last argument.
    fn command(&mut self, dot: &Datum<'a>, command: &'a Command, last: Option<Datum<'a>>) -> Result<Datum<'a>, Error> {
        let (first, arguments) = (&command.operands[0], &command.operands[1..]);
        match &first.term {
            Term::Function(name) => return self.function(dot, command, name, last),
            Term::Field(names) => return self.method_or_fields(dot, dot.clone(), first, names, arguments, last),
            Term::Variable(name, names) if !names.is_empty() => {
                return self.method_or_fields(dot, self.variable(name), first, names, arguments, last);
            }
            Term::Chain(operand, names) => {
                let value = self.operand(dot, operand)?;
                return self.method_or_fields(dot, value, first, names, arguments, last);
            }
            _ => {}
        }
        if !arguments.is_empty() || last.is_some() {
            return self.error(first.at, first, format!("can't give argument to non-function {first}"));
        }
        if first.term == Term::Nil {
            return self.error(first.at, first, "nil is not a command");
        }
        self.operand(dot, first)
    }

    /// A chain of fields that may end in a method of the root object with its argument.
    fn method_or_fields(
        &mut self,
        dot: &Datum<'a>,
        value: Datum<'a>,
        node: &'a Operand,
        names: &'a [String],
        arguments: &'a [Operand],
        last: Option<Datum<'a>>,
    ) -> Result<Datum<'a>, Error> {
        if arguments.is_empty() && last.is_none() {
            return self.fields(value, node, names);
        }
        let Some((method, fields)) = names.split_last() else { return Ok(value) };
        let receiver = self.fields(value, node, fields)?;
        let mut given = arguments.iter().map(|argument| self.operand(dot, argument)).collect::<Result<Vec<_>, _>>()?;
        given.extend(last);
        if let [argument] = given.as_slice()
            && self.is_root(&receiver)
            && let Some(found) =
                argument.as_str().and_then(|argument| self.data.methods.and_then(|call| call(method, argument)))
        {
            return Ok(Datum::new(found));
        }
        match receiver.member(method) {
            Some(_) => self.error(node.at, node, format!("{method} is not a method but has arguments")),
            None => self.unknown_field(&receiver, node, method),
        }
    }

    fn is_root(&self, value: &Datum<'_>) -> bool {
        std::ptr::eq(value.json(), self.data.root)
    }

    fn fields(&self, value: Datum<'a>, node: &Operand, names: &[String]) -> Result<Datum<'a>, Error> {
        let mut value = value;
        for name in names {
            value = match value.member(name) {
                Some(member) => member,
                // The header of a table knows only the columns that have a title.
                None if self.data.header => Datum::Missing,
                None => return self.unknown_field(&value, node, name),
            };
        }
        Ok(value)
    }

    fn unknown_field<T>(&self, value: &Datum<'_>, node: &Operand, name: &str) -> Result<T, Error> {
        let message = match (value, value.json(), self.data.type_name) {
            (Datum::Missing, ..) | (_, Value::Null, _) => format!("nil data; no entry for key {name:?}"),
            (_, Value::Object(_), None) => format!("map has no entry for key {name:?}"),
            (_, _, None) => format!("can't evaluate field {name} in type interface {{}}"),
            (_, _, Some(root)) if self.is_root(value) => format!("can't evaluate field {name} in type {root}"),
            _ => format!("can't evaluate field {name} in type {}", value.type_name()),
        };
        self.error(node.at, node, message)
    }

    /// The value of a word that is no function call with arguments.
    fn operand(&mut self, dot: &Datum<'a>, operand: &'a Operand) -> Result<Datum<'a>, Error> {
        Ok(match &operand.term {
            Term::Dot => dot.clone(),
            Term::Nil => Datum::nil(),
            Term::Bool(value) => Datum::new(*value),
            Term::Int(number, _) => Datum::new(*number),
            Term::Float(number, _) => Datum::float(*number),
            Term::Text(text, _) => Datum::new(text.as_str()),
            Term::Field(names) => self.fields(dot.clone(), operand, names)?,
            Term::Variable(name, names) => self.fields(self.variable(name), operand, names)?,
            Term::Pipe(pipe) => self.pipeline(dot, pipe)?,
            Term::Chain(inner, names) => {
                let value = self.operand(dot, inner)?;
                self.fields(value, operand, names)?
            }
            Term::Function(name) => {
                let function = self.lookup(operand.at, operand, name)?;
                self.arity(operand.at, operand, function, 0)?;
                self.apply(operand.at, operand, function, &[])?
            }
        })
    }

    fn function(
        &mut self,
        dot: &Datum<'a>,
        command: &'a Command,
        name: &str,
        last: Option<Datum<'a>>,
    ) -> Result<Datum<'a>, Error> {
        let function = self.lookup(command.at, command, name)?;
        let arguments = &command.operands[1..];
        self.arity(command.at, command, function, arguments.len() + usize::from(last.is_some()))?;
        if let "and" | "or" = name {
            return self.logical(dot, name == "and", arguments, last);
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for (index, argument) in arguments.iter().enumerate() {
            let value = self.operand(dot, argument)?;
            self.check_argument(function, index, argument, &value)?;
            values.push(value);
        }
        values.extend(last);
        if let ("call", [callee, ..], [value, ..]) = (name, arguments, values.as_slice()) {
            let message = format!("error calling call: non-function {callee} of type {}", value.type_name());
            return self.error(command.at, command, message);
        }
        self.apply(command.at, command, function, &values)
    }

    /// `and` and `or` evaluate only as many arguments as they need, and return the deciding one.
    fn logical(
        &mut self,
        dot: &Datum<'a>,
        and: bool,
        arguments: &'a [Operand],
        last: Option<Datum<'a>>,
    ) -> Result<Datum<'a>, Error> {
        let mut value = Datum::Missing;
        for argument in arguments {
            value = self.operand(dot, argument)?;
            if value.is_true() != and {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn lookup(&self, at: usize, context: impl std::fmt::Display, name: &str) -> Result<&'static Function, Error> {
        functions::find(name).map_or_else(|| self.error(at, context, format!("{name:?} is not a defined function")), Ok)
    }

    fn arity(
        &self,
        at: usize,
        context: impl std::fmt::Display,
        function: &Function,
        given: usize,
    ) -> Result<(), Error> {
        let wanted = match function.most {
            Some(most) if given > most || given < function.least => most.to_string(),
            None if given < function.least => format!("at least {}", function.least),
            _ => return Ok(()),
        };
        self.error(at, context, format!("wrong number of args for {}: want {wanted} got {given}", function.name))
    }

    fn check_argument(
        &self,
        function: &Function,
        index: usize,
        argument: &Operand,
        value: &Datum<'_>,
    ) -> Result<(), Error> {
        let Some(kind) = function.kinds.get(index).filter(|kind| !kind.takes(value)) else { return Ok(()) };
        let message = match argument.term {
            Term::Text(..) | Term::Int(..) | Term::Float(..) => match kind.noun() {
                Some(noun) => format!("expected {noun}; found {argument}"),
                None => format!("can't handle {argument} for arg of type {}", kind.type_name()),
            },
            _ => format!("wrong type for value; expected {}; got {}", kind.type_name(), value.type_name()),
        };
        self.error(argument.at, argument, message)
    }

    fn apply(
        &self,
        at: usize,
        context: impl std::fmt::Display,
        function: &Function,
        values: &[Datum<'a>],
    ) -> Result<Datum<'a>, Error> {
        if self.data.header && function.keeps_header {
            return Ok(values.iter().find(|value| value.as_str().is_some()).cloned().unwrap_or(Datum::Missing));
        }
        (function.call)(values)
            .or_else(|message| self.error(at, context, format!("error calling {}: {message}", function.name)))
    }
}
