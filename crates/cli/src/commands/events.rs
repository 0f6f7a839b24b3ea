//! `kiste events`: what has happened and what happens now, a line each.

use std::io::{self, Write as _};

use engine::EventsRequest;
use engine::model::Event;
use serde_json::{Value, json};

use crate::commands::document::BAD_TEMPLATE;
use crate::commands::{Verb, filters};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::times;
use crate::template::{Data, Template};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Format output: 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

/// How a line is made.
enum Style {
    Text,
    Json,
    Template(Template),
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Get real time events from the engine";

    fn run(self, context: &Context) -> Result<u8> {
        let style = style(&self.format)?;
        let point = |text: Option<String>| text.map(|text| times::parse(&text)).transpose().map_err(Failure::new);
        let request = EventsRequest {
            since: point(self.since)?,
            until: point(self.until)?,
            filters: filters::collect(self.filters),
        };
        let mut end = Ok(());
        context.engine.events(&request, &mut |event| {
            end = line(&style, &event).and_then(|line| print(context, &line).map_err(Failure::from));
            end.is_ok()
        })?;
        end.map(|()| 0)
    }
}

fn print(context: &Context, line: &str) -> io::Result<()> {
    let mut out = context.out();
    writeln!(out, "{line}")?;
    out.flush()
}

/// `{{json .}}` and `json` show the event as the API does, not the fields that templates name.
fn style(format: &str) -> Result<Style> {
    match format.trim() {
        "" => Ok(Style::Text),
        "json" | "{{json .}}" => Ok(Style::Json),
        template => Template::parse(template).map(Style::Template).map_err(|error| bad_template(&error)),
    }
}

fn bad_template(error: &crate::template::Error) -> Failure {
    Failure::new(format!("Error parsing format: {error}")).coded(BAD_TEMPLATE)
}

fn line(style: &Style, event: &Event) -> Result<String> {
    match style {
        Style::Text => Ok(text(event)),
        Style::Json => Ok(document(event).to_string()),
        Style::Template(template) => {
            let fields = fields(event);
            template.execute(Data::typed(&fields, "*events.Message")).map_err(|error| bad_template(&error))
        }
    }
}

fn text(event: &Event) -> String {
    let mut line = format!("{} {} {} {}", times::event_time(event.time_nano), event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> = event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line += &format!(" ({})", pairs.join(", "));
    }
    line
}

/// The members `status`, `id` and `from` that old clients read; only containers and images have them.
fn legacy(event: &Event) -> Option<(&str, &str, &str)> {
    let from = event.actor.attributes.get("image").filter(|_| event.kind == "container");
    matches!(event.kind.as_str(), "container" | "image")
        .then(|| (event.action.as_str(), event.actor.id.as_str(), from.map_or("", String::as_str)))
}

fn document(event: &Event) -> Value {
    let mut document = json!({});
    if let Some((status, id, from)) = legacy(event) {
        document["status"] = status.into();
        document["id"] = id.into();
        if !from.is_empty() {
            document["from"] = from.into();
        }
    }
    document["Type"] = event.kind.as_str().into();
    document["Action"] = event.action.as_str().into();
    document["Actor"] = json!({"ID": event.actor.id, "Attributes": event.actor.attributes});
    document["scope"] = event.scope.as_str().into();
    document["time"] = event.time.into();
    document["timeNano"] = event.time_nano.into();
    document
}

/// The event under the names that templates use.
fn fields(event: &Event) -> Value {
    let (status, id, from) = legacy(event).unwrap_or_default();
    json!({
        "Status": status,
        "ID": id,
        "From": from,
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor.id, "Attributes": event.actor.attributes},
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.time_nano,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::{Actor, Map};

    fn event() -> Event {
        let attributes =
            Map::from([("image", "bb:1"), ("name", "c1")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        Event {
            kind: "container".to_owned(),
            action: "create".to_owned(),
            actor: Actor { id: "3e71a7".to_owned(), attributes },
            scope: "local".to_owned(),
            time: 1_795_466_286,
            time_nano: 1_795_466_286_039_699_196,
        }
    }

    fn shown(format: &str) -> String {
        style(format).and_then(|style| line(&style, &event())).unwrap_or_else(|failure| failure.message)
    }

    #[test]
    fn lines_are_dockers() {
        assert!(shown("").ends_with(" container create 3e71a7 (image=bb:1, name=c1)"), "{}", shown(""));
        let json = r#"{"status":"create","id":"3e71a7","from":"bb:1","Type":"container","Action":"create","Actor":{"ID":"3e71a7","Attributes":{"image":"bb:1","name":"c1"}},"scope":"local","time":1795466286,"timeNano":1795466286039699196}"#;
        assert_eq!(shown("json"), json);
        assert_eq!(shown("{{json .}}"), json);
        assert_eq!(
            shown(
                "{{.Type}} {{.Action}} {{.Actor.ID}} {{.ID}} {{.Status}} {{.From}} {{.Actor.Attributes.name}} {{.TimeNano}}"
            ),
            "container create 3e71a7 3e71a7 create bb:1 c1 1795466286039699196"
        );
        assert_eq!(
            shown("{{.Foo}}"),
            "Error parsing format: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *events.Message"
        );
    }
}
