//! The packages that are installed in an image: Debian's, Alpine's and RPM's databases, and what Python and npm leave
//! beside their modules. Everything read is hostile: what is not understood is left out.

use crate::Result;
use crate::files::Tree;

use super::rpm;

/// A package.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// The type of a package URL: `deb`, `apk`, `rpm`, `pypi`, `npm`.
    pub(super) kind: &'static str,
    /// The distribution.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) license: String,
}

/// All of them, sorted.
pub(super) fn installed(tree: &Tree) -> Result<Vec<Package>> {
    let release = match tree.text("etc/os-release")? {
        Some(text) => text,
        None => tree.text("usr/lib/os-release")?.unwrap_or_default(),
    };
    let distribution = release.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or("").trim_matches('"');
    let mut all = Vec::new();
    if let Some(text) = tree.text("var/lib/dpkg/status")? {
        all.extend(debian(&text, distribution));
    }
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        if let Some(text) = tree.text(path)? {
            all.extend(alpine(&text, distribution));
        }
    }
    for path in ["var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite"] {
        if let Some(bytes) = tree.bytes(path, 512 << 20)? {
            all.extend(rpm::packages(&bytes, distribution)?);
        }
    }
    let Some(root) = tree.find("/")? else { return Ok(all) };
    for found in tree.walk(&root)? {
        let path = String::from_utf8_lossy(&found.path).into_owned();
        let Some((directory, name)) = path.rsplit_once('/') else { continue };
        let read = || Ok::<_, crate::Error>(tree.text(&path)?.unwrap_or_default());
        match name {
            _ if directory == "var/lib/dpkg/status.d" && !name.ends_with(".md5sums") => {
                all.extend(debian(&read()?, distribution));
            }
            "METADATA" if directory.ends_with(".dist-info") => all.extend(python(&read()?)),
            "PKG-INFO" if directory.ends_with(".egg-info") => all.extend(python(&read()?)),
            "package.json" if is_module(directory) => all.extend(npm(&read()?)),
            _ => {}
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Fields of a paragraph (deb-control(5)); what continues a field is left out.
fn field<'p>(paragraph: &'p str, name: &str) -> &'p str {
    let value = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim()
}

fn debian(text: &str, distribution: &str) -> Vec<Package> {
    let whole = |paragraph: &&str| {
        let status = field(paragraph, "Status");
        status.is_empty() || status.ends_with(" installed")
    };
    let package = |paragraph: &str| Package {
        kind: "deb",
        namespace: distribution.to_owned(),
        name: field(paragraph, "Package").to_owned(),
        version: field(paragraph, "Version").to_owned(),
        architecture: field(paragraph, "Architecture").to_owned(),
        license: String::new(),
    };
    let paragraphs = text.split("\n\n").filter(whole).map(package);
    paragraphs.filter(|package| !package.name.is_empty()).collect()
}

fn alpine(text: &str, distribution: &str) -> Vec<Package> {
    let package = |paragraph: &str| Package {
        kind: "apk",
        namespace: distribution.to_owned(),
        name: field(paragraph, "P").to_owned(),
        version: field(paragraph, "V").to_owned(),
        architecture: field(paragraph, "A").to_owned(),
        license: field(paragraph, "L").to_owned(),
    };
    text.split("\n\n").map(package).filter(|package| !package.name.is_empty()).collect()
}

fn python(text: &str) -> Option<Package> {
    let head = text.split("\n\n").next().unwrap_or_default();
    let (name, version) = (field(head, "Name").to_owned(), field(head, "Version").to_owned());
    (!name.is_empty()).then(|| Package { kind: "pypi", name, version, ..Package::default() })
}

/// `…/node_modules/NAME` or `…/node_modules/@SCOPE/NAME`
fn is_module(directory: &str) -> bool {
    let mut names = directory.rsplit('/').skip(1);
    match names.next() {
        Some("node_modules") => true,
        Some(scope) if scope.starts_with('@') => names.next() == Some("node_modules"),
        _ => false,
    }
}

fn npm(text: &str) -> Option<Package> {
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    let part = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    let (name, version, license) = (part("name"), part("version"), part("license"));
    (!name.is_empty()).then(|| Package { kind: "npm", name, version, license, ..Package::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(packages: impl IntoIterator<Item = Package>) -> Vec<String> {
        packages.into_iter().map(|p| format!("{} {} {} {}", p.kind, p.name, p.version, p.architecture)).collect()
    }

    #[test]
    fn databases_are_read() {
        let status = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\nDescription: a\n b\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n";
        assert_eq!(shown(debian(status, "debian")), ["deb bash 5.2-1 amd64"]);
        assert_eq!(shown(alpine("C:x\nP:musl\nV:1.2\nA:x86_64\nL:MIT\n\n", "alpine")), ["apk musl 1.2 x86_64"]);
        assert_eq!(
            shown(python("Metadata-Version: 2.1\nName: requests\nVersion: 2.0\n\nName: no")),
            ["pypi requests 2.0 "]
        );
        assert_eq!(shown(npm(r#"{"name": "@a/b", "version": "1.0.0"}"#)), ["npm @a/b 1.0.0 "]);
        assert_eq!(npm("[1]"), None);
    }

    #[test]
    fn only_installed_modules_count() {
        assert!(is_module("app/node_modules/left-pad") && is_module("node_modules/@a/b"));
        assert!(!is_module("app/src") && !is_module("node_modules/a/test"));
    }
}
