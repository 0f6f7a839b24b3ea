//! How answers are shown: lists of rows by template, as a table or as JSON; sizes, durations and times in Docker's
//! words. What the rows hold is the commands' business.

pub(crate) mod human;
mod listing;
mod table;
pub(crate) mod times;

pub(crate) use listing::{Listing, Row};
pub(crate) use table::{tabulate, tabulate_wide};
