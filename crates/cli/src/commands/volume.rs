//! `kiste volume create|ls|rm|prune`. `volume inspect` stands in `inspect`.

use std::io::Write as _;

use engine::model::{Map, Volume};
use serde_json::json;

use crate::commands::{Verb, each, filters, prune};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::{Listing, Row, shown};

/// `volume create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long = "label", value_name = "list")]
    labels: Vec<String>,
    /// Set driver specific options
    #[arg(short, long = "opt", value_name = "map", value_parser = option)]
    options: Vec<(String, String)>,
    /// The name's old place.
    #[arg(long = "name", hide = true, conflicts_with = "name")]
    old_name: Option<String>,
    #[arg(value_name = "VOLUME", hide = true)]
    name: Option<String>,
}

/// `volume ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

/// `volume rm`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "VOLUME", hide = true)]
    volumes: Vec<String>,
}

/// `volume prune`.
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

fn option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("invalid key value pair format: {text:?}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Verb for CreateArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] [VOLUME]";
    const ABOUT: &'static str = "Create a volume";

    fn run(self, context: &Context) -> Result<u8> {
        let options: Map<String> = self.options.into_iter().collect();
        let label = |label: String| {
            label.split_once('=').map_or((label.clone(), String::new()), |(name, value)| (name.into(), value.into()))
        };
        let labels: Map<String> = self.labels.into_iter().map(label).collect();
        let volume =
            context.engine.create_volume(self.name.or(self.old_name).as_deref(), &self.driver, &options, &labels)?;
        writeln!(context.out(), "{}", volume.name)?;
        Ok(0)
    }
}

pub(super) const LISTING: Listing = Listing {
    type_name: "*formatter.volumeContext",
    titles: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
        ("Group", "GROUP"),
        ("Availability", "AVAILABILITY"),
    ],
};

impl Verb for ListArgs {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "List volumes";

    fn run(self, context: &Context) -> Result<u8> {
        let format = match self.format.as_deref().or_else(|| context.setting("volumesFormat")) {
            _ if self.quiet => "{{.Name}}",
            None | Some("" | "table") => r"table {{.Driver}}\t{{.Name}}",
            Some("raw") => r"name: {{.Name}}\ndriver: {{.Driver}}\n",
            Some(format) => format,
        };
        let mut volumes = context.engine.list_volumes(&filters::collect(self.filters))?;
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        let rows: Vec<Row> = volumes.into_iter().map(row).collect();
        context.print(&shown(LISTING.render(format, &rows))?)?;
        Ok(0)
    }
}

pub(super) fn row(volume: Volume) -> Row {
    let labels: Vec<String> = volume.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let fields = json!({
        "Availability": "N/A",
        "Driver": volume.driver,
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": volume.scope,
        "Size": "N/A",
        "Status": "N/A",
    });
    Row { fields, labels: Some(volume.labels) }
}

impl Verb for RemoveArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] VOLUME [VOLUME...]";
    const ABOUT: &'static str = "Remove one or more volumes";

    fn run(self, context: &Context) -> Result<u8> {
        each(context, &self.volumes, |name| context.engine.remove_volume(name, self.force))
    }
}

impl Verb for PruneArgs {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove unused local volumes";

    fn run(self, context: &Context) -> Result<u8> {
        let mut filters = filters::collect(self.filters);
        if self.all {
            if filters.contains_key("all") {
                return Err(Failure::new("conflicting options: cannot specify both --all and --filter all=1"));
            }
            filters.insert("all".to_owned(), vec!["true".to_owned()]);
        }
        let kind = if self.all { "local volumes" } else { "anonymous local volumes" };
        let warning = format!("WARNING! This will remove {kind} not used by at least one container.");
        if !self.force && !prune::confirmed(context, &warning)? {
            return Ok(0);
        }
        let report = context.engine.prune_volumes(&filters)?;
        context.print(&prune::shown("Deleted Volumes:", &report))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_dockers_fields() {
        let labels = Map::from([("a".to_owned(), "b".to_owned())]);
        let volume = Volume {
            name: "v2".to_owned(),
            driver: "local".to_owned(),
            scope: "local".to_owned(),
            labels,
            ..Volume::default()
        };
        assert_eq!(
            LISTING
                .render(r#"table {{.Name}}\t{{.Label "a"}}\t{{.Labels}}\t{{.Scope}}\t{{.Size}}"#, &[row(volume)])
                .unwrap(),
            "VOLUME NAME   a         LABELS    SCOPE     SIZE\nv2            b         a=b       local     N/A\n"
        );
    }
}
