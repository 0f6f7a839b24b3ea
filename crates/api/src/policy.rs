//! What a socket's clients may do. What they may reach is the engine's business (`engine::Bounds`); here stands which
//! requests are let through at all: those that change nothing, or those that are known to keep to the bounds. A new
//! endpoint is closed to bounded sockets until it is named here.

use engine::Bounds;
use hyper::{Method, StatusCode};

use crate::failure::{Failure, Result};

/// What a socket's clients may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Nothing is changed.
    pub read_only: bool,
    /// What is reached.
    pub bounds: Bounds,
}

impl Policy {
    /// Adds what a word of a socket's options says: `read-only`, `confined`, `label=NAME[=VALUE]`. A limit to a label
    /// would mean nothing without confinement, so it includes that. False: another word.
    pub fn add(&mut self, word: &str) -> bool {
        match word.split_once('=').unwrap_or((word, "")) {
            ("read-only", "") => self.read_only = true,
            ("confined", "") => self.bounds.confined = true,
            ("label", label) if !label.is_empty() => {
                let (name, value) = label.split_once('=').unwrap_or((label, ""));
                self.bounds = Bounds { confined: true, label: Some((name.to_owned(), value.to_owned())) };
            }
            _ => return false,
        }
        true
    }

    /// Whether a request may be made. The path is split at its slashes.
    pub(crate) fn check(&self, method: &Method, path: &[&str]) -> Result<()> {
        let forbidden = |what: &str| Err(Failure::new(StatusCode::FORBIDDEN, format!("not allowed here: {what}")));
        if self.read_only && !changes_nothing(method, path) {
            return forbidden("this socket is read-only");
        }
        if self.bounds != Bounds::default() && !keeps_to_bounds(path) {
            return forbidden("this endpoint is closed to sockets with limits");
        }
        Ok(())
    }
}

/// A websocket's client types.
fn changes_nothing(method: &Method, path: &[&str]) -> bool {
    match path {
        ["containers", _, "attach", "ws"] => false,
        ["containers", _, "wait"] => true,
        _ => matches!(*method, Method::GET | Method::HEAD),
    }
}

/// Whether an endpoint asks the engine for everything that it does, and for nothing but what is bounded.
fn keeps_to_bounds(path: &[&str]) -> bool {
    match path {
        ["_ping" | "version" | "info" | "events" | "commit" | "auth"] | ["system", "df"] => true,
        ["containers", _, "checkpoints", ..] => false,
        ["containers" | "exec" | "images" | "volumes" | "networks" | "distribution", ..] => true,
        // These answer by their path alone.
        ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs" | "plugins", ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(words: &[&str], method: Method, path: &str) -> bool {
        let mut policy = Policy::default();
        assert!(words.iter().all(|word| policy.add(word)));
        policy.check(&method, &path.split('/').collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn reading_changes_nothing() {
        assert!(allowed(&["read-only"], Method::GET, "containers/json"));
        assert!(allowed(&["read-only"], Method::POST, "containers/x/wait"));
        assert!(!allowed(&["read-only"], Method::POST, "containers/create"));
        assert!(!allowed(&["read-only"], Method::DELETE, "containers/x"));
        assert!(!allowed(&["read-only"], Method::GET, "containers/x/attach/ws"));
        assert!(!allowed(&["read-only"], Method::POST, "auth"));
    }

    #[test]
    fn what_is_not_known_is_closed() {
        for path in ["build", "session", "grpc", "build/prune", "new/endpoint", "containers/x/checkpoints"] {
            assert!(!allowed(&["confined"], Method::POST, path), "{path}");
            assert!(!allowed(&["label=team=a"], Method::GET, path), "{path}");
            assert!(allowed(&[], Method::POST, path), "{path}");
        }
        assert!(allowed(&["confined"], Method::POST, "containers/create"));
    }

    #[test]
    fn words_are_known_or_not() {
        let mut policy = Policy::default();
        assert!(!policy.add("bogus") && !policy.add("label") && !policy.add("read-only=1"));
        assert!(policy.add("label=team=a=b"));
        assert_eq!(policy.bounds.label, Some(("team".to_owned(), "a=b".to_owned())));
        assert!(policy.bounds.confined);
    }
}
