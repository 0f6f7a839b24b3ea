//! `create`: from a request to a recorded container, in one transaction. Everything made on disk before the commit is
//! undone if a later step fails; after `kill -9` it has no record and the next command sweeps it away.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ::network::Attachment;
use image::store::Image;
use records::Durability;

use crate::model::{Config, CreateRequest, Created, EndpointSettings, HostConfig};
use crate::monitor::protocol::Request;
use crate::request::mounts::{Lookup, Resolved};
use crate::request::{defaults, files, limits, merge, mounts, names, network, platform, validate};
use crate::spec::{security, userns};
use crate::status::RunLock;
use crate::table::{Container, Intent, MountRecord};
use crate::volume_table::{self, VolumeRow};
use crate::{
    Bounds, Context as _, Engine, Error, Result, clock, confinement, copy_up, disk, events, failpoint, ids, links,
    naming, networking, spec, table,
};

/// How often a made-up name is replaced before giving up.
const NAME_ATTEMPTS: u32 = 100;

/// A container just recorded, with what `start` needs at once.
pub(crate) struct NewContainer {
    /// Its record.
    pub(crate) container: Container,
    /// Its image.
    pub(crate) image: Image,
    /// Things the user should know; not errors.
    pub(crate) warnings: Vec<String>,
    /// Responsibility for its run, if it is recorded as running: taken before anybody could see the record.
    pub(crate) run_lock: Option<RunLock>,
    /// What it was given in its networks, if it is recorded as running; that it could not be given that is an error of
    /// its start, not of its creation.
    pub(crate) network: Result<Option<Attachment>>,
}

impl Engine {
    /// Checks the request, resolves the image (which must be present), makes the container's directory and volumes, and
    /// commits the record. The name is unique by the database.
    pub fn create(&self, request: &CreateRequest) -> Result<Created> {
        let new = self.create_container(request, names::random_id()?, Intent::Created)?;
        Ok(Created { id: new.container.id, warnings: new.warnings })
    }

    /// `create` with the record in a state of the caller's choice: `run` writes [`Intent::Running`] at once.
    pub(crate) fn create_container(&self, request: &CreateRequest, id: String, state: Intent) -> Result<NewContainer> {
        if self.bounds().confined {
            confinement::check_host(&request.host)?;
        }
        self.check_references(request)?;
        let mut warnings = validate::check(request)?;
        let mut wanted =
            Wanted { make_up_name: request.name.is_none(), bounds: self.bounds().clone(), ..Wanted::default() };
        failpoint::hit("create-begun");
        let making = self.making()?;
        let (mut container, image, mut resolved) = self.draft(request, id, state)?;
        self.bound(&mut container, &mut resolved)?;
        let run_lock = match state {
            Intent::Running => Some(RunLock::take(self.paths(), &container.id)?),
            _ => None,
        };
        if !sandbox::cgroup::is_available() {
            warnings.extend(limits::drop_all(&mut container.host, &request.host));
        }
        warnings.extend(limits::drop_unkept_swap(&mut container.host, sandbox::cgroup::accounts_swap));
        let architecture = image.config.architecture().to_string();
        warnings.extend(platform::check(&container.image, request.platform.as_deref(), &architecture)?);
        let mounted = Mounted { engine: self, id: container.id.clone() };
        if container.mounts.iter().any(|mount| is_filled(mount, &resolved)) {
            self.mount_volumes(&container, &resolved.new_volumes)?;
        }
        // Dropped after what was made is undone.
        let filling = needs_filling(&container, &resolved).then(|| self.filling()).transpose()?;
        let mut made = Undo::default();
        self.make_directories(&container, &image, &resolved, &mut made)?;
        failpoint::hit("create-directory-made");
        let durability = if container.host.auto_remove { Durability::Process } else { Durability::Power };
        wanted.volumes.clone_from(&resolved.new_volumes);
        wanted.networks = network::endpoints(request, &container.host.network_mode)?;
        if !wanted.networks.is_empty() {
            crate::user_network::check()?;
        }
        let (new_volumes, network) = self.write(durability, |transaction| {
            if image.directory.is_none() && !self.images().exists(transaction, &image.id)? {
                return Err(Error::not_found(format!("No such image: {}", container.image)));
            }
            commit(transaction, &mut container, &wanted)
        })?;
        made.keep();
        drop(filling);
        drop(making);
        if state == Intent::Running {
            mounted.keep();
        }
        failpoint::hit("create-committed");
        self.announce(&container, &new_volumes)?;
        Ok(NewContainer { container, image, warnings, run_lock, network })
    }

