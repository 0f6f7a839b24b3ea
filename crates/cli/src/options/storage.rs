//! Flags about files: volumes, mounts, the root file system.

use engine::model::{CreateRequest, Empty, Mount};

use super::units::strict_pair;
use super::{invalid, list, mount};
use crate::failure::Result;

/// Flags about files.
#[derive(clap::Args)]
#[command(next_help_heading = "Files")]
pub(super) struct Storage {
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", value_parser = mount::parse)]
    mount: Vec<Mount>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Storage driver options for the container
    #[arg(long, value_name = "list", value_parser = strict_pair)]
    storage_opt: Vec<(String, String)>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    tmpfs: Vec<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    volume: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string")]
    volume_driver: Option<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    volumes_from: Vec<String>,
}

impl Storage {
    pub(super) fn apply(self, request: &mut CreateRequest) -> Result<()> {
        let mut binds = Vec::new();
        for volume in self.volume {
            if volume.is_empty() {
                return Err(invalid("invalid empty volume spec"));
            } else if volume.contains(':') {
                binds.push(absolute_source(volume)?);
            } else {
                request.config.volumes.get_or_insert_default().insert(volume, Empty {});
            }
        }
        let host = &mut request.host;
        host.binds = list(binds);
        host.mounts = self.mount;
        host.readonly_rootfs = self.read_only;
        host.storage_opt = self.storage_opt.into_iter().collect();
        host.tmpfs = self
            .tmpfs
            .into_iter()
            .map(|text| text.split_once(':').map_or((text.clone(), String::new()), |(p, o)| (p.into(), o.into())))
            .collect();
        host.volume_driver = self.volume_driver.unwrap_or_default();
        host.volumes_from = list(self.volumes_from);
        Ok(())
    }
}

/// `./dir:/target` means a directory of ours, which only we can make absolute.
fn absolute_source(bind: String) -> Result<String> {
    let (source, rest) = bind.split_once(':').unwrap_or((&bind, ""));
    if !(source == "." || source == ".." || source.starts_with("./") || source.starts_with("../")) {
        return Ok(bind);
    }
    let path = mount::absolute(source).map_err(invalid)?;
    Ok(format!("{path}:{rest}"))
}
