//! The Dockerfile language as BuildKit's frontend 1.26 reads it: from bytes to stages of typed instructions. Nothing is
//! expanded or run here.

mod directives;
mod flags;
mod heredoc;
mod instruction;
mod lines;
mod mount;
mod parse;
mod split;

pub use heredoc::Heredoc;
pub use instruction::{
    Add, Argument, CommandLine, Copy, From, Healthcheck, InlineFile, Instruction, Pair, Run, Sources, Step,
};
pub use mount::{Mount, MountKind, Sharing};

use crate::{Error, Result, Span};

/// A parsed Dockerfile.
#[derive(Debug)]
pub struct Dockerfile {
    /// `# syntax=`: the frontend that it asks for.
    pub syntax: Option<String>,
    /// `# check=`: which lint rules to skip, and whether findings are errors.
    pub check: Option<String>,
    /// The escape character: `\` or, by `# escape=`, a backquote.
    pub escape: char,
    /// ARGs before the first FROM.
    pub globals: Vec<Step>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// What is allowed but should not be: message and place.
    pub warnings: Vec<(String, Span)>,
}

/// A FROM and what follows it.
#[derive(Debug)]
pub struct Stage {
    /// The FROM.
    pub from: From,
    /// Where the FROM stands.
    pub span: Span,
    /// The FROM as it was written.
    pub code: String,
    /// The instructions behind it.
    pub steps: Vec<Step>,
}

/// Parses a Dockerfile. All errors come back, not only the first, in the order of their lines.
pub fn parse(source: &[u8]) -> std::result::Result<Dockerfile, Vec<Error>> {
    let source = String::from_utf8_lossy(source);
    let lines = lines::read(&source).map_err(|error| vec![error])?;
    let mut file = Dockerfile {
        syntax: lines.directives.syntax.clone(),
        check: lines.directives.check.clone(),
        escape: lines.directives.escape,
        globals: Vec::new(),
        stages: Vec::new(),
        warnings: lines.warnings,
    };
    let mut errors = Vec::new();
    for line in &lines.lines {
        if let Err(error) = parse::step(line, file.escape).and_then(|step| file.add(step)) {
            errors.push(error.at(line.span));
        }
    }
    if errors.is_empty() { Ok(file) } else { Err(errors) }
}

/// Parses the trigger of an ONBUILD, as an image's configuration keeps it.
pub fn parse_trigger(trigger: &str, escape: char) -> Result<Step> {
    let lines = lines::read(trigger)?;
    let [line] = lines.lines.as_slice() else {
        return Err(Error::new(format!("ONBUILD trigger is not one instruction: {trigger:?}")));
    };
    let step = parse::step(line, escape)?;
    match step.instruction {
        Instruction::From(_) | Instruction::Maintainer(_) | Instruction::Onbuild(_) => {
            Err(Error::new(format!("{} isn't allowed as an ONBUILD trigger", step.name.to_uppercase())))
        }
        _ => Ok(step),
    }
}

impl Dockerfile {
    fn add(&mut self, step: Step) -> Result<()> {
        match (step.instruction, self.stages.last_mut()) {
            (Instruction::From(from), _) => {
                self.stages.push(Stage { from, span: step.span, code: step.code, steps: Vec::new() });
            }
            (instruction, Some(stage)) => stage.steps.push(Step { instruction, ..step }),
            (instruction @ Instruction::Arg(_), None) => self.globals.push(Step { instruction, ..step }),
            (_, None) => return Err(Error::new("no build stage in current context")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