    /// Everything about the new container that can be known before anything is made.
    fn draft(&self, request: &CreateRequest, id: String, state: Intent) -> Result<(Container, Image, Resolved)> {
        let mut host = request.host.clone();
        let (image, mut config, resolved) = self.read(|connection| {
            let image = self.images().resolve(connection, &request.config.image)?;
            let config = merge::merge(&request.config, merge::image_config(&image.config_json)?);
            validate::check_config(&config)?;
            join_by_id(connection, &mut host)?;
            let lookup = Lookup { paths: self.paths(), connection };
            let resolved = mounts::resolve(&lookup, &config, &host)?;
            Ok((image, config, resolved))
        })?;
        if spec::command(&config).is_empty() {
            return Err(Error::invalid("no command specified").hinted("the image names none: give one after the image"));
        }
        userns::fix_caller(&mut host, &mut config)?;
        security::embed_profile(&mut host)?;
        defaults::fill_host(&mut host);
        if host.network_mode != ::network::model::DEFAULT {
            host.links = None; // They stand with the endpoint.
        }
        self.name_host(&mut config, &host, &id)?;
        let now = clock::now();
        let container = Container {
            name: request.name.as_deref().map(names::container_name).transpose()?.unwrap_or_default().to_owned(),
            image: request.config.image.clone(),
            image_id: image.id.clone(),
            created_at: now,
            state,
            exit_code: 0,
            oom: false,
            error: String::new(),
            started_at: 0,
            finished_at: 0,
            restart_count: 0,
            uid_base: None,
            mounts: resolved.mounts.clone(),
            id,
            config,
            host,
        };
        Ok((container, image, resolved))
    }

    /// The host name: that of the container whose network is joined, or what the defaults say.
    fn name_host(&self, config: &mut Config, host: &HostConfig, id: &str) -> Result<()> {
        if let Some(name) = host.network_mode.strip_prefix("container:") {
            let donor = self.read(|connection| table::find(connection, name))?;
            config.hostname = donor.config.hostname;
            config.domainname = donor.config.domainname;
        }
        defaults::fill_config(config, host, id);
        Ok(())
    }

    /// Makes volumes, fills them, and makes the container's directory.
    fn make_directories(
        &self,
        container: &Container,
        image: &Image,
        resolved: &Resolved,
        made: &mut Undo,
    ) -> Result<()> {
        for directory in &resolved.new_directories {
            fs::create_dir_all(directory).step(|| format!("create bind source path {directory}"))?;
        }
        for volume in &resolved.new_volumes {
            self.make_volume_directory(volume, made)?;
        }
        self.copy_up(container, image, resolved)?;
        let directory = self.paths().container(&container.id);
        made.directory(&directory, 0o700)?;
        if let Some(size) = disk::size(&container.host.storage_opt)? {
            disk::make(&directory, size)?;
        }
        make_writable_layer(&self.writable_home(container)?, self.images().mount(image)?.first())?;
        self.write_files(container, &directory)
    }

    /// Copies the image's files into new or empty volumes, once each.
    fn copy_up(&self, container: &Container, image: &Image, resolved: &Resolved) -> Result<()> {
        let mut view = None;
        for mount in &container.mounts {
            let data = Path::new(&mount.point.source);
            if !is_filled(mount, resolved) || !copy_up::is_empty(data) {
                continue;
            }
            if view.is_none() {
                view = Some(copy_up::View::open(&self.images().mount(image)?)?);
            }
            let from = view.as_ref().map(|view| view.directory(&mount.point.destination)).transpose()?.flatten();
            if let Some(from) = from {
                copy_up::copy(&from, data)?;
            }
        }
        Ok(())
    }

