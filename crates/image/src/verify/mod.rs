//! Whether an image may come in: `policy.json` (containers-policy.json(5)) and the signatures that it asks for. Without a
//! policy everything may.

mod identity;
mod key;
mod policy;
mod signature;

use std::path::Path;

use crate::error::{Error, Result};
use crate::remote::Registry;
use crate::{Digest, Reference};
use policy::{Policy, Requirement};

/// Checks an image against the policy in a file. `digests` are what may be signed: the manifest, and the index that it
/// was chosen from.
pub(crate) fn check(
    file: Option<&Path>,
    registry: &Registry,
    reference: &Reference,
    digests: &[&Digest],
) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let policy = Policy::read(file)?;
    let refused = |why: String| Error::untrusted(format!("image {}: {why} ({})", reference.familiar(), file.display()));
    for requirement in policy.requirements(reference) {
        match requirement {
            Requirement::Accept => {}
            Requirement::Reject => return Err(refused("rejected by policy".into())),
            Requirement::Unsupported(what) => {
                return Err(refused(format!("the policy asks for {what}, which is not supported")));
            }
            Requirement::Signed(signed) => {
                let keys = signed.keys()?;
                let found = signature::find(registry, digests)?;
                let fits = |one: &signature::Signature| {
                    one.verify(&keys).and_then(|claim| signed.identity.check(&claim, reference))
                };
                let outcomes: Vec<Result<(), String>> = found.iter().map(fits).collect();
                if !outcomes.iter().any(Result::is_ok) {
                    let why = outcomes
                        .into_iter()
                        .filter_map(Result::err)
                        .next_back()
                        .unwrap_or_else(|| "it has no signature".into());
                    return Err(refused(format!("a signature was required, but {why}")));
                }
            }
        }
    }
    Ok(())
}

/// Checks an archive against the policy in a file. Archives have no signatures that could be checked.
pub(crate) fn check_archive(file: Option<&Path>, transport: &str) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let refused = |why: &str| Err(Error::untrusted(format!("{transport}: {why} ({})", file.display())));
    for requirement in Policy::read(file)?.archive_requirements(transport) {
        match requirement {
            Requirement::Accept => {}
            Requirement::Reject => return refused("rejected by policy"),
            Requirement::Signed(_) | Requirement::Unsupported(_) => {
                return refused("a signature was required, but an archive has none");
            }
        }
    }
    Ok(())
}

/// Whether this is a policy: for fuzzers.
pub(crate) fn is_policy(text: &[u8]) -> bool {
    Policy::parse(text).is_ok()
}
