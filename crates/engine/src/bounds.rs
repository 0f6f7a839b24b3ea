//! What an engine's callers may reach, for faces that serve more than their owner: everything, only containers that get
//! nothing of the host's (`confined`), or only what carries a label. Verbs ask here at the place where they look things
//! up, so that no way around leads past it. What a container must not have to be confined is in `confinement`.

use crate::model::{CreateRequest, ExecConfig, Map, NetworkRequest};
use crate::request::mounts::Resolved;
use crate::table::{self, Container};
use crate::verbs::image_labels;
use crate::volume_table;
use crate::{Engine, Error, ErrorKind, Result, confinement};
use network::{Driver, Network, endpoints};

/// What callers may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Containers get nothing of the host's, and those that have something of it can be looked at only.
    pub confined: bool,
    /// Only what has this label (name and value) is seen, and what is made gets it.
    pub label: Option<(String, String)>,
}

impl Bounds {
    /// Whether something with these labels is seen.
    pub(crate) fn sees(&self, labels: &Map<String>) -> bool {
        self.label.as_ref().is_none_or(|(name, value)| labels.get(name) == Some(value))
    }

    /// Gives something new the label.
    pub(crate) fn mark(&self, labels: &mut Map<String>) {
        labels.extend(self.label.clone());
    }

    /// The predefined networks are everybody's.
    pub(crate) fn check_network(&self, network: &Network) -> Result<()> {
        match network.is_predefined() || self.sees(&network.labels) {
            true => Ok(()),
            false => Err(Error::not_found(format!("network {} not found", network.name))),
        }
    }

    /// The same for one that a container is to join, or that is to go: it may lead to the host's own devices.
    pub(crate) fn check_use(&self, network: &Network) -> Result<()> {
        self.check_network(network)?;
        let own = network.is_predefined() || (network.driver == Driver::Bridge && !network.borrowed);
        match self.confined && !own {
            true => Err(forbidden(&format!("network {}, which is on a device of the host", network.name))),
            false => Ok(()),
        }
    }

    /// A request for a network as it may be carried out.
    pub(crate) fn network(&self, request: &NetworkRequest) -> Result<NetworkRequest> {
        if self.confined {
            confinement::check_network(request)?;
        }
        let mut request = request.clone();
        self.mark(&mut request.labels);
        Ok(request)
    }

    /// Options of a volume lead to the host's directories.
    pub(crate) fn check_volume_options(&self, options: &Map<String>) -> Result<()> {
        match self.confined && !options.is_empty() {
            true => Err(forbidden("volume options")),
            false => Ok(()),
        }
    }

    /// Refuses what the host's own network would be used for.
    pub(crate) fn check_address(&self) -> Result<()> {
        match *self == Bounds::default() {
            true => Ok(()),
            false => Err(forbidden("images from addresses")),
        }
    }

    pub(crate) fn check_volume(&self, name: &str, labels: &Map<String>) -> Result<()> {
        match self.sees(labels) {
            true => Ok(()),
            false => Err(Error::not_found(format!("get {name}: no such volume"))),
        }
    }

    pub(crate) fn check_exec(&self, config: &ExecConfig) -> Result<()> {
        match self.confined && config.privileged {
            true => Err(forbidden("privileged processes")),
            false => Ok(()),
        }
    }

    /// Refuses what concerns everybody's things.
    pub(crate) fn check_unlabelled(&self, what: &str) -> Result<()> {
        match self.label {
            Some(_) => Err(forbidden(what)),
            None => Ok(()),
        }
    }
}

/// The refusal of something that these callers cannot have.
pub(crate) fn forbidden(what: &str) -> Error {
    Error::new(ErrorKind::Forbidden, format!("not allowed here: {what}"))
}

