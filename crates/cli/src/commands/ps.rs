//! `kiste ps`: the list of containers.

use engine::{ContainerRow, ListRequest};
use serde_json::json;

use crate::commands::{Verb, filters};
use crate::context::Context;
use crate::failure::Result;
use crate::format::{Listing, Row, human, shown, times};
use crate::template::printf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", default_value_t = -1)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

pub(super) const LISTING: Listing = Listing {
    type_name: "*formatter.ContainerContext",
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("RunningFor", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ],
};

const TABLE: &str = r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const RAW: &str = r"container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\nports: {{.Ports}}\nnames: {{.Names}}\nlabels: {{.Labels}}\n";

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "List containers";

    fn run(self, context: &Context) -> Result<u8> {
        let format = self.template(context);
        let last = if self.latest { 1 } else { self.last };
        let request = ListRequest {
            all: self.all || last > 0,
            last: usize::try_from(last).ok().filter(|&last| last > 0),
            size: self.size || format.contains(".Size"),
            filters: filters::collect(self.filters),
        };
        let rows: Vec<Row> =
            context.engine.list(&request)?.iter().map(|container| row(container, self.no_trunc)).collect();
        context.print(&shown(LISTING.render(&format, &rows))?)?;
        Ok(0)
    }
}

impl Args {
    fn template(&self, context: &Context) -> String {
        let size = if self.size { r"\t{{.Size}}" } else { "" };
        let format = self.format.as_deref().or_else(|| context.setting("psFormat")).unwrap_or("table");
        if self.quiet {
            if self.format.is_some() {
                context.warn("Ignoring custom format, because both --format and --quiet are set.");
            }
            return "{{.ID}}".to_owned();
        }
        match format {
            "" | "table" => format!("{TABLE}{size}"),
            "raw" => format!("{RAW}{}", if self.size { r"size: {{.Size}}\n" } else { "" }),
            other => other.to_owned(),
        }
    }
}

pub(super) fn row(container: &ContainerRow, whole: bool) -> Row {
    let short = |text: &str, most| if whole { text.to_owned() } else { human::ellipsis(text, most) };
    let id = if whole { &container.id } else { human::short_id(&container.id) };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| short(if mount.name.is_empty() { &mount.source } else { &mount.name }, 15))
        .collect();
    let labels: Vec<String> = container.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let fields = json!({
        "Command": printf::quote(&short(&container.command, 20)),
        "CreatedAt": times::go_time(container.created),
        "ID": id,
        "Image": image(container, whole),
        "Labels": labels.join(","),
        "LocalVolumes": container.mounts.iter().filter(|mount| mount.driver == "local").count().to_string(),
        "Mounts": mounts.join(","),
        "Names": container.name,
        "Networks": container.networks.join(","),
        "Platform": null,
        "Ports": container.ports,
        "RunningFor": format!("{} ago", human::duration(times::since(container.created))),
        "Size": size(container.sizes),
        "State": container.status.as_str(),
        "Status": container.status_text,
    });
    Row { fields, labels: Some(container.labels.clone()) }
}

/// An image that was named by its id is shown by its short id.
fn image(container: &ContainerRow, whole: bool) -> String {
    let short = human::short_id(&container.image_id);
    match container.image.as_str() {
        "" => "<no image>".to_owned(),
        image if !whole && !short.is_empty() && human::short_id(image) == short => short.to_owned(),
        image => image.to_owned(),
    }
}

fn size(sizes: Option<(u64, u64)>) -> String {
    match sizes {
        None => human::short_size(0),
        Some((changed, 0)) => human::short_size(changed),
        Some((changed, all)) => format!("{} (virtual {})", human::short_size(changed), human::short_size(all)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::Status;

    fn container() -> ContainerRow {
        ContainerRow {
            id: "eb03573de2f494439c8618f8e1e2248389553fc71f71e1ac63ee809daa19a3f0".to_owned(),
            name: "c2".to_owned(),
            image: "bb:1".to_owned(),
            command: "sh -c 'echo \"a b\"; sleep 10'".to_owned(),
            created: times::now_seconds() - 4,
            status: Status::Created,
            status_text: "Created".to_owned(),
            sizes: Some((0, 1_982_291)),
            ..ContainerRow::default()
        }
    }

    #[test]
    fn the_table_is_dockers() {
        let text = LISTING.render(TABLE, &[row(&container(), false)]).unwrap();
        assert_eq!(
            text,
            "CONTAINER ID   IMAGE     COMMAND                    CREATED         STATUS    PORTS     NAMES\n\
             eb03573de2f4   bb:1      \"sh -c 'echo \\\"a b\\\"; …\"   4 seconds ago   Created             c2\n"
        );
    }

    #[test]
    fn sizes_and_whole_texts() {
        let text = LISTING.render("{{.ID}} {{.Command}} {{.Size}}", &[row(&container(), true)]).unwrap();
        assert_eq!(
            text,
            "eb03573de2f494439c8618f8e1e2248389553fc71f71e1ac63ee809daa19a3f0 \"sh -c 'echo \\\"a b\\\"; sleep 10'\" 0B (virtual 1.98MB)\n"
        );
    }
}
