//! What follows from the end of the container's process: its last output, its code on record, a restart or the end for
//! good. The order matters: at every step a `kill -9` of the monitor leaves what `reconcile` can finish.

use std::fs;
use std::time::{Duration, Instant};

use sandbox::cgroup::Cgroup;

use super::Monitor;
use super::clients::Waiting;
use super::protocol::Answer;
use crate::model::Status;
use crate::news::{self, News};
use crate::reconcile::failure_code;
use crate::verbs::{Stream, read_plan};
use crate::{Engine, Error, clock, failpoint, tree};

/// How long survivors in the cgroup of a container without a pid namespace are awaited after they were killed.
const SURVIVORS: Duration = Duration::from_secs(2);

impl Monitor {
    /// The container's first process has ended.
    pub(super) fn process_ended(&mut self) {
        let Some(run) = self.run.take() else { return };
        self.poll.forget(&run.pidfd);
        let code = run.reap();
        failpoint::hit("exit-seen");
        let oom_killed = super::run::was_oom_killed(&self.settings.cgroup);
        self.kill_at = None;
        self.abort_probe();
        if self.settings.shares_pids {
            self.kill_survivors();
        }
        self.drain();
        self.log.finish();
        let lived = self.lived();
        self.status.finished_at = clock::now();
        (self.status.exit_code, self.status.oom_killed) = (code, oom_killed);
        (self.status.pid, self.status.pid_start, self.status.pipes) = (0, 0, [0, 0]);
        if oom_killed {
            self.teller.tell("oom", &[]);
        }
        let attributes = [("execDuration", lived.as_secs().to_string()), ("exitCode", code.to_string())];
        self.teller.tell("die", &attributes);
        self.teller.disconnected();
        match self.backoff.next(&self.settings.restart, self.status.manually_stopped, code, lived) {
            Some(pause) if self.is_responsible() => self.restart_after(pause, code),
            _ => {
                self.ended = Some(run);
                self.finish_run();
            }
        }
    }

    fn kill_survivors(&self) {
        let Ok(cgroup) = Cgroup::open(&self.settings.cgroup) else { return };
        let deadline = Instant::now() + SURVIVORS;
        while cgroup.processes().is_ok_and(|left| !left.is_empty()) && Instant::now() < deadline {
            drop(cgroup.kill());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes what is still in the pipes. Nobody writes any more, unless the container gave a descriptor away: then what
    /// is there now is all that counts.
    fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.move_output(stream) {}
        }
        self.streams = super::run::Streams::default();
        self.feed = super::Feed::default();
    }

    fn restart_after(&mut self, pause: Duration, code: i32) {
        self.status.status = Status::Restarting;
        self.status.restart_count += 1;
        self.write_status();
        self.remove_cgroup();
        self.clients.tell(&[Waiting::Exit], &Answer::Ended { code });
        news::tell(&self.paths, &self.id, News::Exited(code));
        self.restart_at = Some(Instant::now() + pause);
    }

    /// The pause is over.
    pub(super) fn start_again(&mut self) {
        let started = read_plan(&self.paths, &self.id).and_then(|plan| self.start(&plan));
        linux::memory::trim();
        if let Err(error) = started {
            self.start_failed(&error);
        }
    }

    /// A restart failed: that is an end like any other, and may be tried again.
    fn start_failed(&mut self, error: &Error) {
        self.status.exit_code = failure_code(error);
        self.status.error = error.message.clone();
        self.status.finished_at = clock::now();
        (self.status.pid, self.status.pid_start) = (0, 0);
        let code = self.status.exit_code;
        match self.backoff.next(&self.settings.restart, self.status.manually_stopped, code, Duration::ZERO) {
            Some(pause) => self.restart_after(pause, code),
            None => self.finish_run(),
        }
    }

    /// The first start failed: leaves word for whoever finds the container, and goes.
    pub(super) fn give_up(&mut self, error: &Error) {
        self.status.status = Status::Exited;
        self.status.exit_code = failure_code(error);
        self.status.error = error.message.clone();
        (self.status.pid, self.status.pid_start) = (0, 0);
        self.write_status();
    }

    /// The run is over for good: records it, gives everything back, tells everyone.
    pub(super) fn finish_run(&mut self) {
        self.status.status = Status::Exited;
        if !self.is_responsible() {
            // The record is about another run by now, or says already how this one ended.
            return self.answer_end();
        }
        self.write_status();
        failpoint::hit("exit-status-written");
        self.remove_cgroup();
        let engine = self.engine.take().unwrap_or_else(|| Engine::new(self.paths.clone()));
        // Before the records say that its ports are free.
        engine.disconnect(&self.id);
        if let Some(run) = &mut self.ended {
            run.release_ports();
        }
        // That was the last that the plan was good for.
        drop(fs::remove_file(self.paths.container_state(&self.id).join("plan.json")));
        failpoint::hit("exit-cgroup-removed");
        if self.stop_asked {
            self.teller.tell("stop", &[]);
        }
        // If this fails (a full disk), the status stays behind and the next command records it.
        self.trash = engine.record_end(&self.id, &self.status, self.settings.auto_remove).unwrap_or_default();
        self.engine = Some(engine);
        self.lock = None;
        self.answer_end();
    }

    /// Whether nobody has taken the run for lost, as happens when the state directory is removed under it.
    fn is_responsible(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| lock.is_current(&self.paths, &self.id))
    }

    fn answer_end(&mut self) {
        self.clients.tell(&[Waiting::Stop], &Answer::done());
        self.clients.tell(&[Waiting::End, Waiting::Exit], &Answer::Ended { code: self.status.exit_code });
    }

    /// What nobody has to wait for: takes the container's mounts down, deletes its files, tidies the records. What stays is swept by a
    /// later command.
    pub(super) fn clean_up(mut self) {
        self.ended = None;
        self.trash.iter().for_each(|path| drop(tree::remove(path)));
        if let Some(engine) = &self.engine {
            engine.settle_records();
        }
    }

    fn remove_cgroup(&self) {
        if let Ok(cgroup) = Cgroup::open(&self.settings.cgroup) {
            // A cgroup that stays is removed by the next start, or with the container.
            drop(cgroup.remove());
        }
    }
}
