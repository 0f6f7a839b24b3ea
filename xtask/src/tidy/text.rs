//! Rules for every text file: no notes to self, no paths of somebody's machine, no trailing blanks, and links between
//! pages that lead somewhere.

use std::path::Path;

use super::Finding;

/// Each in two parts, so that this file keeps its own rule.
const NOTES: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("XX", "X:")];
const MACHINE_PATHS: &[(&str, &str)] = &[
    ("/work/", "main"),
    ("/work/", "shared"),
    ("/work/", "."),
    ("/tmp/", "brief"),
    ("/var/tmp/", "peers"),
    ("/Us", "ers/"),
];

pub(super) fn check(root: &Path, file: &Path, content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let mut report = |rule: String| findings.push(Finding::new(file, index + 1, rule));
        if let Some((a, b)) = NOTES.iter().find(|(a, b)| line.contains(&[*a, *b].concat())) {
            report(format!("{a}{b}: do it, or say plainly what is missing"));
        }
        if let Some((a, b)) = MACHINE_PATHS.iter().find(|(a, b)| line.contains(&[*a, *b].concat())) {
            report(format!("{a}{b}: a path of somebody's machine"));
        }
        let markdown = file.extension().is_some_and(|extension| extension == "md");
        if line.ends_with([' ', '\t']) && !markdown {
            report("ends with a blank".to_owned());
        }
        for target in links(line).filter(|_| markdown).filter(|target| !exists(root, file, target)) {
            report(format!("link to {target}: no such file"));
        }
    }
    findings
}

/// Targets of `[text](target)` that name a file of this repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        (!target.is_empty() && !target.contains(':') && !target.contains(' ')).then_some(target)
    })
}

fn exists(root: &Path, file: &Path, target: &str) -> bool {
    root.join(file).parent().is_some_and(|directory| directory.join(target).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_machine_paths_are_found() {
        let check = |line: &str| check(Path::new("/"), Path::new("a.rs"), line).len();
        assert_eq!(check(&["// TO", "DO"].concat()), 1);
        assert_eq!(check(&["/work/", "main"].concat()), 1);
        assert_eq!(check("let work = upper.join(\"../work/x\");"), 0);
        assert_eq!(check("x "), 1);
    }

    #[test]
    fn links_lead_somewhere() {
        let check = |line: &str| check(Path::new("/"), Path::new("a.md"), line).len();
        assert_eq!(check("[gone](no/such/file.md) and [web](https://example.org)"), 1);
        assert_eq!(check("[here](etc/passwd#users)"), 0);
    }
}
