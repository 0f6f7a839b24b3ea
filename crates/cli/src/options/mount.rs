//! The grammar of `--mount`: comma-separated `key=value` fields (docker/cli `opts/mount.go`).

use std::path::{Component, Path, PathBuf};

use engine::model::{BindOptions, Mount, TmpfsOptions, VolumeOptions};

use super::units::{bytes, strict_pair};

/// Splits a line of comma-separated values: a field may stand in double quotes, and `""` in quotes is one quote.
pub(super) fn fields(text: &str) -> Result<Vec<String>, String> {
    let malformed = || format!("parse error on {text:?}: bare or unbalanced \" in a field");
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = unquote(quoted).ok_or_else(malformed)?;
                rest = after;
                field
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let field = rest[..end].to_owned();
                rest = &rest[end..];
                if field.contains('"') {
                    return Err(malformed());
                }
                field
            }
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(malformed()),
        }
    }
}

fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let quote = rest.find('"')?;
        field += &rest[..quote];
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(after) => (field, rest) = (field + "\"", after),
            None => return Some((field, rest)),
        }
    }
}

/// One `--mount`.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    // Docker's default type.
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        match value {
            Some(value) => set(&mut mount, &key, value, &field)?,
            None => set_flag(&mut mount, &key, &field)?,
        }
    }
    check(&mount)?;
    Ok(mount)
}

/// A key alone: switches something on.
fn set_flag(mount: &mut Mount, key: &str, field: &str) -> Result<(), String> {
    match key {
        "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive" | "bind-create-src" => set(mount, key, "true", field),
        _ => Err(format!("invalid field '{field}' must be a key=value pair")),
    }
}

fn set(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    match key {
        "type" => mount.kind = value.to_ascii_lowercase(),
        "source" | "src" => mount.source = source(value)?,
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "readonly" | "ro" => mount.read_only = switch(key, value)?,
        "consistency" => mount.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = switch(key, value)?,
        "bind-create-src" => bind(mount).create_mountpoint = switch(key, value)?,
        "bind-recursive" => recursion(bind(mount), value)?,
        "volume-nocopy" => volume(mount).no_copy = switch(key, value)?,
        "volume-subpath" => volume(mount).subpath = value.to_owned(),
        "volume-label" => {
            let (key, value) = value.split_once('=').unwrap_or((value, ""));
            volume(mount).labels.insert(key.to_owned(), value.to_owned());
        }
        "volume-driver" => volume(mount).driver_config.get_or_insert_default().name = value.to_owned(),
        "volume-opt" => {
            let (key, value) = strict_pair(value)?;
            volume(mount).driver_config.get_or_insert_default().options.insert(key, value);
        }
        "image-subpath" => mount.image_options.get_or_insert_default().subpath = value.to_owned(),
        "tmpfs-size" => {
            tmpfs(mount).size_bytes = bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!(
            "invalid value for '{key}': invalid boolean value ({value:?}): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")"
        )),
    }
}

fn recursion(bind: &mut BindOptions, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => bind.non_recursive = true,
        "writable" => bind.read_only_non_recursive = true,
        "readonly" => bind.read_only_force_recursive = true,
        _ => {
            return Err(format!(
                "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

/// A path that begins with a dot is ours to make absolute.
fn source(value: &str) -> Result<String, String> {
    if value == "." || value == ".." || value.starts_with("./") || value.starts_with("../") {
        return absolute(value);
    }
    Ok(value.to_owned())
}

/// The path from our working directory, without `.` and `..`.
pub(super) fn absolute(path: &str) -> Result<String, String> {
    let here = std::env::current_dir().map_err(|error| format!("working directory: {error}"))?;
    let mut clean = PathBuf::new();
    for component in here.join(Path::new(path)).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean.into_os_string().into_string().map_err(|_| format!("{path}: not UTF-8 when made absolute"))
}

fn check(mount: &Mount) -> Result<(), String> {
    let Mount { kind, bind_options, volume_options, image_options, tmpfs_options, .. } = mount;
    match kind.as_str() {
        "" => return Err("type is required".to_owned()),
        "bind" | "volume" | "tmpfs" | "image" => {}
        "npipe" | "cluster" => return Err(format!("mount type '{kind}' is not available on this platform")),
        other => return Err(format!("unknown mount type '{other}'; use one of bind, volume, tmpfs, image")),
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let others = [
        ("bind", bind_options.is_some()),
        ("volume", volume_options.is_some()),
        ("image", image_options.is_some()),
        ("tmpfs", tmpfs_options.is_some()),
    ];
    if let Some((prefix, _)) = others.into_iter().find(|(name, given)| *given && name != kind) {
        return Err(format!("cannot mix '{prefix}-*' options with mount type '{kind}'"));
    }
    let recursive = bind_options.as_ref().is_some_and(|bind| bind.read_only_force_recursive);
    if recursive && !mount.read_only {
        return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned());
    }
    if recursive && bind_options.as_ref().is_some_and(|bind| bind.propagation != "rprivate") {
        return Err(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_csv() {
        assert_eq!(fields("a,b").unwrap(), ["a", "b"]);
        assert_eq!(fields("\"a,b\",c").unwrap(), ["a,b", "c"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert_eq!(fields("").unwrap(), [""]);
        for bad in ["a\"b", "\"a", "\"a\"b"] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_key_lands_in_its_place() {
        let mount = parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rprivate,bind-recursive=readonly").unwrap();
        let options = mount.bind_options.unwrap();
        assert!(mount.read_only && options.read_only_force_recursive && options.propagation == "rprivate");
        let mount = parse(
            "src=v,target=/d,volume-nocopy,volume-label=a=b,volume-driver=local,\"volume-opt=o=x,y\",volume-subpath=s",
        )
        .unwrap();
        let options = mount.volume_options.unwrap();
        assert_eq!((mount.kind.as_str(), options.no_copy, options.subpath.as_str()), ("volume", true, "s"));
        assert_eq!(options.driver_config.unwrap().options["o"], "x,y");
        let options = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700").unwrap().tmpfs_options.unwrap();
        assert_eq!((options.size_bytes, options.mode), (1 << 20, 0o700));
        assert_eq!(parse("type=image,src=i,target=/t,image-subpath=p").unwrap().image_options.unwrap().subpath, "p");
    }

    #[test]
    fn contradictions_are_named() {
        for (text, error) in [
            ("type=bind,src=/a", "target is required"),
            ("type=bogus,target=/a", "unknown mount type 'bogus'; use one of bind, volume, tmpfs, image"),
            ("type=bind,target=/a,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("target=/a,bogus=1", "unknown option 'bogus' in 'bogus=1'"),
            ("target=/a,bogus", "invalid field 'bogus' must be a key=value pair"),
            ("type=tmpfs,target=/a,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }
}