impl Engine {
    /// Whether a container can be reached by this engine's callers, which means more than being seen. `name` is what it
    /// was asked for by.
    pub(crate) fn check_reach(&self, container: &Container, name: &str) -> Result<()> {
        self.check_seen(container, name)?;
        if self.bounds().confined {
            self.check_confined(container)?;
        }
        Ok(())
    }

    /// Whether a container is seen.
    pub(crate) fn check_seen(&self, container: &Container, name: &str) -> Result<()> {
        match self.bounds().sees(&container.config.labels) {
            true => Ok(()),
            false => Err(Error::not_found(format!("No such container: {name}"))),
        }
    }

    /// Whether a container has nothing of the host's, nor shares a namespace with one that has.
    fn check_confined(&self, container: &Container) -> Result<()> {
        confinement::check(container)?;
        for place in self.read(|connection| Ok(endpoints::of_container(connection, &container.id)?))? {
            match self.read(|connection| Ok(network::table::find(connection, &place.network)?)) {
                Ok(network) if !network.is_predefined() => self.bounds().check_use(&network)?,
                // A predefined one is judged by the container's mode; one that is gone leads nowhere.
                _ => {}
            }
        }
        for mount in container.mounts.iter().filter(|mount| mount.point.kind == "volume") {
            let row = self.read(|connection| volume_table::get(connection, &mount.point.name))?;
            self.bounds().check_volume_options(&row.map(|row| row.options).unwrap_or_default())?;
        }
        for id in joined(container) {
            match self.read(|connection| table::find(connection, id)) {
                Ok(donor) => self.check_reach(&donor, id)?,
                // It cannot be started without.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether everything that a request for a container names may be reached.
    pub(crate) fn check_references(&self, request: &CreateRequest) -> Result<()> {
        if *self.bounds() == Bounds::default() {
            return Ok(());
        }
        let host = &request.host;
        let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode, &host.userns_mode];
        let joined = modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"));
        let settings = request.endpoints.values();
        let links = host.links.iter().chain(settings.filter_map(|settings| settings.links.as_ref())).flatten();
        let donors = host.volumes_from.iter().flatten().chain(links);
        for name in joined.chain(donors.map(|text| text.split(':').next().unwrap_or(text))) {
            self.look_up(name)?;
        }
        Ok(())
    }

    /// A new container as its bounds make it: marked with everything that comes with it, or refused.
    pub(crate) fn bound(&self, container: &mut Container, resolved: &mut Resolved) -> Result<()> {
        let bounds = self.bounds();
        bounds.mark(&mut container.config.labels);
        for volume in &mut resolved.new_volumes {
            bounds.check_volume_options(&volume.options)?;
            bounds.mark(&mut volume.labels);
        }
        for mount in container.mounts.iter().filter(|mount| mount.point.kind == "volume") {
            if let Some(row) = self.read(|connection| volume_table::get(connection, &mount.point.name))? {
                bounds.check_volume(&row.name, &row.labels)?;
            }
        }
        self.check_reach(container, &container.name)
    }

    /// Whether an image may be changed or sent away: one with the label, where there is a limit.
    pub(crate) fn check_image(&self, name: &str) -> Result<()> {
        if self.bounds().label.is_none() {
            return Ok(());
        }
        let image = self.read(|connection| Ok(self.images().resolve(connection, name)?))?;
        match self.bounds().sees(&image_labels(&image)) {
            true => Ok(()),
            false => Err(forbidden(&format!("image {name}, which is not of this limit's label"))),
        }
    }

    /// Whether a name may be given to an image: a free one, or that of an image which may be changed.
    pub(crate) fn check_image_name(&self, name: &str) -> Result<()> {
        match self.check_image(name) {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            checked => checked,
        }
    }
}

/// Ids of the containers whose namespaces a container shares.
fn joined(container: &Container) -> impl Iterator<Item = &str> {
    let host = &container.host;
    let modes = [&host.network_mode, &host.ipc_mode, &host.pid_mode, &host.userns_mode];
    modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"))
}
