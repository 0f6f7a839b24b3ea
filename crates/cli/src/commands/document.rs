//! How one document is shown: as text, as JSON, or through a template (`info`, `version`, `explain`).

use std::io::Write;

use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::template::{Data, Error, Template};

/// Exit code of a template that cannot be parsed, as Docker has it.
pub(crate) const BAD_TEMPLATE: u8 = 64;

/// The document in `format`: empty for text, `json`, or a template over it. Ends with a newline.
pub(crate) fn shown(
    format: &str,
    document: &Value,
    type_name: &str,
    out: &mut dyn Write,
    text: impl FnOnce(&Value) -> String,
) -> Result<String> {
    match format {
        "" => Ok(text(document)),
        "json" => Ok(format!("{document}\n")),
        source => {
            let template = Template::parse(source).map_err(|error| failure(&error).coded(BAD_TEMPLATE))?;
            match template.execute(Data::typed(document, type_name)) {
                Ok(output) => Ok(output + "\n"),
                Err(error) => {
                    // Docker ends the line before it says what is wrong.
                    out.write_all(b"\n")?;
                    Err(Failure::new(error.to_string()))
                }
            }
        }
    }
}

/// A template's error in Docker's words.
pub(crate) fn failure(error: &Error) -> Failure {
    Failure::new(format!("template parsing error: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn three_forms() {
        let document = json!({"A": 1});
        let shown = |format: &str| shown(format, &document, "system.Info", &mut Vec::new(), |_| "text\n".to_owned());
        assert_eq!(shown("").unwrap(), "text\n");
        assert_eq!(shown("json").unwrap(), "{\"A\":1}\n");
        assert_eq!(shown("{{.A}}").unwrap(), "1\n");
        assert_eq!(shown("{{.A").unwrap_err().code, 64);
        let failure = shown("{{.B}}").unwrap_err();
        assert_eq!(failure.code, 1);
        assert!(failure.message.ends_with("can't evaluate field B in type system.Info"), "{}", failure.message);
    }
}
