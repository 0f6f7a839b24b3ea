//! The table of all words that reach a command, in the order of the help.

use super::*;

/// The commands without a group.
pub(crate) static COMMANDS: &[Entry] = &[
    Entry::of::<attach::Args>(&["attach"]),
    Entry::of::<build::Args>(&["build"]),
    Entry::of::<commit::Args>(&["commit"]),
    Entry::of::<completion::Args>(&["completion"]),
    Entry::of::<cp::Args>(&["cp"]),
    Entry::of::<create::Args>(&["create"]),
    Entry::of::<diff::Args>(&["diff"]),
    Entry::of::<events::Args>(&["events"]),
    Entry::of::<exec::Args>(&["exec"]),
    Entry::of::<explain::Args>(&["explain"]),
    Entry::of::<export::Args>(&["export"]),
    Entry::of::<history::Args>(&["history"]),
    Entry::of::<images::Args>(&["images"]),
    Entry::of::<import::Args>(&["import"]),
    Entry::of::<info::Args>(&["info"]),
    Entry::of::<inspect::Args>(&["inspect"]),
    Entry::of::<kill::Args>(&["kill"]),
    Entry::of::<load::Args>(&["load"]),
    Entry::of::<login::Args>(&["login"]),
    Entry::of::<login::LogoutArgs>(&["logout"]),
    Entry::of::<logs::Args>(&["logs"]),
    Entry::of::<man::Args>(&["man"]),
    Entry::of::<pause::Args>(&["pause"]),
    Entry::of::<port::Args>(&["port"]),
    Entry::of::<ps::Args>(&["ps"]),
    Entry::of::<pull::Args>(&["pull"]),
    Entry::of::<push::Args>(&["push"]),
    Entry::of::<rename::Args>(&["rename"]),
    Entry::of::<restart::Args>(&["restart"]),
    Entry::of::<rm::Args>(&["rm"]),
    Entry::of::<rmi::Args>(&["rmi"]),
    Entry::of::<run::Args>(&["run"]),
    Entry::of::<search::Args>(&["search"]),
    Entry::of::<serve::Args>(&["serve"]),
    Entry::of::<save::Args>(&["save"]),
    Entry::of::<start::Args>(&["start"]),
    Entry::of::<stats::Args>(&["stats"]),
    Entry::of::<stop::Args>(&["stop"]),
    Entry::of::<tag::Args>(&["tag"]),
    Entry::of::<top::Args>(&["top"]),
    Entry::of::<unpause::Args>(&["unpause"]),
    Entry::of::<update::Args>(&["update"]),
    Entry::of::<version::Args>(&["version"]),
    Entry::of::<wait::Args>(&["wait"]),
];

/// The groups.
pub(crate) static GROUPS: &[Group] = &[
    Group { name: "builder", about: "Manage builds", entries: BUILDER },
    Group { name: "container", about: "Manage containers", entries: CONTAINER },
    Group { name: "image", about: "Manage images", entries: IMAGE },
    Group { name: "manifest", about: "Manage image manifests and manifest lists", entries: MANIFEST },
    Group { name: "network", about: "Manage networks", entries: NETWORK },
    Group { name: "system", about: "Manage Kiste itself", entries: SYSTEM },
    Group { name: "volume", about: "Manage volumes", entries: VOLUME },
];

static BUILDER: &[Entry] = &[Entry::of::<build::Args>(&["build"]), Entry::of::<builder::Args>(&["prune"])];

static CONTAINER: &[Entry] = &[
    Entry::of::<attach::Args>(&["attach"]),
    Entry::of::<commit::Args>(&["commit"]),
    Entry::of::<cp::Args>(&["cp"]),
    Entry::of::<create::Args>(&["create"]),
    Entry::of::<diff::Args>(&["diff"]),
    Entry::of::<exec::Args>(&["exec"]),
    Entry::of::<export::Args>(&["export"]),
    Entry::of::<inspect::ContainerArgs>(&["inspect"]),
    Entry::of::<kill::Args>(&["kill"]),
    Entry::of::<logs::Args>(&["logs"]),
    Entry::of::<ps::Args>(&["ls", "list", "ps"]),
    Entry::of::<pause::Args>(&["pause"]),
    Entry::of::<port::Args>(&["port"]),
    Entry::of::<prune::Args>(&["prune"]),
    Entry::of::<rename::Args>(&["rename"]),
    Entry::of::<restart::Args>(&["restart"]),
    Entry::of::<rm::Args>(&["rm", "remove"]),
    Entry::of::<run::Args>(&["run"]),
    Entry::of::<start::Args>(&["start"]),
    Entry::of::<stats::Args>(&["stats"]),
    Entry::of::<stop::Args>(&["stop"]),
    Entry::of::<top::Args>(&["top"]),
    Entry::of::<unpause::Args>(&["unpause"]),
    Entry::of::<update::Args>(&["update"]),
    Entry::of::<wait::Args>(&["wait"]),
];

static IMAGE: &[Entry] = &[
    Entry::of::<build::Args>(&["build"]),
    Entry::of::<history::Args>(&["history"]),
    Entry::of::<import::Args>(&["import"]),
    Entry::of::<inspect::ImageArgs>(&["inspect"]),
    Entry::of::<load::Args>(&["load"]),
    Entry::of::<images::Args>(&["ls", "list"]),
    Entry::of::<image_prune::Args>(&["prune"]),
    Entry::of::<pull::Args>(&["pull"]),
    Entry::of::<push::Args>(&["push"]),
    Entry::of::<rmi::Args>(&["rm", "remove"]),
    Entry::of::<save::Args>(&["save"]),
    Entry::of::<tag::Args>(&["tag"]),
];

static SYSTEM: &[Entry] = &[
    Entry::of::<check::Args>(&["check"]),
    Entry::of::<df::Args>(&["df"]),
    Entry::of::<system_prune::Args>(&["prune"]),
    Entry::of::<events::Args>(&["events"]),
    Entry::of::<info::Args>(&["info"]),
    Entry::of::<boot::Args>(&["start"]),
];

static NETWORK: &[Entry] = &[
    Entry::of::<network::ConnectArgs>(&["connect"]),
    Entry::of::<network::CreateArgs>(&["create"]),
    Entry::of::<network::DisconnectArgs>(&["disconnect"]),
    Entry::of::<inspect::NetworkArgs>(&["inspect"]),
    Entry::of::<network::ListArgs>(&["ls", "list"]),
    Entry::of::<network::PruneArgs>(&["prune"]),
    Entry::of::<network::ReloadArgs>(&["reload"]),
    Entry::of::<network::RemoveArgs>(&["rm", "remove"]),
];

static MANIFEST: &[Entry] = &[
    Entry::of::<manifest::AnnotateArgs>(&["annotate"]),
    Entry::of::<manifest::CreateArgs>(&["create"]),
    Entry::of::<manifest::InspectArgs>(&["inspect"]),
    Entry::of::<manifest::PushArgs>(&["push"]),
    Entry::of::<manifest::RemoveArgs>(&["rm"]),
];

static VOLUME: &[Entry] = &[
    Entry::of::<volume::CreateArgs>(&["create"]),
    Entry::of::<inspect::VolumeArgs>(&["inspect"]),
    Entry::of::<volume::ListArgs>(&["ls", "list"]),
    Entry::of::<volume::PruneArgs>(&["prune"]),
    Entry::of::<volume::RemoveArgs>(&["rm", "remove"]),
];
