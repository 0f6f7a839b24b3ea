//! `ps`: the list of containers, with Docker's filters.

use std::collections::BTreeMap;

use crate::filters::Filters;
use crate::model::{Config, Map, MountPoint, Status};
use crate::spec;
use crate::table::Container;
use crate::verbs::ports;
use crate::view::View;
use crate::{Engine, Error, Result, tree};

/// Which containers.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Also those that do not run.
    pub all: bool,
    /// Only the newest N, whatever their state.
    pub last: Option<usize>,
    /// Compute sizes.
    pub size: bool,
    /// `key` → values: ancestor before exited expose health id is-task label name network publish since status volume.
    pub filters: Map<Vec<String>>,
}

/// One container of the list.
#[derive(Clone, Debug, Default)]
pub struct ContainerRow {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name without the slash.
    pub name: String,
    /// Image as named at creation.
    pub image: String,
    /// Image id.
    pub image_id: String,
    /// Entry point and arguments in one line.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// State.
    pub status: Status,
    /// Docker's phrase: `Up 3 minutes (healthy)`, `Exited (0) 2 days ago`.
    pub status_text: String,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// Ports in `ps` form.
    pub ports: String,
    /// The same ports one by one.
    pub shown_ports: Vec<ports::ShownPort>,
    /// Labels.
    pub labels: Map<String>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// Network names.
    pub networks: Vec<String>,
    /// The network mode as asked for.
    pub network_mode: String,
    /// `NetworkSettings.Networks` of `inspect`: a document for each network.
    pub endpoints: serde_json::Map<String, serde_json::Value>,
    /// State of the health check and failures in a row, where there is a check.
    pub health: Option<(String, i64)>,
    /// Bytes changed, and bytes in all (only with `size`).
    pub sizes: Option<(u64, u64)>,
}

const KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

impl Engine {
    /// Newest first.
    pub fn list(&self, request: &ListRequest) -> Result<Vec<ContainerRow>> {
        let condition = Condition::new(self, request)?;
        let views = self.views()?;
        let mut sizes = BTreeMap::new();
        let mut rows = Vec::new();
        for view in views.into_iter().filter(|view| condition.holds(view)) {
            if rows.len() == request.last.unwrap_or(usize::MAX) {
                break;
            }
            if self.is_reached(&condition.filters, &view)? {
                rows.push(self.row(&view, request.size, &mut sizes)?);
            }
        }
        Ok(rows)
    }

    /// The filters `network` (name or id) and `publish`, which need more than the container's own record.
    fn is_reached(&self, filters: &Filters<'_>, view: &View) -> Result<bool> {
        if filters.has("publish") {
            let ports = self.shown_ports(view)?;
            let holds = |wanted: &String| {
                let Some((first, last, protocol)) = port_range(wanted) else { return false };
                let within = |port: u16| (first..=last).contains(&port);
                ports.iter().any(|port| !port.ip.is_empty() && port.protocol == protocol && within(port.public))
            };
            if !filters.values("publish").iter().any(holds) {
                return Ok(false);
            }
        }
        if !filters.has("network") {
            return Ok(true);
        }
        let names = self.network_names(&view.container)?;
        let stored = self.read(|connection| Ok(network::endpoints::of_container(connection, &view.container.id)?))?;
        Ok(filters.any("network", |wanted| {
            let wanted = if wanted == "default" { "bridge" } else { wanted };
            names.iter().any(|name| name == wanted) || stored.iter().any(|stored| stored.network.starts_with(wanted))
        }))
    }

