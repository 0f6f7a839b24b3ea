//! Parser directives: `# syntax=`, `# escape=` and `# check=` in the first lines, before anything else.

use crate::{Error, Result};

/// What the directives say.
#[derive(Debug)]
pub(super) struct Directives {
    pub(super) syntax: Option<String>,
    pub(super) check: Option<String>,
    pub(super) escape: char,
    escape_seen: bool,
    /// A line that is no directive ends them.
    over: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Directives { syntax: None, check: None, escape: '\\', escape_seen: false, over: false }
    }
}

impl Directives {
    /// Looks at a line (without leading space); whether it is a directive.
    pub(super) fn take(&mut self, line: &str) -> Result<bool> {
        if self.over {
            return Ok(false);
        }
        let Some((name, value)) = split(line) else {
            self.over = true;
            return Ok(false);
        };
        let seen = match name.as_str() {
            "syntax" => self.syntax.replace(value.to_owned()).is_some(),
            "check" => self.check.replace(value.to_owned()).is_some(),
            _ => std::mem::replace(&mut self.escape_seen, true),
        };
        if seen {
            return Err(Error::new(format!("only one {name} parser directive can be used")));
        }
        if name == "escape" {
            self.escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(Error::new(format!("invalid escape token '{value}' does not match ` or \\"))),
            };
        }
        Ok(true)
    }
}

/// Name (in lower case) and value of a known directive.
fn split(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim().to_lowercase(), value.trim());
    (["syntax", "check", "escape"].contains(&name.as_str()) && !value.is_empty()).then_some((name, value))
}
