//! Certificates for one registry, as Docker and Podman lay them out: `certs.d/HOST:PORT/` with authorities in `*.crt` and
//! pairs of `NAME.cert` and `NAME.key` that show who the client is.

use std::path::Path;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

use crate::error::{Error, Result, Step};

/// Largest file of certificates.
const LARGEST: u64 = 4 << 20;

/// What one registry's directory holds.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// Authorities besides those of the machine.
    pub(crate) roots: Vec<Certificate<'static>>,
    /// What the client shows.
    pub(crate) identity: Option<ClientCert>,
}

impl Trust {
    /// Reads the directory. Damaged certificates are errors: nobody connects with less than was meant.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let mut trust = Trust::default();
        let what = || format!("read {}", directory.display());
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).step(what)? {
            paths.push(entry.step(what)?.path());
        }
        paths.sort();
        for path in paths {
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("crt") => trust.roots.extend(certificates(&path)?),
                Some("cert") => {
                    let key = path.with_extension("key");
                    trust.identity = Some(ClientCert::new_with_certs(&certificates(&path)?, private_key(&key)?));
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    let text = format!("missing client certificate {} for key", path.with_extension("cert").display());
                    return Err(Error::Invalid(text));
                }
                _ => {}
            }
        }
        Ok(trust)
    }
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>> {
    let what = || format!("read {}", path.display());
    if std::fs::metadata(path).step(what)?.len() > LARGEST {
        return Err("larger than 4 MiB").step(what);
    }
    let text = std::fs::read(path).step(what)?;
    parse_pem(&text).collect::<Result<_, _>>().step(what)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let found: Vec<Certificate<'static>> = items(path)?
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(Error::Invalid(format!("{}: no certificate in it", path.display())));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>> {
    let found = items(path)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    found.ok_or_else(|| Error::Invalid(format!("{}: no private key in it", path.display())))
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({} authorities, identity: {})", self.roots.len(), self.identity.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        assert!(Trust::read(directory.path()).unwrap().roots.is_empty());
        std::fs::write(path("ca.crt"), include_str!("../../tests/data/certificate.pem")).unwrap();
        std::fs::write(path("client.cert"), include_str!("../../tests/data/certificate.pem")).unwrap();
        assert!(Trust::read(directory.path()).is_err(), "a certificate without its key");
        std::fs::write(path("client.key"), include_str!("../../tests/data/key.pem")).unwrap();
        let trust = Trust::read(directory.path()).unwrap();
        assert!(trust.roots.len() == 1 && trust.identity.is_some());
        std::fs::write(path("ca.crt"), "rubbish").unwrap();
        assert!(Trust::read(directory.path()).unwrap_err().to_string().contains("no certificate"));
        std::fs::remove_file(path("ca.crt")).unwrap();
        std::fs::remove_file(path("client.cert")).unwrap();
        assert!(Trust::read(directory.path()).unwrap_err().to_string().contains("missing client certificate"));
    }
}