    fn row(&self, view: &View, size: bool, image_sizes: &mut BTreeMap<String, u64>) -> Result<ContainerRow> {
        let container = &view.container;
        let sizes = size.then(|| self.sizes(view, image_sizes));
        let shown_ports = self.shown_ports(view)?;
        Ok(ContainerRow {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            image_id: container.image_id.clone(),
            command: command(&container.config),
            created: container.created_at / 1_000_000_000,
            status: view.status(),
            status_text: view.phrase(),
            exit_code: view.exit_code(),
            ports: ports::column(&shown_ports),
            shown_ports,
            labels: container.config.labels.clone(),
            mounts: container.mounts.iter().map(|mount| mount.point.clone()).collect(),
            networks: self.network_names(container)?,
            network_mode: container.host.network_mode.clone(),
            endpoints: self.network_documents(container)?,
            health: view.state().health.map(|health| (health.status, health.failing_streak)),
            sizes,
        })
    }

    /// Names of a container's networks.
    fn network_names(&self, container: &Container) -> Result<Vec<String>> {
        match container.host.network_mode.as_str() {
            mode if mode.starts_with("container:") => Ok(Vec::new()),
            mode @ ("host" | "none") => Ok(vec![mode.to_owned()]),
            _ => self.read(|connection| {
                let stored = network::endpoints::of_container(connection, &container.id)?;
                let name =
                    |id: &str| network::table::find(connection, id).map_or_else(|_| id.to_owned(), |found| found.name);
                Ok(stored.iter().map(|stored| name(&stored.network)).collect())
            }),
        }
    }

    /// Bytes that a container has changed, and bytes of its whole tree.
    fn sizes(&self, view: &View, known: &mut BTreeMap<String, u64>) -> (u64, u64) {
        let changed = self.writable_home(&view.container).map_or(0, |home| tree::size(&home.join("upper")));
        let image = known.entry(view.container.image_id.clone()).or_insert_with(|| {
            // An image that is gone or the host's own tree has no size on record.
            self.image_of(&view.container).map_or(0, |image| image.size)
        });
        (changed, changed + *image)
    }
}

/// The program with its arguments, those with a blank in single quotes (as Docker has them).
fn command(config: &Config) -> String {
    let words = spec::command(config);
    let quoted = |(at, word): (usize, String)| if at > 0 && word.contains(' ') { format!("'{word}'") } else { word };
    words.into_iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The filters, ready to be applied.
struct Condition<'a> {
    filters: Filters<'a>,
    names: crate::filters::Patterns,
    ids: crate::filters::Patterns,
    statuses: Vec<Status>,
    exited: Vec<i64>,
    ancestors: Option<Vec<String>>,
    before: Option<i64>,
    since: Option<i64>,
    all: bool,
}

impl<'a> Condition<'a> {
    fn new(engine: &Engine, request: &'a ListRequest) -> Result<Self> {
        let filters = Filters::new(&request.filters, KEYS)?;
        if filters.boolean("is-task")? == Some(true) {
            return Err(Error::not_implemented("filter is-task=true: there are no swarm tasks"));
        }
        let statuses = filters.values("status").iter().map(|word| status(word)).collect::<Result<Vec<_>>>()?;
        let exited = filters.values("exited").iter().map(|text| code(text)).collect::<Result<Vec<_>>>()?;
        check_health(&filters)?;
        check_ports(&filters)?;
        let reference = |key: &str| -> Result<Option<i64>> {
            let Some(name) = filters.values(key).first() else { return Ok(None) };
            Ok(Some(engine.look_at(name)?.created_at))
        };
        // Asking for a state means asking for containers in it, whether or not they run (Docker's rule).
        let all = request.all || request.last.is_some() || !statuses.is_empty() || !exited.is_empty();
        Ok(Condition {
            names: filters.patterns("name")?,
            ids: filters.patterns("id")?,
            before: reference("before")?,
            since: reference("since")?,
            ancestors: filters.has("ancestor").then(|| ancestors(engine, &filters)),
            statuses,
            exited,
            all: all || filters.has("before") || filters.has("since"),
            filters,
        })
    }

