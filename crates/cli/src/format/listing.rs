//! Lists of rows in the three forms that `--format` knows: `table TEMPLATE`, `json`, or any template.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tabulate;
use crate::template::{Data, Error, Template};

/// A kind of list: what Docker calls its rows, and the titles of their columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    /// Go type that error texts name: `*formatter.ContainerContext`.
    pub(crate) type_name: &'static str,
    /// Field and title of every column.
    pub(crate) titles: &'static [(&'static str, &'static str)],
}

/// One row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Field to text, as an object.
    pub(crate) fields: Value,
    /// What `.Label "name"` looks up; absent where rows have no such method.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

impl Listing {
    /// All rows in `format`, with a final newline each, and the head in a table.
    pub(crate) fn render(&self, format: &str, rows: &[Row]) -> Result<String, Error> {
        let (table, source) = source(format);
        let template = Template::parse(&source)?;
        let mut out = if table { self.head(&template) + "\n" } else { String::new() };
        for row in rows {
            out.push_str(&self.row(&template, row)?);
            out.push('\n');
        }
        Ok(if table { tabulate(&out) } else { out })
    }

    fn row(&self, template: &Template, row: &Row) -> Result<String, Error> {
        if template.source() == "{{json .}}" {
            return Ok(marshalled(&row.fields));
        }
        let label = |method: &str, name: &str| {
            let labels = row.labels.as_ref().filter(|_| method == "Label")?;
            Some(labels.get(name).cloned().unwrap_or_default())
        };
        template.execute(Data { methods: Some(&label), ..Data::typed(&row.fields, self.type_name) })
    }

    /// The head of a table is the template over the titles. What fails there fails in the rows too, with a message.
    fn head(&self, template: &Template) -> String {
        let titles: Value = self.titles.iter().map(|(field, title)| (*field, *title)).collect();
        let label = |method: &str, name: &str| (method == "Label").then(|| label_title(name));
        template.execute(Data { methods: Some(&label), header: true, ..Data::document(&titles) }).unwrap_or_default()
    }
}

/// JSON as Go's `json.Marshal` writes it: safe inside of HTML.
pub(crate) fn marshalled(value: &Value) -> String {
    let escaped =
        [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    // In a JSON text these characters stand in strings only.
    escaped.iter().fold(value.to_string(), |text, (letter, escape)| text.replace(*letter, escape))
}

/// Whether it is a table, and the template in it. `\t` and `\n` may be written with a backslash.
fn source(format: &str) -> (bool, String) {
    let table = format == "table" || format.starts_with("table ");
    let body = match format {
        "json" => "{{json .}}",
        format if table => &format["table".len()..],
        format => format,
    };
    (table, body.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n"))
}

/// The last part of a label's name, with spaces for hyphens.
fn label_title(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).replace(['-', '_'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LISTING: Listing =
        Listing { type_name: "*formatter.ContainerContext", titles: &[("ID", "CONTAINER ID"), ("Names", "NAMES")] };

    fn render(format: &str) -> String {
        let row = |id: &str, name: &str| Row {
            fields: json!({"ID": id, "Names": name}),
            labels: Some(BTreeMap::from([("com.a".to_owned(), "b".to_owned())])),
        };
        LISTING
            .render(format, &[row("7efc028407e2", "c3"), row("eb03573de2f4", "c2")])
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn as_docker_prints_them() {
        assert_eq!(render("{{.Names}}"), "c3\nc2\n");
        assert_eq!(render(r"x\ty\nz {{.ID}}"), "x\ty\nz 7efc028407e2\nx\ty\nz eb03573de2f4\n");
        assert_eq!(
            render("json"),
            "{\"ID\":\"7efc028407e2\",\"Names\":\"c3\"}\n{\"ID\":\"eb03573de2f4\",\"Names\":\"c2\"}\n"
        );
        assert_eq!(
            render(r#"table {{.ID}}\t{{.Names}}\t{{.Label "com.a"}}\t{{.Label "x.foo-bar_baz"}}"#),
            "CONTAINER ID   NAMES     a         foo bar baz\n\
             7efc028407e2   c3        b         \n\
             eb03573de2f4   c2        b         \n"
        );
        assert_eq!(render("table {{.Names | upper}}"), "NAMES\nC3\nC2\n");
        assert_eq!(
            render("table {{.Foo}}"),
            "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
    }
}
