//! How answers are shown: lists of rows by template, as a table or as JSON; sizes, durations and times in Docker's
//! words. What the rows hold is the commands' business.

pub(crate) mod human;
mod listing;
mod table;
pub(crate) mod times;

use crate::failure::{Failure, Result};
use crate::template::Error;

pub(crate) use listing::{Listing, Row, marshalled};
pub(crate) use table::{tabulate, tabulate_wide};

/// What a template made, or its error in Docker's words.
pub(crate) fn shown(text: Result<String, Error>) -> Result<String> {
    let step = |error: &Error| if error.parsing { "parse" } else { "execute" };
    text.map_err(|error| Failure::new(format!("failed to {} template: {error}", step(&error))))
}
