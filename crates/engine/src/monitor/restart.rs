//! Restart policies: whether a container that ended starts again, and when. Docker's rules
//! (moby `daemon/internal/restartmanager`): 100 ms, doubled each time up to a minute, reset after ten seconds of life.

use std::time::Duration;

use crate::model::RestartPolicy;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
const PROVEN: Duration = Duration::from_secs(10);

/// The back-off so far.
#[derive(Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
    failures: i64,
}

impl Backoff {
    /// After which pause the container starts again; none: it has ended for good.
    pub(super) fn next(
        &mut self,
        policy: &RestartPolicy,
        stopped: bool,
        code: i32,
        lived: Duration,
    ) -> Option<Duration> {
        if stopped || !self.wants(policy, code) {
            return None;
        }
        let pause = match self.last {
            Some(last) if lived < PROVEN => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(pause);
        self.failures += 1;
        Some(pause)
    }

    fn wants(&self, policy: &RestartPolicy, code: i32) -> bool {
        match policy.name.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => {
                code != 0 && (policy.maximum_retry_count <= 0 || self.failures < policy.maximum_retry_count)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: i64) -> RestartPolicy {
        RestartPolicy { name: name.to_owned(), maximum_retry_count }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_reset() {
        let mut backoff = Backoff::default();
        let always = policy("always", 0);
        let mut pauses: Vec<u64> = Vec::new();
        for _ in 0..12 {
            pauses.push(backoff.next(&always, false, 0, Duration::ZERO).unwrap().as_millis() as u64);
        }
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(backoff.next(&always, false, 0, Duration::from_secs(11)), Some(FIRST));
        assert_eq!(backoff.next(&always, true, 0, Duration::ZERO), None);
    }

    #[test]
    fn on_failure_counts() {
        let mut backoff = Backoff::default();
        let twice = policy("on-failure", 2);
        assert!(backoff.next(&twice, false, 1, Duration::ZERO).is_some());
        assert!(backoff.next(&twice, false, 0, Duration::ZERO).is_none());
        assert!(backoff.next(&twice, false, 1, Duration::ZERO).is_some());
        assert!(backoff.next(&twice, false, 1, Duration::ZERO).is_none());
        assert!(Backoff::default().next(&policy("no", 0), false, 1, Duration::ZERO).is_none());
    }
}
