//! From a container's record to the launch plan with its OCI configuration. Translation of what `create` has checked;
//! what belongs to the host of this moment (devices, processes whose namespaces are joined) is read here.

pub(crate) mod caps;
pub(crate) mod devices;
mod mounts;
mod namespaces;
mod propagation;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod userns;

use std::path::{Path, PathBuf};

use image::store::Image;
use oci_spec::runtime::{BoxBuilder as ConsoleSizeBuilder, Capability, Linux, Process, Root, Spec, User};

pub(crate) use mounts::inside;
pub(crate) use namespaces::Space;
use security::{Options, Profile};

use crate::model::{Config, HostConfig};
use crate::plan::{Plan, Rootfs, Seccomp};
use crate::request::merge::overlay_env;
use crate::request::{defaults, signal};
use crate::table::Container;
use crate::{Context as _, Engine, Error, Result, cdi, shared_memory};

/// Version of the OCI runtime specification that the configuration follows.
const OCI_VERSION: &str = "1.2.0";

/// Where programs are looked for if neither image nor user says (Docker's).
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Seconds before `stop` kills, unless the container says otherwise (Docker's).
const STOP_TIMEOUT: i64 = 10;

impl Engine {
    /// The launch plan of a recorded container.
    pub(crate) fn plan(&self, container: &Container) -> Result<Plan> {
        let image = self.image_of(container)?;
        self.plan_with(container, &image)
    }

    /// The image that a container was made from.
    pub(crate) fn image_of(&self, container: &Container) -> Result<Image> {
        let named = if container.image.starts_with("host:") { &container.image } else { &container.image_id };
        self.read(|connection| Ok(self.images().resolve(connection, named)?))
    }

    /// [`Engine::plan`] with the image already resolved.
    pub(crate) fn plan_with(&self, container: &Container, image: &Image) -> Result<Plan> {
        let (config, host) = (&container.config, &container.host);
        let options = Options::parse(host)?;
        self.mount_volumes(container, &[])?;
        let space = self.space(container)?;
        let mut capabilities = caps::effective(host)?;
        if !space.is_mapped() {
            capabilities = caps::held(capabilities, host);
        }
        let mut spec = self.spec(container, &options, &capabilities, &space)?;
        let mut groups = host.group_add.clone().unwrap_or_default();
        groups.extend(cdi::inject(&mut spec, host, space.is_mapped())?);
        Ok(Plan {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            labels: config.labels.clone(),
            spec,
            user: config.user.clone(),
            groups,
            questions: None,
            rootfs: self.rootfs(container, image)?,
            network: None,
            seccomp: match options.seccomp {
                Profile::Default => Seccomp::Default,
                Profile::Unconfined => Seccomp::Unconfined,
                Profile::Custom(_) => Seccomp::Profile,
            },
            open_stdin: config.open_stdin,
            stdin_once: config.stdin_once,
            init: host.init.unwrap_or(false),
            log: host.log_config.clone(),
            log_path: self.log_path(&container.id),
            health: config.healthcheck.clone().filter(|check| check.test.first().is_some_and(|kind| kind != "NONE")),
            shell: config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]),
            restart: host.restart_policy.clone(),
            auto_remove: host.auto_remove,
            stop_signal: if config.stop_signal.is_empty() { 15 } else { signal::parse(&config.stop_signal)? },
            stop_timeout: config.stop_timeout.unwrap_or(STOP_TIMEOUT),
        })
    }

    /// Where a container's log is, whatever its driver.
    pub(crate) fn log_path(&self, id: &str) -> PathBuf {
        self.paths().container(id).join(format!("{id}-json.log"))
    }

    fn rootfs(&self, container: &Container, image: &Image) -> Result<Rootfs> {
        let directory = self.writable_home(container)?;
        let hidden = image.directory.as_ref().map(|base| self.hidden(base)).unwrap_or_default();
        Ok(Rootfs::Overlay {
            lower: self.images().mount(image)?,
            upper: directory.join("upper"),
            work: directory.join("work"),
            hidden,
            volatile: container.host.auto_remove,
        })
    }

    /// Where our own directories would show in a container made of the host's tree.
    fn hidden(&self, base: &Path) -> Vec<PathBuf> {
        let own = [&self.paths().root, &self.paths().state];
        let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let below = |path: PathBuf| path.strip_prefix(real(base)).ok().map(|rest| Path::new("/").join(rest));
        own.into_iter().map(|path| real(path)).filter_map(below).filter(|path| path != Path::new("/")).collect()
    }

    fn spec(
        &self,
        container: &Container,
        options: &Options,
        capabilities: &[Capability],
        space: &Space,
    ) -> Result<Spec> {
        let (config, host) = (&container.config, &container.host);
        let mut spec = Spec::default();
        spec.set_version(OCI_VERSION.to_owned());
        let mut root = Root::default();
        root.set_readonly(Some(host.readonly_rootfs));
        spec.set_root(Some(root));
        spec.set_mounts(Some(self.mounts(container, options, space)?));
        spec.set_process(Some(process((config, host), self.link_environment(container)?, options, capabilities)?));
        let own_name = host.uts_mode != "host";
        spec.set_hostname(own_name.then(|| config.hostname.clone()));
        spec.set_domainname((own_name && !config.domainname.is_empty()).then(|| config.domainname.clone()));
        spec.set_annotations((!host.annotations.is_empty()).then(|| host.annotations.clone().into_iter().collect()));
        spec.set_linux(Some(self.linux(container, options, capabilities, space)?));
        Ok(spec)
    }

    fn mounts(&self, container: &Container, options: &Options, space: &Space) -> Result<Vec<oci_spec::runtime::Mount>> {
        let host = &container.host;
        let mut all = mounts::kernel(&mounts::Sharing {
            host,
            mapped: space.is_mapped(),
            writable_cgroups: options.writable_cgroups,
            terminal_group: last_group(space) >= 5,
            shm: self.shared_memory(container)?,
        });
        // A mount of the user's at one of these places takes it over, as with Docker.
        let taken =
            |target: &PathBuf| container.mounts.iter().any(|mount| Path::new(&mount.point.destination) == target);
        all.retain(|mount| !taken(mount.destination()));
        let files = match host.network_mode.strip_prefix("container:") {
            Some(name) => self.paths().container(&self.joined(name, "network namespace")?.0.id),
            None => self.paths().container(&container.id),
        };
        let mut placed = mounts::files(&files, &container.mounts, space, host.readonly_rootfs);
        placed.extend(mounts::own(self, &container.mounts, space)?);
        // Shallow ones first, so that the three files show in a volume on /etc too.
        placed.sort_by_key(|mount| mount.destination().components().count());
        all.extend(placed);
        Ok(all)
    }

    /// Directory behind `/dev/shm` where containers share an IPC namespace: that of the first one.
    fn shared_memory(&self, container: &Container) -> Result<Option<PathBuf>> {
        let mode = container.host.ipc_mode.as_str();
        if let Some(name) = mode.strip_prefix("container:") {
            let donor = self.joined(name, "IPC namespace")?.0;
            return match donor.host.ipc_mode.as_str() {
                "shareable" => Ok(Some(shared_memory::path(self.paths(), &donor.id))),
                "host" => Ok(Some("/dev/shm".into())),
                _ => Err(Error::invalid(format!(
                    "non-shareable IPC (hint: use IpcMode:shareable for the donor container {name})"
                ))),
            };
        }
        if mode != "shareable" {
            return Ok(None);
        }
        let shm = shared_memory::path(self.paths(), &container.id);
        shared_memory::make(&shm, container.host.shm_size)?;
        Ok(Some(shm))
    }

    fn linux(
        &self,
        container: &Container,
        options: &Options,
        capabilities: &[Capability],
        space: &Space,
    ) -> Result<Linux> {
        let host = &container.host;
        let mut linux = Linux::default();
        let (users, groups) = match space {
            Space::Own(users, groups) => (Some(users.clone()), Some(groups.clone())),
            // A joined namespace has its mappings already (the specification allows them for new ones only).
            Space::Host | Space::Joined(..) => (None, None),
        };
        linux.set_uid_mappings(users);
        linux.set_gid_mappings(groups);
        linux.set_namespaces(Some(namespaces::list(self, host, space)?));
        let nodes = devices::nodes(host)?;
        let mut resources = resources::limits(host)?;
        resources.set_devices(Some(devices::rules(host, &nodes)?));
        linux.set_resources(Some(resources));
        linux.set_devices((!nodes.is_empty()).then_some(nodes));
        linux.set_cgroups_path(Some(cgroup_path(&host.cgroup_parent, &container.id).into()));
        linux.set_sysctl(
            Some(security::sysctls(host, last_group(space)).into_iter().collect())
                .filter(|all: &std::collections::HashMap<_, _>| !all.is_empty()),
        );
        let (masked, read_only) = defaults::paths(host);
        linux.set_masked_paths(Some(masked));
        linux.set_readonly_paths(Some(read_only));
        linux.set_rootfs_propagation(propagation(container));
        linux.set_seccomp(None);
        if let Profile::Custom(json) = &options.seccomp {
            let names = caps::names(capabilities);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let profile = sandbox::seccomp::from_docker_json(json, &names)
                .map_err(|e| Error::invalid(format!("decoding seccomp profile failed: {e}")))?;
            linux.set_seccomp(Some(profile));
        }
        Ok(linux)
    }
}

