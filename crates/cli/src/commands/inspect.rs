//! `kiste inspect`: everything about containers, images, volumes and networks, as JSON or through a template.

use engine::ErrorKind;
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::commands::{Verb, document};
use crate::context::{Context, report, say};
use crate::failure::{Failure, Result};
use crate::template::{Data, Template};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string", default_value = "", hide_default_value = true)]
    kind: String,
    #[arg(required = true, value_name = "NAME|ID", hide = true)]
    names: Vec<String>,
}

/// `container inspect`.
#[derive(clap::Args)]
pub(crate) struct ContainerArgs {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    #[arg(required = true, value_name = "CONTAINER", hide = true)]
    names: Vec<String>,
}

/// `image inspect`.
#[derive(clap::Args)]
pub(crate) struct ImageArgs {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Inspect the image only if it is for this platform ("os[/arch[/variant]]")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(required = true, value_name = "IMAGE", hide = true)]
    names: Vec<String>,
}

/// `network inspect`.
#[derive(clap::Args)]
pub(crate) struct NetworkArgs {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
    #[arg(required = true, value_name = "NETWORK", hide = true)]
    names: Vec<String>,
}

/// `volume inspect`.
#[derive(clap::Args)]
pub(crate) struct VolumeArgs {
    /// Format output: 'json', or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    #[arg(required = true, value_name = "VOLUME", hide = true)]
    names: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] NAME|ID [NAME|ID...]";
    const ABOUT: &'static str = "Return low-level information on containers, images, volumes and networks";

    fn run(self, context: &Context) -> Result<u8> {
        let look: &dyn Fn(&str) -> engine::Result<Value> = match self.kind.as_str() {
            "" => &|name| anything(context, name, self.size),
            "container" => &|name| context.engine.inspect_container(name, self.size),
            "image" => &|name| context.engine.inspect_image(name),
            "volume" => &|name| volume(context, name),
            "network" => &|name| context.engine.inspect_network(name),
            other => {
                let message = format!(
                    "unknown type: {other:?}: must be one of \"container\", \"image\", \"network\", \"volume\""
                );
                return Err(Failure::new(message));
            }
        };
        inspect(context, &self.names, self.format.as_deref(), look)
    }
}

impl Verb for ContainerArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Display detailed information on one or more containers";

    fn run(self, context: &Context) -> Result<u8> {
        let look = |name: &str| context.engine.inspect_container(name, self.size);
        inspect(context, &self.names, self.format.as_deref(), &look)
    }
}

impl Verb for ImageArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] IMAGE [IMAGE...]";
    const ABOUT: &'static str = "Display detailed information on one or more images";

    fn run(self, context: &Context) -> Result<u8> {
        let platforms: Vec<String> = self.platform.into_iter().collect();
        inspect(context, &self.names, self.format.as_deref(), &|name| {
            context.engine.check_image_platform(name, &platforms)?;
            context.engine.inspect_image(name)
        })
    }
}

impl Verb for NetworkArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] NETWORK [NETWORK...]";
    const ABOUT: &'static str = "Display detailed information on one or more networks";

    fn run(self, context: &Context) -> Result<u8> {
        // What `--verbose` adds are the peers of a swarm: there are none.
        let _ = self.verbose;
        inspect(context, &self.names, self.format.as_deref(), &|name| context.engine.inspect_network(name))
    }
}

impl Verb for VolumeArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] VOLUME [VOLUME...]";
    const ABOUT: &'static str = "Display detailed information on one or more volumes";

    fn run(self, context: &Context) -> Result<u8> {
        inspect(context, &self.names, self.format.as_deref(), &|name| volume(context, name))
    }
}

fn volume(context: &Context, name: &str) -> engine::Result<Value> {
    let volume = context.engine.inspect_volume(name)?;
    serde_json::to_value(volume).map_err(|error| engine::Error::internal(format!("inspect volume {name}: {error}")))
}

/// The first of container, image, network and volume that has the name.
fn anything(context: &Context, name: &str, size: bool) -> engine::Result<Value> {
    let absent = |found: &engine::Result<Value>| matches!(found, Err(error) if error.kind == ErrorKind::NotFound);
    let found = context.engine.inspect_container(name, size);
    if !absent(&found) {
        return found;
    }
    // A name that no image can have is no error here: it may be a volume's.
    let found = context.engine.inspect_image(name);
    if found.is_ok() {
        return found;
    }
    let found = context.engine.inspect_network(name);
    if found.is_ok() {
        return found;
    }
    let found = volume(context, name);
    if found.is_ok() { found } else { Err(engine::Error::not_found(format!("No such object: {name}"))) }
}

/// Shows what was found, then says what was not.
fn inspect(
    context: &Context,
    names: &[String],
    format: Option<&str>,
    look: &dyn Fn(&str) -> engine::Result<Value>,
) -> Result<u8> {
    let template = match format {
        None | Some("" | "json") => None,
        Some(source) => {
            Some(Template::parse(source).map_err(|error| document::failure(&error).coded(document::BAD_TEMPLATE))?)
        }
    };
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match look(name) {
            Ok(document) => found.push(document),
            Err(error) => errors.push(error),
        }
    }
    let text = match template {
        None => documents(&found, format == Some("json"))?,
        // Docker ends the line before it says what is wrong.
        Some(template) => rendered(&template, &found).or_else(|failure| context.print("\n").and(Err(failure)))?,
    };
    context.print(&text)?;
    errors.iter().for_each(complain);
    Ok(u8::from(!errors.is_empty()))
}

fn complain(error: &engine::Error) {
    match error.message.starts_with("No such object") {
        true => say(&format!("Error: {error}\n")),
        false => report(&Failure::from(error.clone())),
    }
}

/// All documents as one array: on one line, or indented by four spaces.
fn documents(found: &[Value], compact: bool) -> Result<String> {
    let mut bytes = Vec::new();
    let written = match compact {
        true => found.serialize(&mut Serializer::new(&mut bytes)),
        false => found.serialize(&mut Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "))),
    };
    written.map_err(|error| Failure::new(format!("write JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The template over each document, a line each; nothing found is an empty line, as with Docker.
fn rendered(template: &Template, found: &[Value]) -> Result<String> {
    let mut text = String::new();
    for object in found {
        text += &template.execute(Data::document(object)).map_err(|error| document::failure(&error))?;
        text.push('\n');
    }
    Ok(if found.is_empty() { "\n".to_owned() } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_look_like_dockers() {
        let found = [json!({"Id": "x", "Args": [], "State": {"Pid": 0}})];
        assert_eq!(documents(&[], false).unwrap(), "[]\n");
        assert_eq!(
            documents(&found, false).unwrap(),
            "[\n    {\n        \"Id\": \"x\",\n        \"Args\": [],\n        \"State\": {\n            \"Pid\": 0\n        }\n    }\n]\n"
        );
        assert_eq!(documents(&found, true).unwrap(), "[{\"Id\":\"x\",\"Args\":[],\"State\":{\"Pid\":0}}]\n");
    }

    #[test]
    fn templates_print_a_line_for_each() {
        let template = Template::parse("{{.Id}}").unwrap();
        assert_eq!(rendered(&template, &[json!({"Id": "a"}), json!({"Id": "b"})]).unwrap(), "a\nb\n");
        assert_eq!(rendered(&template, &[]).unwrap(), "\n");
        let failure = rendered(&template, &[json!({})]).unwrap_err();
        assert_eq!(
            failure.message,
            "template parsing error: template: :1:2: executing \"\" at <.Id>: map has no entry for key \"Id\""
        );
    }
}
