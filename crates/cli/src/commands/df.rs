//! `kiste system df`: what images, containers and volumes take on the disk.

use engine::model::Status;
use engine::{DiskUsage, ImageUsage, VolumeUsage};
use serde_json::{Value, json};

use crate::commands::{Verb, images, ps, volume};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::{Listing, Row, human, marshalled};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const LISTING: Listing = Listing {
    type_name: "*formatter.diskUsageImagesContext",
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

const TABLE: &str = r"table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const IMAGES: &str = r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str =
    r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = r"table {{.Name}}\t{{.Links}}\t{{.Size}}";

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Show disk usage";

    fn run(self, context: &Context) -> Result<u8> {
        let usage = context.engine.disk_usage()?;
        let text = match (self.verbose, self.format.as_str()) {
            (false, format) => {
                let format = if matches!(format, "" | "table") { TABLE } else { format };
                rendered(&LISTING, format, &summary(&usage))?
            }
            (true, "" | "table") => details(&usage)?,
            (true, "json") => marshalled(&documents(&usage)),
            (true, _) => {
                return Err(
                    Failure::new("the verbose output cannot be formatted with a template").hinted("use --format json")
                );
            }
        };
        context.print(&text).map(|()| 0)
    }
}

fn rendered(listing: &Listing, format: &str, rows: &[Row]) -> Result<String> {
    listing.render(format, rows).map_err(|error| Failure::new(format!("template parsing error: {error}")))
}

/// Total and active number, bytes, and the bytes that nobody needs.
fn line(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Row {
    let share = (reclaimable * 100).checked_div(size).map_or(String::new(), |share| format!(" ({share}%)"));
    let fields = json!({
        "Active": active.to_string(),
        "Reclaimable": human::size(reclaimable) + &share,
        "Size": human::size(size),
        "TotalCount": total.to_string(),
        "Type": kind,
    });
    Row { fields, labels: None }
}

fn summary(usage: &DiskUsage) -> Vec<Row> {
    let active = |status: Status| matches!(status, Status::Running | Status::Paused | Status::Restarting);
    let changed = |row: &engine::ContainerRow| row.sizes.map_or(0, |sizes| sizes.0);
    let idle = usage.containers.iter().filter(|row| !active(row.status));
    let unused = usage.volumes.iter().filter(|volume| volume.links == 0);
    vec![
        line(
            "Images",
            usage.images.len(),
            usage.images.iter().filter(|one| one.image.containers > 0).count(),
            usage.images_size,
            usage.images_reclaimable,
        ),
        line(
            "Containers",
            usage.containers.len(),
            usage.containers.iter().filter(|row| active(row.status)).count(),
            usage.containers.iter().map(changed).sum(),
            idle.map(changed).sum(),
        ),
        line(
            "Local Volumes",
            usage.volumes.len(),
            usage.volumes.iter().filter(|volume| volume.links > 0).count(),
            usage.volumes.iter().map(|volume| volume.size).sum(),
            unused.map(|volume| volume.size).sum(),
        ),
        line("Build Cache", 0, 0, 0, 0),
    ]
}

fn image_rows(usage: &DiskUsage, whole: bool) -> Vec<Row> {
    let rows = |one: &ImageUsage| {
        let mut rows = images::rows(&one.image, false, whole);
        // One image is one row here, whatever the number of its names.
        rows.truncate(1);
        for row in &mut rows {
            row.fields["Digest"] = json!("");
            row.fields["SharedSize"] = json!(human::size(one.shared));
            row.fields["UniqueSize"] = json!(human::size(one.image.size.saturating_sub(one.shared)));
        }
        rows
    };
    usage.images.iter().flat_map(rows).collect()
}

fn container_rows(usage: &DiskUsage, whole: bool) -> Vec<Row> {
    let row = |container: &engine::ContainerRow| {
        let mut row = ps::row(container, whole);
        row.fields["Size"] = json!(human::short_size(container.sizes.map_or(0, |sizes| sizes.0)));
        row
    };
    usage.containers.iter().map(row).collect()
}

fn volume_rows(usage: &DiskUsage) -> Vec<Row> {
    let row = |one: &VolumeUsage| {
        let mut row = volume::row(one.volume.clone());
        row.fields["Links"] = json!(one.links.to_string());
        row.fields["Size"] = json!(human::size(one.size));
        row
    };
    usage.volumes.iter().map(row).collect()
}

/// The sections of `-v`.
fn details(usage: &DiskUsage) -> Result<String> {
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
         Build cache usage: 0B\n\nCACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n",
        rendered(&images::LISTING, IMAGES, &image_rows(usage, false))?,
        rendered(&ps::LISTING, CONTAINERS, &container_rows(usage, false))?,
        rendered(&volume::LISTING, VOLUMES, &volume_rows(usage))?,
    ))
}

fn documents(usage: &DiskUsage) -> Value {
    let fields = |rows: Vec<Row>| rows.into_iter().map(|row| row.fields).collect::<Vec<_>>();
    json!({
        "Images": fields(image_rows(usage, true)),
        "Containers": fields(container_rows(usage, true)),
        "Volumes": fields(volume_rows(usage)),
        "BuildCache": [],
    })
}
