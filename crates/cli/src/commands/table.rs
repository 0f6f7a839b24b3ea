//! The table of all words that reach a command, in the order of the help.

use super::*;

/// The commands without a group.
pub(crate) static COMMANDS: &[Entry] = &[
    Entry::of::<attach::Args>(&["attach"]),
    Entry::of::<create::Args>(&["create"]),
    Entry::of::<exec::Args>(&["exec"]),
    Entry::of::<import::Args>(&["import"]),
    Entry::of::<kill::Args>(&["kill"]),
    Entry::of::<load::Args>(&["load"]),
    Entry::of::<pause::Args>(&["pause"]),
    Entry::of::<pull::Args>(&["pull"]),
    Entry::of::<rename::Args>(&["rename"]),
    Entry::of::<restart::Args>(&["restart"]),
    Entry::of::<rm::Args>(&["rm"]),
    Entry::of::<rmi::Args>(&["rmi"]),
    Entry::of::<run::Args>(&["run"]),
    Entry::of::<start::Args>(&["start"]),
    Entry::of::<stop::Args>(&["stop"]),
    Entry::of::<tag::Args>(&["tag"]),
    Entry::of::<unpause::Args>(&["unpause"]),
    Entry::of::<update::Args>(&["update"]),
    Entry::of::<wait::Args>(&["wait"]),
];

/// The groups.
pub(crate) static GROUPS: &[Group] = &[
    Group { name: "container", about: "Manage containers", entries: CONTAINER },
    Group { name: "image", about: "Manage images", entries: IMAGE },
];

static CONTAINER: &[Entry] = &[
    Entry::of::<attach::Args>(&["attach"]),
    Entry::of::<create::Args>(&["create"]),
    Entry::of::<exec::Args>(&["exec"]),
    Entry::of::<kill::Args>(&["kill"]),
    Entry::of::<pause::Args>(&["pause"]),
    Entry::of::<prune::Args>(&["prune"]),
    Entry::of::<rename::Args>(&["rename"]),
    Entry::of::<restart::Args>(&["restart"]),
    Entry::of::<rm::Args>(&["rm", "remove"]),
    Entry::of::<run::Args>(&["run"]),
    Entry::of::<start::Args>(&["start"]),
    Entry::of::<stop::Args>(&["stop"]),
    Entry::of::<unpause::Args>(&["unpause"]),
    Entry::of::<update::Args>(&["update"]),
    Entry::of::<wait::Args>(&["wait"]),
];

static IMAGE: &[Entry] = &[
    Entry::of::<import::Args>(&["import"]),
    Entry::of::<load::Args>(&["load"]),
    Entry::of::<pull::Args>(&["pull"]),
    Entry::of::<rmi::Args>(&["rm", "remove"]),
    Entry::of::<tag::Args>(&["tag"]),
];
