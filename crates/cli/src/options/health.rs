//! Flags about the health check and the log.

use engine::model::{CreateRequest, Healthcheck, LogConfig};

use super::invalid;
use super::units::{duration, strict_pair};
use crate::failure::Result;

/// Flags about the health check and the log.
#[derive(clap::Args)]
#[command(next_help_heading = "Health and log")]
pub(super) struct Health {
    /// Command to run to check health
    #[arg(long, value_name = "string")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int")]
    health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_start_interval: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_timeout: Option<i64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
    /// Logging driver for the container
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list", value_parser = strict_pair)]
    log_opt: Vec<(String, String)>,
}

impl Health {
    pub(super) fn apply(self, request: &mut CreateRequest) -> Result<()> {
        if self.log_driver.as_deref() == Some("none") && !self.log_opt.is_empty() {
            return Err(invalid("invalid logging opts for driver none"));
        }
        request.config.healthcheck = self.check()?;
        request.host.log_config =
            LogConfig { driver: self.log_driver.unwrap_or_default(), config: self.log_opt.into_iter().collect() };
        Ok(())
    }

    fn check(&self) -> Result<Option<Healthcheck>> {
        let given = Healthcheck {
            test: self.health_cmd.iter().flat_map(|line| ["CMD-SHELL".to_owned(), line.clone()]).collect(),
            interval: self.health_interval.unwrap_or(0),
            timeout: self.health_timeout.unwrap_or(0),
            start_period: self.health_start_period.unwrap_or(0),
            start_interval: self.health_start_interval.unwrap_or(0),
            retries: self.health_retries.unwrap_or(0),
        };
        let numbers = [
            ("interval", given.interval),
            ("timeout", given.timeout),
            ("start-period", given.start_period),
            ("start-interval", given.start_interval),
            ("retries", given.retries),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, value)| *value < 0) {
            return Err(invalid(format!("--health-{name} cannot be negative")));
        }
        let any = given != Healthcheck::default();
        match (self.no_healthcheck, any) {
            (true, true) => Err(invalid("--no-healthcheck conflicts with --health-* options")),
            (true, false) => Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() })),
            (false, true) => Ok(Some(given)),
            (false, false) => Ok(None),
        }
    }
}
