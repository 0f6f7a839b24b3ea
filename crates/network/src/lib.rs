//! The network of a container: for now its own loopback, the host's, or another container's.