/// A container's cgroup below the root of each hierarchy.
pub(crate) fn cgroup_path(parent: &str, id: &str) -> String {
    let parent = match parent {
        "" => format!("{}/kiste", sandbox::cgroup::own_part().unwrap_or_default()),
        parent => crate::request::mounts::clean(parent),
    };
    format!("{}/{id}", parent.trim_end_matches('/'))
}

/// The highest group that has a number in the container; of a joined namespace the range that every container has.
fn last_group(space: &Space) -> u32 {
    match space {
        Space::Host if sandbox::rootless::is_rootless() => userns::last_of_mine(),
        // The kernel's own limit of the parameter this is for (include/net/ping.h).
        Space::Host => i32::MAX.unsigned_abs(),
        Space::Own(_, groups) => groups.iter().map(|range| range.container_id() + range.size() - 1).max().unwrap_or(0),
        Space::Joined(_) if sandbox::rootless::is_rootless() => userns::last_of_mine(),
        Space::Joined(_) => userns::RANGE - 1,
    }
}

/// How the root's mounts propagate: as freely as the freest of the container's mounts needs.
fn propagation(container: &Container) -> Option<String> {
    let has = |word: &str| container.mounts.iter().any(|mount| mount.point.propagation.trim_start_matches('r') == word);
    match () {
        () if has("shared") => Some("shared".to_owned()),
        () if has("slave") => Some("slave".to_owned()),
        () => None,
    }
}