    /// `hostname`, `resolv.conf` and `hosts`, which a start writes anew, when the addresses are known.
    fn write_files(&self, container: &Container, directory: &Path) -> Result<()> {
        let (config, host) = (&container.config, &container.host);
        if host.network_mode.starts_with("container:") {
            return Ok(()); // The other container's are used.
        }
        let of_host = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let contents = [
            ("hostname", files::hostname(config)),
            ("resolv.conf", files::resolv_conf(host, &of_host("/etc/resolv.conf"))),
        ];
        for (name, content) in contents {
            let path = directory.join(name);
            fs::write(&path, content).step(|| format!("write {}", path.display()))?;
        }
        if container.state != Intent::Running {
            self.write_hosts(container, None)?;
        }
        Ok(())
    }

    fn announce(&self, container: &Container, new_volumes: &[String]) -> Result<()> {
        for name in new_volumes {
            self.volume_event(name, "create")?;
        }
        self.container_event(container, "create", &[])
    }

    /// Appends an event of a container.
    pub(crate) fn container_event(&self, container: &Container, action: &str, more: &[(&str, String)]) -> Result<()> {
        let Container { id, name, image, config, .. } = container;
        events::append(self.paths(), &events::container_event(id, name, image, &config.labels, action, more))
    }

    /// Tells the container's monitor, and whoever may adopt its process, of its name. An older monitor does not know such
    /// news and goes on with the old name.
    fn rename_run(&self, container: &Container) {
        if container.state != Intent::Running {
            return;
        }
        let path = self.paths().container_state(&container.id).join("plan.json");
        if let Ok(mut plan) = super::read_plan(self.paths(), &container.id) {
            let old = std::mem::replace(&mut plan.name, container.name.clone());
            if let Some(attachment) = &plan.network {
                naming::withdraw(&self.paths().state, attachment, &plan.id, &old);
                naming::announce(&self.paths().state, attachment, &plan.id, &plan.name);
            }
            let new = path.with_extension("json.new");
            if let Ok(json) = serde_json::to_vec(&plan) {
                // Without it only the events after an adoption have the old name.
                drop(crate::status::write_private(&new, &json).and_then(|()| fs::rename(&new, &path)));
            }
        }
        drop(self.ask(container, &Request::Renamed { name: container.name.clone() }));
    }

    /// Gives the container another name.
    pub fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        let wanted = names::container_name(new_name).map_err(|error| Error {
            message: format!("Error when allocating new name: {}", error.message),
            ..error
        })?;
        let id = self.look_up(name)?.id;
        let (container, old) = self.write(Durability::Power, |transaction| {
            let mut container = table::find(transaction, &id)?;
            if container.name == wanted {
                return Err(Error::invalid("Renaming a container with the same name as its current name"));
            }
            table::set_name(transaction, &container.id, wanted)?;
            let old = std::mem::replace(&mut container.name, wanted.to_owned());
            Ok((container, old))
        })?;
        self.rename_run(&container);
        self.container_event(&container, "rename", &[("oldName", format!("/{old}"))])
    }
}

/// Writes `container:ID` for the containers whose namespaces are joined, so that renaming them does no harm.
fn join_by_id(connection: &records::rusqlite::Connection, host: &mut HostConfig) -> Result<()> {
    for mode in [&mut host.network_mode, &mut host.ipc_mode, &mut host.pid_mode, &mut host.userns_mode] {
        if let Some(name) = mode.strip_prefix("container:") {
            *mode = format!("container:{}", table::find(connection, name)?.id);
        }
    }
    Ok(())
}

/// File systems of volumes that are mounted to be filled, until the container runs.
struct Mounted<'e> {
    engine: &'e Engine,
    id: String,
}

impl Mounted<'_> {
    /// The container needs them from now on.
    fn keep(mut self) {
        self.id.clear();
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            self.engine.release_volumes(&self.id);
        }
    }
}

/// Whether an empty volume at this place takes over what the image has there.
fn is_filled(mount: &MountRecord, resolved: &Resolved) -> bool {
    mount.point.kind == "volume" && mount.point.rw && resolved.copy_up.contains(&mount.point.destination)
}

/// Whether volumes are to be made or filled.
fn needs_filling(container: &Container, resolved: &Resolved) -> bool {
    let empty = |mount: &MountRecord| is_filled(mount, resolved) && copy_up::is_empty(Path::new(&mount.point.source));
    !resolved.new_volumes.is_empty() || container.mounts.iter().any(empty)
}

