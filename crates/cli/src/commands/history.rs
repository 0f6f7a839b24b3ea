//! `kiste history`: the steps that made an image.

use engine::HistoryRow;
use serde_json::json;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::Result;
use crate::format::{Listing, Row, human, shown, times};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    format: String,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, default_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(required = true, hide = true, value_name = "IMAGE")]
    image: String,
}

const LISTING: Listing = Listing {
    type_name: "*formatter.historyContext",
    titles: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] IMAGE";
    const ABOUT: &'static str = "Show the history of an image";

    fn run(self, context: &Context) -> Result<u8> {
        let history = context.engine.history(&self.image, self.platform.as_deref())?;
        let rows: Vec<Row> = history.iter().map(|step| self.row(step)).collect();
        context.print(&shown(LISTING.render(self.template(), &rows))?).map(|()| 0)
    }
}

impl Args {
    fn template(&self) -> &str {
        match self.format.as_str() {
            _ if self.quiet => "{{.ID}}",
            "" | "table" if self.human => r"table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            "" | "table" => r"table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            other => other,
        }
    }

    fn row(&self, step: &HistoryRow) -> Row {
        let command = step.created_by.replace('\t', " ");
        let created_at = times::local_time(step.created);
        let fields = json!({
            "Comment": step.comment,
            "CreatedAt": &created_at,
            "CreatedBy": if self.no_trunc { command } else { human::ellipsis(&command, 45) },
            "CreatedSince": match self.human {
                true => format!("{} ago", human::duration(times::since(step.created))),
                false => created_at.clone(),
            },
            "ID": if self.no_trunc { &step.id } else { human::short_id(&step.id) },
            "Size": if self.human { human::short_size(step.size) } else { step.size.to_string() },
        });
        Row { fields, labels: None }
    }
}