    fn holds(&self, view: &View) -> bool {
        let container = &view.container;
        let status = view.status();
        let runs = matches!(status, Status::Running | Status::Paused | Status::Restarting);
        (self.all || runs)
            && (self.statuses.is_empty() || self.statuses.contains(&status))
            && (self.exited.is_empty() || status == Status::Exited && self.exited.contains(&view.exit_code()))
            && self.before.is_none_or(|time| container.created_at < time)
            && self.since.is_none_or(|time| container.created_at > time)
            && self.names_hold(view)
            && self.filters.labels(&container.config.labels)
            && self.filters.any("health", |word| word == view.health())
            && self.filters.any("volume", |value| has_mount(view, value))
            && self.filters.any("expose", |port| exposes(view, port))
            && self
                .ancestors
                .as_ref()
                .is_none_or(|ids| ids.contains(&container.image_id) || ids.contains(&container.image))
    }

    fn names_hold(&self, view: &View) -> bool {
        let name = &view.container.name;
        (self.names.matches(name) || self.names.matches(&format!("/{name}")))
            && (!self.filters.has("id") || self.ids.matches(&view.container.id))
    }
}

fn status(word: &str) -> Result<Status> {
    serde_json::from_value(serde_json::Value::from(word)).map_err(|_| {
        Error::invalid(format!(
            "invalid filter 'status={word}': invalid value for state ({word}): must be one of created, running, paused, \
             restarting, removing, exited, dead"
        ))
    })
}

fn code(text: &str) -> Result<i64> {
    text.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={text}': invalid syntax")))
}

fn check_health(filters: &Filters<'_>) -> Result<()> {
    match filters
        .values("health")
        .iter()
        .find(|word| !matches!(word.as_str(), "starting" | "healthy" | "unhealthy" | "none"))
    {
        Some(word) => Err(Error::invalid(format!(
            "invalid filter 'health={word}': invalid value for health ({word}): must be one of none, starting, healthy, \
             unhealthy"
        ))),
        None => Ok(()),
    }
}

/// Ids of the images that `ancestor` names, and of those that have all their layers at the bottom. A name without an
/// image stands for itself.
fn ancestors(engine: &Engine, filters: &Filters<'_>) -> Vec<String> {
    let names = filters.values("ancestor");
    let found = engine.read(|connection| {
        let store = engine.images();
        let images = store.list(connection)?;
        let mut ids = Vec::new();
        for name in names {
            let Ok(parent) = store.resolve(connection, name) else { continue };
            let children =
                images.iter().filter(|image| !parent.layers.is_empty() && image.layers.starts_with(&parent.layers));
            ids.extend(children.map(|image| image.id.clone()));
            ids.push(parent.id);
        }
        Ok(ids)
    });
    found.unwrap_or_default().into_iter().chain(names.iter().cloned()).collect()
}

fn has_mount(view: &View, value: &str) -> bool {
    view.container
        .mounts
        .iter()
        .any(|mount| [&mount.point.name, &mount.point.source, &mount.point.destination].contains(&&value.to_owned()))
}

/// An error if a value of `publish` or `expose` is no port or range of ports.
fn check_ports(filters: &Filters<'_>) -> Result<()> {
    for key in ["publish", "expose"] {
        if let Some(value) = filters.values(key).iter().find(|value| port_range(value).is_none()) {
            return Err(
                Error::invalid(format!("invalid filter '{key}={value}'")).hinted("for example 80, 80-90 or 53/udp")
            );
        }
    }
    Ok(())
}

/// First and last port and the protocol of `80`, `80/tcp`, `80-90/tcp`.
fn port_range(text: &str) -> Option<(u16, u16, &str)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some((first.parse().ok()?, last.parse().ok()?, protocol))
}

fn exposes(view: &View, wanted: &str) -> bool {
    let Some((first, last, protocol)) = port_range(wanted) else { return false };
    view.container.config.exposed_ports.iter().flatten().any(|(port, _)| {
        let (number, kind) = port.split_once('/').unwrap_or((port, "tcp"));
        kind == protocol && number.parse::<u16>().is_ok_and(|number| (first..=last).contains(&number))
    })
}