fn process(
    (config, host): (&Config, &HostConfig),
    links: Vec<String>,
    options: &Options,
    capabilities: &[Capability],
) -> Result<Process> {
    let mut process = Process::default();
    process.set_terminal(Some(config.tty));
    let [rows, columns] = host.console_size;
    if config.tty && rows > 0 && columns > 0 {
        let size = ConsoleSizeBuilder::default().height(rows).width(columns).build();
        process.set_console_size(Some(size.step(|| "describe the terminal".to_owned())?));
    }
    process.set_user(User::default());
    process.set_args(Some(command(config)));
    process.set_env(Some(environment(config, links)));
    process.set_cwd(crate::request::mounts::clean(&config.working_dir).into());
    process.set_capabilities(Some(caps::sets(capabilities)));
    process.set_rlimits(Some(security::rlimits(host)?).filter(|limits| !limits.is_empty()));
    process.set_no_new_privileges(Some(options.no_new_privileges));
    process.set_apparmor_profile(None);
    process.set_selinux_label(None);
    process.set_oom_score_adj(i32::try_from(host.oom_score_adj).ok().filter(|score| *score != 0));
    Ok(process)
}

/// Entry point and arguments.
pub(crate) fn command(config: &Config) -> Vec<String> {
    config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect()
}

/// The environment: what Docker adds, overlaid with the container's own.
fn environment(config: &Config, links: Vec<String>) -> Vec<String> {
    let mut all = vec![format!("PATH={SEARCH_PATH}"), format!("HOSTNAME={}", config.hostname)];
    if config.tty {
        all.push("TERM=xterm".to_owned());
    }
    all.extend(links);
    overlay_env(all, &config.env)
}

#[cfg(test)]
mod tests;
