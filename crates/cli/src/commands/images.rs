//! `kiste images`: the list of images, one row for every name.

use std::collections::BTreeMap;

use engine::ImageRow;
use serde_json::json;

use crate::commands::{Verb, filters, images_tree};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::{Listing, Row, human, shown, times};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// List all names of an image in one place
    #[arg(long)]
    tree: bool,
    #[arg(value_name = "REPOSITORY[:TAG]", hide = true)]
    reference: Option<String>,
}

pub(super) const LISTING: Listing = Listing {
    type_name: "*formatter.imageContext",
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
};

const NONE: &str = "<none>";

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] [REPOSITORY[:TAG]]";
    const ABOUT: &'static str = "List images";

    fn run(self, context: &Context) -> Result<u8> {
        self.check_tree()?;
        let format = self.template(context);
        let mut filters = filters::collect(self.filters);
        filters.entry("reference".to_owned()).or_default().extend(self.reference);
        filters.retain(|_, values| !values.is_empty());
        let images = context.engine.list_images(self.all, &filters)?;
        if self.tree {
            context.print(&images_tree::shown(&images))?;
            return Ok(0);
        }
        let digests = self.digests || format.contains(".Digest");
        let rows: Vec<Row> = images.iter().flat_map(|image| rows(image, digests, self.no_trunc)).collect();
        context.print(&shown(LISTING.render(&format, &rows))?)?;
        Ok(0)
    }
}

impl Args {
    /// In Docker's words: what does not go together with the tree.
    fn check_tree(&self) -> Result<()> {
        let others = [
            (self.quiet, "quiet"),
            (self.no_trunc, "no-trunc"),
            (self.digests, "show-digest"),
            (self.format.is_some(), "format"),
        ];
        match others.iter().find(|(given, _)| self.tree && *given) {
            Some((_, name)) => Err(Failure::new(format!("--{name} is not yet supported with --tree"))),
            None => Ok(()),
        }
    }

    fn template(&self, context: &Context) -> String {
        if self.quiet {
            return "{{.ID}}".to_owned();
        }
        let digest = if self.digests { r"{{.Digest}}\t" } else { "" };
        match self.format.as_deref().or_else(|| context.setting("imagesFormat")).unwrap_or("table") {
            "" | "table" => format!(
                r"table {{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
            ),
            "raw" => {
                let digest = if self.digests { r"digest: {{.Digest}}\n" } else { "" };
                format!(
                    r"repository: {{{{.Repository}}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
                )
            }
            other => other.to_owned(),
        }
    }
}

/// One row for every name; with digests, one for every pair of name and digest of the same repository.
pub(super) fn rows(image: &ImageRow, digests: bool, whole: bool) -> Vec<Row> {
    let mut by_repository: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in &image.repo_digests {
        if let Some((repository, digest)) = name.split_once('@') {
            by_repository.entry(repository).or_default().push(digest);
        }
    }
    let mut rows = Vec::new();
    for name in &image.repo_tags {
        let (repository, tag) = split_tag(name);
        let known = if digests { by_repository.get(repository).cloned().unwrap_or_default() } else { Vec::new() };
        let known = if known.is_empty() { vec![NONE] } else { known };
        rows.extend(known.into_iter().map(|digest| row(image, repository, tag, digest, whole)));
    }
    let untagged = by_repository
        .iter()
        .filter(|(repository, _)| !image.repo_tags.iter().any(|name| split_tag(name).0 == **repository));
    for (repository, known) in untagged {
        let shown = if digests { known.as_slice() } else { &[NONE] };
        rows.extend(shown.iter().map(|digest| row(image, repository, NONE, digest, whole)));
    }
    if rows.is_empty() {
        rows.push(row(image, NONE, NONE, NONE, whole));
    }
    rows
}

/// `localhost:5000/a/b:tag` → (`localhost:5000/a/b`, `tag`).
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, NONE),
    }
}

fn row(image: &ImageRow, repository: &str, tag: &str, digest: &str, whole: bool) -> Row {
    let fields = json!({
        "Containers": image.containers.to_string(),
        "CreatedAt": times::go_time(image.created),
        "CreatedSince": format!("{} ago", human::duration(times::since(image.created))),
        "Digest": digest,
        "ID": if whole { &image.id } else { human::short_id(&image.id) },
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": human::short_size(image.size),
        "Tag": tag,
        "UniqueSize": "N/A",
        "VirtualSize": human::size(image.size),
    });
    Row { fields, labels: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageRow {
        ImageRow {
            id: "sha256:a8a31ba83ccd1de05b0f42655503a5bbaea99e92bbbffdc3c0a0165987fdb76b".to_owned(),
            repo_tags: vec!["bb:1".to_owned(), "localhost:5000/x/y:tag".to_owned()],
            repo_digests: vec!["bb@sha256:12".to_owned(), "other@sha256:34".to_owned()],
            size: 1_982_291,
            ..ImageRow::default()
        }
    }

    fn render(digests: bool) -> String {
        LISTING
            .render("{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.Size}}", &rows(&image(), digests, false))
            .unwrap()
    }

    #[test]
    fn a_row_for_every_name() {
        assert_eq!(
            render(false),
            "bb 1 <none> a8a31ba83ccd 1.98MB\nlocalhost:5000/x/y tag <none> a8a31ba83ccd 1.98MB\nother <none> <none> a8a31ba83ccd 1.98MB\n"
        );
        assert_eq!(
            render(true),
            "bb 1 sha256:12 a8a31ba83ccd 1.98MB\nlocalhost:5000/x/y tag <none> a8a31ba83ccd 1.98MB\nother <none> sha256:34 a8a31ba83ccd 1.98MB\n"
        );
    }

    #[test]
    fn an_image_without_a_name() {
        let nameless = ImageRow { repo_tags: Vec::new(), repo_digests: Vec::new(), ..image() };
        assert_eq!(
            LISTING.render("{{.Repository}}:{{.Tag}}", &rows(&nameless, false, false)).unwrap(),
            "<none>:<none>\n"
        );
    }
}
