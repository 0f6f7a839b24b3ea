//! One verb, one file. Every verb is a method of [`crate::Engine`]. `name` arguments take a name, an id or an
//! unambiguous prefix of an id.

mod archive;
mod boot;
mod check;
mod commit;
mod cp;
mod create;
mod derive;
mod diff;
mod disk_usage;
mod events;
mod exec;
mod execs;
mod explain;
mod history;
mod images;
mod info;
mod inspect;
mod lifecycle;
mod list;
mod logs;
pub(crate) mod membership;
mod networks;
mod ports;
mod prune;
mod registries;
mod remove;
mod sample;
mod start;
mod stats;
mod top;
mod update;
mod volumes;
mod wait;

pub use archive::{ExtractOptions, PathArchive, PathStat};
pub use check::StoreProblem;
pub use commit::CommitRequest;
pub use cp::CopyOptions;
pub use derive::{BuiltStep, Document, KeptSteps, WriteLayer};
pub use disk_usage::{DiskUsage, ImageUsage, VolumeUsage};
pub use events::{EventTail, EventsRequest};
pub use exec::ExecTarget;
pub(crate) use exec::{ExecEnds, execute, read_from_plan, read_plan, spawn};
pub use explain::Explanation;
pub use history::HistoryRow;
pub(crate) use images::labels as image_labels;
pub use images::{ImageRow, ImportRequest, PullProgress, RemovedImage};
pub use inspect::{Brief, ContainerInspect};
pub use list::{ContainerRow, ListRequest};
pub use logs::{LogEntry, LogTail, LogsRequest, Next, Stream};
pub use networks::NetworkRow;
pub use ports::ShownPort;
pub use prune::ImagePruneReport;
pub use registries::{Credentials, Distribution, PullRequest, Pulled, PushRequest, Pushed, SearchResult};
pub use remove::{PruneReport, RemoveOptions};
pub use start::{Attach, StartOptions};
pub use stats::Stats;
pub use top::Top;
pub use update::UpdateRequest;
pub use wait::{WaitCondition, Waiter};

#[cfg(test)]
mod tests;
