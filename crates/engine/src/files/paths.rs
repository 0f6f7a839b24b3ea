//! Paths as Docker's `cp` reads them: Go's `path` functions, and the rules by which a final `/` or `/.` means something
//! (moby `pkg/archive/copy.go`).

/// The shortest path that means the same, by its text alone; `.` for nothing.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

/// The last part; `.` of nothing, `/` of slashes.
pub(crate) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        path => &path[path.rfind('/').map_or(0, |slash| slash + 1)..],
    }
}

/// What the last part is in, cleaned.
fn directory(path: &str) -> String {
    clean(&path[..path.rfind('/').map_or(0, |slash| slash + 1)])
}

/// Both, of the cleaned path.
pub(crate) fn join(directory: &str, name: &str) -> String {
    clean(&format!("{directory}/{name}"))
}

pub(crate) fn has_final_slash(path: &str) -> bool {
    path.ends_with('/')
}

pub(crate) fn is_current_directory(path: &str) -> bool {
    base(path) == "."
}

/// Whether it can only be a directory.
pub(crate) fn asserts_directory(path: &str) -> bool {
    has_final_slash(path) || is_current_directory(path)
}

/// The cleaned path with the final `/` or `/.` of the original.
pub(crate) fn keep_end(mut cleaned: String, original: &str) -> String {
    if !is_current_directory(&cleaned) && is_current_directory(original) {
        if !has_final_slash(&cleaned) {
            cleaned.push('/');
        }
        cleaned.push('.');
    }
    if !has_final_slash(&cleaned) && has_final_slash(original) {
        cleaned.push('/');
    }
    cleaned
}

/// Directory and last part of the cleaned path; a final `.` is kept as the last part.
pub(crate) fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if is_current_directory(path) {
        cleaned.push_str("/.");
    }
    (directory(&cleaned), base(&cleaned).to_owned())
}

/// The end of `path` put on what a link in it led to, and the name that it must have in an archive if the link has
/// changed it.
pub(crate) fn rebased(path: &str, mut resolved: String) -> (String, Option<String>) {
    if is_current_directory(path) && !is_current_directory(&resolved) {
        resolved.push_str("/.");
    }
    if has_final_slash(path) && !has_final_slash(&resolved) {
        resolved.push('/');
    }
    let name = (base(path) != base(&resolved)).then(|| base(path).to_owned());
    (resolved, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_has_them() {
        for (path, cleaned, last) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("a//b/./c/..", "a/b", ".."),
            ("/../a", "/a", "a"),
            ("../a/", "../a", "a"),
            ("a/.", "a", "."),
            ("..", "..", ".."),
        ] {
            assert_eq!((clean(path).as_str(), base(path)), (cleaned, last), "{path}");
        }
        assert_eq!(split("/a/b/"), ("/a".to_owned(), "b".to_owned()));
        assert_eq!(split("/a/b/."), ("/a/b".to_owned(), ".".to_owned()));
        assert_eq!(split("b"), (".".to_owned(), "b".to_owned()));
        assert_eq!(split("/"), ("/".to_owned(), "/".to_owned()));
    }

    #[test]
    fn ends_are_kept() {
        assert_eq!(keep_end("/a".to_owned(), "a/."), "/a/.");
        assert_eq!(keep_end("/a".to_owned(), "a/"), "/a/");
        assert_eq!(keep_end("/".to_owned(), "."), "/.");
        assert_eq!(rebased("/l/", "/t/x".to_owned()), ("/t/x/".to_owned(), Some("l".to_owned())));
        assert_eq!(rebased("/l/.", "/t".to_owned()), ("/t/.".to_owned(), None));
        assert!(asserts_directory("") && asserts_directory("a/") && !asserts_directory("a"));
    }
}
