//! `kiste search`: finds images in Docker Hub or another registry.

use engine::SearchResult;
use serde_json::json;

use crate::commands::{Verb, filters};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::{Listing, Row, shown};

/// How many results there are by default, and at most.
const USUAL: i64 = 25;
const MOST: i64 = 100;
/// Characters of a description in the table.
const WIDTH: usize = 45;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int", default_value_t = 0, hide_default_value = true)]
    limit: i64,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    #[arg(required = true, hide = true, value_name = "TERM")]
    term: String,
}

const LISTING: Listing = Listing {
    type_name: "*search.searchContext",
    titles: &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("StarCount", "STARS"),
        ("IsOfficial", "OFFICIAL"),
        ("IsAutomated", "AUTOMATED"),
    ],
};

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] TERM";
    const ABOUT: &'static str = "Search Docker Hub for images";

    fn run(self, context: &Context) -> Result<u8> {
        let limit = if self.limit == 0 { USUAL } else { self.limit };
        if !(1..=MOST).contains(&limit) {
            return Err(Failure::new(format!("limit {limit} is outside the range of [1, {MOST}]")));
        }
        let wanted = Wanted::read(filters::collect(self.filters))?;
        let mut found = context.engine.search(&self.term, limit as usize, &context.access())?;
        found.retain(|one| wanted.accepts(one));
        let format = match self.format.as_deref().unwrap_or("table") {
            "" | "table" => r"table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
            other => other,
        };
        let rows: Vec<Row> = found.iter().map(|one| row(one, self.no_trunc)).collect();
        context.print(&shown(LISTING.render(format, &rows))?).map(|()| 0)
    }
}

/// The filters.
#[derive(Default)]
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: i64,
}

impl Wanted {
    fn read(filters: impl IntoIterator<Item = (String, Vec<String>)>) -> Result<Self> {
        let mut wanted = Wanted::default();
        for (key, values) in filters {
            let bad = || Failure::new(format!("invalid filter '{key}=[{}]'", values.join(" ")));
            for value in &values {
                match key.as_str() {
                    "is-official" => wanted.official = Some(boolean(value).ok_or_else(bad)?),
                    "is-automated" => wanted.automated = Some(boolean(value).ok_or_else(bad)?),
                    "stars" => wanted.stars = wanted.stars.max(value.parse().map_err(|_| bad())?),
                    _ => return Err(Failure::new(format!("invalid filter '{key}'"))),
                }
            }
        }
        Ok(wanted)
    }

    fn accepts(&self, one: &SearchResult) -> bool {
        self.official.is_none_or(|wanted| wanted == one.is_official)
            && self.automated.is_none_or(|wanted| wanted == one.is_automated)
            && one.star_count >= self.stars
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    }
}

fn row(one: &SearchResult, whole: bool) -> Row {
    let mark = |is: bool| if is { "[OK]" } else { "" };
    let description = one.description.replace(['\n', '\r'], " ");
    let description = match description.chars().count() > WIDTH && !whole {
        true => description.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => description,
    };
    let fields = json!({
        "Name": one.name,
        "Description": description,
        "StarCount": one.star_count.to_string(),
        "IsOfficial": mark(one.is_official),
        "IsAutomated": mark(one.is_automated),
    });
    Row { fields, labels: None }
}
