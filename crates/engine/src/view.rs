//! What a container is now: its record and the volatile status of its run, put together. Everything that shows
//! containers (`ps`, `inspect`, `info`) asks here.

use crate::clock;
use crate::model::{State, Status};
use crate::status::{self, RunStatus};
use crate::table::{Container, Intent};
use crate::{Engine, Result, table};

/// A container with the status of its present run, if it has one.
pub(crate) struct View {
    /// Its record, made true.
    pub(crate) container: Container,
    run: Option<RunStatus>,
}

impl Engine {
    /// One container as it is now.
    pub(crate) fn view(&self, name: &str) -> Result<View> {
        let container = self.look_at(name)?;
        Ok(self.viewed(container))
    }

    /// Every container as it is now, newest first. What was left half-done by killed commands is cleared on the way.
    pub(crate) fn views(&self) -> Result<Vec<View>> {
        let containers = self.finish_removals(self.settle_all(self.read(table::all)?))?;
        self.sweep()?;
        let seen = containers.into_iter().filter(|container| self.bounds().sees(&container.config.labels));
        Ok(seen.map(|container| self.viewed(container)).collect())
    }

    fn viewed(&self, container: Container) -> View {
        // Settled just now, so the status is that of a run that somebody looks after.
        let run = (container.state == Intent::Running).then(|| status::read(self.paths(), &container.id)).flatten();
        if container.state == Intent::Running && run.is_none() {
            // It has ended since we looked: its end was on record before its status went.
            let again = self.read(|connection| table::find(connection, &container.id));
            return View { container: again.unwrap_or(container), run };
        }
        View { container, run }
    }
}

impl View {
    /// Docker's word for what it is doing.
    pub(crate) fn status(&self) -> Status {
        match (self.container.state, &self.run) {
            (Intent::Running, Some(run)) => run.status,
            (Intent::Running | Intent::Created, _) => Status::Created,
            (Intent::Exited, _) => Status::Exited,
            (Intent::Removing, _) => Status::Removing,
            (Intent::Dead, _) => Status::Dead,
        }
    }

    /// When the present or last run began, in nanoseconds since 1970; 0: never.
    pub(crate) fn started_at(&self) -> i64 {
        self.run.as_ref().map_or(self.container.started_at, |run| run.started_at)
    }

    fn finished_at(&self) -> i64 {
        self.run.as_ref().map(|run| run.finished_at).filter(|time| *time > 0).unwrap_or(self.container.finished_at)
    }

    /// Exit code of the last run; 0 while it runs.
    pub(crate) fn exit_code(&self) -> i64 {
        match &self.run {
            // `exited`: its monitor is just winding it up.
            Some(run) if matches!(run.status, Status::Restarting | Status::Exited) => i64::from(run.exit_code),
            Some(_) => 0,
            None => self.container.exit_code,
        }
    }

    /// Restarts by policy, in the present run or the last one.
    pub(crate) fn restart_count(&self) -> i64 {
        self.run.as_ref().map_or(self.container.restart_count, |run| i64::from(run.restart_count))
    }

    /// `healthy`, `unhealthy`, `starting` or `none`.
    pub(crate) fn health(&self) -> &str {
        self.run.as_ref().and_then(|run| run.health.as_ref()).map_or("none", |health| &health.status)
    }

    /// The host's number of its first process; 0: none.
    pub(crate) fn pid(&self) -> i32 {
        self.run.as_ref().map_or(0, |run| run.pid)
    }

    /// `State` of `inspect`.
    pub(crate) fn state(&self) -> State {
        let status = self.status();
        State {
            status,
            running: matches!(status, Status::Running | Status::Paused | Status::Restarting),
            paused: status == Status::Paused,
            restarting: status == Status::Restarting,
            oom_killed: self.run.as_ref().map_or(self.container.oom, |run| run.oom_killed),
            dead: status == Status::Dead,
            pid: i64::from(self.pid()),
            exit_code: self.exit_code(),
            error: self.container.error.clone(),
            started_at: clock::rfc3339(self.started_at()),
            finished_at: clock::rfc3339(self.finished_at()),
            health: self.run.as_ref().and_then(|run| run.health.clone()),
        }
    }

    /// The phrase of `ps`: `Up 3 minutes (healthy)`, `Exited (0) 2 days ago`.
    pub(crate) fn phrase(&self) -> String {
        let since = |time: i64| clock::human_duration(clock::now() - time);
        match self.status() {
            Status::Created => "Created".to_owned(),
            Status::Removing => "Removal In Progress".to_owned(),
            Status::Dead => "Dead".to_owned(),
            Status::Paused => format!("Up {} (Paused)", since(self.started_at())),
            Status::Restarting => format!("Restarting ({}) {} ago", self.exit_code(), since(self.finished_at())),
            Status::Exited => format!("Exited ({}) {} ago", self.exit_code(), since(self.finished_at())),
            Status::Running => {
                let health = match self.health() {
                    "none" => String::new(),
                    "starting" => " (health: starting)".to_owned(),
                    health => format!(" ({health})"),
                };
                format!("Up {}{health}", since(self.started_at()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Health;

    fn view(state: Intent, run: Option<RunStatus>) -> View {
        let container = Container {
            id: "a".repeat(64),
            name: "web".into(),
            image: "busybox".into(),
            image_id: "sha256:b".into(),
            created_at: 1,
            state,
            exit_code: 3,
            oom: false,
            error: String::new(),
            started_at: 5,
            finished_at: clock::now() - 7_200_000_000_000,
            restart_count: 0,
            uid_base: None,
            config: Default::default(),
            host: Default::default(),
            mounts: Vec::new(),
        };
        View { container, run }
    }

    fn running(status: Status, health: &str) -> Option<RunStatus> {
        let health = (!health.is_empty()).then(|| Health { status: health.into(), ..Health::default() });
        Some(RunStatus { status, started_at: clock::now() - 180_000_000_000, health, ..RunStatus::default() })
    }

    #[test]
    fn phrases_are_dockers() {
        assert_eq!(view(Intent::Exited, None).phrase(), "Exited (3) 2 hours ago");
        assert_eq!(view(Intent::Created, None).phrase(), "Created");
        assert_eq!(view(Intent::Running, running(Status::Running, "")).phrase(), "Up 3 minutes");
        assert_eq!(view(Intent::Running, running(Status::Running, "healthy")).phrase(), "Up 3 minutes (healthy)");
        assert_eq!(
            view(Intent::Running, running(Status::Running, "starting")).phrase(),
            "Up 3 minutes (health: starting)"
        );
        assert_eq!(view(Intent::Running, running(Status::Paused, "")).phrase(), "Up 3 minutes (Paused)");
    }

    #[test]
    fn an_end_that_is_not_on_record_yet_has_its_code() {
        let run = RunStatus { status: Status::Exited, exit_code: 5, ..RunStatus::default() };
        let state = view(Intent::Running, Some(run)).state();
        assert!(!state.running && state.exit_code == 5 && state.status == Status::Exited);
    }

    #[test]
    fn a_paused_container_runs_too() {
        let state = view(Intent::Running, running(Status::Paused, "")).state();
        assert!(state.running && state.paused && state.exit_code == 0);
        let state = view(Intent::Exited, None).state();
        assert!(!state.running && state.exit_code == 3 && state.status == Status::Exited);
    }
}
