//! `--attest`, `--provenance` and `--sbom` as they were typed.

use build::Provenance;

use crate::failure::{Failure, Result};

/// Statements that are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attestations {
    pub(super) provenance: Option<Provenance>,
    pub(super) sbom: bool,
}

impl Attestations {
    /// Reads the flags; the shorthands win.
    pub(super) fn read(attest: &[String], provenance: Option<&str>, sbom: Option<&str>) -> Result<Self> {
        let mut wanted = Attestations::default();
        for text in attest {
            let (mut kind, mut rest) = ("", Vec::new());
            for field in text.split(',') {
                match field.split_once('=') {
                    Some(("type", value)) => kind = value,
                    _ => rest.push(field),
                }
            }
            match kind {
                "provenance" => wanted.provenance(&rest.join(","))?,
                "sbom" => wanted.sbom(&rest.join(","))?,
                _ => return Err(Failure::new(format!("attestation type must be sbom or provenance: {text:?}"))),
            }
        }
        provenance.map(|text| wanted.provenance(text)).transpose()?;
        sbom.map(|text| wanted.sbom(text)).transpose()?;
        Ok(wanted)
    }

    fn provenance(&mut self, text: &str) -> Result<()> {
        self.provenance = match text {
            "" | "true" | "mode=min" | "disabled=false" => Some(Provenance::Min),
            "mode=max" => Some(Provenance::Max),
            "false" | "disabled=true" => None,
            _ => {
                return Err(Failure::new(format!(
                    "invalid provenance {text:?}: try true, false, mode=min or mode=max"
                )));
            }
        };
        Ok(())
    }

    fn sbom(&mut self, text: &str) -> Result<()> {
        self.sbom = match text {
            "" | "true" | "disabled=false" => true,
            "false" | "disabled=true" => false,
            _ => {
                return Err(Failure::new(format!("invalid sbom {text:?}: the scanner is built in, try true or false")));
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attest: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> Result<(Option<Provenance>, bool)> {
        let attest: Vec<String> = attest.iter().map(|text| (*text).to_owned()).collect();
        Attestations::read(&attest, provenance, sbom).map(|wanted| (wanted.provenance, wanted.sbom))
    }

    #[test]
    fn statements_by_their_flags() {
        assert_eq!(read(&[], None, None).unwrap(), (None, false));
        assert_eq!(
            read(&["type=sbom", "type=provenance,mode=max"], None, None).unwrap(),
            (Some(Provenance::Max), true)
        );
        assert_eq!(read(&["type=provenance"], Some("false"), Some("true")).unwrap(), (None, true));
        assert!(read(&["type=x"], None, None).is_err() && read(&[], Some("x"), None).is_err());
    }
}
