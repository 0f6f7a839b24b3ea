//! Names of containers and volumes: their grammar, random ids, and Docker-like made-up names.

use crate::{Context as _, Error, Result};

const LEFT: &[&str] = &[
    "agile", "amber", "bold", "brave", "bright", "calm", "clever", "cosy", "crisp", "daring", "eager", "earnest",
    "fair", "famous", "fluent", "fond", "frank", "fresh", "gentle", "glad", "golden", "happy", "honest", "jolly",
    "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "modest", "neat", "nimble", "noble", "open",
    "patient", "plucky", "polite", "proud", "quick", "quiet", "ready", "robust", "serene", "sharp", "silent", "silver",
    "simple", "sincere", "smart", "snug", "sober", "steady", "sturdy", "sunny", "swift", "tender", "tidy", "vivid",
    "warm", "wise", "witty", "zesty",
];

const RIGHT: &[&str] = &[
    "abel",
    "babbage",
    "banach",
    "bohr",
    "boole",
    "bose",
    "cantor",
    "cauchy",
    "curie",
    "dalton",
    "darwin",
    "dijkstra",
    "dirac",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "goodall",
    "haber",
    "hamilton",
    "hertz",
    "hilbert",
    "hodgkin",
    "hopper",
    "hypatia",
    "jacobi",
    "kepler",
    "knuth",
    "lagrange",
    "lamarr",
    "leibniz",
    "lovelace",
    "maxwell",
    "mccarthy",
    "meitner",
    "mendel",
    "mirzakhani",
    "moser",
    "napier",
    "nash",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "planck",
    "poincare",
    "ramanujan",
    "ride",
    "riemann",
    "ritchie",
    "shannon",
    "tesla",
    "thompson",
    "turing",
    "wiles",
    "zuse",
];

/// `N` random bytes from the kernel.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).step(|| "getrandom".to_owned())?;
    Ok(bytes)
}

/// A random id of 64 hexadecimal digits whose first twelve are not all decimal: as a host name, or given back to a
/// command, those would be taken for a number (Docker's rule).
pub(crate) fn random_id() -> Result<String> {
    loop {
        let id: String = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        if id[..12].bytes().any(|byte| !byte.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// A made-up name. From the tenth `attempt` on it carries a number, so that a free one is found in any case.
pub(crate) fn random_name(attempt: u32) -> Result<String> {
    let [left, right, low, high] = random::<4>()?;
    let mut name = format!("{}_{}", LEFT[usize::from(left) % LEFT.len()], RIGHT[usize::from(right) % RIGHT.len()]);
    if attempt >= 10 {
        name.push_str(&u16::from_le_bytes([low, high]).to_string());
    }
    Ok(name)
}

/// Whether a text is `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first
        && name.len() > 1
        && name.len() <= 255
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A container's name without Docker's slash; an error if it is malformed.
pub(crate) fn container_name(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if is_valid(bare) {
        return Ok(bare);
    }
    Err(Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

/// An error if a volume's name is malformed.
pub(crate) fn check_volume_name(name: &str) -> Result<()> {
    if is_valid(name) {
        return Ok(());
    }
    if name.len() == 1 {
        return Err(Error::invalid("volume name is too short, names should be at least two alphanumeric characters"));
    }
    Err(Error::invalid(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        for good in ["ab", "a1", "0x", "web-1", "a_b.c"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a", "-ab", ".ab", "a b", "a/b", "ä1", &"x".repeat(256)] {
            assert!(!is_valid(bad), "{bad}");
        }
        assert_eq!(container_name("/web").unwrap(), "web");
        assert!(container_name("w!").unwrap_err().message.starts_with("Invalid container name (w!)"));
    }

    #[test]
    fn made_up_names_and_ids_are_valid() {
        for attempt in 0..20 {
            assert!(is_valid(&random_name(attempt).unwrap()));
        }
        let id = random_id().unwrap();
        assert_eq!(id.len(), 64);
        assert_ne!(id, random_id().unwrap());
    }
}
