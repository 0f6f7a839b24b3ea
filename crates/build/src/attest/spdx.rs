//! Packages as an SPDX 2.3 document.

use serde_json::{Value, json};

use super::packages::Package;

const UNKNOWN: &str = "NOASSERTION";

/// The document about an image. The same packages at the same time give the same document.
pub(super) fn document(name: &str, id: &str, created: &str, packages: &[Package]) -> Value {
    let root = "SPDXRef-DocumentRoot-Image";
    let digest = id.strip_prefix("sha256:").unwrap_or(id);
    let image = json!({
        "SPDXID": root,
        "name": name,
        "versionInfo": id,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    });
    let relation = |from: &str, kind: &str, to: &str| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", root)];
    let mut all = vec![image];
    for (number, package) in packages.iter().enumerate() {
        let own = format!("SPDXRef-Package-{}-{number}", package.kind);
        relations.push(relation(root, "CONTAINS", &own));
        all.push(described(package, &own));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://kiste.invalid/spdx/{digest}"),
        "creationInfo": {"created": created, "creators": [format!("Tool: kiste-{}", env!("CARGO_PKG_VERSION"))]},
        "packages": all,
        "relationships": relations,
    })
}

fn described(package: &Package, own: &str) -> Value {
    json!({
        "SPDXID": own,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "licenseComments": package.license,
        "copyrightText": UNKNOWN,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": locator(package),
        }],
    })
}

/// A package URL: `pkg:deb/debian/bash@5.2?arch=amd64`.
fn locator(package: &Package) -> String {
    let name = match package.kind {
        // Python's names are compared without case, `-` and `_` being the same.
        "pypi" => package.name.to_lowercase().replace('_', "-"),
        _ => package.name.split('/').map(encoded).collect::<Vec<_>>().join("/"),
    };
    let namespace =
        if package.namespace.is_empty() { String::new() } else { format!("{}/", encoded(&package.namespace)) };
    let version = if package.version.is_empty() { String::new() } else { format!("@{}", encoded(&package.version)) };
    let architecture = if package.architecture.is_empty() {
        String::new()
    } else {
        format!("?arch={}", encoded(&package.architecture))
    };
    format!("pkg:{}/{namespace}{name}{version}{architecture}", package.kind)
}

/// Percent-encoded but for what a package URL leaves as it is.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls() {
        let package = |kind, namespace: &str, name: &str, version: &str, architecture: &str| Package {
            kind,
            namespace: namespace.into(),
            name: name.into(),
            version: version.into(),
            architecture: architecture.into(),
            ..Package::default()
        };
        assert_eq!(
            locator(&package("deb", "debian", "g++", "4:12+1", "amd64")),
            "pkg:deb/debian/g%2B%2B@4:12%2B1?arch=amd64"
        );
        assert_eq!(locator(&package("npm", "", "@a/b", "1.0", "")), "pkg:npm/%40a/b@1.0");
        assert_eq!(locator(&package("pypi", "", "Foo_Bar", "1", "")), "pkg:pypi/foo-bar@1");
        let document = document("n", "sha256:a", "t", &[package("npm", "", "x", "1", "")]);
        assert_eq!(document["packages"][1]["versionInfo"], "1");
        assert_eq!(document["relationships"].as_array().unwrap().len(), 2);
    }
}
