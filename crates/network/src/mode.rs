//! Which network a container lives in, as `--network` names it.

/// A container's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The default one (`default`, `bridge`): for now a network namespace of its own with loopback only.
    Default,
    /// A network namespace of its own with loopback only, by request.
    None,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
    /// A user network, by name.
    Named(String),
}

impl Mode {
    /// Reads Docker's `NetworkMode`.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some(("container", other)) => Mode::Container(other.to_owned()),
            _ => match text {
                "" | "default" | "bridge" => Mode::Default,
                "none" => Mode::None,
                "host" => Mode::Host,
                name => Mode::Named(name.to_owned()),
            },
        }
    }

    /// Whether the container gets a network namespace of its own.
    pub fn is_own(&self) -> bool {
        matches!(self, Mode::Default | Mode::None | Mode::Named(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_words_are_read() {
        assert_eq!(Mode::parse(""), Mode::Default);
        assert_eq!(Mode::parse("bridge"), Mode::Default);
        assert_eq!(Mode::parse("none"), Mode::None);
        assert_eq!(Mode::parse("host"), Mode::Host);
        assert_eq!(Mode::parse("container:web"), Mode::Container("web".into()));
        assert_eq!(Mode::parse("mine"), Mode::Named("mine".into()));
        assert!(Mode::None.is_own() && !Mode::Host.is_own());
    }
}