/// What the transaction makes beside the container.
#[derive(Default)]
struct Wanted {
    make_up_name: bool,
    volumes: Vec<VolumeRow>,
    networks: Vec<(String, EndpointSettings)>,
    bounds: Bounds,
}

/// Which volumes are new, and what the container got in its networks.
type Committed = (Vec<String>, Result<Option<Attachment>>);

/// The transaction: volumes, a range of ids, the name, the container, its networks.
fn commit(
    transaction: &records::rusqlite::Transaction<'_>,
    container: &mut Container,
    wanted: &Wanted,
) -> Result<Committed> {
    let mut new = Vec::new();
    for volume in &wanted.volumes {
        if volume_table::insert(transaction, volume)? {
            new.push(volume.name.clone());
        }
    }
    for mount in container.mounts.iter().filter(|mount| mount.point.kind == "volume") {
        // One that was there a moment ago may have been removed meanwhile.
        volume_table::find(transaction, &mount.point.name)?;
    }
    if userns::owner(&container.host)? == userns::Owner::Own && !sandbox::rootless::is_rootless() {
        container.uid_base = Some(ids::free_base(&table::uid_bases(transaction)?)?);
    }
    if wanted.make_up_name {
        container.name = free_name(transaction)?;
    }
    let places = networking::places(transaction, &wanted.networks)?;
    places.iter().try_for_each(|(network, _)| wanted.bounds.check_use(network))?;
    table::insert(transaction, container)?;
    networking::record(transaction, &container.id, &places)?;
    links::record(transaction, container)?;
    let attachment = match container.state {
        Intent::Running => {
            let of = (&container.config, &container.host);
            networking::activate(transaction, &container.id, &container.name, of, &places)
        }
        _ => Ok(None),
    };
    if attachment.is_err() {
        ::network::endpoints::deactivate(transaction, &container.id)?;
    }
    Ok((new, attachment))
}

fn free_name(transaction: &records::rusqlite::Transaction<'_>) -> Result<String> {
    for attempt in 0..NAME_ATTEMPTS {
        let name = names::random_name(attempt)?;
        if table::check_name_is_free(transaction, &name).is_ok() {
            return Ok(name);
        }
    }
    Err(Error::internal("no free name was found").hinted("give one with --name"))
}

/// The directories that overlay writes to. The upper one is the container's root directory: it takes mode, owner and
/// times over from the image's.
fn make_writable_layer(directory: &Path, root: Option<&PathBuf>) -> Result<()> {
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    let made =
        fs::DirBuilder::new().mode(0o755).create(&upper).and_then(|()| fs::DirBuilder::new().mode(0o700).create(&work));
    made.step(|| format!("create {}", upper.display()))?;
    let Some(root) = root else { return Ok(()) };
    let data = fs::metadata(root).step(|| format!("read {}", root.display()))?;
    std::os::unix::fs::chown(&upper, Some(data.uid()), Some(data.gid()))
        .step(|| format!("chown {}", upper.display()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(data.mode() & 0o7777);
    fs::set_permissions(&upper, mode).step(|| format!("chmod {}", upper.display()))
}

/// Directories that are removed again unless they are kept.
#[derive(Default)]
pub(crate) struct Undo(Vec<PathBuf>);

impl Undo {
    /// Makes a directory that must not exist, and its parents.
    pub(crate) fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        match self.directory_if_missing(path, mode)? {
            true => Ok(()),
            false => Err(Error::internal(format!("create {}: it exists already", path.display()))),
        }
    }

    /// Makes a directory and its parents; whether it was missing.
    pub(crate) fn directory_if_missing(&mut self, path: &Path, mode: u32) -> Result<bool> {
        let make = || fs::DirBuilder::new().mode(mode).create(path);
        let made = make().or_else(|error| match (error.kind(), path.parent()) {
            (std::io::ErrorKind::NotFound, Some(parent)) => {
                fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
                make()
            }
            _ => Err(error),
        });
        match made {
            Ok(()) => {
                self.0.push(path.to_owned());
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).step(|| format!("create {}", path.display())),
        }
    }

    /// Everything has its record: nothing is undone.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for path in self.0.drain(..).rev() {
            // Best effort: what stays has no record and is swept later.
            let _ = fs::remove_dir_all(path);
        }
    }
}
